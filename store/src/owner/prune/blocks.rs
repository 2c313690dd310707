//! A file in blocks, of each of which the hash is kept elsewhere: a block that comes back is the one that was written.
//!
//! New blocks wait in memory, so that a mark of ordinary size needs no disk, and go to the file when they are many or are to be
//! kept. A file without a name serves where nothing is to be kept.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use minicbor::{Decode, Encode};

use crate::base::error::{Error, Result};

/// Bytes of new blocks that wait in memory.
const HELD: usize = 16 << 20;

/// What is known of a block from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    len: u32,
    hash: [u8; 32],
}

impl Known {
    const LEN: usize = 36;
}

/// A list of blocks as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(transparent)]
pub(super) struct List(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

impl List {
    fn known(&self) -> Option<Vec<Known>> {
        let (rows, []) = self.0.as_chunks::<{ Known::LEN }>() else { return None };
        let known = |row: &[u8; Known::LEN]| {
            let (len, hash) = row.split_first_chunk::<4>()?;
            Some(Known { len: u32::from_le_bytes(*len), hash: hash.try_into().ok()? })
        };
        rows.iter().map(known).collect()
    }
}

/// The blocks.
pub(super) struct Blocks {
    /// For errors; where the file has no name, its folder.
    path: PathBuf,
    file: Option<File>,
    /// Where the next block goes.
    end: u64,
    blocks: Vec<Block>,
    held: usize,
}

struct Block {
    known: Known,
    place: Place,
}

enum Place {
    At(u64),
    Held(Box<[u8]>),
}

impl Blocks {
    /// No blocks; `path` is the file that they are kept in, or the folder for a file without a name.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, end: 0, blocks: Vec::new(), held: 0 }
    }

    /// The blocks of a file. They are looked at when they are read.
    pub fn open(path: &Path, list: &List) -> Result<Self> {
        let known = list.known().ok_or_else(|| super::graph::damaged(path, "its list of blocks is cut off"))?;
        let file = File::options().read(true).write(true).open(path).map_err(|e| Error::io(path, e))?;
        let (mut end, mut blocks) = (0u64, Vec::with_capacity(known.len()));
        for known in known {
            blocks.push(Block { known, place: Place::At(end) });
            end += u64::from(known.len);
        }
        Ok(Self { path: path.to_owned(), file: Some(file), end, blocks, held: 0 })
    }

    /// How many blocks there are.
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Adds a block.
    pub fn add(&mut self, bytes: Vec<u8>) -> Result<()> {
        let hash = *blake3::hash(&bytes).as_bytes();
        self.held += bytes.len();
        let known = Known { len: bytes.len() as u32, hash };
        self.blocks.push(Block { known, place: Place::Held(bytes.into_boxed_slice()) });
        if self.held > HELD { self.write() } else { Ok(()) }
    }

    /// A block, as it was added.
    pub fn read(&self, number: usize) -> Result<Box<[u8]>> {
        let block = self.blocks.get(number).ok_or_else(|| self.damaged("a block is beyond its end"))?;
        match (&block.place, &self.file) {
            (Place::Held(bytes), _) => Ok(bytes.clone()),
            (Place::At(at), Some(file)) => {
                let mut bytes = vec![0; block.known.len as usize];
                file.read_exact_at(&mut bytes, *at).map_err(|e| self.damaged(&e.to_string()))?;
                match *blake3::hash(&bytes).as_bytes() == block.known.hash {
                    true => Ok(bytes.into_boxed_slice()),
                    false => Err(self.damaged("a block has changed")),
                }
            }
            (Place::At(_), None) => Err(self.damaged("it has no file")),
        }
    }

    /// Brings all blocks to the file, and makes one if there is none yet. They need not be durable: what is lost is noticed.
    pub fn write(&mut self) -> Result<()> {
        let path = &self.path;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(make(path).map_err(|e| Error::io(path, e))?),
        };
        for block in &mut self.blocks {
            if let Place::Held(bytes) = &block.place {
                file.write_all_at(bytes, self.end).map_err(|e| Error::io(path, e))?;
                block.place = Place::At(self.end);
                self.end += u64::from(block.known.len);
            }
        }
        self.held = 0;
        Ok(())
    }

    /// What is to be kept elsewhere.
    pub fn list(&self) -> List {
        let mut bytes = Vec::with_capacity(self.blocks.len() * Known::LEN);
        for Block { known, .. } in &self.blocks {
            bytes.extend_from_slice(&known.len.to_le_bytes());
            bytes.extend_from_slice(&known.hash);
        }
        List(bytes)
    }

    fn damaged(&self, reason: &str) -> Error {
        super::graph::damaged(&self.path, reason)
    }
}

/// A new file; in a folder one without a name, so that nothing of it stays behind.
fn make(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    if !path.is_dir() {
        return options.open(path);
    }
    let name = format!(".{}-{:016x}", std::process::id(), u64::from_le_bytes(crate::crypto::random()));
    let path = path.join(name);
    let file = options.open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
