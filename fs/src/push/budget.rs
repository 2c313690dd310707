//! The budget of bytes of contents that may be held between reading and sealing.
//!
//! Many threads read files, and the assembler uses the files in one order. A thread waits when the budget is spent,
//! except the one that reads the file that the assembler wants next. That thread may always hold a little more;
//! otherwise nothing would ever be given back.

use parking_lot::{Condvar, Mutex};

/// What the reader of the file that is wanted next may hold beyond the budget, in bytes.
const HEAD_BYTES: usize = 1 << 20;

/// A budget of bytes that the readers share.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    state: Mutex<BudgetState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct BudgetState {
    used: usize,
    used_max: usize,
    /// The file that is wanted next.
    head: u64,
    head_used: usize,
    is_closed: bool,
}

/// The push is over or has failed: what is read is not wanted any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes bytes for the file of this number. Waits until they are free.
    pub fn take(&self, file: u64, bytes: usize) -> Result<(), Closed> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return Err(Closed);
            }
            // If nothing is held, any size fits: a chunk may be larger than the budget.
            let fits = state.used == 0 || state.used + bytes <= self.limit;
            if fits || file == state.head && state.head_used < HEAD_BYTES {
                break;
            }
            self.changed.wait(&mut state);
        }
        state.used += bytes;
        state.used_max = state.used_max.max(state.used);
        if file == state.head {
            state.head_used += bytes;
        }
        Ok(())
    }

    /// Gives back bytes that were taken for the file of this number.
    pub fn give(&self, file: u64, bytes: usize) {
        let mut state = self.state.lock();
        state.used -= bytes;
        if file == state.head {
            state.head_used = state.head_used.saturating_sub(bytes);
        }
        self.changed.notify_all();
    }

    /// Names the file that is wanted next.
    pub fn set_head(&self, file: u64) {
        let mut state = self.state.lock();
        (state.head, state.head_used) = (file, 0);
        self.changed.notify_all();
    }

    /// Ends every wait, present and future.
    pub fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Closes the budget when the returned guard is dropped.
    pub fn closing(&self) -> Closing<'_> {
        Closing(self)
    }

    /// The most bytes that were held at a time.
    pub fn used_max(&self) -> usize {
        self.state.lock().used_max
    }
}

/// See [`Budget::closing`].
pub struct Closing<'a>(&'a Budget);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_file_that_is_wanted_next_gets_past_a_spent_budget() {
        let budget = Arc::new(Budget::new(100));
        budget.set_head(1);
        budget.take(2, 100).unwrap();
        budget.take(1, 500).unwrap();
        let other = budget.clone();
        let waits = std::thread::spawn(move || other.take(3, 1));
        budget.give(1, 500);
        budget.give(2, 100);
        assert_eq!(waits.join().unwrap(), Ok(()));
        assert_eq!(budget.used_max(), 600);
    }

    #[test]
    fn closing_a_budget_ends_the_wait() {
        let budget = Arc::new(Budget::new(1));
        budget.take(7, 1).unwrap();
        let other = budget.clone();
        let waits = std::thread::spawn(move || other.take(8, 1));
        budget.close();
        assert_eq!(waits.join().unwrap(), Err(Closed));
    }
}
