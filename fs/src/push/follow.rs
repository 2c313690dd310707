//! Pushes that follow one another: each looks only at what was reported as changed since the one before.
//!
//! Everything else is taken from the file cache unseen. That is right only if the cache's records are those of the push
//! before, nothing was lost in the repository since, and sources and rules are the same. If any of that is in doubt,
//! the push looks at everything, as any other push does.

use std::time::Instant;

use bkfs_store::format::tree::Subtree;
use parking_lot::{Mutex, MutexGuard};

use super::{
    alarm::{Recent, Upheaval},
    link_names::{LinkNames, Missed},
    record::root_entry_key_of,
    trust::RecordTrust,
};
use crate::{
    cache::{Cache, Cursor},
    changes::ChangeSet,
    walk::Roots,
};

/// What a series of pushes of the same sources knows of the last one.
#[derive(Default)]
pub struct Following(Mutex<Known>);

/// What is known of the last push of a series.
#[derive(Default)]
pub struct Known {
    base: Option<Base>,
    pub links: LinkNames,
    /// What was seen of files that became noise.
    recent: Recent,
}

impl Following {
    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock()
    }
}

/// The push that the next one follows.
#[derive(PartialEq)]
struct Base {
    root: Subtree,
    epoch: u32,
    roots: Roots,
    excludes: [u8; 32],
}

/// A push as part of a series.
#[derive(Clone)]
pub struct Follow<'a> {
    /// What is known of the push before, and learned by this one.
    pub following: &'a Following,
    /// What was reported as changed since the push before.
    pub changes: ChangeSet,
    /// Make no snapshot if nothing differs from the push before.
    pub skips_unchanged: bool,
}

/// A push whose snapshot was committed.
pub struct Committed {
    /// Its tree.
    pub root: Option<Subtree>,
    /// The epoch whose losses it took into account: `LossView::epoch`.
    pub epoch: Option<u32>,
    /// Its roots.
    pub roots: Roots,
    /// What else the next push must compare with its own.
    pub circumstances: Circumstances,
    /// What it saw of files that became noise.
    pub upheaval: Upheaval,
}

/// What decides whether a push may follow, beside its roots.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The key of the root directory's record.
    pub root_key: [u8; 16],
    /// What tells the rules of exclusion from others.
    pub excludes: [u8; 32],
}

impl Follow<'_> {
    /// Begins a round of the push. Returns what it must look at; none if that is everything.
    pub fn begin(&self, cache: &Cache, trust: RecordTrust, roots: &Roots, now: &Circumstances) -> Option<ChangeSet> {
        let mut following = self.following.lock();
        let is_base = |base: &Base| {
            !trust.distrusts_all
                && trust.epoch == Some(base.epoch)
                && base.roots == *roots
                && base.excludes == now.excludes
                && remembered_root(cache, now.root_key) == Some(base.root)
        };
        if !following.base.as_ref().is_some_and(is_base) {
            // What the last push stored says nothing about this one.
            following.base = None;
        }
        if self.changes.is_all() || following.base.is_none() {
            following.links.begin_whole();
            return None;
        }
        let mut changes = self.changes.clone();
        following.links.begin(&mut changes);
        if changes.is_all() {
            following.links.begin_whole();
            return None;
        }
        Some(changes)
    }

    /// Takes account of what a round missed. Returns whether there must be another.
    pub fn missed(&mut self, is_cut_off: bool) -> bool {
        let missed = if is_cut_off { Missed::Everything } else { self.following.lock().links.missed() };
        match missed {
            Missed::Nothing => return false,
            Missed::Names(names) => self.changes.merge(&names),
            Missed::Everything => self.changes = ChangeSet::all(),
        }
        true
    }

    /// Adds to what this push saw of files that became noise what those before it saw.
    pub fn with_recent(&self, seen: &Upheaval) -> Upheaval {
        self.following.lock().recent.with(Instant::now(), seen)
    }

    /// Whether no snapshot is to be made, as it would hold what the one before holds.
    pub fn is_needless(&self, root: Option<Subtree>) -> bool {
        self.skips_unchanged && self.following.lock().base.as_ref().is_some_and(|base| Some(base.root) == root)
    }

    /// Remembers a push whose snapshot was committed, for the next one to follow.
    pub fn committed(&self, done: Committed) {
        let Committed { root, epoch, roots, circumstances: now, upheaval } = done;
        let mut following = self.following.lock();
        following.recent.add(Instant::now(), upheaval);
        following.links.keep();
        let base = |(root, epoch)| Base { root, epoch, roots, excludes: now.excludes };
        following.base = root.zip(epoch).map(base);
    }
}

/// The tree of the push that the file cache remembers.
fn remembered_root(cache: &Cache, root_key: [u8; 16]) -> Option<Subtree> {
    let record = Cursor::new(cache, root_entry_key_of(&root_key));
    record.entry()?.decode().ok()?.subtree
}
