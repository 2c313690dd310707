//! Above the seam: what only the holder of a full key can do. Everything here reaches the store through
//! [`crate::access::Access`], and trusts nothing that comes back until it has verified it.

pub mod check;
pub mod keyring;
pub mod prune;
pub mod reader;
pub mod repair;
pub mod retention;
