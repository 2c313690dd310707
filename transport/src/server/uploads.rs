//! Packs that are being uploaded.
//!
//! When a connection breaks, the bytes of a pack that have arrived are kept for a while, and the client continues after
//! them. They are kept in memory, within bounds: a server that is restarted asks for the whole pack again, which is at
//! most 16 MiB in practice. Nothing that was acknowledged depends on them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::base::id::{Hash, PackId};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most bytes of packs that are uploaded at the same time, in KiB (a semaphore counts in u32). Partial packs that
/// are kept come on top.
const BUDGET_KIB: u32 = 144 * 1024;
/// The most bytes of partial packs that are kept.
const PARTIAL_BYTES_MAX: usize = 48 * 1024 * 1024;
/// How long a partial pack is kept.
const KEEP_PARTIAL: Duration = Duration::from_secs(300);

/// All packs that are being uploaded, and the partial packs of broken connections.
pub struct Uploads {
    budget: Arc<Semaphore>,
    /// By the client's fingerprint and the pack.
    partial: Mutex<HashMap<(Hash, PackId), PartialPack>>,
}

/// What has arrived of a pack.
struct PartialPack {
    since: Instant,
    bytes: Vec<u8>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { budget: Arc::new(Semaphore::new(BUDGET_KIB as usize)), partial: Mutex::default() }
    }
}

impl Uploads {
    /// Waits until there is memory for a pack of `len` bytes. It is free again when the permit is dropped.
    pub async fn reserve(&self, len: usize) -> Option<OwnedSemaphorePermit> {
        let kib = (len as u32).div_ceil(1024).min(BUDGET_KIB);
        self.budget.clone().acquire_many_owned(kib).await.ok()
    }

    /// Takes out what was kept of a client's pack. Returns no bytes if nothing was.
    pub fn take_partial(&self, client: Hash, pack: PackId) -> Vec<u8> {
        self.partial.lock().remove(&(client, pack)).map(|partial| partial.bytes).unwrap_or_default()
    }

    /// Keeps what arrived of a pack before the connection broke, unless too much is kept already.
    pub fn keep_partial(&self, client: Hash, pack: PackId, bytes: Vec<u8>) {
        let mut partial = self.partial.lock();
        partial.retain(|_, pack| pack.since.elapsed() < KEEP_PARTIAL);
        let sum: usize = partial.values().map(|pack| pack.bytes.len()).sum();
        if sum + bytes.len() <= PARTIAL_BYTES_MAX {
            partial.insert((client, pack), PartialPack { since: Instant::now(), bytes });
        }
    }
}
