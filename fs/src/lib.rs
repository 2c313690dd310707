//! bkfs on the local machine: walking and reading what is pushed, and showing and restoring what was.
//!
//! This crate knows no network and no terminal. It meets the store only through `bkfs_store::access::Access`.

pub mod allocator;
pub mod cache;
pub mod exclude;
pub mod metadata;
pub mod mount;
mod pool;
pub mod push;
pub mod restore;
pub mod userdb;
pub mod vfs;
pub mod walk;
