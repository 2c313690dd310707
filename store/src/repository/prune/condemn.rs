//! Condemning what a prune has not marked.
//!
//! Condemning is one transaction under the repository's lock. It is refused if another prune has condemned something
//! since this one began, and if a snapshot was committed that is not marked.
//!
//! **Order.** The condemned set is durable as an object before the log names it. From that record of the log on, a
//! session commits only if it was told what was lost.

use std::collections::HashSet;

use super::{
    condemned::{CondemnedPack, CondemnedSet, LOST_MAX},
    marking::{Marker, marks_of},
    marks::{Frames, Marks},
    plan::choose,
};
use crate::{
    access::{PruneLimits, PruneReply, PruneStats},
    base::{
        error::{Error, Result},
        id::ChunkId,
    },
    format::{
        log::Event,
        loss::{FrameBits, Lost},
        pack::PackTable,
    },
    repository::index::PackRow,
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
}

/// What is to be condemned.
struct CondemnPlan {
    packs: Vec<CondemnedPack>,
    lost: Lost,
    stats: PruneStats,
}

impl Marker {
    /// Condemns what is not marked.
    pub fn condemn(&self, prune: u64, log_len: u64, options: &CondemnOptions) -> Result<PruneReply> {
        let mut slot = self.marks.lock();
        let marks = marks_of(&mut slot, prune)?;
        marks.expect_complete()?;
        // Planned before the lock is taken, because it may take long. What changes in the meantime only keeps more.
        let plan = self.plan(marks, &options.limits)?;
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
        let log_now = self.log.len()?;
        if !self.index.commits().from(log_len, 1, |_| true)?.is_empty() {
            return Ok(PruneReply::Grown { log_len: log_now });
        }
        let stats = plan.stats;
        if options.dry_run {
            return Ok(PruneReply::Condemned(stats));
        }
        if stats.is_most() && !options.is_confirmed {
            return Ok(PruneReply::Unconfirmed(stats));
        }
        if !plan.packs.is_empty() {
            let generation = generation + 1;
            let set = CondemnedSet { generation, packs: plan.packs, lost: plan.lost };
            let set = self.objects.put_condemned_set(&set)?;
            self.log.append(&[Event::Condemn { generation, set }])?;
            // What was written again for this prune is needed by snapshots from now on, and by nothing else.
            self.index.packs().unpin(prune)?;
        }
        *slot = None;
        Ok(PruneReply::Condemned(stats))
    }

    /// Chooses packs, and finds what is lost with them.
    fn plan(&self, marks: &Marks, limits: &PruneLimits) -> Result<CondemnPlan> {
        let (pinned, moved) = (self.pinned_packs()?, self.moved_frames(marks)?);
        let (mut uses, mut stats) = (Vec::new(), PruneStats::default());
        self.index.packs().each(&mut |number, row| {
            stats.packs += 1;
            stats.bytes += row.len;
            if number >= marks.next_number {
                return;
            }
            let used = marks.usage(number, &row, &moved);
            match pinned.contains(&number) {
                false => uses.push(used),
                true if used.dead > 0 => stats.pinned_bytes += row.len,
                true => {}
            }
        })?;
        let chosen = choose(&uses, limits, 0);
        stats.unused_bytes = chosen.unused_after;
        self.index.packs().each(&mut |number, row| {
            if number < marks.next_number {
                stats.mixed_bytes += marks.mixed_bytes(number, &row, &moved);
            }
        })?;
        let taken: HashSet<u32> = chosen.drop.iter().chain(&chosen.repack).copied().collect();
        let is_taken = |pack: u32, frame: u32| taken.contains(&pack) && !marks.is_live(pack, frame, &moved);
        let mut plan = CondemnPlan { packs: Vec::new(), lost: Lost::Ids(Vec::new()), stats };
        for number in chosen.drop.iter().chain(&chosen.repack) {
            let Some(row) = self.index.packs().row(*number)? else { continue };
            let Ok(table) = self.files.table(row.id, row.len) else {
                tracing::warn!(pack = %row.id, "a damaged pack is not pruned");
                continue;
            };
            let (frames, ids) = dead_frames(&table, *number, marks, &moved);
            for ids in ids.chunks(BATCH) {
                let has_copy = self.index.chunks().live_elsewhere(ids, &is_taken)?;
                plan.add_lost(ids.iter().zip(has_copy).filter(|(_, has_copy)| !has_copy).map(|(id, _)| *id));
            }
            plan.add_pack(&row, frames, marks.usage(*number, &row, &moved).live);
        }
        Ok(plan)
    }
}

/// The frames of a pack that are not live, and the chunks in them.
fn dead_frames(table: &PackTable, number: u32, marks: &Marks, moved: &Frames) -> (FrameBits, Vec<ChunkId>) {
    let (mut frames, mut ids) = (FrameBits::none(table.frames.len()), Vec::new());
    for (frame, entry) in table.frames.iter().enumerate() {
        if !marks.is_live(number, frame as u32, moved) {
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
