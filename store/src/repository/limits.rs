//! Limits on what one request may name.

use crate::base::error::{Error, Result};

/// Refuses a request that names more than `limit` items.
pub(super) fn check_count(count: usize, limit: usize) -> Result<()> {
    match count <= limit {
        true => Ok(()),
        false => Err(Error::TooLarge { what: "a request", size: count as u64, limit: limit as u64 }),
    }
}
