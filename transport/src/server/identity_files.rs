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
    let data = data.display();
    Err(Error::Invalid(match failed {
        Some(error) => format!(
            "no copy of the server's identity in {data} is whole ({}): {error}. Bring one back from a copy: with \
             another identity the server is another one to its clients, and they must join it again",
            FILES.join(", ")
        ),
        None => format!("there is no server in {data}: make one with `bkfs server init --data`"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_copy_is_enough_and_none_is_said_with_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::generate().unwrap();
        create(folder.path(), &identity).unwrap();
        std::fs::write(folder.path().join(FILES[0]), b"").unwrap();
        assert_eq!(read(folder.path()).unwrap().fingerprint(), identity.fingerprint());
        std::fs::write(folder.path().join(FILES[1]), b"").unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        for words in ["identity, identity.2", "it is empty", "join it again"] {
            assert!(error.contains(words), "{words} in {error}");
        }
    }
}
