//! Verifying one pack: by the store, and by opening its frames if only a key can tell.

use std::collections::BTreeSet;

use super::{errors::stops, report::RepairOptions, requests};
use crate::{
    access::{Access, Mending, PackInfo, Span},
    base::error::Result,
    format::{
        loss::{DamagedFrames, FrameBits},
        pack::PackTable,
    },
    owner::{packs::PackFindings, reader::Reader},
};

/// What is wrong with a pack.
#[derive(Debug)]
pub(super) struct PackDamage {
    /// The frames that the store knows to be damaged.
    pub known: DamagedFrames,
    /// The frames that the full key opens; none if that was not tried.
    pub opened: Option<FrameBits>,
}

/// The state of a pack after the store has verified it and mended what it could.
pub(super) struct Verdict {
    pub is_mended: bool,
    /// Whether the store finds nothing lost.
    is_whole: bool,
    pub damage: Option<PackDamage>,
}

/// Verifies a pack.
pub(super) fn verify_pack(
    reader: &Reader,
    access: &dyn Access,
    info: &PackInfo,
    options: &RepairOptions,
) -> Result<Verdict> {
    let first = verify_once(reader, access, info, options)?;
    if !first.is_whole || first.damage.is_none() {
        return Ok(first);
    }
    // The store finds this pack whole, and it would be dropped only because the key does not open a frame. So verify it
    // once more: it may have been damaged after the store looked and before its frames were opened. Then parity mends
    // it.
    let second = verify_once(reader, access, info, options)?;
    Ok(Verdict { is_mended: first.is_mended || second.is_mended, ..second })
}

fn verify_once(reader: &Reader, access: &dyn Access, info: &PackInfo, options: &RepairOptions) -> Result<Verdict> {
    let mending = requests::verify(access, info.id, options.dry_run)?;
    let is_mended = matches!(mending, Mending::Mended(_));
    let known = match &mending {
        // On a dry run the spans and the pack's table tell which frames are damaged. Otherwise the store determines
        // them when the pack is dropped.
        Mending::Lost(spans) => {
            Some(match access.read_pack(info.id).ok().and_then(|bytes| PackTable::salvage(&bytes)) {
                Some(table) if options.dry_run => DamagedFrames::Frames(touched_frames(&table, spans)),
                Some(table) => DamagedFrames::Frames(FrameBits::none(table.frames.len())),
                None => DamagedFrames::All,
            })
        }
        Mending::NoParity => Some(DamagedFrames::All),
        Mending::Whole | Mending::Mended(_) => None,
    };
    // Without parity only a key can tell which frames are damaged.
    let must_open = options.read_data || known == Some(DamagedFrames::All);
    let opened = match must_open && !(is_mended && options.dry_run) {
        true => Some(open_pack(reader, access, info)?),
        false => None,
    };
    let is_whole = known.is_none();
    let damage = match (known, opened) {
        (None, Some((total, bits))) if bits.count() < total => {
            Some(PackDamage { known: DamagedFrames::Frames(FrameBits::none(0)), opened: Some(bits) })
        }
        (None, _) => None,
        (Some(known), opened) => Some(PackDamage { known, opened: opened.map(|(_, bits)| bits) }),
    };
    Ok(Verdict { is_mended, is_whole, damage })
}

/// Fetches a pack and opens its frames. Returns how many frames it has, and which of them open and hold what they
/// should.
fn open_pack(reader: &Reader, access: &dyn Access, info: &PackInfo) -> Result<(usize, FrameBits)> {
    let bytes = access.read_pack(info.id)?;
    let Some(table) = PackTable::salvage(&bytes).filter(|table| table.id == info.id) else {
        return Ok((0, FrameBits::none(0)));
    };
    let mut found = PackFindings::default();
    found.open_frames(reader.keys(), &table, &bytes);
    if let Some(error) = found.errors.into_iter().find(stops) {
        return Err(error);
    }
    let bad: BTreeSet<u32> = found.bad_frames.into_iter().collect();
    let mut bits = FrameBits::none(table.frames.len());
    (0..table.frames.len() as u32).filter(|frame| !bad.contains(frame)).for_each(|frame| bits.set(frame));
    Ok((table.frames.len(), bits))
}

/// Returns the frames that overlap the spans.
fn touched_frames(table: &PackTable, spans: &[Span]) -> FrameBits {
    let mut bits = FrameBits::none(table.frames.len());
    for (frame, entry) in table.frames.iter().enumerate() {
        if spans.iter().any(|span| span.start < entry.offset + entry.len && span.end > entry.offset) {
            bits.set(frame as u32);
        }
    }
    bits
}
