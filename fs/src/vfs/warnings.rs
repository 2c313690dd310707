//! Limits how often failures are logged: the kernel retries a failed read page by page.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How often one inode's failures are logged.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// How many inodes are remembered.
const WARNED_MAX: usize = 1024;

/// When failures were last logged, by inode.
#[derive(Default)]
pub struct Warnings {
    last: Mutex<HashMap<u64, Instant>>,
}

impl Warnings {
    /// Returns whether a failure of this inode is to be logged now, and if so, remembers that.
    pub fn is_due(&self, ino: u64) -> bool {
        let now = Instant::now();
        let mut last = self.last.lock();
        if last.get(&ino).is_some_and(|last| now.duration_since(*last) < WARN_EVERY) {
            return false;
        }
        if last.len() >= WARNED_MAX {
            last.clear();
        }
        last.insert(ino, now);
        true
    }
}
