//! The entries that could not be read, or not as a whole.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;

use super::progress::{self, PushProgress};
use crate::walk::Problems;

/// Problems that are kept with their paths. More are only counted.
const PROBLEMS_MAX: usize = 10_000;

/// The problems of a push.
#[derive(Debug, Default)]
pub struct ProblemList {
    list: Mutex<Vec<(PathBuf, io::Error)>>,
    progress: Arc<PushProgress>,
}

impl ProblemList {
    /// An empty list. Every problem also counts in `progress`.
    pub fn new(progress: Arc<PushProgress>) -> Self {
        Self { list: Mutex::default(), progress }
    }

    /// Forgets everything: the source is gone through again.
    pub fn clear(&self) {
        self.list.lock().clear();
        self.progress.errors.store(0, Ordering::Relaxed);
    }

    /// Takes the problems that were kept.
    pub fn take(&self) -> Vec<(PathBuf, io::Error)> {
        std::mem::take(&mut self.list.lock())
    }
}

impl Problems for ProblemList {
    fn problem(&self, path: PathBuf, error: io::Error) {
        progress::add(&self.progress.errors, 1);
        let mut list = self.list.lock();
        if list.len() < PROBLEMS_MAX {
            list.push((path, error));
        }
    }
}
