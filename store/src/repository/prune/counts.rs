//! Counting live and dead chunks in frames that hold several.
//!
//! Counts are of chunks, so what they say about bytes is an estimate. They only choose what is worth doing; nothing
//! counts as dead because of them.

use std::collections::HashMap;

/// How many chunks of frames are live and dead. Only packs have counts here for which one bit a frame does not tell
/// enough.
#[derive(Debug, Default)]
pub(super) struct ChunkCounts {
    /// Live chunks of each frame, except the first one.
    more_live: HashMap<u32, Vec<u16>>,
    dead: HashMap<u32, Vec<u16>>,
}

impl ChunkCounts {
    /// Counts another live chunk of a live frame.
    pub fn add_live(&mut self, pack: u32, frame: u32) {
        add(&mut self.more_live, pack, frame);
    }

    /// Counts a dead chunk.
    pub fn add_dead(&mut self, pack: u32, frame: u32) {
        add(&mut self.dead, pack, frame);
    }

    /// Uncounts a chunk that a filter called dead which did not hold all live ids.
    pub fn remove_dead(&mut self, pack: u32, frame: u32) {
        if let Some(count) = self.dead.get_mut(&pack).and_then(|counts| counts.get_mut(frame as usize)) {
            *count = count.saturating_sub(1);
        }
    }

    /// About how many bytes of a live frame are dead.
    pub fn dead_bytes(&self, pack: u32, frame: u32, len: u64) -> u64 {
        let (live, dead) = self.of(pack, frame);
        len * dead / (live + dead)
    }

    /// Whether a frame is worth opening: at least half of it is dead. All of it is fetched and what is live is sent
    /// again, so of other frames much would be moved for little.
    pub fn is_worth_opening(&self, pack: u32, frame: u32) -> bool {
        let (live, dead) = self.of(pack, frame);
        dead >= live
    }

    /// How many chunks of a live frame are live, and how many are dead.
    fn of(&self, pack: u32, frame: u32) -> (u64, u64) {
        let count = |counts: &HashMap<u32, Vec<u16>>| {
            counts.get(&pack).and_then(|counts| counts.get(frame as usize)).map_or(0, |count| u64::from(*count))
        };
        (1 + count(&self.more_live), count(&self.dead))
    }
}

fn add(counts: &mut HashMap<u32, Vec<u16>>, pack: u32, frame: u32) {
    let counts = counts.entry(pack).or_default();
    if counts.len() <= frame as usize {
        counts.resize(frame as usize + 1, 0);
    }
    counts[frame as usize] = counts[frame as usize].saturating_add(1);
}
