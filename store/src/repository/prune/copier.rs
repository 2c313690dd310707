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

    /// Waits for the parity of all packs that were stored so far.
    pub fn wait_for_parity(&self) {
        self.store.wait_for_parity();
    }

    /// Waits until nothing else copies. On a full disk the copies may take room from the reserve if `makes_room`: the
    /// packs that they come from are removed as soon as the copies are stored.
    pub fn begin(&self, makes_room: bool) -> Copying<'_> {
        Copying { store: &self.store, makes_room, _one: self.one_at_a_time.lock() }
    }
}

/// The right to copy; given back when it is dropped.
pub struct Copying<'a> {
    store: &'a PackStore,
    makes_room: bool,
    _one: MutexGuard<'a, ()>,
}

impl Copying<'_> {
    /// Stores a pack of copied frames, unless it is empty. `is_verified` tells whether all come from verified packs.
    /// Returns how many bytes were written.
    pub fn store(&self, writer: PackWriter, is_verified: bool) -> Result<u64> {
        self.store.put_copies(writer, is_verified, self.makes_room)
    }
}
