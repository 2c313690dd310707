//! A backend in memory that outlives its repository.

use std::sync::Arc;

use bkfs_store::{
    Result,
    repository::backend::{Backend, Listed, Lock, MemoryBackend, Room},
};
use bytes::Bytes;

/// Keeps objects in memory, for several repositories one after another, or at the same time.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<MemoryBackend>);

macro_rules! pass {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Backend for Shared {
            $(fn $name(&self, $($arg: $type),*) -> $result {
                self.0.$name($($arg),*)
            })*
        }
    };
}

pass! {
    place() -> String;
    put_all(objects: &[(&str, &[u8])]) -> Result<()>;
    get(name: &str) -> Result<Option<Bytes>>;
    get_range(name: &str, offset: u64, len: usize) -> Result<Option<Bytes>>;
    len(name: &str) -> Result<Option<u64>>;
    rename(from: &str, to: &str) -> Result<()>;
    delete(name: &str) -> Result<()>;
    list(folder: &str) -> Result<Vec<Listed>>;
    settle(folder: &str) -> Result<()>;
    stamp(folder: &str) -> Result<Option<u64>>;
    append(name: &str, offset: u64, bytes: &[u8]) -> Result<()>;
    room() -> Option<Room>;
    lock() -> Result<Box<dyn Lock>>;
}
