//! Whether calls of this process wait for a server that was lost: progress says so, and a person need not wonder.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many calls wait.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Whether a call waits for a server that was lost.
pub fn is_waiting() -> bool {
    WAITING.load(Relaxed) > 0
}

/// A call that waits, until it is dropped.
pub(super) struct Waiting(());

impl Waiting {
    /// From now on, the call waits.
    pub fn begin() -> Self {
        WAITING.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Relaxed);
    }
}
