//! Memory for secrets: it is not swapped out, and is not in core dumps.
//!
//! The kernel locks whole pages, and a process may lock only a few MiB. So all secrets share pages that hold nothing
//! else. A page is never given back: there are as many as the most secrets that a process held at a time. Where the
//! kernel does not lock a page, it is used as it is. A process that is forked off has the pages, but not the locks.

use std::{
    alloc::{Layout, handle_alloc_error},
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
};

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous};
use zeroize::Zeroize;

/// Bytes of a secret.
const LEN: usize = 32;
/// Bytes that are locked together.
const PAGES_LEN: usize = 16 << 10;

/// The places that hold no secret. Their bytes are zeros.
static FREE: Mutex<Vec<Place>> = Mutex::new(Vec::new());

struct Place(NonNull<[u8; LEN]>);

// SAFETY: a place is a piece of memory that belongs to nobody else, and lives as long as the process.
unsafe impl Send for Place {}
// SAFETY: through a shared reference, it is only read.
unsafe impl Sync for Place {}

/// Thirty-two bytes in locked memory. They are wiped when dropped.
pub struct LockedBytes(Place);

impl LockedBytes {
    /// Returns zeros.
    pub fn zeros() -> Self {
        let mut free = FREE.lock();
        if free.is_empty() {
            add_pages(&mut free);
        }
        Self(free.pop().expect("new pages have places"))
    }
}

impl Deref for LockedBytes {
    type Target = [u8; LEN];

    fn deref(&self) -> &[u8; LEN] {
        // SAFETY: the place was initialised, is aligned (bytes always are), and belongs to this value.
        unsafe { self.0.0.as_ref() }
    }
}

impl DerefMut for LockedBytes {
    fn deref_mut(&mut self) -> &mut [u8; LEN] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { self.0.0.as_mut() }
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.zeroize();
        FREE.lock().push(Place(self.0.0));
    }
}

/// Maps and locks new pages, and adds their places.
fn add_pages(free: &mut Vec<Place>) {
    // SAFETY: the kernel chooses where, so nothing that is mapped is replaced.
    let mapped =
        unsafe { mmap_anonymous(ptr::null_mut(), PAGES_LEN, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
    let start = mapped.ok().and_then(|start| NonNull::new(start.cast::<[u8; LEN]>()));
    let Some(start) = start else {
        handle_alloc_error(Layout::new::<[u8; PAGES_LEN]>());
    };
    // SAFETY: these are the pages that were just mapped. Locking them, and leaving them out of core dumps, changes no
    // byte. If the kernel refuses, they are ordinary memory.
    unsafe {
        let _ = mlock(start.as_ptr().cast(), PAGES_LEN);
        let _ = madvise(start.as_ptr().cast(), PAGES_LEN, Advice::LinuxDontDump);
    }
    // SAFETY: all these places are within the mapping, which is never unmapped.
    free.extend((0..PAGES_LEN / LEN).map(|n| Place(unsafe { start.add(n) })));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_has_a_place_of_its_own_that_is_wiped() {
        let mut held: Vec<LockedBytes> = (0..2 * PAGES_LEN / LEN).map(|_| LockedBytes::zeros()).collect();
        held.iter_mut().enumerate().for_each(|(n, bytes)| bytes.fill(n as u8 | 1));
        assert!(held.iter().enumerate().all(|(n, bytes)| **bytes == [n as u8 | 1; LEN]));
        held.truncate(7);
        let again: Vec<LockedBytes> = (0..3 * PAGES_LEN / LEN).map(|_| LockedBytes::zeros()).collect();
        assert!(again.iter().all(|bytes| **bytes == [0; LEN]));
        assert!(held.iter().enumerate().all(|(n, bytes)| **bytes == [n as u8 | 1; LEN]));
    }

    #[test]
    fn places_come_from_several_threads() {
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                scope.spawn(move || {
                    for round in 0..1000 {
                        let mut bytes = LockedBytes::zeros();
                        assert_eq!(*bytes, [0; LEN], "{round}");
                        bytes.fill(thread + 1);
                        assert_eq!(*bytes, [thread + 1; LEN], "{round}");
                    }
                });
            }
        });
    }
}
