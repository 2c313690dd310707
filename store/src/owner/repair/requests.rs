//! The requests of a repair. Each function sends one kind of request and expects the one kind of reply that belongs to
//! it.

use crate::{
    access::{Dropped, Keep, Maintain, Mending, QUARANTINE_MAX, RepairReply, RepairRequest},
    base::{
        error::{Error, Result},
        id::PackId,
    },
    format::loss::Quarantined,
    owner::pages::PackPages,
};

/// The most bytes that a list of frames in quarantine may take, at one bit a frame: the frames of some 500 TB.
const FRAMES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Has the store verify a pack and mend it. A dry run changes nothing and returns what mending would achieve.
pub(super) fn verify(access: &dyn Maintain, pack: PackId, dry_run: bool) -> Result<Mending> {
    match access.repair(&RepairRequest::Verify { pack, dry_run })? {
        RepairReply::Verified(mending) => Ok(mending),
        _ => Err(unexpected()),
    }
}

/// Lists all packs with frames in quarantine, in the order of their ids.
pub(super) fn quarantined(access: &dyn Maintain) -> Result<Vec<Quarantined>> {
    let (mut all, mut pages, mut bytes) = (Vec::new(), PackPages::new(), 0);
    loop {
        let RepairReply::Quarantine(packs) = access.repair(&RepairRequest::Quarantine { after: pages.last() })? else {
            return Err(unexpected());
        };
        pages.add(packs.iter().map(|quarantined| quarantined.pack), QUARANTINE_MAX)?;
        bytes += packs.iter().map(|quarantined| quarantined.frames.bits_len()).sum::<usize>();
        if bytes > FRAMES_BYTES_MAX {
            let what = "the list of frames that the store has in quarantine";
            return Err(Error::TooLarge { what, size: bytes as u64, limit: FRAMES_BYTES_MAX as u64 });
        }
        let count = packs.len();
        all.extend(packs);
        if count < QUARANTINE_MAX {
            return Ok(all);
        }
    }
}

/// Has the store remove a damaged pack after copying the frames that are to be kept.
pub(super) fn drop_pack(access: &dyn Maintain, pack: PackId, keep: Keep) -> Result<Dropped> {
    match access.repair(&RepairRequest::Drop { pack, keep })? {
        RepairReply::Dropped(dropped) => Ok(dropped),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Error {
    Error::Invalid("the store's reply does not fit this step of the repair".into())
}
