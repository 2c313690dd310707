//! All entries of the graph, numbered from 0, in blocks.

use std::{ops::Range, path::Path};

use super::{
    super::blocks::{BlockFile, BlockList},
    entry::Entry,
};
use crate::base::error::{Error, Result};

/// A block of entries is ended when it has this many bytes.
const BLOCK_BYTES: usize = 64 * 1024;

/// The entries.
pub(super) struct Entries {
    blocks: BlockFile,
    /// The number of the first entry of each block.
    firsts: Vec<u64>,
    /// The block to which entries are added.
    open: Vec<u8>,
    /// The number of the first entry of that block.
    open_first: u64,
    count: u64,
}

impl Entries {
    /// No entries. `path` is the file that they will be written to, or the folder for a file without a name.
    pub fn new(path: &Path) -> Self {
        Self { blocks: BlockFile::new(path), firsts: Vec::new(), open: Vec::new(), open_first: 0, count: 0 }
    }

    /// Opens `count` entries in a file. `firsts` is what [`Entries::firsts`] returned.
    pub fn open(path: &Path, list: &BlockList, firsts: &[u8], count: u64) -> Result<Self> {
        let blocks = BlockFile::open(path, list)?;
        let (firsts, rest) = firsts.as_chunks::<8>();
        let firsts: Vec<u64> = firsts.iter().map(|first| u64::from_le_bytes(*first)).collect();
        let is_sound = rest.is_empty() && firsts.len() == blocks.count() && firsts.is_sorted_by(|a, b| a < b);
        if !is_sound || firsts.first().is_some_and(|first| *first != 0) || firsts.last() >= Some(&count) {
            return Err(blocks.damaged("its blocks are not in order"));
        }
        Ok(Self { blocks, firsts, open: Vec::new(), open_first: count, count })
    }

    /// Returns the number of entries.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the number of blocks, without the one that entries are added to.
    pub fn block_count(&self) -> usize {
        self.firsts.len()
    }

    /// Returns the numbers of a block's entries.
    pub fn numbers(&self, block: usize) -> Range<u64> {
        self.firsts[block]..self.firsts.get(block + 1).copied().unwrap_or(self.count)
    }

    /// Adds an entry and returns its number.
    pub fn add(&mut self, entry: &Entry) -> Result<u64> {
        let number = self.count;
        entry.encode(number, &mut self.open);
        self.count += 1;
        if self.open.len() >= BLOCK_BYTES {
            self.end_block()?;
        }
        Ok(number)
    }

    /// Ends the block that entries are added to, so that all entries can be read.
    pub fn end_block(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            self.firsts.push(self.open_first);
            self.blocks.add(std::mem::take(&mut self.open))?;
        }
        self.open_first = self.count;
        Ok(())
    }

    /// Reads the entries of a block.
    pub fn read(&self, block: usize) -> Result<Vec<Entry>> {
        let bytes = self.blocks.read(block)?;
        let numbers = self.numbers(block);
        let mut rest = &bytes[..];
        let mut entries = Vec::with_capacity((numbers.end - numbers.start).min(bytes.len() as u64) as usize);
        for number in numbers {
            let entry = Entry::decode(&mut rest, number);
            entries.push(entry.ok_or_else(|| self.damaged("an entry makes no sense"))?);
        }
        if rest.is_empty() { Ok(entries) } else { Err(self.damaged("bytes follow a block's last entry")) }
    }

    /// Moves the blocks to a new file with a name.
    pub fn move_to(&mut self, path: &Path) -> Result<()> {
        let mut blocks = BlockFile::new(path);
        for block in 0..self.blocks.count() {
            blocks.add(self.blocks.read(block)?.into_vec())?;
        }
        self.blocks = blocks;
        Ok(())
    }

    /// Writes all blocks to the file.
    pub fn write(&mut self) -> Result<()> {
        self.blocks.write()
    }

    /// Returns the digests of the blocks.
    pub fn list(&self) -> BlockList {
        self.blocks.list()
    }

    /// Returns the numbers of the first entries of the blocks, eight bytes each.
    pub fn firsts(&self) -> Vec<u8> {
        self.firsts.iter().flat_map(|first| first.to_le_bytes()).collect()
    }

    fn damaged(&self, reason: &str) -> Error {
        self.blocks.damaged(reason)
    }
}
