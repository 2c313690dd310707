//! Storing copies of frames whose packs are about to go.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::{base::error::Result, format::pack::PackWriter, repository::packs::put::PackStore};

/// Stores packs of copied frames.
#[derive(Debug)]
pub struct Copier {
    store: Arc<PackStore>,
    /// Only one sweep or repair copies at a time. A sweep must not remove a pack from which a repair is copying.
    one_at_a_time: Mutex<()>,
}

impl Copier {
    pub fn new(store: Arc<PackStore>) -> Self {
        Self { store, one_at_a_time: Mutex::new(()) }
    }

    /// Waits until nothing else copies.
    pub fn begin(&self) -> Copying<'_> {
        Copying { store: &self.store, _one: self.one_at_a_time.lock() }
    }
}

/// The right to copy; given back when it is dropped.
pub struct Copying<'a> {
    store: &'a PackStore,
    _one: MutexGuard<'a, ()>,
}

impl Copying<'_> {
    /// Stores a pack of copied frames, unless it is empty. Returns how many bytes were written.
    pub fn store(&self, writer: PackWriter) -> Result<u64> {
        self.store.put_copies(writer)
    }
}
