//! Looking up chunks: where their copies are, and which of them are live.

use std::collections::{HashMap, hash_map::Entry};

use heed::{RoTxn, WithoutTls};

use super::{
    chunk_tables::{self, FrameAddress},
    environment::Index,
    liveness::{are_all_live, is_live},
    rows::{PackRow, wrap_key},
};
use crate::{
    base::{
        codec,
        error::Result,
        id::{ChunkId, ClientId, KeyId},
    },
    crypto::Wrap,
    format::filter::filter_key,
};

/// Where each chunk is, if it is stored.
type Addresses = Vec<Option<FrameAddress>>;

/// Chunks, and the wraps of the keys that open them.
#[derive(Debug, Clone, Copy)]
pub struct ChunkIndex<'i>(&'i Index);

impl Index {
    /// Chunks, and the wraps of the keys that open them.
    pub fn chunks(&self) -> ChunkIndex<'_> {
        ChunkIndex(self)
    }
}

/// A stored copy of a chunk.
struct StoredCopy {
    address: FrameAddress,
    is_live: bool,
}

impl ChunkIndex<'_> {
    /// Which of the ids have a live copy.
    pub fn has(self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        self.0.read(|txn| ids.iter().map(|id| Ok(self.find(txn, id)?.is_some_and(|copy| copy.is_live))).collect())
    }

    /// Where chunks are. A live copy comes before one that is not.
    pub fn locate(self, ids: &[ChunkId]) -> Result<Addresses> {
        self.0.read(|txn| ids.iter().map(|id| Ok(self.find(txn, id)?.map(|copy| copy.address))).collect())
    }

    /// Where chunks are, as [`ChunkIndex::locate`] returns it, and the rows of their packs. All are of one moment: in
    /// the next, a number may stand for another pack.
    pub fn resolve(self, ids: &[ChunkId]) -> Result<(Addresses, HashMap<u32, PackRow>)> {
        self.0.read(|txn| {
            let (mut addresses, mut packs) = (Vec::with_capacity(ids.len()), HashMap::new());
            for id in ids {
                let address = self.find(txn, id)?.map(|copy| copy.address);
                if let Some((pack, _)) = address
                    && let Entry::Vacant(entry) = packs.entry(pack)
                    && let Some(row) = self.0.tables.packs.get(txn, &pack)?.and_then(PackRow::decode)
                {
                    entry.insert(row);
                }
                addresses.push(address);
            }
            Ok((addresses, packs))
        })
    }

    /// A copy of a chunk: a live one, if there is one.
    fn find(self, txn: &RoTxn<'_, WithoutTls>, id: &ChunkId) -> heed::Result<Option<StoredCopy>> {
        let tables = &self.0.tables;
        let all_live = are_all_live(tables, txn)?;
        let mut found = None;
        for copy in tables.chunks().copies(txn, id)? {
            let address @ (pack, frame) = copy?;
            let is_live = all_live || is_live(tables, txn, pack, frame)?;
            found = Some(StoredCopy { address, is_live });
            if is_live {
                break;
            }
        }
        Ok(found)
    }

    /// The copies of a chunk in packs that have no condemned frames, except copies in quarantine: the pack, and the
    /// number of the frame in it. All are of one moment. (In two moments, a pack that is condemned in the first and
    /// swept in the second would look as if it were neither.)
    pub fn kept_copies(self, id: &ChunkId) -> Result<Vec<(PackRow, u32)>> {
        let tables = &self.0.tables;
        self.0.read(|txn| {
            let mut found = Vec::new();
            for copy in tables.chunks().copies(txn, id)? {
                let (pack, frame) = copy?;
                let Some(row) = tables.packs.get(txn, &pack)?.and_then(PackRow::decode) else { continue };
                if tables.condemned.get(txn, &row.id.0)?.is_none() && is_live(tables, txn, pack, frame)? {
                    found.push((row, frame));
                }
            }
            Ok(found)
        })
    }

    /// Which of the ids have a live copy in a frame that is not taken. `is_taken` gets the number of a pack and of a
    /// frame.
    pub fn live_elsewhere(self, ids: &[ChunkId], is_taken: &dyn Fn(u32, u32) -> bool) -> Result<Vec<bool>> {
        let tables = &self.0.tables;
        self.0.read(|txn| {
            let all_live = are_all_live(tables, txn)?;
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                let mut has_live = false;
                for copy in tables.chunks().copies(txn, id)? {
                    let (pack, frame) = copy?;
                    has_live |= !is_taken(pack, frame) && (all_live || is_live(tables, txn, pack, frame)?);
                }
                found.push(has_live);
            }
            Ok(found)
        })
    }

    /// Calls `each` for all copies of the chunks whose ids begin with a byte: with the id's [key](filter_key), the
    /// number of the pack and of the frame.
    pub fn scan(self, first: u8, each: &mut dyn FnMut(u64, u32, u32)) -> Result<()> {
        self.0.read(|txn| {
            self.0.tables.chunks().each(txn, Some(first), &mut |key, value| {
                let (pack, frame) = chunk_tables::address(&value);
                each(filter_key(&chunk_tables::id_of(&key, &value)), pack, frame);
            })
        })
    }

    /// How many chunks there are. Each copy counts.
    pub fn count(self) -> Result<u64> {
        self.0.read(|txn| self.0.tables.chunks().len(txn))
    }

    /// The stored wraps of data keys. A key has as many wraps as clients brought one.
    pub fn wraps(self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        let raw: Vec<Vec<u8>> = self.0.read(|txn| {
            let mut found = Vec::new();
            for key in keys {
                for row in self.0.tables.wraps.prefix_iter(txn, &key.0)? {
                    found.push(row?.1.to_vec());
                }
            }
            Ok(found)
        })?;
        Ok(raw.iter().filter_map(|raw| codec::decode("a wrap in the index", raw).ok()).collect())
    }

    /// Adds the wrap that came with a client's snapshot.
    pub fn add_wrap(self, wrap: &Wrap, client: &ClientId) -> Result<()> {
        self.0.write(|txn| self.0.tables.wraps.put(txn, &wrap_key(&wrap.key, client), &codec::encode(wrap)))
    }
}
