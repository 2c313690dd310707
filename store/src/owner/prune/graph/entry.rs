//! An entry of the graph: what one page or snapshot names.

use crate::{
    base::id::ChunkId,
    format::filter::{filter_key, put_varint, take_varint},
};

/// A chunk as filters know it: the first byte of its id, and its [filter key](filter_key).
pub(crate) type ChunkKey = (u8, u64);

/// Length of a stored key in bytes.
const KEY_LEN: usize = 9;

/// Returns the key of a chunk.
pub(crate) fn chunk_key(id: &ChunkId) -> ChunkKey {
    (id.0[0], filter_key(id))
}

/// What one page or snapshot names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    /// The keys of the chunks of data that it names; for a page, also its own key.
    pub keys: Vec<ChunkKey>,
    /// The numbers of the entries of the pages that it names.
    pub pages: Vec<u64>,
}

impl Entry {
    /// Appends the entry as number `number`. The entries of its pages must have lower numbers.
    pub(super) fn encode(&self, number: u64, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.keys.len() as u64);
        put_varint(bytes, self.pages.len() as u64);
        for (first, key) in &self.keys {
            bytes.push(*first);
            bytes.extend_from_slice(&key.to_be_bytes());
        }
        for page in &self.pages {
            debug_assert!(*page < number, "the pages of an entry are added before it");
            put_varint(bytes, number - page);
        }
    }

    /// Takes an entry off the front of `bytes`; none if the bytes are not an entry with this number.
    pub(super) fn decode(bytes: &mut &[u8], number: u64) -> Option<Self> {
        let (keys, pages) = (take_varint(bytes)?, take_varint(bytes)?);
        let (raw, rest) = bytes.split_at_checked(usize::try_from(keys).ok()?.checked_mul(KEY_LEN)?)?;
        *bytes = rest;
        let key = |raw: &[u8; KEY_LEN]| (raw[0], raw[1..].iter().fold(0, |key, byte| key << 8 | u64::from(*byte)));
        let keys = raw.as_chunks::<KEY_LEN>().0.iter().map(key).collect();
        // Each page takes at least one byte, so the input bounds what is allocated.
        let mut found = Vec::with_capacity(usize::try_from(pages).ok()?.min(bytes.len()));
        for _ in 0..pages {
            let back = take_varint(bytes)?;
            found.push(number.checked_sub(back).filter(|_| back > 0)?);
        }
        Some(Self { keys, pages: found })
    }
}
