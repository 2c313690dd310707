//! What stays the same throughout a push, for its stages to borrow from.

use std::{path::Path, sync::Arc, time::Instant};

use bkfs_store::{
    access::Push,
    base::time::Time,
    format::{
        config::Config,
        keys::{IdKeys, PushKey},
    },
};

use super::{
    change::Change, clock::Clock, follow::Follow, options::PushOptions, problems::ProblemList, progress::PushProgress,
};
use crate::{cache::Cache, changes::ChangeSet, walk::Observer};

/// Is told of each entry that is new or changed, as soon as it is known.
pub type OnChange = dyn Fn(Change, &Path) + Sync;

/// What stays the same throughout a push. Each stage keeps only what it uses.
pub struct PushContext<'a> {
    /// The repository.
    pub access: Arc<dyn Push>,
    /// Its configuration.
    pub config: &'a Config,
    /// The key that the push writes with.
    pub key: &'a PushKey,
    /// The part of it that names chunks.
    pub ids: IdKeys,
    /// What to push.
    pub options: &'a PushOptions,
    /// What earlier pushes remembered.
    pub cache: Arc<Cache>,
    /// The counters.
    pub progress: Arc<PushProgress>,
    /// The entries that could not be read.
    pub problems: Arc<ProblemList>,
    /// Who wants to know what changed.
    pub on_change: Option<&'a OnChange>,
    /// The series of pushes that this one is part of.
    pub follow: Option<Follow<'a>>,
    /// Who is told of each directory that is listed.
    pub observer: Option<Arc<dyn Observer>>,
    /// The wall clock.
    pub clock: Clock,
    /// When the push began, by the wall clock.
    pub time: Time,
    /// When the push began, to measure how long it took.
    pub begun: Instant,
}

impl PushContext<'_> {
    /// Whether the present round looks only at what was reported.
    pub fn follows(&self) -> bool {
        self.follow.as_ref().is_some_and(|follow| !follow.changes.is_all())
    }

    /// Looks at everything from now on.
    pub fn look_at_everything(&mut self) {
        if let Some(follow) = &mut self.follow {
            follow.changes = ChangeSet::all();
        }
    }
}
