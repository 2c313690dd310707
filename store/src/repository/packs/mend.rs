//! Packs are looked at whole, and mended in place with their parity; parity that is missing or damaged is made again.
//!
//! A pack is replaced as it was written: beside its place, synced, renamed. So a reader sees the damaged pack or the mended
//! one, whatever happens. Damage is found twice, the second time under the backend's lock, before anything is written, and
//! only bytes that the pack's id vouches for replace others; where that cannot be had for all of them, the others stay as
//! they are, and the frames that they belong to go into [quarantine](super::quarantine).

use bytes::Bytes;

use crate::{
    access::{Mending, Span},
    base::{error::Result, id::PackId},
    format::{
        erasure::{self, Damage, Mended},
        pack::{PACK_MAX, Pack, PackTable},
    },
    repository::{Repository, layout},
};

/// Pieces in which an object is read that does not read at once; then, where these fail, the pages in them.
const PIECES: [usize; 2] = [64 * 1024, 4 * 1024];

/// No pack is longer, nor its parity, of which there is no more than of the pack itself.
const FILE_MAX: usize = 2 * PACK_MAX;

/// What was found of a pack, and done about it.
#[derive(Debug)]
pub(in crate::repository) struct Tended {
    pub mending: Mending,
    pub parity: Beside,
    /// The pack's bytes, if it is whole now.
    pub whole: Option<Bytes>,
    /// How many bytes were read.
    pub read: u64,
}

/// What was found of a pack's parity, and done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::repository) enum Beside {
    /// There is none, nor should there be.
    Off,
    Whole,
    /// It was missing, and was made.
    Made,
    /// It was damaged, and was made again.
    Mended,
    /// It is missing or damaged, and so is the pack.
    Lost,
}

/// A pack and its parity, as they are.
pub(in crate::repository) struct Found {
    pub pack: Bytes,
    pub parity: Option<Bytes>,
    /// Whether all of the pack could be read; zeros stand for what could not.
    is_readable: bool,
    /// None if there is no parity, or none that tells of the pack.
    pub damage: Option<Damage>,
    pub is_whole: bool,
}

/// Whether these are the bytes of a pack.
pub(in crate::repository) fn is_pack(bytes: &Bytes, id: PackId) -> bool {
    Pack::parse(bytes).is_ok_and(|pack| pack.table.id == id)
}

impl Found {
    fn is_parity_whole(&self) -> bool {
        self.damage.as_ref().is_some_and(Damage::is_parity_whole)
    }

    fn read(&self) -> u64 {
        (self.pack.len() + self.parity.as_ref().map_or(0, Bytes::len)) as u64
    }
}

impl Repository {
    /// Whether a pack should have parity, and has none.
    pub(in crate::repository) fn lacks_parity(&self, id: PackId) -> Result<bool> {
        Ok(self.state()?.parity.is_some() && self.backend.len(&layout::parity(id))?.is_none())
    }

    /// Verifies a pack and its parity, and mends what can be mended.
    pub(in crate::repository) fn tend(&self, id: PackId) -> Result<Tended> {
        // One at a time: each takes some packs' memory, and whoever waits for the same pack finds it mended.
        let _one = self.mending.lock();
        let found = self.find(id)?;
        if found.is_whole && found.is_readable && self.index.quarantine().frames_of(&id)?.is_none() {
            let parity = self.tend_parity(id, &found)?;
            let read = found.read();
            return Ok(Tended { mending: Mending::Whole, parity, whole: Some(found.pack), read });
        }
        // Perhaps another process has mended it meanwhile, or it was read wrongly.
        let _lock = self.backend.lock()?;
        self.follow()?;
        if self.index.prunes().swept_at(&id)?.is_some() {
            // It was taken away meanwhile, and must not come back by this.
            return Ok(Tended { mending: Mending::Whole, parity: Beside::Off, whole: None, read: found.read() });
        }
        if self.backend.len(&layout::pack(id))?.is_none() {
            // Before it counts as lost: whoever made it live again may have died before its file moved.
            self.take_out_of_grave(id)?;
        }
        let found = self.find(id)?;
        let read = found.read();
        let lost = |mending| Tended { mending, parity: Beside::Lost, whole: None, read };
        let (bytes, mending) = match (&found.damage, &found.parity) {
            _ if found.is_whole && found.is_readable => (found.pack.clone(), Mending::Whole),
            // It was read with holes, and the holes turned out to be zeros: it is written anew, elsewhere on the disk.
            _ if found.is_whole => (found.pack.clone(), Mending::Mended(0)),
            (Some(_), Some(parity)) => match erasure::mend(&found.pack, parity, id)? {
                Mended::Whole => (found.pack.clone(), Mending::Whole),
                Mended::Mended { bytes, shards } => {
                    let bytes = Bytes::from(bytes);
                    if !is_pack(&bytes, id) {
                        tracing::error!(pack = %id, "a pack is damaged, and its parity leads to no pack");
                        return Ok(self.lost(id, &found.pack, lost(Mending::NoParity)));
                    }
                    (bytes, Mending::Mended(shards as u32))
                }
                Mended::Lost { bytes, ranges } => {
                    self.mend_ends(id, &found, &bytes)?;
                    let spans: Vec<Span> =
                        ranges.iter().map(|r| Span { start: r.start as u32, end: r.end as u32 }).collect();
                    tracing::error!(pack = %id, ?spans, "more of a pack is damaged than its parity mends");
                    return Ok(self.lost(id, &bytes, lost(Mending::Lost(spans))));
                }
            },
            _ => {
                tracing::error!(pack = %id, "a pack is damaged, and there is no parity to mend it with");
                return Ok(self.lost(id, &found.pack, lost(Mending::NoParity)));
            }
        };
        if let Mending::Mended(shards) = mending {
            self.backend.put(&layout::pack(id), &bytes)?;
            tracing::warn!(pack = %id, shards, "a damaged pack was mended");
        }
        let found = Found { pack: bytes, is_whole: true, is_readable: true, ..found };
        let parity = self.tend_parity(id, &found)?;
        self.release(id)?;
        Ok(Tended { mending, parity, whole: Some(found.pack), read })
    }

    /// Puts what is lost of a pack into quarantine. Where that cannot be written down, as on a full disk, whoever meets the damage
    /// again does it.
    fn lost(&self, id: PackId, bytes: &[u8], tended: Tended) -> Tended {
        let spans = match &tended.mending {
            Mending::Lost(spans) => Some(&spans[..]),
            _ => None,
        };
        if let Err(error) = self.put_into_quarantine(id, spans, bytes) {
            tracing::error!(pack = %id, %error, "what is lost of a pack cannot be put into quarantine");
        }
        tended
    }

    /// What is damaged beyond mending gets back its length, footer and table, without which none of it would be found.
    fn mend_ends(&self, id: PackId, found: &Found, bytes: &[u8]) -> Result<()> {
        // What cannot be read today may be read tomorrow: no zeros are put in its place.
        if !found.is_readable || found.pack.is_empty() || *bytes == found.pack {
            return Ok(());
        }
        // Hashes vouch for the shards, and for no footer.
        if PackTable::salvage(bytes).is_none_or(|table| table.id != id) {
            return Ok(());
        }
        self.backend.put(&layout::pack(id), bytes)?;
        tracing::warn!(pack = %id, "a damaged pack has its table again");
        Ok(())
    }

    /// Makes the parity of a whole pack where it is not as it should be.
    fn tend_parity(&self, id: PackId, found: &Found) -> Result<Beside> {
        let was_there = found.parity.is_some();
        if found.is_parity_whole() {
            return Ok(Beside::Whole);
        }
        let Some(parity) = self.state()?.parity else { return Ok(Beside::Off) };
        self.backend.put(&layout::parity(id), &erasure::encode(&found.pack, parity)?)?;
        match was_there {
            true => tracing::warn!(pack = %id, "the damaged parity of a pack was made again"),
            false => tracing::info!(pack = %id, "the missing parity of a pack was made"),
        }
        Ok(if was_there { Beside::Mended } else { Beside::Made })
    }

    /// Looks at a pack and its parity.
    pub(in crate::repository) fn find(&self, id: PackId) -> Result<Found> {
        let (pack, is_readable) = self.salvaged(&layout::pack(id))?;
        let (parity, is_parity_readable) = self.salvaged(&layout::parity(id))?;
        let pack = pack.unwrap_or_default();
        let mut damage = match &parity {
            None => None,
            Some(parity) => erasure::verify(&pack, parity, id)
                .inspect_err(|error| tracing::warn!(pack = %id, %error, "the parity of a pack is of no use"))
                .ok(),
        };
        if let Some(damage) = &mut damage {
            damage.beside |= !is_parity_readable;
        }
        let is_whole = damage.as_ref().is_some_and(Damage::is_pack_whole) || is_pack(&pack, id);
        // No word of the parity file stands against a pack that is whole by its own hash.
        let damage = damage.filter(|damage| !is_whole || damage.is_pack_whole());
        Ok(Found { pack, parity, is_readable, damage, is_whole })
    }

    /// An object, with zeros where it cannot be read, and whether it could be read. Of one that is longer than any can be, the
    /// beginning.
    fn salvaged(&self, name: &str) -> Result<(Option<Bytes>, bool)> {
        let Some(len) = self.backend.len(name)? else { return Ok((None, true)) };
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(FILE_MAX);
        match self.backend.get_range(name, 0, len) {
            Ok(bytes) => Ok((bytes, true)),
            Err(error) if error.is_unreadable() => {
                tracing::warn!(%error, "a file cannot be read");
                let mut bytes = vec![0; len];
                self.read_pieces(name, 0, &mut bytes, &PIECES);
                Ok((Some(bytes.into()), false))
            }
            Err(error) => Err(error),
        }
    }

    fn read_pieces(&self, name: &str, offset: usize, bytes: &mut [u8], sizes: &[usize]) {
        let Some((size, smaller)) = sizes.split_first() else { return };
        for (number, piece) in bytes.chunks_mut(*size).enumerate() {
            let at = offset + number * size;
            match self.backend.get_range(name, at as u64, piece.len()) {
                Ok(Some(read)) => piece[..read.len()].copy_from_slice(&read),
                Ok(None) => {}
                Err(_) => self.read_pieces(name, at, piece, smaller),
            }
        }
    }
}
