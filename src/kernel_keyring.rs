//! The kernel's keyring. It holds the opened full key for a while, so that nobody has to type the passphrase for each
//! command (`bkfs key unlock`).
//!
//! The key is in the user's keyring under the repository's id, and only the same user can read it. The kernel removes
//! it when its time is over. If the kernel or a container forbids keyrings, [`find`] finds nothing and [`keep`] fails.

use std::time::Duration;

use anyhow::Result;
use bkfs_store::base::id::RepoId;
use linux_keyutils::{KeyError, KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, Permission};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// How long a key is kept by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);

/// Keeps the encoded full key until `timeout` has passed.
pub fn keep(repo: RepoId, key: &[u8], timeout: Duration) -> Result<()> {
    let keep = || -> Result<(), KeyError> {
        let key = keyring()?.add_key(&name(repo), key)?;
        // Without this, only processes whose session keyring links to the user's keyring could read the key. Sessions
        // that were not set up by PAM have no such link.
        let owner = Permission::VIEW | Permission::READ | Permission::SEARCH | Permission::WRITE | Permission::SETATTR;
        key.set_perms(KeyPermissionsBuilder::builder().posessor(Permission::ALL).user(owner).build())?;
        key.set_timeout(usize::try_from(timeout.as_secs()).unwrap_or(usize::MAX).max(1))
    };
    keep().map_err(|e| {
        Failure::new(
            format!("cannot use the kernel's keyring: {e}"),
            "containers often forbid it; use a key file instead (`bkfs key export-full`)",
        )
        .into()
    })
}

/// Returns the encoded full key, if one is kept and its time is not over.
pub fn find(repo: RepoId) -> Option<Zeroizing<Vec<u8>>> {
    let key = keyring().ok()?.search(&name(repo)).ok()?;
    key.read_to_vec().ok().map(Zeroizing::new)
}

/// Removes the key. Returns whether there was one.
pub fn remove(repo: RepoId) -> Result<bool> {
    let Ok(key) = keyring().and_then(|ring| ring.search(&name(repo))) else { return Ok(false) };
    key.invalidate()
        .or_else(|_| key.revoke())
        .map(|()| true)
        .map_err(|e| Failure::new(format!("cannot remove the key from the kernel's keyring: {e}"), "").into())
}

fn keyring() -> Result<KeyRing, KeyError> {
    KeyRing::from_special_id(KeyRingIdentifier::User, false)
}

fn name(repo: RepoId) -> String {
    format!("bkfs:{repo}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_finds_and_removes() {
        let repo = RepoId(bkfs_store::crypto::random());
        if keep(repo, b"key", Duration::from_secs(60)).is_err() {
            eprintln!("skipped: this kernel or container has no keyrings");
            return;
        }
        assert_eq!(find(repo).unwrap().as_slice(), b"key");
        assert!(remove(repo).unwrap());
        assert!(find(repo).is_none());
        assert!(!remove(repo).unwrap());
    }
}
