//! The reserve: a file that holds nothing and takes room on the disk, so that a full disk can be freed.
//!
//! Freeing space takes space: the log grows by a record, and LMDB writes changed pages to other places before it reuses
//! the old ones. So what frees space runs through [`Reserve::use_for`]: if the disk is full, the reserve is given up,
//! the step is tried once more, and what it did not use becomes the reserve again. Pushes do not do this, except that
//! everyone may use the reserve to let the index follow what the log and the packs hold already: without that, the
//! repository could not be opened at all.
//!
//! No operation fails because there is no reserve or none can be made.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    backend::{Backend, Room},
    layout,
};
use crate::base::error::{Error, ErrorKind, Result};

/// Length of the reserve, unless the disk is small: about a thousand pages of LMDB. The largest single step, a set of
/// condemned packs, is stored twice and has about 60 bytes a pack.
const LEN: u64 = 4 << 20;
/// The reserve takes at most this part of the disk.
const SHARE: u64 = 32;
/// A reserve is made if there is this many times as much room.
const ROOM: u64 = 4;
/// A smaller reserve is not worth a file.
const LEAST: u64 = 64 << 10;
const PAGE: u64 = 4096;

/// The reserve of a repository.
#[derive(Debug)]
pub struct Reserve {
    backend: Arc<dyn Backend>,
    /// How many steps are using the room of the reserve that was given up. The last of them makes it again.
    users: Mutex<usize>,
}

impl Reserve {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, users: Mutex::new(0) }
    }

    /// Runs a step that frees space, or without which no space can be freed. If the disk is full, the step runs a
    /// second time without the reserve, so it must be one that may be repeated. No lock of the reserve is held
    /// meanwhile. The caller may hold the repository's lock.
    pub fn use_for<T>(&self, mut step: impl FnMut() -> Result<T>) -> Result<T> {
        let done = match step() {
            Err(error) if error.kind() == ErrorKind::Full && self.give_up() => {
                tracing::info!("the disk is full: the reserve is used");
                let done = step();
                self.end_use();
                done
            }
            done => done,
        };
        done.map_err(|error| match error {
            Error::Full { place } => Error::StillFull { place },
            error => error,
        })
    }

    /// Runs a step that may use the reserve only if `is_allowed`.
    pub fn use_if<T>(&self, is_allowed: bool, mut step: impl FnMut() -> Result<T>) -> Result<T> {
        if is_allowed { self.use_for(step) } else { step() }
    }

    /// Makes the reserve if there is none and there is room for it.
    pub fn make(&self) {
        let users = self.users.lock();
        let Some(room) = self.backend.room().filter(|_| *users == 0) else { return };
        let wanted = wanted(room);
        if wanted >= LEAST && room.free / ROOM >= wanted && self.len() < wanted {
            self.set(wanted);
        }
    }

    /// Gives the reserve up. Returns whether that has made room, now or for a step that is still running.
    fn give_up(&self) -> bool {
        let mut users = self.users.lock();
        if self.len() == 0 && *users == 0 {
            return false;
        }
        if let Err(error) = self.backend.set_reserve(layout::RESERVE, 0) {
            tracing::debug!(%error, "the reserve cannot be given up");
            return false;
        }
        *users += 1;
        true
    }

    /// Makes the reserve again after the last step that used it, of what is left. Unlike [`Reserve::make`] it takes all
    /// room that there is, so that no push takes it before the next step that frees space.
    fn end_use(&self) {
        let mut users = self.users.lock();
        *users -= 1;
        let Some(room) = self.backend.room().filter(|_| *users == 0) else { return };
        let mut len = wanted(room).min(room.free / PAGE * PAGE);
        // Not all room can always be allocated.
        while len >= LEAST && !self.set(len) {
            len = len / 2 / PAGE * PAGE;
        }
    }

    fn len(&self) -> u64 {
        self.backend.len(layout::RESERVE).ok().flatten().unwrap_or(0)
    }

    fn set(&self, len: u64) -> bool {
        let set = self.backend.set_reserve(layout::RESERVE, len);
        if let Err(error) = &set {
            tracing::debug!(%error, len, "no reserve can be made");
        }
        set.is_ok()
    }
}

/// How long the reserve of a disk should be.
fn wanted(room: Room) -> u64 {
    LEN.min(room.total / SHARE) / PAGE * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_gets_a_small_reserve() {
        let wanted = |total| wanted(Room { free: total, total });
        assert_eq!(wanted(1 << 40), LEN);
        assert_eq!(wanted(8 << 20), 256 << 10);
        assert_eq!(wanted((8 << 20) - 1), (256 << 10) - PAGE);
    }
}
