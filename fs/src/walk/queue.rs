//! The directories that wait to be listed ahead of the consumer, and how far ahead the threads may get.

use std::{cmp::Ordering, collections::BinaryHeap, io, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

use super::task::{ListTask, Listed};
use crate::pool::cores;

/// While an entry takes less than this to list, on average, listing is bound by the processor. Then only as many
/// threads as there are cores take part: waking one costs more than listing a directory. From a cache an entry takes
/// about 3 µs, from a disk 50 µs and more.
const SLOW: Duration = Duration::from_micros(20);
/// The average is over about this many directories.
const AVERAGED: u64 = 8;
/// Bytes of listings that may wait for the consumer.
const AHEAD_BYTES_MAX: usize = 8 << 20;

/// The directories to list, the one that the consumer will want first in front.
pub(super) struct ListQueue {
    ahead_dirs_max: usize,
    cores: usize,
    state: Mutex<QueueState>,
    /// As many threads as there are cores wait here.
    changed: Condvar,
    /// All other threads wait here.
    slow: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: BinaryHeap<Waiting>,
    ahead_bytes: usize,
    ahead_dirs: usize,
    /// How long an entry takes to list, on average, in nanoseconds.
    entry_nanos: u64,
    is_closed: bool,
}

/// A directory in the queue. The greatest is the one that the consumer will want first.
struct Waiting(Arc<ListTask>);

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.0.order == other.0.order
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.order.cmp(&self.0.order)
    }
}

impl QueueState {
    fn is_slow(&self) -> bool {
        self.entry_nanos > SLOW.as_nanos() as u64
    }
}

impl ListQueue {
    /// An empty queue. At most `ahead_dirs_max` listed directories, each an open file, wait for the consumer.
    pub fn new(ahead_dirs_max: usize) -> Self {
        Self { ahead_dirs_max, cores: cores(), state: Mutex::default(), changed: Condvar::new(), slow: Condvar::new() }
    }

    /// How many threads work even while listing is fast.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.state.lock().waiting.is_empty()
    }

    /// Adds directories and wakes threads for them.
    pub fn add(&self, tasks: &[Arc<ListTask>]) {
        if tasks.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.waiting.extend(tasks.iter().cloned().map(Waiting));
        if state.is_slow() {
            self.slow.notify_all();
        }
        drop(state);
        for _ in 0..tasks.len().min(self.cores) {
            self.changed.notify_one();
        }
    }

    /// The next directory to list, when there is one and there is room for its listing; none if the queue is closed.
    /// Only the first threads, as many as there are cores, get one while listing is fast.
    pub fn next(&self, is_first: bool) -> Option<Arc<ListTask>> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            let has_room = state.ahead_bytes < AHEAD_BYTES_MAX && state.ahead_dirs < self.ahead_dirs_max;
            let may_work = is_first || state.is_slow();
            if has_room
                && may_work
                && let Some(Waiting(task)) = state.waiting.pop()
            {
                return Some(task);
            }
            if is_first { &self.changed } else { &self.slow }.wait(&mut state);
        }
    }

    /// Counts a listing that now waits for the consumer, and how long it took.
    pub fn note_listed(&self, listed: &io::Result<Listed>, took: Duration) {
        let mut state = self.state.lock();
        state.ahead_dirs += 1;
        state.ahead_bytes += listed.as_ref().map_or(0, |l| l.bytes);
        // Opening the directory and asking for names counts like a few entries.
        let entries = 4 + listed.as_ref().map_or(0, |l| l.entries.len() + l.names.len()) as u64;
        let nanos = took.as_nanos() as u64 / entries;
        state.entry_nanos = (state.entry_nanos * (AVERAGED - 1) + nanos) / AVERAGED;
        if state.is_slow() && !state.waiting.is_empty() {
            self.slow.notify_all();
        }
    }

    /// Counts a listing that the consumer has taken, which makes room for another.
    pub fn note_taken(&self, listed: &io::Result<Listed>) {
        let mut state = self.state.lock();
        let was_full = state.ahead_bytes >= AHEAD_BYTES_MAX || state.ahead_dirs >= self.ahead_dirs_max;
        state.ahead_dirs -= 1;
        state.ahead_bytes -= listed.as_ref().map_or(0, |l| l.bytes);
        if was_full {
            self.changed.notify_all();
            if state.is_slow() {
                self.slow.notify_all();
            }
        }
    }

    /// Ends the wait of every thread.
    pub fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
        self.slow.notify_all();
    }
}
