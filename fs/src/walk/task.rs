//! One directory of a walk, from being found to being handed out.
//!
//! A walk thread may list the directory ahead of the consumer, or the consumer lists it itself when it gets there.
//! [`ListTask::claim`] and [`ListTask::take`] decide which of the two does.

use std::{io, sync::Arc, time::Instant};

use parking_lot::{Condvar, Mutex};

use super::{
    dir_path::DirPath,
    list::{Entry, EntryChanges, SourceDir},
    names::Names,
    roots::Plan,
};
use crate::{changes::Changes, metadata::Stat};

/// A directory to be listed.
pub struct ListTask {
    /// Numbers of the entries on the way from the root: they sort depth-first.
    pub(super) order: Box<[u32]>,
    parent: Mutex<Option<Arc<SourceDir>>>,
    path: Arc<DirPath>,
    pub(super) name: Box<[u8]>,
    pub(super) device: u64,
    pub(super) mount: u64,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) is_included: bool,
    /// What may have changed in the directory; none if everything may have.
    pub(super) changes: Option<Arc<Changes>>,
    /// Whether no change of it was reported. Then it need not be listed, if the consumer knows it.
    pub(super) is_unmarked: bool,
    state: Mutex<ListState>,
    listed: Condvar,
}

enum ListState {
    Waiting,
    /// A thread lists it.
    Busy,
    Done(io::Result<Listed>),
    /// The consumer has the listing, or lists the directory itself.
    Taken,
}

/// A listed directory with its entries.
pub struct Listed {
    /// The directory.
    pub dir: Arc<SourceDir>,
    /// When looking at its entries began.
    pub looked_at: Instant,
    pub(super) order: Box<[u32]>,
    pub(super) entries: std::vec::IntoIter<Entry>,
    /// The names that were not looked at yet, if the directory is large.
    pub(super) names: Names,
    pub(super) tasks: std::vec::IntoIter<Arc<ListTask>>,
    /// The number of the next entry.
    pub(super) next: u32,
    /// What the listing takes in memory.
    pub(super) bytes: usize,
}

impl ListTask {
    /// The root's task, already done.
    pub(super) fn root(dir_path: Arc<DirPath>, stat: &Stat, plan: Arc<Plan>, listed: io::Result<Listed>) -> Self {
        Self {
            order: Box::default(),
            parent: Mutex::new(None),
            path: dir_path,
            name: Box::default(),
            device: stat.device,
            mount: stat.mount,
            is_included: plan.is_included,
            plan: Some(plan),
            changes: None,
            is_unmarked: false,
            state: Mutex::new(ListState::Done(listed)),
            listed: Condvar::new(),
        }
    }

    /// The task to list a directory found in `parent`.
    pub(super) fn child(parent: &Arc<SourceDir>, order: Box<[u32]>, entry: &Entry, plan: Option<Arc<Plan>>) -> Self {
        let (changes, is_unmarked) = match parent.changes_of(&entry.name) {
            EntryChanges::All => (None, false),
            EntryChanges::Some(changes) => (Some(changes), false),
            // It is only on the way to what is included.
            EntryChanges::None if !entry.is_included => (Some(Arc::default()), false),
            EntryChanges::None => (None, true),
        };
        Self {
            order,
            parent: Mutex::new(Some(parent.clone())),
            path: parent.path.child(&entry.name),
            name: entry.name.clone(),
            device: entry.stat.device,
            mount: entry.stat.mount,
            plan,
            is_included: entry.is_included,
            changes,
            is_unmarked,
            state: Mutex::new(ListState::Waiting),
            listed: Condvar::new(),
        }
    }

    /// The directory's path in the snapshot.
    pub fn path(&self) -> &Arc<DirPath> {
        &self.path
    }

    /// Whether nothing is said to have changed at and below the directory. Then it is not listed ahead.
    pub fn is_unmarked(&self) -> bool {
        self.is_unmarked
    }

    /// Whether all of the directory is to be listed, and all below it.
    pub fn is_whole(&self) -> bool {
        self.changes.is_none() && !self.is_unmarked
    }

    /// The open directory that holds this one. It is given once, and closed with the last task in it.
    pub(super) fn take_parent(&self) -> io::Result<Arc<SourceDir>> {
        self.parent.lock().take().ok_or_else(|| io::Error::other("a directory was listed twice"))
    }

    /// Reserves the task for a walk thread; false if the task needs no listing any more.
    pub(super) fn claim(&self) -> bool {
        let mut state = self.state.lock();
        let is_waiting = matches!(*state, ListState::Waiting);
        if is_waiting {
            *state = ListState::Busy;
        }
        is_waiting
    }

    /// Stores the listing that a walk thread made.
    pub(super) fn finish(&self, listed: io::Result<Listed>) {
        *self.state.lock() = ListState::Done(listed);
        self.listed.notify_all();
    }

    /// Takes the listing, waiting for a thread that makes it; none if the consumer must list the directory itself.
    pub(super) fn take(&self) -> Option<io::Result<Listed>> {
        let mut state = self.state.lock();
        while matches!(*state, ListState::Busy) {
            self.listed.wait(&mut state);
        }
        match std::mem::replace(&mut *state, ListState::Taken) {
            ListState::Done(listed) => Some(listed),
            ListState::Waiting => None,
            ListState::Busy | ListState::Taken => {
                unreachable!("a directory is taken once, and not while a thread lists it")
            }
        }
    }
}
