//! What must be there, and a journal of what all actors did.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use bkfs_store::base::id::SnapshotId;
use parking_lot::Mutex;

/// Names of files, each with the number that its contents follow from.
pub type Tree = BTreeMap<String, u64>;

/// What is known of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was acknowledged, and no actor has asked to forget it: it must be there.
    Counts,
    /// It was forgotten, and is or was in the trash.
    Forgotten,
    /// No reply has arrived: if it is there, it is whole.
    Unknown,
    /// It is gone for good.
    Gone,
}

struct Entry {
    state: State,
    tree: Tree,
    /// How many actors read it now. Until they are done, it is not forgotten.
    readers: usize,
    /// An actor is changing its fate.
    is_busy: bool,
}

/// The snapshots.
#[derive(Default)]
pub struct Model {
    entries: BTreeMap<SnapshotId, Entry>,
    pub pushes: u64,
    pub prunes: u64,
    pub refused: u64,
    pub reads: u64,
    pub deaths: u64,
    pub damages: u64,
    pub checks: u64,
    pub revived: u64,
}

impl Model {
    /// A push is about to commit. Until it reports the outcome, no other actor touches the snapshot.
    pub fn pushing(&mut self, id: SnapshotId, tree: &Tree) {
        let entry = Entry { state: State::Unknown, tree: tree.clone(), readers: 0, is_busy: true };
        self.entries.entry(id).or_insert(entry);
    }

    /// A push that tried to commit these snapshots has ended.
    pub fn pushed(&mut self, tried: &[SnapshotId], committed: Option<SnapshotId>) {
        for id in tried {
            self.release(*id, if Some(*id) == committed { State::Counts } else { State::Unknown });
        }
        self.pushes += u64::from(committed.is_some());
    }

    /// Claims a snapshot in one of these states that no actor is changing or reading.
    pub fn claim(&mut self, random: &mut Random, states: &[State]) -> Option<(SnapshotId, State)> {
        let free = |entry: &Entry| states.contains(&entry.state) && !entry.is_busy && entry.readers == 0;
        let ids: Vec<SnapshotId> = self.entries.iter().filter(|(_, e)| free(e)).map(|(id, _)| *id).collect();
        let id = *random.choose(&ids)?;
        let entry = self.entries.get_mut(&id).unwrap();
        entry.is_busy = true;
        Some((id, entry.state))
    }

    pub fn release(&mut self, id: SnapshotId, state: State) {
        let entry = self.entries.get_mut(&id).unwrap();
        (entry.is_busy, entry.state) = (false, state);
    }

    /// Returns a snapshot that counts, and keeps it from being forgotten until `read_done`.
    pub fn read(&mut self, random: &mut Random) -> Option<(SnapshotId, Tree)> {
        let free = |entry: &Entry| entry.state == State::Counts && !entry.is_busy;
        let ids: Vec<SnapshotId> = self.entries.iter().filter(|(_, e)| free(e)).map(|(id, _)| *id).collect();
        let id = *random.choose(&ids)?;
        let entry = self.entries.get_mut(&id).unwrap();
        entry.readers += 1;
        Some((id, entry.tree.clone()))
    }

    pub fn read_done(&mut self, id: SnapshotId) {
        self.entries.get_mut(&id).unwrap().readers -= 1;
        self.reads += 1;
    }

    /// All snapshots, each with whether it must be there and what is in it.
    pub fn all(&self) -> Vec<(SnapshotId, bool, Tree)> {
        self.entries.iter().map(|(id, e)| (*id, e.state == State::Counts, e.tree.clone())).collect()
    }

    pub fn summary(&self) -> String {
        let Self { pushes, prunes, refused, reads, deaths, damages, checks, revived, .. } = self;
        format!(
            "{pushes} pushes, {prunes} prunes ({refused} refused or cut short), {reads} snapshots read, \
             {deaths} deaths, {damages} files damaged, {checks} checks, {revived} brought back"
        )
    }
}

/// What all actors did, in order.
pub struct Journal {
    begun: Instant,
    lines: Mutex<Vec<String>>,
    count: AtomicU64,
}

impl Default for Journal {
    fn default() -> Self {
        Self { begun: Instant::now(), lines: Mutex::default(), count: AtomicU64::new(0) }
    }
}

impl Journal {
    pub fn note(&self, who: &str, what: impl std::fmt::Display) {
        self.count.fetch_add(1, Relaxed);
        self.lines.lock().push(format!("{:9.3} {who:8} {what}", self.begun.elapsed().as_secs_f64() * 1000.0));
    }

    pub fn len(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub fn text(&self) -> String {
        let lines = self.lines.lock();
        lines[lines.len().saturating_sub(400)..].join("\n")
    }
}

/// Numbers that follow from a seed (SplitMix64).
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
