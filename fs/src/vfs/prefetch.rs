//! What to read ahead of a reader: a window that grows while a file is read in order, and is empty otherwise.
//!
//! [`Cursors`] watches the reads of one inode, and returns which range to fetch next. It is pure: no I/O, no clock. The
//! kernel does not tell us about open files (see `docs/design/`), so cursors belong to the inode, and each follows a
//! few streams. [`PrefetchPool`] fetches the ranges.

mod pool;

pub use pool::PrefetchPool;

use std::ops::Range;

/// How many readers of one file are distinguished.
const STREAMS: usize = 4;
/// How far a read may be from the position of its stream. The kernel's own read-ahead has several requests in flight,
/// and different threads may process them out of order.
const SLACK: u64 = 2 * 1024 * 1024;
/// The first window of a stream.
const WINDOW_FIRST: u64 = 256 * 1024;
/// How many reads in order a stream needs before anything is fetched ahead, if it began in the middle of a file. When
/// small files are read at random, one read often follows another by chance; two in a row hardly ever do.
const HITS_MIN: u32 = 2;

#[derive(Debug, Clone, Copy)]
struct Stream {
    /// End of the furthest read.
    next: u64,
    /// End of what was fetched ahead.
    ahead: u64,
    window: u64,
    hits: u32,
    /// Number of the last read that belonged to it.
    used: u64,
}

/// The readers of one file.
#[derive(Debug)]
pub struct Cursors {
    window_max: u64,
    streams: Vec<Stream>,
    reads: u64,
}

impl Cursors {
    /// Returns cursors without readers. Windows grow up to `window_max` bytes; with 0, nothing is ever fetched ahead.
    pub fn new(window_max: u64) -> Self {
        Self { window_max, streams: Vec::new(), reads: 0 }
    }

    /// Records a read of `len` bytes at `offset` of a file of `size` bytes. Returns what to fetch ahead.
    pub fn read(&mut self, offset: u64, len: u64, size: u64) -> Option<Range<u64>> {
        self.reads += 1;
        let (used, end) = (self.reads, offset.saturating_add(len).min(size));
        let near = |s: &&mut Stream| s.next.abs_diff(offset) <= SLACK;
        if let Some(stream) = self.streams.iter_mut().filter(near).min_by_key(|s| s.next.abs_diff(offset)) {
            stream.used = used;
            stream.hits = stream.hits.saturating_add(1);
            stream.next = stream.next.max(end);
            return stream.advance(self.window_max, size);
        }
        let mut stream = Stream { next: end, ahead: end, window: 0, hits: 0, used };
        // A reader that begins at the beginning usually continues.
        if offset == 0 {
            stream.hits = HITS_MIN;
        }
        let planned = stream.advance(self.window_max, size);
        match self.streams.len() {
            STREAMS => {
                if let Some(oldest) = self.streams.iter_mut().min_by_key(|s| s.used) {
                    *oldest = stream;
                }
            }
            _ => self.streams.push(stream),
        }
        planned
    }
}

impl Stream {
    fn advance(&mut self, window_max: u64, size: u64) -> Option<Range<u64>> {
        if self.hits < HITS_MIN {
            return None;
        }
        let from = self.ahead.max(self.next);
        // More than half a window is fetched already: nothing to do yet.
        if self.window > 0 && from - self.next > self.window / 2 {
            return None;
        }
        self.window = self.window.saturating_mul(2).clamp(WINDOW_FIRST.min(window_max), window_max);
        let to = self.next.saturating_add(self.window).min(size);
        if from >= to {
            return None;
        }
        self.ahead = to;
        Some(from..to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn sequential_reads_get_a_growing_window_without_gaps_or_repeats() {
        let (size, mut cursors, mut fetched) = (100 * MIB, Cursors::new(8 * MIB), 128 * 1024);
        let mut longest = 0;
        for n in 0..size / (128 * 1024) {
            if let Some(range) = cursors.read(n * 128 * 1024, 128 * 1024, size) {
                assert_eq!(range.start, fetched);
                longest = longest.max(range.end - range.start);
                fetched = range.end;
            }
        }
        assert_eq!(fetched, size);
        assert!(longest > 2 * MIB && longest <= 8 * MIB, "{longest}");
    }

    #[test]
    fn random_reads_fetch_nothing() {
        let (size, mut cursors) = (1 << 40, Cursors::new(8 * MIB));
        for n in 1..1000u64 {
            let offset = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size;
            assert_eq!(cursors.read(offset, 4096, size), None);
        }
    }

    #[test]
    fn random_reads_end_the_read_ahead_of_sequential_ones() {
        let (size, mut cursors) = (1 << 40, Cursors::new(8 * MIB));
        for n in 0..100 {
            cursors.read(n * 128 * 1024, 128 * 1024, size);
        }
        for n in 1..10u64 {
            assert_eq!(cursors.read(n << 33, 4096, size), None);
        }
    }

    #[test]
    fn several_readers_each_have_a_window() {
        let (size, mut cursors) = (1 << 30, Cursors::new(4 * MIB));
        let mut planned = [0; 3];
        for n in 0..64 {
            for (reader, count) in planned.iter_mut().enumerate() {
                let base = reader as u64 * 300 * MIB;
                *count += usize::from(cursors.read(base + n * 128 * 1024, 128 * 1024, size).is_some());
            }
        }
        assert!(planned.iter().all(|count| *count > 2), "{planned:?}");
    }

    #[test]
    fn slightly_reordered_reads_count_as_sequential() {
        let (size, mut cursors, mut planned) = (100 * MIB, Cursors::new(8 * MIB), 0);
        for pair in 0..100 {
            for n in [pair * 2 + 1, pair * 2] {
                planned += usize::from(cursors.read(n * 128 * 1024, 128 * 1024, size).is_some());
            }
        }
        assert!(planned > 2 && cursors.streams.len() == 1);
    }

    proptest! {
        #[test]
        fn plans_are_within_the_file_and_the_window(
            reads in prop::collection::vec((any::<u64>(), any::<u32>()), 0..200),
            size: u64,
        ) {
            let mut cursors = Cursors::new(8 * MIB);
            for (offset, len) in reads {
                if let Some(range) = cursors.read(offset, len.into(), size) {
                    prop_assert!(range.start < range.end && range.end <= size);
                    prop_assert!(range.end - range.start <= 8 * MIB);
                }
                prop_assert!(cursors.streams.len() <= STREAMS);
            }
        }

        #[test]
        fn without_a_window_nothing_is_planned(reads in prop::collection::vec(0u64..64, 0..200)) {
            let mut cursors = Cursors::new(0);
            for n in reads {
                prop_assert_eq!(cursors.read(n * 4096, 4096, 1 << 20), None);
            }
        }
    }
}
