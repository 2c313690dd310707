//! Which errors end a repair.

use crate::base::error::Error;

/// Whether an error ends the repair. Every other error is noted, and the repair continues with the next pack.
pub(super) fn stops(error: &Error) -> bool {
    matches!(error, Error::Interrupted | Error::Unreachable(_) | Error::NoPermission { .. } | Error::Full { .. })
}
