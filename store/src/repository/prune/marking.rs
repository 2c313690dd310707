//! The first half of a prune: what is live is marked, and everything else is condemned.
//!
//! A key holder sends filters of the ids that snapshots reach. Here they become one bit a frame, so the memory is an
//! eighth of a byte for each stored frame, and four more bytes a frame for packs whose frames hold several chunks.
//! Nothing is durable before [`Marker::condemn`]. A store that restarts in between has forgotten the prune, which must
//! begin again.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

use super::marks::Marks;
use crate::{
    access::{Filter, PruneReply},
    base::error::{Error, Result},
    crypto,
    format::filter::LiveFilter,
    repository::{index::Index, log::Log, objects::Objects, packs::files::PackFiles},
};

/// How long a pack is kept for a session that has not committed, in seconds. A session that comes back later finds less
/// to resume.
const PIN_SECS: i64 = 7 * 24 * 3600;

/// Marks what is live, and condemns the rest.
#[derive(Debug)]
pub(super) struct Marker {
    pub(super) index: Arc<Index>,
    pub(super) objects: Arc<Objects>,
    pub(super) log: Arc<Log>,
    pub(super) files: Arc<PackFiles>,
    /// The marks of the prune that is in progress.
    pub(super) marks: Mutex<Option<Marks>>,
}

impl Marker {
    pub fn new(index: Arc<Index>, objects: Arc<Objects>, log: Arc<Log>, files: Arc<PackFiles>) -> Self {
        Self { index, objects, log, files, marks: Mutex::new(None) }
    }

    /// Begins a prune. A prune that was begun before is forgotten.
    pub fn begin(&self) -> Result<PruneReply> {
        // In this order, as in `condemn`. Otherwise two prunes could wait for each other, and all pushes for them.
        let mut slot = self.marks.lock();
        let _lock = self.log.lock_for_append()?;
        if self.index.prunes().condemned_count()? > 0 {
            let reason = "another prune is not finished: it must be swept or given up first".to_owned();
            return Err(Error::LeaseRefused { reason });
        }
        let prune = u64::from_le_bytes(crypto::random());
        let (generation, next_number) = (self.log.generation()?, self.index.packs().next_number()?);
        *slot = Some(Marks::new(prune, generation, next_number, self.index.life()?));
        Ok(PruneReply::Begun { prune, log_len: self.log.len()? })
    }

    /// Marks as live what filters hold.
    pub fn mark(&self, prune: u64, filters: &[Filter]) -> Result<PruneReply> {
        let mut slot = self.marks.lock();
        let marks = marks_of(&mut slot, prune)?;
        filters.iter().try_for_each(|filter| self.mark_filter(marks, filter))?;
        Ok(PruneReply::Done)
    }

    fn mark_filter(&self, marks: &mut Marks, filter: &Filter) -> Result<()> {
        let (first, filter) = (filter.first, LiveFilter::decode(&filter.bytes)?);
        let (was_seen, next_number) = (marks.has_seen(first), marks.next_number);
        let mut live = Vec::new();
        self.index.chunks().scan(first, &mut |key, pack, frame| match pack < next_number {
            true if filter.holds(key) => live.push((pack, frame)),
            true if !was_seen => marks.count_dead((pack, frame)),
            _ => {}
        })?;
        for address in live {
            let frames = || Ok(self.index.packs().row(address.0)?.map_or(0, |row| row.frames()));
            marks.mark(address, was_seen, frames)?;
        }
        marks.set_seen(first);
        Ok(())
    }

    /// Forgets the prune that is in progress.
    pub fn forget(&self) {
        *self.marks.lock() = None;
    }

    /// The numbers of the packs that are kept for sessions that have not committed.
    pub(super) fn pinned_packs(&self) -> Result<HashSet<u32>> {
        Ok(self.index.packs().pinned(self.log.now().secs - PIN_SECS)?.into_iter().collect())
    }
}

/// The marks of a prune. Fails if another prune is in progress, or none.
pub(super) fn marks_of(slot: &mut Option<Marks>, prune: u64) -> Result<&mut Marks> {
    slot.as_mut().filter(|marks| marks.prune == prune).ok_or_else(|| Error::LeaseRefused {
        reason: "the repository does not know this prune: another one began, or it was restarted".into(),
    })
}
