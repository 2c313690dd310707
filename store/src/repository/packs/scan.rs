//! Reading a whole pack and its parity, even if parts cannot be read, and finding what is damaged in them.

use bytes::Bytes;

use super::files::PackFiles;
use crate::{
    base::{error::Result, id::PackId},
    format::{
        erasure::{self, PackDamage},
        pack::{PACK_MAX, Pack},
    },
};

/// The pieces in which a file is read that cannot be read in one go. Where a piece fails, it is read in smaller ones.
const PIECES: [usize; 2] = [64 * 1024, 4 * 1024];
/// No pack is longer, and no parity: there is never more parity than pack.
const FILE_MAX: usize = 2 * PACK_MAX;

/// A pack and its parity, as they are on the disk.
pub(super) struct PackScan {
    pub pack: Bytes,
    pub parity: Option<Bytes>,
    /// Whether all of the pack could be read. What could not be read is zeros.
    pub is_readable: bool,
    /// None if there is no parity, or none that belongs to the pack.
    pub damage: Option<PackDamage>,
    pub is_whole: bool,
}

impl PackScan {
    /// Reads a pack and its parity.
    pub fn new(files: &PackFiles, id: PackId) -> Result<Self> {
        let (pack, is_readable) = salvage(files.len(id)?, &|offset, len| files.range(id, offset, len))?;
        let (parity, is_parity_readable) =
            salvage(files.parity_len(id)?, &|offset, len| files.parity_range(id, offset, len))?;
        let pack = pack.unwrap_or_default();
        let mut damage = match &parity {
            None => None,
            Some(parity) => erasure::verify(&pack, parity, id)
                .inspect_err(|error| tracing::warn!(pack = %id, %error, "the parity of a pack cannot be used"))
                .ok(),
        };
        if let Some(damage) = &mut damage {
            damage.has_other_parity_damage |= !is_parity_readable;
        }
        let is_whole = damage.as_ref().is_some_and(PackDamage::is_pack_whole) || is_pack(&pack, id);
        // If the pack is whole by its own hash, the parity file is not believed when it calls the pack damaged.
        let damage = damage.filter(|damage| !is_whole || damage.is_pack_whole());
        Ok(Self { pack, parity, is_readable, damage, is_whole })
    }

    pub fn is_parity_whole(&self) -> bool {
        self.damage.as_ref().is_some_and(PackDamage::is_parity_whole)
    }

    /// How many bytes were read.
    pub fn bytes_read(&self) -> u64 {
        (self.pack.len() + self.parity.as_ref().map_or(0, Bytes::len)) as u64
    }
}

/// Whether these are the bytes of a pack.
pub(super) fn is_pack(bytes: &Bytes, id: PackId) -> bool {
    Pack::parse(bytes).is_ok_and(|pack| pack.table.id == id)
}

/// Reads part of a file, from an offset.
type ReadRange<'a> = &'a dyn Fn(u64, usize) -> Result<Option<Bytes>>;

/// A file, with zeros where it cannot be read, and whether all of it could be read. Only the beginning of a file that
/// is longer than any can be.
fn salvage(len: Option<u64>, read: ReadRange<'_>) -> Result<(Option<Bytes>, bool)> {
    let Some(len) = len else { return Ok((None, true)) };
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(FILE_MAX);
    match read(0, len) {
        Ok(bytes) => Ok((bytes, true)),
        Err(error) if error.is_unreadable() => {
            tracing::warn!(%error, "a file cannot be read");
            let mut bytes = vec![0; len];
            read_pieces(read, 0, &mut bytes, &PIECES);
            Ok((Some(bytes.into()), false))
        }
        Err(error) => Err(error),
    }
}

fn read_pieces(read: ReadRange<'_>, offset: usize, bytes: &mut [u8], sizes: &[usize]) {
    let Some((size, smaller)) = sizes.split_first() else { return };
    for (number, piece) in bytes.chunks_mut(*size).enumerate() {
        let at = offset + number * size;
        match read(at as u64, piece.len()) {
            Ok(Some(found)) => piece[..found.len()].copy_from_slice(&found),
            Ok(None) => {}
            Err(_) => read_pieces(read, at, piece, smaller),
        }
    }
}
