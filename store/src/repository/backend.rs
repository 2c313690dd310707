//! Backends: where packs, small objects and logs lie. A backend knows names and bytes, nothing of their meaning.
//!
//! Names are relative paths that the repository makes from ids; nothing that came from outside reaches a backend as a
//! name. [`Backend::put`] is atomic and durable: after it returns, the object is there whole whatever happens; before,
//! it is not there at all. Logs are only ever appended to, under the repository's lock.

mod files;
mod local;
mod memory;

pub use files::{Disk, Files};
pub use local::LocalBackend;
pub use memory::MemoryBackend;

use bytes::Bytes;

use crate::base::error::Result;

/// A listed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Last component of its name.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// Held while a log is appended to; dropped, it lets others in.
pub trait Lock: Send {}

/// Where bytes lie.
pub trait Backend: Send + Sync {
    /// For errors: where this is.
    fn place(&self) -> String;

    /// Stores an object, replacing one of that name. Atomic, and durable on return.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.put_all(&[(name, bytes)])
    }

    /// Stores several objects, each as [`Backend::put`] does, and waits for the disk fewer times. On an error some of them may be there.
    fn put_all(&self, objects: &[(&str, &[u8])]) -> Result<()>;

    /// A whole object; none if there is none.
    fn get(&self, name: &str) -> Result<Option<Bytes>>;

    /// Part of an object; fewer bytes if it ends before. None if there is no such object.
    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Option<Bytes>>;

    /// Length of an object; none if there is none.
    fn len(&self, name: &str) -> Result<Option<u64>>;

    /// Gives an object another name, in place of one that has it already. Durable on return; before, it has one name or both. None
    /// to rename is no error.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Removes an object; removing nothing is no error. That it is not there is durable on return.
    fn delete(&self, name: &str) -> Result<()>;

    /// The objects of a folder, in no order; empty if there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<Listed>>;

    /// Makes durable that the objects of a folder are there. Those that [`Backend::list`] shows may have been put by
    /// somebody who died before [`Backend::put`] returned.
    fn settle(&self, folder: &str) -> Result<()>;

    /// A number that changes whenever an object of the folder comes or goes, or none if nobody can tell: then the
    /// folder must be listed.
    fn stamp(&self, folder: &str) -> Result<Option<u64>>;

    /// Cuts a log to `offset` and appends. Durable on return. The caller holds the lock.
    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Waits for the lock of the whole backend, shared with all processes that use it.
    fn lock(&self) -> Result<Box<dyn Lock>>;
}
