//! What must be in the repository, and a journal of what every actor did.

use std::{collections::BTreeMap, sync::Mutex, time::Instant};

use super::manifest::Manifest;

/// What is known about a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotState {
    /// It was acknowledged and not forgotten: it must be there.
    Counts,
    /// It was forgotten. It is or was in the trash.
    Forgotten,
    /// There was no answer. If it is there, it must be complete.
    Unknown,
    /// It is gone for good.
    Gone,
}

struct Entry {
    state: SnapshotState,
    id: Option<String>,
    manifest: Manifest,
    readers: usize,
    is_busy: bool,
}

/// The snapshots, by the tag with which each was pushed.
#[derive(Default)]
pub struct Model {
    entries: BTreeMap<String, Entry>,
    pub counts: BTreeMap<&'static str, u64>,
    pub push_ms_max: u128,
}

impl Model {
    /// Records that a push begins.
    pub fn pushing(&mut self, tag: &str, manifest: Manifest) {
        let entry = Entry { state: SnapshotState::Unknown, id: None, manifest, readers: 0, is_busy: true };
        self.entries.insert(tag.into(), entry);
    }

    /// Records that a push was acknowledged, or that its result is unknown.
    pub fn pushed(&mut self, tag: &str, id: Option<String>) {
        let entry = self.entries.get_mut(tag).unwrap();
        entry.state = if id.is_some() { SnapshotState::Counts } else { SnapshotState::Unknown };
        (entry.id, entry.is_busy) = (id, false);
    }

    /// Claims a snapshot in one of these states that no actor uses. Returns its tag and id.
    pub fn claim(&mut self, random: &mut Random, states: &[SnapshotState]) -> Option<(String, String)> {
        let free = |e: &Entry| states.contains(&e.state) && !e.is_busy && e.readers == 0 && e.id.is_some();
        let tags: Vec<String> = self.entries.iter().filter(|(_, e)| free(e)).map(|(tag, _)| tag.clone()).collect();
        let tag = random.choose(&tags)?.clone();
        let entry = self.entries.get_mut(&tag).unwrap();
        entry.is_busy = true;
        Some((tag, entry.id.clone().unwrap()))
    }

    /// Releases a claimed snapshot, which is now in this state.
    pub fn release(&mut self, tag: &str, state: SnapshotState) {
        let entry = self.entries.get_mut(tag).unwrap();
        (entry.is_busy, entry.state) = (false, state);
    }

    /// Chooses a snapshot to read. Returns its tag, its id, and what must be in it.
    pub fn read(&mut self, random: &mut Random) -> Option<(String, String, Manifest)> {
        let free = |e: &Entry| e.state == SnapshotState::Counts && !e.is_busy;
        let tags: Vec<String> = self.entries.iter().filter(|(_, e)| free(e)).map(|(tag, _)| tag.clone()).collect();
        let tag = random.choose(&tags)?.clone();
        let entry = self.entries.get_mut(&tag).unwrap();
        entry.readers += 1;
        Some((tag, entry.id.clone().unwrap(), entry.manifest.clone()))
    }

    pub fn read_done(&mut self, tag: &str) {
        self.entries.get_mut(tag).unwrap().readers -= 1;
    }

    /// Returns all snapshots: the tag, whether it must be there, and what must be in it.
    pub fn all(&self) -> Vec<(String, bool, Manifest)> {
        self.entries
            .iter()
            .map(|(tag, e)| (tag.clone(), e.state == SnapshotState::Counts, e.manifest.clone()))
            .collect()
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn summary(&self) -> String {
        let counts: Vec<String> = self.counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
        format!("{}; the longest push took {} ms", counts.join(", "), self.push_ms_max)
    }
}

/// What every actor did, in order.
pub struct Journal {
    started: Instant,
    lines: Mutex<Vec<String>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { started: Instant::now(), lines: Mutex::default() }
    }
}

impl Journal {
    pub fn note(&self, who: &str, what: impl std::fmt::Display) {
        self.lines.lock().unwrap().push(format!("{:9.3} {who:8} {what}", self.started.elapsed().as_secs_f64()));
    }

    pub fn text(&self) -> String {
        let lines = self.lines.lock().unwrap();
        lines[lines.len().saturating_sub(300)..].join("\n")
    }
}

/// Random numbers that follow from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn choose<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let at = self.below(list.len() as u64) as usize;
        list.get(at)
    }
}
