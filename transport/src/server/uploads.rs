//! Packs that are under way: their bytes so far, kept for a while when a connection breaks, so that the client goes on
//! where it was. In memory and bounded: a server that is restarted asks for the whole pack again, 16 MiB at the most
//! in practice, and nothing that was acknowledged is concerned.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::base::id::{Hash, PackId};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of packs under way at most, kept ones included, in KiB (a semaphore counts in u32).
const BUDGET_KIB: u32 = 144 * 1024;
/// Kept ones at most.
const KEPT_BYTES_MAX: usize = 48 * 1024 * 1024;
/// How long a broken one is kept.
const KEEP: Duration = Duration::from_secs(300);

/// All packs under way.
pub struct Uploads {
    room: Arc<Semaphore>,
    kept: Mutex<HashMap<(Hash, PackId), Kept>>,
}

/// Since when, and the bytes.
type Kept = (Instant, Vec<u8>);

impl Default for Uploads {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(BUDGET_KIB as usize)), kept: Mutex::default() }
    }
}

impl Uploads {
    /// Waits for room for a pack of `len` bytes.
    pub async fn room(&self, len: usize) -> Option<OwnedSemaphorePermit> {
        let kib = (len as u32).div_ceil(1024).min(BUDGET_KIB);
        self.room.clone().acquire_many_owned(kib).await.ok()
    }

    /// What is there of a client's pack.
    pub fn take(&self, client: Hash, pack: PackId) -> Vec<u8> {
        self.kept.lock().remove(&(client, pack)).map(|(_, bytes)| bytes).unwrap_or_default()
    }

    /// Keeps what came of a pack before the connection broke.
    pub fn keep(&self, client: Hash, pack: PackId, bytes: Vec<u8>) {
        let mut kept = self.kept.lock();
        kept.retain(|_, (since, _)| since.elapsed() < KEEP);
        let sum: usize = kept.values().map(|(_, bytes)| bytes.len()).sum();
        if sum + bytes.len() <= KEPT_BYTES_MAX {
            kept.insert((client, pack), (Instant::now(), bytes));
        }
    }
}
