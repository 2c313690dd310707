//! The server's identity on disk, kept in two files.

use std::path::Path;

use bkfs_store::{
    Error, Result,
    repository::backend::{Backend, LocalBackend},
};

use crate::identity::Identity;

const FILES: [&str; 2] = ["identity", "identity.2"];

/// Writes the identity of a new server.
pub(super) fn create(data: &Path, identity: &Identity) -> Result<()> {
    let (backend, bytes) = (LocalBackend::new(data), identity.encode());
    FILES.iter().try_for_each(|name| backend.put(name, &bytes))
}

/// Reads the identity from the first copy that is whole.
pub(super) fn read(data: &Path) -> Result<Identity> {
    let backend = LocalBackend::new(data);
    let mut failed = None;
    for name in FILES {
        match backend.get(name).and_then(|bytes| bytes.map(|bytes| Identity::decode(&bytes)).transpose()) {
            Ok(Some(identity)) => {
                if let Some(error) = failed {
                    tracing::warn!(%error, "the first copy of the server's identity is damaged; using the second one");
                }
                return Ok(identity);
            }
            Ok(None) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| {
        Error::Invalid(format!("there is no server in {}: make one with `bkfs server init --data`", data.display()))
    }))
}

/// Rewrites each copy that is not whole. Returns whether there was one.
pub(super) fn repair(data: &Path, identity: &Identity) -> Result<bool> {
    let (backend, bytes) = (LocalBackend::new(data), identity.encode());
    let mut is_repaired = false;
    for name in FILES {
        if backend.get(name).ok().flatten().as_deref() != Some(&bytes[..]) {
            backend.put(name, &bytes)?;
            is_repaired = true;
        }
    }
    Ok(is_repaired)
}
