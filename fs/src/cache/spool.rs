//! The changes that wait to be written to the file cache until the snapshot is acknowledged.
//!
//! The cache may only claim what a committed snapshot holds, and the claims of a first push of millions of files would
//! fill the memory. Beyond a few megabytes they wait in an unlinked file in the cache's folder. A spool that cannot be
//! written loses claims, never a backup: the files are read again next time.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

/// Bytes held in memory before they go to the file.
const MEMORY: usize = 4 << 20;
/// The length that marks a removal.
const REMOVAL: u32 = u32::MAX;
/// Largest segment that is read back.
const SEGMENT_MAX: u32 = 64 << 20;

/// A change to the cache.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// A segment of a directory's record.
    Put {
        /// The directory.
        key: [u8; 16],
        /// Number of the segment.
        number: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The removal of a directory and all below it.
    Remove {
        /// The directory.
        key: [u8; 16],
    },
}

/// Changes in the order in which they were made.
pub struct Spool {
    folder: PathBuf,
    memory: Vec<u8>,
    file: Option<File>,
    has_failed: bool,
}

impl Spool {
    /// An empty spool. Its file, if it needs one, is in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), memory: Vec::new(), file: None, has_failed: false }
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.file.is_none()
    }

    /// Adds a segment.
    pub fn put(&mut self, key: &[u8; 16], number: u32, bytes: &[u8]) {
        // A segment is at most 64 KiB and one node.
        if let Ok(length) = u32::try_from(bytes.len()) {
            self.write(length.min(SEGMENT_MAX), key, number, bytes);
        }
    }

    /// Adds the removal of a directory.
    pub fn remove(&mut self, key: &[u8; 16]) {
        self.write(REMOVAL, key, 0, &[]);
    }

    fn write(&mut self, length: u32, key: &[u8; 16], number: u32, bytes: &[u8]) {
        if self.has_failed || length != REMOVAL && length as usize != bytes.len() {
            return;
        }
        self.memory.extend_from_slice(&length.to_le_bytes());
        self.memory.extend_from_slice(key);
        self.memory.extend_from_slice(&number.to_le_bytes());
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > MEMORY
            && let Err(error) = self.spill()
        {
            tracing::warn!(
                "the file cache in {} cannot be written: {error}; the next push reads all files again",
                self.folder.display()
            );
            self.has_failed = true;
            self.memory = Vec::new();
            self.file = None;
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let path = self.folder.join(format!("spool-{}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.memory)?;
        }
        self.memory.clear();
        Ok(())
    }

    /// Passes all changes to `each`, oldest first.
    pub fn drain<E: From<io::Error>>(mut self, mut each: impl FnMut(Change) -> Result<(), E>) -> Result<(), E> {
        let file: Box<dyn Read> = match self.file.take() {
            Some(mut file) => {
                file.rewind()?;
                Box::new(io::BufReader::with_capacity(1 << 20, file))
            }
            None => Box::new(io::empty()),
        };
        let mut reader = file.chain(&self.memory[..]);
        let mut header = [0; 24];
        loop {
            match reader.read_exact(&mut header) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            }
            let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let mut key = [0; 16];
            key.copy_from_slice(&header[4..20]);
            if word(0) == REMOVAL {
                each(Change::Remove { key })?;
                continue;
            }
            let mut bytes = vec![0; word(0).min(SEGMENT_MAX) as usize];
            reader.read_exact(&mut bytes)?;
            each(Change::Put { key, number: word(20), bytes })?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_keep_their_order_through_memory_and_file() {
        let dir = tempfile::tempdir().unwrap();
        for (count, size) in [(0u32, 0usize), (3, 10), (100, 200_000)] {
            let mut spool = Spool::new(dir.path());
            assert!(spool.is_empty());
            for i in 0..count {
                spool.put(&[i as u8; 16], i, &vec![i as u8; size]);
                spool.remove(&[9; 16]);
            }
            assert!(spool.memory.len() <= MEMORY && std::fs::read_dir(dir.path()).unwrap().count() == 0);
            let mut seen = 0;
            spool
                .drain(|change| {
                    let i = seen / 2;
                    let expected = match seen % 2 {
                        0 => Change::Put { key: [i as u8; 16], number: i, bytes: vec![i as u8; size] },
                        _ => Change::Remove { key: [9; 16] },
                    };
                    assert!(change == expected);
                    seen += 1;
                    Ok::<_, io::Error>(())
                })
                .unwrap();
            assert_eq!(seen, count * 2);
        }
    }
}
