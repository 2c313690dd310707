//! What to read ahead of a reader: a window that grows while a file is read in order and is none while it is not.
//!
//! [`Cursors`] watches the reads of one inode and says which range to fetch before it is asked for. It is pure: no I/O,
//! no clock. The kernel hands no open files to us (see `docs/design/`), so cursors belong to the inode and follow a few
//! streams each. [`Pool`] executes what they say.

mod pool;

pub use pool::Pool;

use std::ops::Range;

/// How many readers of one file are told apart.
const STREAMS: usize = 4;
/// The kernel's own read-ahead has several requests under way, which different threads may bring out of order. A read
/// this near to where a stream stands belongs to it.
const SLACK: u64 = 2 * 1024 * 1024;
/// The first window, for a file that is read from its beginning.
const WINDOW_FIRST: u64 = 256 * 1024;
/// Reads in order before anything is fetched ahead, for a stream that began in the middle of a file. One such read
/// after another happens by chance in random reading of small files; two in a row hardly do.
const HITS_MIN: u32 = 2;

#[derive(Debug, Clone, Copy)]
struct Stream {
    /// End of the furthest read.
    next: u64,
    /// Fetched ahead up to here.
    ahead: u64,
    window: u64,
    hits: u32,
    /// When it was last seen, in reads.
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
    /// No reader yet. A window grows up to `window_max` bytes; 0 means that nothing is ever fetched ahead.
    pub fn new(window_max: u64) -> Self {
        Self { window_max, streams: Vec::new(), reads: 0 }
    }

    /// A read of `len` bytes at `offset` of a file of `size` bytes came. Returns what to fetch ahead.
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
        // Who begins at the beginning mostly goes on.
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
        // Half a window is still to come: nothing to do yet.
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
    fn a_reader_in_order_gets_a_growing_window_without_gaps_or_repeats() {
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
    fn random_reads_stop_what_sequential_ones_began() {
        let (size, mut cursors) = (1 << 40, Cursors::new(8 * MIB));
        for n in 0..100 {
            cursors.read(n * 128 * 1024, 128 * 1024, size);
        }
        for n in 1..10u64 {
            assert_eq!(cursors.read(n << 33, 4096, size), None);
        }
    }

    #[test]
    fn readers_side_by_side_each_have_a_window() {
        let (size, mut cursors) = (1 << 30, Cursors::new(4 * MIB));
        let mut planned = [0; 3];
        for n in 0..64 {
            for (who, count) in planned.iter_mut().enumerate() {
                let base = who as u64 * 300 * MIB;
                *count += usize::from(cursors.read(base + n * 128 * 1024, 128 * 1024, size).is_some());
            }
        }
        assert!(planned.iter().all(|count| *count > 2), "{planned:?}");
    }

    #[test]
    fn requests_out_of_order_count_as_in_order() {
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
        fn plans_lie_in_the_file_and_ahead(reads in prop::collection::vec((any::<u64>(), any::<u32>()), 0..200), size: u64) {
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
        fn no_window_no_plan(reads in prop::collection::vec(0u64..64, 0..200)) {
            let mut cursors = Cursors::new(0);
            for n in reads {
                prop_assert_eq!(cursors.read(n * 4096, 4096, 1 << 20), None);
            }
        }
    }
}
