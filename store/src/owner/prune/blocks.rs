//! A file of blocks. The hash of each block is kept elsewhere, so a block that is read back is the one that was
//! written.
//!
//! New blocks wait in memory, so that a mark of ordinary size needs no disk. They are written to the file when there
//! are many, or when they are to be kept. If nothing is to be kept, the file has no name.

use std::{
    fs::File,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use minicbor::{Decode, Encode};

use super::{damage::damaged, scratch::unnamed_file};
use crate::base::error::{Error, Result};

/// Bytes of new blocks that wait in memory at most.
const HELD_MAX: usize = 16 << 20;

/// What is known of a block before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlockDigest {
    len: u32,
    hash: [u8; 32],
}

impl BlockDigest {
    /// Length of a stored digest in bytes.
    const LEN: usize = 36;
}

/// The digests of a file's blocks, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(transparent)]
pub(super) struct BlockList(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

impl BlockList {
    /// Returns the digests; none if the list is cut off.
    fn digests(&self) -> Option<Vec<BlockDigest>> {
        let (rows, []) = self.0.as_chunks::<{ BlockDigest::LEN }>() else { return None };
        let digest = |row: &[u8; BlockDigest::LEN]| {
            let (len, hash) = row.split_first_chunk::<4>()?;
            Some(BlockDigest { len: u32::from_le_bytes(*len), hash: hash.try_into().ok()? })
        };
        rows.iter().map(digest).collect()
    }
}

/// The blocks.
pub(super) struct BlockFile {
    /// The file, or the folder of a file without a name.
    path: PathBuf,
    file: Option<File>,
    /// Where the next block is written.
    end: u64,
    blocks: Vec<Block>,
    /// Bytes of blocks that are in memory.
    held: usize,
}

struct Block {
    digest: BlockDigest,
    data: BlockData,
}

enum BlockData {
    /// In the file, at this offset.
    Written(u64),
    Held(Box<[u8]>),
}

impl BlockFile {
    /// No blocks. `path` is the file that they will be written to, or the folder for a file without a name.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, end: 0, blocks: Vec::new(), held: 0 }
    }

    /// Opens the blocks of a file. They are verified when they are read.
    pub fn open(path: &Path, list: &BlockList) -> Result<Self> {
        let digests = list.digests().ok_or_else(|| damaged(path, "its list of blocks is cut off"))?;
        let file = File::options().read(true).write(true).open(path).map_err(|e| Error::io(path, e))?;
        let (mut end, mut blocks) = (0u64, Vec::with_capacity(digests.len()));
        for digest in digests {
            blocks.push(Block { digest, data: BlockData::Written(end) });
            end += u64::from(digest.len);
        }
        Ok(Self { path: path.to_owned(), file: Some(file), end, blocks, held: 0 })
    }

    /// Returns the number of blocks.
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Adds a block.
    pub fn add(&mut self, bytes: Vec<u8>) -> Result<()> {
        let hash = *blake3::hash(&bytes).as_bytes();
        self.held += bytes.len();
        let digest = BlockDigest { len: bytes.len() as u32, hash };
        self.blocks.push(Block { digest, data: BlockData::Held(bytes.into_boxed_slice()) });
        if self.held > HELD_MAX { self.write() } else { Ok(()) }
    }

    /// Returns a block as it was added.
    pub fn read(&self, number: usize) -> Result<Box<[u8]>> {
        let block = self.blocks.get(number).ok_or_else(|| self.damaged("a block is beyond its end"))?;
        match (&block.data, &self.file) {
            (BlockData::Held(bytes), _) => Ok(bytes.clone()),
            (BlockData::Written(at), Some(file)) => {
                let mut bytes = vec![0; block.digest.len as usize];
                file.read_exact_at(&mut bytes, *at).map_err(|e| self.damaged(&e.to_string()))?;
                match *blake3::hash(&bytes).as_bytes() == block.digest.hash {
                    true => Ok(bytes.into_boxed_slice()),
                    false => Err(self.damaged("a block has changed")),
                }
            }
            (BlockData::Written(_), None) => Err(self.damaged("it has no file")),
        }
    }

    /// Writes all blocks to the file, and creates it if there is none yet. Does not make them durable: a block that is
    /// lost is noticed by its hash.
    pub fn write(&mut self) -> Result<()> {
        let path = &self.path;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(path)?),
        };
        for block in &mut self.blocks {
            if let BlockData::Held(bytes) = &block.data {
                file.write_all_at(bytes, self.end).map_err(|e| Error::io(path, e))?;
                block.data = BlockData::Written(self.end);
                self.end += u64::from(block.digest.len);
            }
        }
        self.held = 0;
        Ok(())
    }

    /// Returns the digests of all blocks, to store them elsewhere.
    pub fn list(&self) -> BlockList {
        let mut bytes = Vec::with_capacity(self.blocks.len() * BlockDigest::LEN);
        for Block { digest, .. } in &self.blocks {
            bytes.extend_from_slice(&digest.len.to_le_bytes());
            bytes.extend_from_slice(&digest.hash);
        }
        BlockList(bytes)
    }

    /// Returns an error about this file.
    pub fn damaged(&self, reason: &str) -> Error {
        damaged(&self.path, reason)
    }
}

/// Creates a file; if `path` is a folder, a file in it without a name.
fn create(path: &Path) -> Result<File> {
    if path.is_dir() {
        return unnamed_file(path);
    }
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map_err(|e| Error::io(path, e))
}
