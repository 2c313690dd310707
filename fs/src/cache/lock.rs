//! The lock of a target. Two pushes of one target at a time would only do the same work twice.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use bkfs_store::{Error, Result};
use rustix::fs::FlockOperation;

/// Held while a target is pushed.
pub struct TargetLock(File);

impl TargetLock {
    /// Locks a file, which is created if need be. Fails without waiting if another process holds the lock.
    pub(super) fn acquire(path: PathBuf) -> Result<Self> {
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = open.map_err(|e| Error::io(&path, e))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { what: "this target".to_owned() }),
            Err(error) => Err(Error::io(path, error.into())),
        }
    }
}

impl Drop for TargetLock {
    /// Unlocks explicitly. Closing the file is not enough: a child process that was just forked holds the file, too,
    /// until it runs its program.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_unlocked_although_a_forked_child_still_holds_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target.lock");
        let lock = TargetLock::acquire(path.clone()).unwrap();
        let of_child = lock.0.try_clone().unwrap();
        assert!(matches!(TargetLock::acquire(path.clone()), Err(Error::Locked { .. })));
        drop(lock);
        TargetLock::acquire(path).unwrap();
        drop(of_child);
    }
}
