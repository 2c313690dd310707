//! The first half of a prune: what is live is marked, and everything else is condemned.
//!
//! A key holder sends filters of the ids that snapshots reach. Here they become one bit a frame, so the memory is an
//! eighth of a byte for each stored frame, and four more bytes a frame for packs whose frames hold several chunks.
//! What is said of moved frames takes a bit for each frame and each chunk of their packs ([`super::moved`]). How often
//! filters may have the stored ids looked through has a limit ([`super::scan_budget`]).
//!
//! Nothing is durable before [`Marker::condemn`]. A store that restarts in between has forgotten the prune, which must
//! begin again.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{
    caller::{Caller, gone},
    hold::CommitHold,
    marks::Marks,
};
use crate::{
    access::{Filter, PruneReply},
    base::{
        error::{Error, Result},
        id::PackId,
        time::Time,
    },
    crypto,
    format::{filter::LiveFilter, loss::FrameBits},
    repository::{
        clock::TrustedNow,
        index::{Index, Pin},
        log::Log,
        objects::Objects,
        packs::files::PackFiles,
    },
};

/// How long a pack is kept for a session that has not committed, in seconds. A session that comes back later finds less
/// to resume.
const PIN_SECS: u64 = 7 * 24 * 3600;

/// How many rows are compared with a filter before the store looks whether the caller is still there.
const ROWS_UNWATCHED: u64 = 65_536;

/// Until when a pin counts; none if it counts no more.
pub(super) fn pinned_until(pin: &Pin, now: &TrustedNow) -> Option<Time> {
    now.kept_until(Time { secs: pin.secs, nanos: 0 }, PIN_SECS)
}

/// Marks what is live, and condemns the rest.
#[derive(Debug)]
pub(super) struct Marker {
    pub(super) index: Arc<Index>,
    pub(super) objects: Arc<Objects>,
    pub(super) log: Arc<Log>,
    pub(super) files: Arc<PackFiles>,
    /// The marks of the prune that is in progress.
    pub(super) marks: Mutex<Option<Marks>>,
    pub(super) hold: Arc<CommitHold>,
}

impl Marker {
    pub fn new(
        index: Arc<Index>,
        objects: Arc<Objects>,
        log: Arc<Log>,
        files: Arc<PackFiles>,
        hold: Arc<CommitHold>,
    ) -> Self {
        Self { index, objects, log, files, marks: Mutex::new(None), hold }
    }

    /// Begins a prune. A prune that was begun before is forgotten.
    pub fn begin(&self, dry_run: bool, ends_pushes: bool) -> Result<PruneReply> {
        // In this order, as in `condemn`. Otherwise two prunes could wait for each other, and all pushes for them.
        let mut slot = self.marks.lock();
        let _lock = self.log.lock_for_append()?;
        if !dry_run {
            self.expect_swept()?;
        }
        let prune = u64::from_le_bytes(crypto::random());
        let (generation, next_number) = (self.log.generation()?, self.index.packs().next_number()?);
        *slot = Some(Marks::new(prune, generation, next_number, self.index.life()?, ends_pushes));
        Ok(PruneReply::Begun { prune, log_len: self.log.len()? })
    }

    /// Fails if something is condemned and not swept yet. A condemned set takes the place of the one before.
    pub(super) fn expect_swept(&self) -> Result<()> {
        if self.index.prunes().condemned_count()? > 0 {
            let reason = "another prune is not finished: it must be swept or given up first".to_owned();
            return Err(Error::LeaseRefused { reason });
        }
        Ok(())
    }

    /// Marks as live what filters hold. If the caller is gone, the rest of the filters are not looked at.
    pub fn mark(&self, prune: u64, filters: &[Filter], caller: Caller<'_>) -> Result<PruneReply> {
        let mut slot = self.marks.lock();
        let marks = marks_of(&mut slot, prune)?;
        filters.iter().try_for_each(|filter| self.mark_filter(marks, filter, caller))?;
        Ok(PruneReply::Done)
    }

    /// Takes in a filter as a whole, or not at all.
    fn mark_filter(&self, marks: &mut Marks, filter: &Filter, caller: Caller<'_>) -> Result<()> {
        caller.expect_there()?;
        let (first, filter) = (filter.first, LiveFilter::decode(&filter.bytes).map_err(Error::in_input)?);
        marks.scans.expect_room(first, filter.count())?;
        let (was_seen, next_number) = (marks.scans.has_seen(first), marks.next_number);
        let (mut live, mut dead, mut rows, mut is_gone) = (Vec::new(), Vec::new(), 0u64, false);
        self.index.chunks().scan(first, &mut |key, pack, frame| {
            match pack < next_number {
                true if filter.holds(key) => live.push((pack, frame)),
                true if !was_seen => dead.push((pack, frame)),
                _ => {}
            }
            rows += 1;
            is_gone = rows.is_multiple_of(ROWS_UNWATCHED) && caller.is_gone();
            !is_gone
        })?;
        marks.scans.charge(first, filter.count(), rows);
        if is_gone {
            return Err(gone());
        }
        dead.into_iter().for_each(|address| marks.count_dead(address));
        for address in live {
            let frames = || Ok(self.index.packs().row(address.0)?.map_or(0, |row| row.frames()));
            marks.mark(address, was_seen, frames)?;
        }
        marks.scans.set_seen(first);
        Ok(())
    }

    /// Forgets the prune that is in progress.
    pub fn forget(&self) {
        *self.marks.lock() = None;
    }

    /// The packs that a prune keeps for sessions that have not committed, by number, and until when, in seconds.
    pub(super) fn pinned_packs(&self, marks: &Marks) -> Result<HashMap<u32, i64>> {
        if marks.ends_pushes {
            return Ok(HashMap::new());
        }
        let (now, pins) = (self.log.trusted_now()?, self.index.packs().pins()?);
        Ok(pins.iter().filter_map(|(number, pin)| Some((*number, pinned_until(pin, &now)?.secs))).collect())
    }

    /// The condemned frames of packs that are not swept yet. Only a dry run begins when there are any.
    pub(super) fn condemned(&self) -> Result<HashMap<PackId, FrameBits>> {
        Ok(self.index.prunes().condemned(usize::MAX)?.into_iter().collect())
    }
}

/// The marks of a prune. Fails if another prune is in progress, or none.
pub(super) fn marks_of(slot: &mut Option<Marks>, prune: u64) -> Result<&mut Marks> {
    slot.as_mut().filter(|marks| marks.prune == prune).ok_or_else(|| Error::LeaseRefused {
        reason: "the repository does not know this prune: another one began, or it was restarted".into(),
    })
}
