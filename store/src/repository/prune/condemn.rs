//! Condemning what a prune has not marked.
//!
//! Condemning is one transaction under the repository's lock. It is refused if another prune has condemned something
//! since this one began, and if a snapshot was committed that is not marked.
//!
//! **Order.** The condemned set is durable as an object before the log names it. From that record of the log on, a
//! session commits only if it was told what was lost.

use std::{collections::HashSet, time::Instant};

use super::{
    caller::Caller,
    condemned::{CondemnedPack, CondemnedSet, LOST_MAX},
    marking::{Marker, marks_of},
    marks::{Frames, Marks},
    plan::choose,
};
use crate::{
    access::{PruneLimits, PruneReply, PruneStats},
    base::{
        error::{Error, ErrorKind, Result},
        id::{ChunkId, Hash, PackId},
        time::Time,
    },
    format::{
        log::Event,
        loss::{FrameBits, Lost},
        pack::PackTable,
    },
    repository::index::{LostChunks, PackRow},
};

/// How many ids are looked up at a time.
const BATCH: usize = 8192;

/// How a key holder wants frames to be condemned.
#[derive(Debug, Clone, Copy)]
pub(super) struct CondemnOptions {
    pub limits: PruneLimits,
    /// Only return what would be condemned.
    pub dry_run: bool,
    /// Go on even if most of the repository goes.
    pub is_confirmed: bool,
    /// Take no snapshots for a while if some are not marked.
    pub hold: bool,
}

/// What is to be condemned.
struct CondemnPlan {
    packs: Vec<CondemnedPack>,
    lost: Lost,
    stats: PruneStats,
}

impl Marker {
    /// Condemns what is not marked.
    pub fn condemn(
        &self,
        prune: u64,
        log_len: u64,
        options: &CondemnOptions,
        caller: Caller<'_>,
    ) -> Result<PruneReply> {
        let mut slot = self.marks.lock();
        let marks = marks_of(&mut slot, prune)?;
        marks.expect_complete()?;
        // Planned before the lock is taken, because it may take long. What changes in the meantime only keeps more.
        let plan = self.plan(marks, &options.limits, caller)?;
        let _lock = self.log.lock_for_append()?;
        let generation = self.log.generation()?;
        if generation != marks.generation {
            let reason = "another prune has run since this one began".to_owned();
            return Err(Error::LeaseRefused { reason });
        }
        if self.index.life()? != marks.life {
            let reason = "the index was rebuilt since this prune began".to_owned();
            return Err(Error::LeaseRefused { reason });
        }
        let stats = plan.stats;
        if options.dry_run {
            return Ok(PruneReply::Condemned(stats));
        }
        let log_now = self.log.len()?;
        if !self.index.commits().from(log_len, 1, |_| true)?.is_empty() {
            if options.hold {
                // Under the lock: no commit comes between what is to be marked now and the hold.
                self.hold.begin(Instant::now());
            }
            return Ok(PruneReply::Grown { log_len: log_now });
        }
        self.hold.end(Instant::now());
        self.expect_swept()?;
        if stats.is_most() && !options.is_confirmed {
            return Ok(PruneReply::Unconfirmed(stats));
        }
        if !plan.packs.is_empty() {
            let generation = generation + 1;
            let set = CondemnedSet { generation, packs: plan.packs, lost: plan.lost };
            let set = self.put(set)?;
            self.log.append_to_free(&[Event::Condemn { generation, set }])?;
            // What was written again for this prune is needed by snapshots from now on, and by nothing else.
            if let Err(error) = self.index.packs().unpin(prune) {
                tracing::warn!(%error, "packs stay pinned for a prune that has condemned");
            }
        }
        *slot = None;
        Ok(PruneReply::Condemned(stats))
    }

    /// Stores a condemned set. On a full disk, a set that lists what is lost may be too long. It is stored without the
    /// list; clients that were away ask once more what is stored.
    fn put(&self, mut set: CondemnedSet) -> Result<Hash> {
        match self.objects.put_condemned_set(&set) {
            Err(error) if error.kind() == ErrorKind::Full => {
                set.lost = Lost::Everything;
                self.log.reserve().use_for(|| self.objects.put_condemned_set(&set))
            }
            put => put,
        }
    }

    /// Chooses packs, and finds what is lost with them.
    fn plan(&self, marks: &Marks, limits: &PruneLimits, caller: Caller<'_>) -> Result<CondemnPlan> {
        let (pinned, moved) = (self.pinned_packs(marks)?, self.moved_frames(marks, caller)?);
        let (condemned, domains) = (self.condemned()?, self.log.domains()?);
        let mut gone = self.spare_frames(marks, &moved, &condemned)?;
        for (number, frames) in &moved {
            let before = gone.remove(number).unwrap_or_default();
            gone.insert(*number, before.with(frames));
        }
        let (mut uses, mut stats, mut left) = (Vec::new(), PruneStats::default(), Vec::new());
        self.index.packs().each(&mut |number, row| {
            stats.packs += 1;
            stats.bytes += row.len;
            if let Some(frames) = condemned.get(&row.id) {
                return left.push((row.id, row.len, live_bytes(&row, &|frame| !frames.has(frame))));
            }
            if number >= marks.next_number {
                return;
            }
            let used = marks.usage(number, &row, &gone, &moved);
            match pinned.get(&number) {
                None => uses.push(used),
                Some(until) if used.dead > 0 => {
                    stats.pinned_bytes += used.dead;
                    stats.pinned_until = stats.pinned_until.max(Some(Time { secs: *until, nanos: 0 }));
                }
                Some(_) => {}
            }
        })?;
        for (id, len, live) in left {
            stats.left_packs += 1;
            stats.left_bytes += len - live.min(len) + self.dead_parity(id, len, live)?;
        }
        let chosen = choose(&uses, limits, 0);
        stats.unused_bytes = chosen.unused_after;
        self.index.packs().each(&mut |number, row| {
            if number < marks.next_number && !condemned.contains_key(&row.id) {
                stats.mixed_bytes += marks.mixed_bytes(number, &row, &gone);
            }
        })?;
        let taken: HashSet<u32> = chosen.drop.iter().chain(&chosen.repack).copied().collect();
        let is_taken = |pack: u32, frame: u32| taken.contains(&pack) && !marks.is_live(pack, frame, &gone);
        let mut plan = CondemnPlan { packs: Vec::new(), lost: Lost::Ids(Vec::new()), stats };
        let mut remembered = LostChunks::default();
        for number in chosen.drop.iter().chain(&chosen.repack) {
            caller.expect_there()?;
            let Some(row) = self.index.packs().row(*number)? else { continue };
            let Ok(table) = self.files.table(row.id, row.len) else {
                tracing::warn!(pack = %row.id, "a damaged pack is not pruned");
                continue;
            };
            let (frames, ids) = dead_frames(&table, *number, marks, &gone);
            for ids in ids.chunks(BATCH) {
                let is_lost = self.index.chunks().lost(ids, &is_taken, &domains, &mut remembered)?;
                plan.add_lost(ids.iter().zip(is_lost).filter(|(_, is_lost)| *is_lost).map(|(id, _)| *id));
            }
            let live = marks.usage(*number, &row, &gone, &moved).live;
            plan.stats.freed_parity_bytes += self.dead_parity(row.id, row.len, live)?;
            plan.add_pack(&row, frames, live);
        }
        Ok(plan)
    }

    /// How many bytes of a pack's parity go with its dead frames, about. What is copied gets parity of its own.
    fn dead_parity(&self, id: PackId, len: u64, live: u64) -> Result<u64> {
        let parity = u128::from(self.files.parity_len(id)?.unwrap_or(0));
        let dead = parity * u128::from(len - live.min(len)) / u128::from(len.max(1));
        Ok(u64::try_from(dead).unwrap_or(u64::MAX))
    }
}

/// Bytes of the frames of a pack that are live.
pub(super) fn live_bytes(row: &PackRow, is_live: &dyn Fn(u32) -> bool) -> u64 {
    let live = (0..row.frames()).filter(|frame| is_live(*frame));
    live.map(|frame| row.frame(frame).map_or(0, |(_, len)| u64::from(len))).sum()
}

/// The frames of a pack that are not live, and the chunks in them.
fn dead_frames(table: &PackTable, number: u32, marks: &Marks, gone: &Frames) -> (FrameBits, Vec<ChunkId>) {
    let (mut frames, mut ids) = (FrameBits::none(table.frames.len()), Vec::new());
    for (frame, entry) in table.frames.iter().enumerate() {
        if !marks.is_live(number, frame as u32, gone) {
            frames.set(frame as u32);
            ids.extend(&entry.ids);
        }
    }
    (frames, ids)
}

impl CondemnPlan {
    fn add_pack(&mut self, row: &PackRow, frames: FrameBits, live_bytes: u64) {
        match live_bytes {
            0 => self.stats.dropped += 1,
            live => {
                self.stats.repacked += 1;
                self.stats.copied_bytes += live;
            }
        }
        self.stats.freed_bytes += row.len - live_bytes.min(row.len);
        self.packs.push(CondemnedPack { pack: row.id, frames });
    }

    fn add_lost(&mut self, ids: impl Iterator<Item = ChunkId>) {
        if let Lost::Ids(lost) = &mut self.lost {
            lost.extend(ids);
            if lost.len() > LOST_MAX {
                self.lost = Lost::Everything;
            }
        }
    }
}
