//! Damage in the files that prunes keep in their cache folder.

use std::path::Path;

use crate::base::error::Error;

/// What these errors name as damaged.
pub(super) const WHAT: &str = "the cache of earlier marks";

/// Returns an error about one of these files.
pub(super) fn damaged(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::damaged(WHAT, format!("{}: {reason}", path.display()))
}

/// Whether an error is about these files. Walking all trees again helps against it.
pub(super) fn is_cache_damage(error: &Error) -> bool {
    matches!(error, Error::Damaged { what, .. } if what == WHAT)
}
