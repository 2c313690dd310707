//! Creating a repository.
//!
//! **Order.** The configuration is written last: without one, nothing of a repository counts, and the next `init`
//! begins again.

use super::{
    log::Log,
    objects::{Objects, admin_key},
};
use crate::{
    access::InitRequest,
    base::error::{Error, Result},
    format::{config::verify_config, roster::verify_roster},
};

/// Creates a repository. Fails if there is one already.
pub(super) fn init(objects: &Objects, log: &Log, request: &InitRequest) -> Result<()> {
    let config = verify_config(&request.config).map_err(Error::in_input)?;
    verify_roster(&request.roster, &admin_key(&config)?, config.repo).map_err(Error::in_input)?;
    let _lock = log.lock()?;
    if objects.has_config()? {
        return Err(objects.already_exists());
    }
    if objects.has_snapshots()? {
        return Err(objects.missing_config());
    }
    log.reset()?;
    request.slots.iter().try_for_each(|slot| objects.put_slot_locked(slot))?;
    log.begin(&request.config, &request.roster)?;
    objects.put_settings()?;
    objects.put_config(&request.config)
}
