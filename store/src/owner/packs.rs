//! Whole packs, as the holder of a full key looks at them: listing them, and opening their frames.

use bytes::Bytes;

use crate::{
    access::{CONTESTED_MAX, Maintain, PackInfo, RepairReply, RepairRequest, SealedFrame},
    base::{
        error::{Error, Result},
        id::{ChunkId, PackId},
    },
    format::pack::PackTable,
    owner::{frames, keyring::KeyRing, pages::PackPages},
};

/// How many packs one request lists.
const PACKS_PER_REQUEST: u32 = 1024;

/// Lists all packs, in the order of their ids. Calls `before_request` before each request; its error ends the listing.
pub(crate) fn list(access: &dyn Maintain, mut before_request: impl FnMut() -> Result<()>) -> Result<Vec<PackInfo>> {
    let (mut packs, mut pages) = (Vec::new(), PackPages::new());
    loop {
        before_request()?;
        let more = access.packs(pages.last(), PACKS_PER_REQUEST)?;
        if more.is_empty() {
            return Ok(packs);
        }
        pages.add(more.iter().map(|pack| pack.id), PACKS_PER_REQUEST as usize)?;
        packs.extend(more);
    }
}

/// Lists the packs whose copies of chunks may differ from the copies in other packs.
pub(crate) fn list_contested(access: &dyn Maintain) -> Result<Vec<PackId>> {
    let (mut packs, mut pages) = (Vec::new(), PackPages::new());
    loop {
        let RepairReply::Contested(more) = access.repair(&RepairRequest::Contested { after: pages.last() })? else {
            return Err(Error::Invalid("the store's reply does not fit the request for contested packs".into()));
        };
        pages.add(more.iter().copied(), CONTESTED_MAX)?;
        let is_last = more.len() < CONTESTED_MAX;
        packs.extend(more);
        if is_last {
            return Ok(packs);
        }
    }
}

/// Bytes of packs. A store may say anything of a pack's length, so the sum must not overflow.
pub(crate) fn bytes(packs: &[PackInfo]) -> u64 {
    packs.iter().fold(0, |sum, pack| sum.saturating_add(pack.len))
}

/// Whether the store still lists a pack.
pub(crate) fn is_listed(access: &dyn Maintain, id: PackId) -> Result<bool> {
    Ok(find(access, id)?.is_some())
}

/// What the store lists of a pack; none if it does not list it.
pub(crate) fn find(access: &dyn Maintain, id: PackId) -> Result<Option<PackInfo>> {
    let listed = access.packs(preceding(id), 1)?;
    Ok(listed.first().filter(|pack| pack.id == id).copied())
}

/// Returns the id that precedes another; none for the first.
fn preceding(mut id: PackId) -> Option<PackId> {
    for byte in id.0.iter_mut().rev() {
        let (less, borrows) = byte.overflowing_sub(1);
        *byte = less;
        if !borrows {
            return Some(id);
        }
    }
    None
}

/// What is wrong with a pack.
#[derive(Debug, Default)]
pub(crate) struct PackFindings {
    /// All errors.
    pub errors: Vec<Error>,
    /// The numbers of the frames that do not hold the chunks that the table names.
    pub bad_frames: Vec<u32>,
    /// The chunks that those frames should hold.
    pub bad_chunks: Vec<ChunkId>,
    /// Whether the table was readable, so that the frames could be opened.
    pub has_opened_frames: bool,
}

impl PackFindings {
    /// Opens each frame of a pack and adds what is wrong. Everything except the table may be damaged.
    pub fn open_frames(&mut self, keys: &KeyRing, table: &PackTable, bytes: &Bytes) {
        self.has_opened_frames = true;
        for wrap in &table.wraps {
            if let Err(error) = keys.learn(wrap) {
                self.errors.push(Error::PackDamaged { pack: table.id, reason: error.to_string() });
            }
        }
        for (number, entry) in table.frames.iter().enumerate() {
            let number = number as u32;
            let (start, end) = (entry.offset as usize, (entry.offset + entry.len) as usize);
            let frame = SealedFrame {
                pack: table.id,
                frame: number,
                bytes: bytes.slice(start.min(bytes.len())..end.min(bytes.len())),
            };
            let error = match frames::open(keys, table.kind, &frame) {
                Ok(chunks) if chunks.iter().map(|(id, _)| id).eq(&entry.ids) => continue,
                Ok(_) => {
                    let reason = "its chunks are not those that the pack's table names".into();
                    Error::FrameDamaged { pack: table.id, frame: number, reason }
                }
                Err(error) => error,
            };
            self.errors.push(error);
            self.bad_frames.push(number);
            self.bad_chunks.extend(&entry.ids);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preceding_id_is_the_next_smaller_one() {
        let id = |bytes: [u8; 2]| {
            let mut id = PackId::default();
            id.0[30..].copy_from_slice(&bytes);
            id
        };
        assert_eq!(preceding(id([0, 7])), Some(id([0, 6])));
        assert_eq!(preceding(id([3, 0])), Some(id([2, 255])));
        assert_eq!(preceding(id([0, 0])), None);
    }
}
