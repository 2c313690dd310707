//! The keys of all that is reached, on their way to the store: by first byte of the id, on disk when they are many.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::graph::Key;
use crate::{
    base::error::{Error, Result},
    format::filter::{FILTER_IDS, encode_filter},
};

/// Ids held in memory, in all; more are written to a file for each first byte.
const HELD: usize = 1 << 20;
/// Bytes of an id's key on disk.
const KEY: usize = 8;

/// The ids that were found since they were last sent.
pub(super) struct Live {
    scratch: PathBuf,
    shards: Vec<Shard>,
    held: usize,
}

/// The ids with one first byte.
#[derive(Default)]
struct Shard {
    held: Vec<u64>,
    spilled: Option<File>,
    /// Whether it was sent before: then it is not sent again empty.
    is_sent: bool,
}

impl Live {
    /// None yet. `scratch` is a folder for what does not fit into memory.
    pub fn new(scratch: &Path) -> Self {
        Self { scratch: scratch.to_owned(), shards: (0..256).map(|_| Shard::default()).collect(), held: 0 }
    }

    /// Adds one.
    pub fn add(&mut self, (first, key): Key) -> Result<()> {
        self.shards[usize::from(first)].held.push(key);
        self.held += 1;
        if self.held >= HELD { self.settle() } else { Ok(()) }
    }

    /// Makes room: of what came more than once one is kept, and if that is still much, it goes to disk.
    fn settle(&mut self) -> Result<()> {
        self.held = 0;
        for shard in &mut self.shards {
            shard.held.sort_unstable();
            shard.held.dedup();
            self.held += shard.held.len();
        }
        if self.held > HELD / 2 { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.held = 0;
        for shard in &mut self.shards {
            let bytes: Vec<u8> = shard.held.drain(..).flat_map(u64::to_le_bytes).collect();
            let file = match &mut shard.spilled {
                Some(file) => file,
                spilled => spilled.insert(unnamed(&self.scratch)?),
            };
            file.write_all(&bytes).map_err(|e| Error::io(&self.scratch, e))?;
        }
        Ok(())
    }

    /// Sends what was found since the last time as filters, and forgets it; the first time one of every first byte.
    pub fn send(&mut self, send: &mut dyn FnMut(u8, Vec<u8>) -> Result<()>) -> Result<()> {
        self.held = 0;
        for (first, shard) in self.shards.iter_mut().enumerate() {
            let mut keys = std::mem::take(&mut shard.held);
            if let Some(mut file) = shard.spilled.take() {
                let mut bytes = Vec::new();
                let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
                read.map_err(|e| Error::io(&self.scratch, e))?;
                keys.extend(bytes.as_chunks::<KEY>().0.iter().map(|key| u64::from_le_bytes(*key)));
            }
            keys.sort_unstable();
            keys.dedup();
            if keys.is_empty() && shard.is_sent {
                continue;
            }
            shard.is_sent = true;
            if keys.is_empty() {
                send(first as u8, encode_filter(&mut []))?;
            }
            for part in keys.chunks_mut(FILTER_IDS) {
                send(first as u8, encode_filter(part))?;
            }
        }
        Ok(())
    }
}

/// A file that has no name any more, so that nothing of it stays behind.
fn unnamed(folder: &Path) -> Result<File> {
    let name = format!(".prune-{}-{:016x}", std::process::id(), u64::from_le_bytes(crate::crypto::random()));
    let path = folder.join(name);
    let open = || {
        std::fs::create_dir_all(folder)?;
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    };
    open().map_err(|e| Error::io(&path, e))
}
