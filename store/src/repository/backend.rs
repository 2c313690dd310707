//! Backends: where packs, small objects and logs are kept. A backend knows names and bytes, and not what they mean.
//!
//! Names are relative paths that the repository makes from ids; nothing that came from outside reaches a backend as a
//! name. [`Backend::put`] is atomic and durable: after it returns, the whole object exists, whatever happens; before,
//! none of it does. Logs are only appended to, under the repository's lock.

mod files;
mod local;
mod memory;
mod owner;
mod reserve;

pub use files::{Disk, Files};
pub use local::LocalBackend;
pub use memory::MemoryBackend;

use std::fmt;

use bytes::Bytes;

use crate::base::error::Result;

/// A listed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The last component of its name.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// The room on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What is free for this user.
    pub free: u64,
    /// The whole disk.
    pub total: u64,
}

/// Held while a log is appended to. Dropping it releases the lock.
pub trait Lock: Send {}

/// Where bytes are kept.
pub trait Backend: Send + Sync {
    /// Where this is, for errors.
    fn place(&self) -> String;

    /// Stores an object, and replaces an object of that name. Atomic, and durable on return.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.put_all(&[(name, bytes)])
    }

    /// Stores several objects like [`Backend::put`], and waits for the disk fewer times. After an error some of the
    /// objects may be stored.
    fn put_all(&self, objects: &[(&str, &[u8])]) -> Result<()>;

    /// A whole object; none if it does not exist.
    fn get(&self, name: &str) -> Result<Option<Bytes>>;

    /// Part of an object; fewer bytes if the object ends before. None if it does not exist.
    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Option<Bytes>>;

    /// The length of an object; none if it does not exist.
    fn len(&self, name: &str) -> Result<Option<u64>>;

    /// Renames an object, and replaces an object of the new name. Durable on return; before, the object has one name or
    /// both. Renaming an object that does not exist is not an error.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Removes an object. Durable on return, even if the object did not exist, which is not an error.
    fn delete(&self, name: &str) -> Result<()>;

    /// The objects of a folder, in no order; empty if the folder does not exist.
    fn list(&self, folder: &str) -> Result<Vec<Listed>>;

    /// Makes the names in a folder durable. An object that [`Backend::list`] shows may have been put by a process that
    /// died before [`Backend::put`] returned.
    fn settle(&self, folder: &str) -> Result<()>;

    /// A number that changes whenever an object of the folder is added or removed. None if that cannot be told; then
    /// the folder must be listed.
    fn stamp(&self, folder: &str) -> Result<Option<u64>>;

    /// Cuts a log to `offset`, and appends. Durable on return. The caller holds the lock.
    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()>;

    /// The room on the disk; none if that is not known.
    fn room(&self) -> Option<Room>;

    /// Makes an object of this length that holds nothing and takes room on the disk, or removes it if `len` is 0. It is
    /// not durable. After an error there is no such object. A backend without a limit keeps none.
    fn set_reserve(&self, _name: &str, _len: u64) -> Result<()> {
        Ok(())
    }

    /// Waits for the lock of the whole backend, and takes it. All processes that use the backend share the lock.
    fn lock(&self) -> Result<Box<dyn Lock>>;
}

impl fmt::Debug for dyn Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({})", self.place())
    }
}
