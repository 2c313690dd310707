//! The first half of a prune: what is live is marked, what is not is condemned.
//!
//! A key holder sends the ids that snapshots reach; here they become one bit a frame, so memory is an eighth of a byte for
//! each frame that is stored, and of packs whose frames hold several chunks four bytes more a frame. Nothing is durable before [`Repository::condemn`], and a store that
//! restarts in between has forgotten the prune: it is begun again.
//!
//! **Condemning** is one transaction under the repository's lock. It is refused if another prune condemned something since
//! this one began, and if a snapshot was committed that is not marked. The set is durable as an object before the log names
//! it. From the log's record on, no session commits that has not been told what was lost.

use std::collections::{HashMap, HashSet};

use crate::{
    access::{Filter, PruneLimits, PruneReply, PruneStats},
    base::{
        error::{Error, Result},
        id::{ChunkId, Hash},
    },
    crypto,
    format::{
        filter::LiveFilter,
        log::Event,
        loss::{FrameBits, Lost},
    },
    repository::prune::plan::choose,
    repository::{
        Repository,
        index::PackRow,
        layout,
        prune::reframe::{Counts, Moved},
        prune::{
            condemned::{Condemned, CondemnedPack, LOST_MAX},
            plan::PackUse,
        },
    },
};

/// How long a pack is kept for a session that has not committed, in seconds. Whoever comes back later finds less to resume.
const PIN_SECS: i64 = 7 * 24 * 3600;
/// How many ids are looked up at once.
const BATCH: usize = 8192;
/// The generation before the first prune.
const FIRST: u64 = 1;

/// A prune that marks.
pub(in crate::repository) struct Marking {
    prune: u64,
    generation: u64,
    /// Packs with this number or a higher one came later, and stay.
    pub(in crate::repository) next_number: u32,
    /// The life of the index whose numbers these are.
    life: Option<Vec<u8>>,
    /// The live frames of each pack.
    live: HashMap<u32, FrameBits>,
    /// For which first bytes filters came.
    seen: Box<[bool; 256]>,
    pub(in crate::repository) counts: Counts,
    /// What a key holder has moved out of frames. A filter that comes later and finds something live there ends that.
    pub(in crate::repository) moved: Moved,
}

impl Marking {
    /// Refuses what needs to know of all chunks whether they are live.
    pub(in crate::repository) fn expect_marked(&self) -> Result<()> {
        match self.seen.contains(&false) {
            true => Err(Error::Invalid("a prune must say of all ids which are live".into())),
            false => Ok(()),
        }
    }

    /// Whether something in a frame is live that was not moved elsewhere.
    pub(in crate::repository) fn is_live(&self, pack: u32, frame: u32, moved: &HashMap<u32, FrameBits>) -> bool {
        let has = |of: &HashMap<u32, FrameBits>| of.get(&pack).is_some_and(|bits| bits.has(frame));
        has(&self.live) && !has(moved)
    }

    /// How much of a pack is live, by its frames.
    pub(in crate::repository) fn usage(&self, number: u32, row: &PackRow, moved: &HashMap<u32, FrameBits>) -> PackUse {
        let (client, kind) = (row.client, row.kind);
        let must = moved.get(&number).is_some_and(|bits| !bits.is_empty());
        let mut used = PackUse { number, client, kind, live: 0, dead: 0, mixed: 0, reframed: 0, must };
        for frame in 0..row.frames() {
            let len = row.frame(frame).map_or(0, |(_, len)| u64::from(len));
            match self.is_live(number, frame, moved) {
                true => used.live += len,
                false => used.dead += len,
            }
        }
        used
    }

    /// About how much of a pack is dead and shares frames with what is live.
    fn mixed_bytes(&self, number: u32, row: &PackRow, moved: &HashMap<u32, FrameBits>) -> u64 {
        let live = (0..row.frames()).filter(|frame| self.is_live(number, *frame, moved));
        live.map(|frame| self.counts.dead_bytes(number, frame, row.frame(frame).map_or(0, |(_, len)| len.into()))).sum()
    }
}

/// What a key holder wants condemned.
#[derive(Debug, Clone, Copy)]
pub(in crate::repository) struct CondemnOptions {
    pub limits: PruneLimits,
    pub dry_run: bool,
    pub is_confirmed: bool,
}

/// What is to be condemned.
struct Plan {
    packs: Vec<CondemnedPack>,
    lost: Lost,
    stats: PruneStats,
}

impl Repository {
    /// The prune counter.
    pub(in crate::repository) fn generation(&self) -> Result<u64> {
        Ok(self.index.prunes().generation()?.unwrap_or(FIRST))
    }

    pub(in crate::repository) fn begin_marking(&self) -> Result<PruneReply> {
        // In this order, as in `condemn`: or two prunes wait for each other, and everybody for them.
        let mut slot = self.marking.lock();
        let _lock = self.writing()?;
        if self.index.prunes().condemned_count()? > 0 {
            let reason = "another prune is not finished: it has to be swept or given up first".to_owned();
            return Err(Error::LeaseRefused { reason });
        }
        let prune = u64::from_le_bytes(crypto::random());
        let (generation, next_number, life) =
            (self.generation()?, self.index.packs().next_number()?, self.index.life()?);
        let (live, seen) = (HashMap::new(), Box::new([false; 256]));
        let (counts, moved) = (Counts::default(), Moved::default());
        *slot = Some(Marking { prune, generation, next_number, life, live, seen, counts, moved });
        Ok(PruneReply::Begun { prune, log_len: self.index.log().position()?.len })
    }

    pub(in crate::repository) fn mark_live(&self, prune: u64, filters: &[Filter]) -> Result<PruneReply> {
        let mut slot = self.marking.lock();
        let marking = known(&mut slot, prune)?;
        filters.iter().try_for_each(|filter| self.mark_one(marking, filter))?;
        Ok(PruneReply::Done)
    }

    fn mark_one(&self, marking: &mut Marking, filter: &Filter) -> Result<()> {
        let (first, filter) = (filter.first, LiveFilter::decode(&filter.bytes)?);
        let is_first = !marking.seen[usize::from(first)];
        let Marking { live, counts, moved, next_number, .. } = marking;
        let mut found: Vec<(u32, u32)> = Vec::new();
        self.index.chunks().scan(first, &mut |key, pack, frame| match pack < *next_number {
            true if filter.holds(key) => found.push((pack, frame)),
            true if is_first => counts.dead(pack, frame),
            _ => {}
        })?;
        for (pack, frame) in found {
            if !is_first {
                counts.not_dead(pack, frame);
            }
            if let Some(moved) = moved.get_mut(&pack) {
                moved.remove(&frame);
            }
            if let std::collections::hash_map::Entry::Vacant(entry) = live.entry(pack) {
                let frames = self.index.packs().row(pack)?.map_or(0, |row| row.frames());
                entry.insert(FrameBits::none(frames as usize));
            }
            if let Some(bits) = live.get_mut(&pack) {
                if bits.has(frame) {
                    counts.live(pack, frame);
                }
                bits.set(frame);
            }
        }
        marking.seen[usize::from(first)] = true;
        Ok(())
    }

    pub(in crate::repository) fn condemn(
        &self,
        prune: u64,
        log_len: u64,
        options: &CondemnOptions,
    ) -> Result<PruneReply> {
        let mut slot = self.marking.lock();
        let marking = known(&mut slot, prune)?;
        marking.expect_marked()?;
        // Before the lock is taken, because it may take long: what changes meanwhile only makes that more is kept.
        let plan = self.plan(marking, &options.limits)?;
        let _lock = self.writing()?;
        let generation = self.generation()?;
        if generation != marking.generation {
            let reason = "another prune has run since this one began".to_owned();
            return Err(Error::LeaseRefused { reason });
        }
        if self.index.life()? != marking.life {
            let reason = "the index was made anew since this prune began".to_owned();
            return Err(Error::LeaseRefused { reason });
        }
        let log_now = self.index.log().position()?.len;
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
            let set = Condemned { generation, packs: plan.packs, lost: plan.lost }.encode();
            let hash = Hash::of(&[&set]);
            self.put_object(&layout::condemned(hash), &set)?;
            self.append(&[Event::Condemn { generation, set: hash }])?;
            // What was written again for this prune is needed by snapshots from now on, and by nobody else.
            self.index.packs().unpin(prune)?;
        }
        *slot = None;
        Ok(PruneReply::Condemned(stats))
    }

    /// Chooses packs, and finds what is lost with them.
    fn plan(&self, marking: &Marking, limits: &PruneLimits) -> Result<Plan> {
        let (pinned, moved) = (self.pinned_packs()?, self.moved_frames(marking)?);
        let (mut uses, mut stats) = (Vec::new(), PruneStats::default());
        self.index.packs().each(&mut |number, row| {
            stats.packs += 1;
            stats.bytes += row.len;
            if number >= marking.next_number {
                return;
            }
            let used = marking.usage(number, &row, &moved);
            match pinned.contains(&number) {
                false => uses.push(used),
                true if used.dead > 0 => stats.pinned_bytes += row.len,
                true => {}
            }
        })?;
        let chosen = choose(&uses, limits, 0);
        stats.unused_bytes = chosen.unused_after;
        self.index.packs().each(&mut |number, row| {
            if number < marking.next_number {
                stats.mixed_bytes += marking.mixed_bytes(number, &row, &moved);
            }
        })?;
        let taken: HashSet<u32> = chosen.drop.iter().chain(&chosen.repack).copied().collect();
        let is_live = |pack: u32, frame: u32| marking.is_live(pack, frame, &moved);
        let is_taken = |pack: u32, frame: u32| taken.contains(&pack) && !is_live(pack, frame);
        let mut plan = Plan { packs: Vec::new(), lost: Lost::Ids(Vec::new()), stats };
        for number in chosen.drop.iter().chain(&chosen.repack) {
            let Some(row) = self.index.packs().row(*number)? else { continue };
            let Ok(table) = self.table_of(row.id, row.len) else {
                tracing::warn!(pack = %row.id, "a damaged pack is not pruned");
                continue;
            };
            let mut frames = FrameBits::none(table.frames.len());
            let mut ids: Vec<ChunkId> = Vec::new();
            for (frame, entry) in table.frames.iter().enumerate().filter(|(frame, _)| !is_live(*number, *frame as u32))
            {
                frames.set(frame as u32);
                ids.extend(&entry.ids);
            }
            for ids in ids.chunks(BATCH) {
                let elsewhere = self.index.chunks().live_elsewhere(ids, &is_taken)?;
                plan.lose(ids.iter().zip(elsewhere).filter(|(_, live)| !live).map(|(id, _)| *id));
            }
            let used = marking.usage(*number, &row, &moved);
            match used.live {
                0 => plan.stats.dropped += 1,
                live => {
                    plan.stats.repacked += 1;
                    plan.stats.copied_bytes += live;
                }
            }
            plan.stats.freed_bytes += row.len - used.live.min(row.len);
            plan.packs.push(CondemnedPack { pack: row.id, frames });
        }
        Ok(plan)
    }

    /// The numbers of the packs that are kept for sessions that have not committed.
    pub(in crate::repository) fn pinned_packs(&self) -> Result<HashSet<u32>> {
        Ok(self.index.packs().pinned((self.clock)().secs - PIN_SECS)?.into_iter().collect())
    }

    /// What lost its last live copy by records of the log at `from` or later.
    pub(in crate::repository) fn lost_since(&self, from: u64) -> Result<Lost> {
        let mut lost: Vec<ChunkId> = Vec::new();
        for found in self.index.quarantine().losses_from(from)? {
            match found {
                Lost::Ids(ids) if lost.len() + ids.len() <= LOST_MAX => lost.extend(ids),
                _ => return Ok(Lost::Everything),
            }
        }
        for row in self.index.prunes().condemnations_from(from)? {
            match self.condemned_set(row.set) {
                Ok(Condemned { lost: Lost::Ids(ids), .. }) if lost.len() + ids.len() <= LOST_MAX => lost.extend(ids),
                Ok(_) => return Ok(Lost::Everything),
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(_) => return Ok(Lost::Everything),
            }
        }
        Ok(Lost::Ids(lost))
    }

    /// The set that the log names.
    pub(in crate::repository) fn condemned_set(&self, hash: Hash) -> Result<Condemned> {
        let whole = |bytes: &[u8]| Condemned::decode(bytes, hash).map(drop);
        let bytes = self.get_object(&layout::condemned(hash), whole)?;
        let bytes = bytes.ok_or_else(|| Error::damaged(Condemned::HEADER.what, "it is missing"))?;
        Condemned::decode(&bytes, hash)
    }
}

impl Plan {
    fn lose(&mut self, ids: impl Iterator<Item = ChunkId>) {
        if let Lost::Ids(lost) = &mut self.lost {
            lost.extend(ids);
            if lost.len() > LOST_MAX {
                self.lost = Lost::Everything;
            }
        }
    }
}

pub(in crate::repository) fn known(slot: &mut Option<Marking>, prune: u64) -> Result<&mut Marking> {
    slot.as_mut().filter(|marking| marking.prune == prune).ok_or_else(|| Error::LeaseRefused {
        reason: "the repository does not know this prune: another one began, or it was restarted".into(),
    })
}
