//! The lock of a target. Two pushes of one target at a time would only do the same work twice.

use std::path::PathBuf;

use bkfs_store::{Error, Result, base::medium::FileLock};

/// Held while a target is pushed.
pub struct TargetLock {
    _lock: FileLock,
}

impl TargetLock {
    /// Locks a file, which is created if need be. Fails without waiting if another process holds the lock.
    pub(super) fn acquire(path: PathBuf) -> Result<Self> {
        match FileLock::attempt(&path).map_err(|e| Error::io(path, e))? {
            Some(lock) => Ok(Self { _lock: lock }),
            None => Err(Error::Locked { what: "this target".to_owned() }),
        }
    }
}
