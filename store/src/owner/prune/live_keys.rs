//! The keys of all live chunks, collected on their way to the store: sorted by the first byte of the id, and on disk if
//! there are many.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{graph::ChunkKey, scratch::unnamed_file};
use crate::{
    base::error::{Error, Result},
    format::filter::{FILTER_IDS, encode_filter},
};

/// How many keys are held in memory at most. If there are more, they are written to one file for each first byte.
const HELD_MAX: usize = 1 << 20;
/// Length of a key on disk in bytes; the first byte of the id is not stored.
const KEY_LEN: usize = 8;

/// The keys that were added since the last [`LiveKeys::take_filters`].
pub(super) struct LiveKeys {
    scratch: PathBuf,
    shards: Vec<Shard>,
    /// How many keys are in memory.
    held: usize,
}

/// The keys of ids with one first byte.
#[derive(Default)]
struct Shard {
    held: Vec<u64>,
    spilled: Option<File>,
    /// Whether a filter of this shard was made before. If so, no empty filter is made.
    is_sent: bool,
}

impl LiveKeys {
    /// No keys yet. `scratch` is a folder for what does not fit into memory.
    pub fn new(scratch: &Path) -> Self {
        Self { scratch: scratch.to_owned(), shards: (0..256).map(|_| Shard::default()).collect(), held: 0 }
    }

    /// Adds a key.
    pub fn add(&mut self, (first, key): ChunkKey) -> Result<()> {
        self.shards[usize::from(first)].held.push(key);
        self.held += 1;
        if self.held >= HELD_MAX { self.make_room() } else { Ok(()) }
    }

    /// Removes duplicates from memory. If that does not free half of it, writes all keys to disk.
    fn make_room(&mut self) -> Result<()> {
        self.held = 0;
        for shard in &mut self.shards {
            shard.held.sort_unstable();
            shard.held.dedup();
            self.held += shard.held.len();
        }
        if self.held > HELD_MAX / 2 { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.held = 0;
        for shard in &mut self.shards {
            let bytes: Vec<u8> = shard.held.drain(..).flat_map(u64::to_le_bytes).collect();
            let file = match &mut shard.spilled {
                Some(file) => file,
                spilled => spilled.insert(unnamed_file(&self.scratch)?),
            };
            file.write_all(&bytes).map_err(|e| Error::io(&self.scratch, e))?;
        }
        Ok(())
    }

    /// Passes all keys to `each` as encoded filters, each with its first byte, and forgets the keys. The first time,
    /// there is at least one filter for every first byte.
    pub fn take_filters(&mut self, each: &mut dyn FnMut(u8, Vec<u8>) -> Result<()>) -> Result<()> {
        self.held = 0;
        for (first, shard) in self.shards.iter_mut().enumerate() {
            let mut keys = std::mem::take(&mut shard.held);
            if let Some(mut file) = shard.spilled.take() {
                let mut bytes = Vec::new();
                let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
                read.map_err(|e| Error::io(&self.scratch, e))?;
                keys.extend(bytes.as_chunks::<KEY_LEN>().0.iter().map(|key| u64::from_le_bytes(*key)));
            }
            keys.sort_unstable();
            keys.dedup();
            if keys.is_empty() && shard.is_sent {
                continue;
            }
            shard.is_sent = true;
            if keys.is_empty() {
                each(first as u8, encode_filter(&mut []))?;
            }
            for part in keys.chunks_mut(FILTER_IDS) {
                each(first as u8, encode_filter(part))?;
            }
        }
        Ok(())
    }
}
