//! The requests of a repair. Each function sends one kind of request and expects the one kind of reply that belongs to
//! it.

use crate::{
    access::{Dropped, Keep, Maintain, Mending, QUARANTINE_MAX, RepairReply, RepairRequest},
    base::{
        error::{Error, Result},
        id::PackId,
    },
    format::loss::Quarantined,
};

/// Has the store verify a pack and mend it. A dry run changes nothing and returns what mending would achieve.
pub(super) fn verify(access: &dyn Maintain, pack: PackId, dry_run: bool) -> Result<Mending> {
    match access.repair(&RepairRequest::Verify { pack, dry_run })? {
        RepairReply::Verified(mending) => Ok(mending),
        _ => Err(unexpected()),
    }
}

/// Lists all packs with frames in quarantine, in the order of their ids.
pub(super) fn quarantined(access: &dyn Maintain) -> Result<Vec<Quarantined>> {
    let mut all: Vec<Quarantined> = Vec::new();
    loop {
        let after = all.last().map(|last| last.pack);
        let RepairReply::Quarantine(packs) = access.repair(&RepairRequest::Quarantine { after })? else {
            return Err(unexpected());
        };
        let count = packs.len();
        for quarantined in packs {
            if all.last().is_some_and(|last| quarantined.pack <= last.pack) {
                return Err(Error::Invalid("the store lists its packs in the wrong order, and would never end".into()));
            }
            all.push(quarantined);
        }
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
