//! The log of a repository, and the index that follows it.
//!
//! **Order.** A record is durable before the index follows it, and the index has followed it before the caller goes on.
//! So the index never knows more than the log, and a process that appends knows all of the log. Appending needs the
//! repository's lock; following does not.
//!
//! Several processes may append. Each takes in what the others appended before it appends, and whenever it is asked.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{pair::LogPair, rosters::Rosters};
use crate::{
    access::{LOG_BYTES, Lease, Seen},
    base::{
        error::{Error, Result},
        id::{Hash, Incarnation},
        time::Time,
    },
    crypto::{self, Wrap},
    format::{
        fate::FateStep,
        keys::SealKeys,
        log::{
            Event, LogRecord,
            file::{self as log_file, Position},
        },
        roster::{Domains, Roster, RosterView, verify_roster},
        snapshot,
        tombstone::Tombstone,
        verdict::Verdict,
    },
    repository::{
        backend::{Backend, Lock},
        clock::{SeenClock, TrustedNow, system_time},
        index::{Batch, CommitRow, CondemnRow, Index, LivenessChange, SnapshotChange},
        layout,
        objects::Objects,
        packs::files::PackFiles,
        prune::condemned,
        reserve::Reserve,
    },
};

/// How often a waiting reader looks for records that another process has appended.
const POLL: Duration = Duration::from_millis(200);

/// The log of a repository.
#[derive(Debug)]
pub struct Log {
    backend: Arc<dyn Backend>,
    reserve: Arc<Reserve>,
    pair: LogPair,
    index: Arc<Index>,
    objects: Arc<Objects>,
    rosters: Arc<Rosters>,
    files: Arc<PackFiles>,
    /// Gives records their times. All parts of the repository ask it.
    clock: Mutex<fn() -> Time>,
    /// What the log's records say of the clock, if the store has lost its own record of it.
    replayed_clock: OnceLock<SeenClock>,
    /// Notified when this process has appended.
    grown: Condvar,
    /// Held to wait for `grown`; it guards nothing.
    waiting: Mutex<()>,
}

impl Log {
    pub fn new(
        backend: Arc<dyn Backend>,
        reserve: Arc<Reserve>,
        index: Arc<Index>,
        objects: Arc<Objects>,
        rosters: Arc<Rosters>,
        files: Arc<PackFiles>,
    ) -> Self {
        Self {
            backend,
            reserve,
            pair: LogPair::new(layout::LOG, layout::SECOND_LOG),
            index,
            objects,
            rosters,
            files,
            clock: Mutex::new(system_time),
            replayed_clock: OnceLock::new(),
            grown: Condvar::new(),
            waiting: Mutex::new(()),
        }
    }

    /// The room that is kept for steps that free space.
    pub fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    /// Replaces the clock.
    pub fn set_clock(&self, clock: fn() -> Time) {
        *self.clock.lock() = clock;
    }

    /// The time that the clock shows.
    pub fn wall_time(&self) -> Time {
        let clock = *self.clock.lock();
        clock()
    }

    /// The time that a record gets now.
    pub fn now(&self) -> Result<Time> {
        Ok(self.trusted_now()?.time())
    }

    /// Removes what an `init` left that was cut short. The caller holds the lock.
    pub fn reset(&self) -> Result<()> {
        self.pair.delete(&*self.backend)?;
        self.index.clear()
    }

    /// Appends the first records of a new repository. The caller holds the lock.
    pub fn begin(&self, config: &[u8], roster: &[u8]) -> Result<()> {
        let incarnation = Incarnation(crypto::random());
        self.append(&[
            Event::Init { config: Hash::of(&[config]) },
            Event::Incarnation { incarnation, reason: "init".into() },
            Event::Roster { signed: roster.to_vec() },
        ])
    }

    /// Takes the repository's lock.
    pub fn lock(&self) -> Result<Box<dyn Lock>> {
        self.backend.lock()
    }

    /// Takes the repository's lock in order to append: both files of the log are whole, and the index has followed.
    pub fn lock_for_append(&self) -> Result<Box<dyn Lock>> {
        let lock = self.lock()?;
        self.settle_and_follow()?;
        Ok(lock)
    }

    /// Prepares to append. The caller holds the lock.
    pub fn settle_and_follow(&self) -> Result<()> {
        self.reserve.use_for(|| self.pair.settle(&*self.backend))?;
        self.follow()
    }

    /// Makes both files of the log whole if a crash or damage left them different. In a place that can only be read,
    /// the log is read as it is.
    pub fn settle_files(&self) {
        let settle = || match self.pair.is_settled(&*self.backend)? {
            true => Ok(()),
            false => self.lock().and_then(|_lock| self.pair.settle(&*self.backend)),
        };
        if let Err(error) = settle() {
            tracing::warn!(%error, "the two copies of the log differ, and cannot be made whole");
        }
    }

    /// Reads both files of the log from end to end, and makes them whole if they are not. Returns how many records
    /// there are, and whether a file had to be changed.
    pub fn verify(&self) -> Result<(u64, bool)> {
        self.pair.verify(&*self.backend)
    }

    /// Applies the records to the index that were appended since the last time.
    pub fn follow(&self) -> Result<()> {
        let mut at = self.index.log().position()?;
        if !self.pair.fits(&*self.backend, at)? {
            tracing::info!("the index does not fit the log and is rebuilt");
            self.index.clear()?;
            at = Position::default();
            self.index.packs().forget_folder_stamps()?;
        }
        loop {
            let records = self.pair.read(&*self.backend, at)?;
            if records.is_empty() {
                return Ok(());
            }
            let (mut batch, start) = (Batch::default(), at);
            for (raw, next) in records {
                self.apply_record(&mut batch, log_file::decode(at, &raw)?, at)?;
                at = next;
            }
            // What the log holds already must be followed by everyone, before anything can be freed.
            self.reserve.use_for(|| self.index.log().apply(start, &batch, at))?;
            // Another thread may have gone further in the meantime.
            at = self.index.log().position()?;
        }
    }

    fn apply_record(&self, batch: &mut Batch, record: LogRecord, at: Position) -> Result<()> {
        let (seq, time) = (record.seq, record.time);
        batch.starts.push((seq, at.offset));
        let mut change = |snapshot, step| batch.changes.push(SnapshotChange { seq, time, snapshot, step });
        match record.event {
            Event::Incarnation { incarnation, .. } => batch.incarnation = Some(incarnation),
            Event::Roster { signed } => batch.roster = Some(signed),
            Event::SealKeys { signed } => batch.seal_keys = Some(signed),
            Event::Commit { snapshot, client, target, sequence, sender } => {
                let (received, fate, changed) = (time, None, seq);
                let row = CommitRow { seq, received, snapshot, client, target, sequence, sender, fate, changed };
                batch.commits.push(row);
                match self.objects.snapshot(snapshot) {
                    Ok(Some(bytes)) => {
                        if let Ok(wrap) = snapshot::wrap_of(&bytes) {
                            self.index.chunks().add_wrap(&wrap, &client)?;
                        }
                    }
                    Ok(None) => tracing::warn!(%snapshot, "a committed snapshot is missing"),
                    Err(error) => tracing::warn!(%snapshot, %error, "a committed snapshot is damaged"),
                }
            }
            Event::Forget { snapshot, signed } => {
                change(snapshot, FateStep::Forget { is_broken: Tombstone::says_broken(&signed) });
            }
            Event::Unforget { snapshot } => change(snapshot, FateStep::Unforget),
            Event::Expire { snapshot } => change(snapshot, FateStep::Expire),
            Event::Condemn { generation, set } => {
                let row = CondemnRow { seq, set, secs: time.secs };
                let set = self.objects.condemned_set(set).inspect_err(|error| {
                    if !condemned::is_old(self.wall_time().secs.abs_diff(time.secs)) {
                        tracing::warn!(generation, %error, "a set of condemned frames cannot be read; they are kept");
                    }
                });
                batch.liveness.push(LivenessChange::Condemn { row, generation, set: set.ok() });
            }
            Event::Sweep { packs } => {
                let packs = packs.into_iter().map(|id| (id, self.files.table_of_swept(id))).collect();
                batch.liveness.push(LivenessChange::Sweep { packs, secs: time.secs });
            }
            Event::Revive { packs } => batch.liveness.push(LivenessChange::Revive { packs }),
            Event::Abort => batch.liveness.push(LivenessChange::Abort),
            Event::Quarantine { generation, packs, lost } => {
                batch.liveness.push(LivenessChange::Quarantine { seq, generation, packs, lost });
            }
            Event::Release { packs } => batch.liveness.push(LivenessChange::Release { packs }),
            Event::Verdict { signed, generation, lost } => match self.verify_verdict(&signed) {
                Ok(verdict) => {
                    batch.liveness.push(LivenessChange::Verdict { seq, verdict, generation, lost });
                }
                Err(error) => tracing::warn!(seq, %error, "a record of the log is passed over"),
            },
            Event::Inherit { packs } => batch.liveness.push(LivenessChange::Inherit { packs }),
            Event::Init { .. } | Event::Annotation { .. } | Event::Gap => {}
        }
        Ok(())
    }

    /// Appends events, durably, and applies them to the index. The caller holds the lock from [`Log::lock_for_append`].
    pub fn append(&self, events: &[Event]) -> Result<()> {
        self.append_by(events, false)
    }

    /// The same, for events that let space be freed: on a full disk they use the reserve.
    pub fn append_to_free(&self, events: &[Event]) -> Result<()> {
        self.append_by(events, true)
    }

    fn append_by(&self, events: &[Event], uses_reserve: bool) -> Result<()> {
        let start = self.index.log().position()?;
        // What the clock shows is remembered first, so that each stamp has a place in the store's own time.
        let time = self.look(uses_reserve)?.time();
        let (mut at, mut bytes) = (start, Vec::new());
        for event in events {
            let record = LogRecord { seq: at.len, time, event: event.clone() };
            let (framed, next) = log_file::encode(at, &record);
            bytes.extend(framed);
            at = next;
        }
        self.reserve.use_if(uses_reserve, || self.pair.append(&*self.backend, start, &bytes))?;
        self.follow()?;
        self.grown.notify_all();
        Ok(())
    }

    /// Appends a roster, which must follow the newest one.
    pub fn put_roster(&self, signed: &[u8]) -> Result<()> {
        let config = self.objects.config()?;
        let number = verify_roster(signed, &config.admin, config.config.repo).map_err(Error::in_input)?.number;
        let _lock = self.lock_for_append()?;
        let mut view = RosterView::new(&self.rosters.signed()?, config.admin, config.config.repo)?;
        let newest = view.newest().number;
        if number != newest + 1 {
            return Err(Error::LeaseRefused { reason: format!("roster {number} does not follow roster {newest}") });
        }
        view.advance(signed).map_err(Error::in_input)?;
        self.append(&[Event::Roster { signed: signed.to_vec() }])
    }

    /// Appends a list of seal keys, which must follow the newest one.
    pub fn put_seal_keys(&self, signed: &[u8]) -> Result<()> {
        let config = self.objects.config()?;
        let next = SealKeys::verify(signed, &config.config).map_err(Error::in_input)?;
        let _lock = self.lock_for_append()?;
        let newest = self.seal_keys()?;
        if newest == next {
            return Ok(());
        }
        if !next.follows(&newest) {
            let reason = format!("seal key {} does not follow seal key {}", next.number(), newest.number());
            return Err(Error::LeaseRefused { reason });
        }
        self.append(&[Event::SealKeys { signed: signed.to_vec() }])
    }

    /// The newest list of seal keys, signed; empty if the seal key was never rotated.
    pub fn signed_seal_keys(&self) -> Result<Vec<u8>> {
        Ok(self.index.log().seal_keys()?.unwrap_or_default())
    }

    /// The newest list of seal keys, verified.
    pub fn seal_keys(&self) -> Result<SealKeys> {
        SealKeys::verify(&self.signed_seal_keys()?, &self.objects.config()?.config)
    }

    /// Fails unless wraps of a client are sealed to the newest seal key. A client that has not learned of a rotation
    /// must open the repository again.
    pub fn check_sealed(&self, wraps: &[Wrap]) -> Result<()> {
        self.follow()?;
        let newest = self.seal_keys()?.number();
        match wraps.iter().find(|wrap| wrap.seal_key != newest) {
            None => Ok(()),
            Some(Wrap { seal_key: used, .. }) => {
                let reason = format!("it seals to seal key {used}, and the newest is seal key {newest}");
                Err(Error::LeaseRefused { reason })
            }
        }
    }

    /// The newest roster, verified.
    pub fn roster(&self) -> Result<Arc<Roster>> {
        self.rosters.newest()
    }

    /// Verifies a signed verdict on packs of this repository.
    pub fn verify_verdict(&self, signed: &[u8]) -> Result<Verdict> {
        let config = self.objects.config()?;
        Verdict::verify(signed, &config.admin, config.config.repo)
    }

    /// The trust domains of the clients on the newest roster.
    pub fn domains(&self) -> Result<Arc<Domains>> {
        self.rosters.domains()
    }

    /// The newest roster's signed bytes.
    pub fn signed_roster(&self) -> Result<Vec<u8>> {
        self.rosters.signed()
    }

    /// How many records there are.
    pub fn len(&self) -> Result<u64> {
        Ok(self.index.log().position()?.len)
    }

    /// The time by which what is kept is judged.
    pub fn trusted_now(&self) -> Result<TrustedNow> {
        let (wall, (seen, _)) = (self.wall_time(), self.seen_clock()?);
        Ok(TrustedNow::new(wall, seen.observe(wall.secs)))
    }

    /// The same, and remembers what the clock shows, to free what is due. The caller holds the lock.
    pub fn look_at_clock(&self) -> Result<TrustedNow> {
        self.look(true)
    }

    fn look(&self, uses_reserve: bool) -> Result<TrustedNow> {
        let (wall, (before, is_stored)) = (self.wall_time(), self.seen_clock()?);
        let seen = before.observe(wall.secs);
        let put = || self.backend.put(layout::CLOCK, &seen.encode());
        if (!is_stored || seen.differs(&before))
            && let Err(error) = self.reserve.use_if(uses_reserve, put)
        {
            // On a full disk, what frees space must go on. What is stamped meanwhile is kept for longer.
            tracing::warn!(%error, "what the clock shows cannot be remembered");
        }
        Ok(TrustedNow::new(wall, seen))
    }

    /// What was seen of the clock, and whether that is stored. A record that is missing or damaged is made again from
    /// all records of the log: each is a look at the clock.
    fn seen_clock(&self) -> Result<(SeenClock, bool)> {
        match self.backend.get(layout::CLOCK).and_then(|bytes| bytes.map(|bytes| SeenClock::decode(&bytes)).transpose())
        {
            Ok(Some(seen)) => return Ok((seen, true)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the record of the clock is rebuilt from the log"),
        }
        if let Some(seen) = self.replayed_clock.get() {
            return Ok((seen.clone(), false));
        }
        let (mut at, mut seen) = (Position::default(), None::<SeenClock>);
        loop {
            let records = self.pair.read(&*self.backend, at)?;
            if records.is_empty() {
                let Some(seen) = seen else { return Ok((SeenClock::new(self.wall_time().secs), false)) };
                return Ok((self.replayed_clock.get_or_init(|| seen).clone(), false));
            }
            for (raw, next) in records {
                let secs = log_file::decode(at, &raw)?.time.secs;
                seen = Some(seen.map_or_else(|| SeenClock::new(secs), |seen| seen.observe(secs)));
                at = next;
            }
        }
    }

    /// The newest generation.
    pub fn generation(&self) -> Result<u64> {
        Ok(self.index.prunes().generation()?.unwrap_or(Lease::FIRST_GENERATION))
    }

    /// The end of the log.
    pub fn seen(&self) -> Result<Seen> {
        let at = self.index.log().position()?;
        let incarnation = self.index.log().incarnation()?;
        let incarnation = incarnation.ok_or_else(|| Error::damaged("the log", "it names no incarnation"))?;
        Ok(Seen { incarnation, log_len: at.len, log_head: at.head })
    }

    /// The chain's hash at a length; none if the log is shorter.
    pub fn head_at(&self, len: u64) -> Result<Option<Hash>> {
        let now = self.index.log().position()?;
        if len == 0 {
            return Ok(Some(Hash::default()));
        }
        let end = if len == now.len { Some(now.offset) } else { self.index.log().offset(len)? };
        match end {
            Some(end) => self.pair.hash_before(&*self.backend, end),
            None => Ok(None),
        }
    }

    /// Records from `from` on, encoded: `limit` of them, or fewer if the log ends there or more would not fit into
    /// [`LOG_BYTES`]. A first record that is longer than that is returned by itself. There may be fewer records where a
    /// file of the log is damaged.
    pub fn records(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>> {
        let (Some(offset), Some(head)) = (self.index.log().offset(from)?, self.head_at(from)?) else {
            return Ok(Vec::new());
        };
        let mut at = Position { len: from, head, offset };
        let (mut records, mut left) = (Vec::new(), LOG_BYTES);
        while records.len() < limit {
            let more = match records.is_empty() {
                true => self.pair.read_some(&*self.backend, at, left)?,
                // What is wrong with the next record shows when it is asked for first.
                false => self.pair.read_within(&*self.backend, at, left).unwrap_or_default(),
            };
            let Some((_, end)) = more.last() else { break };
            left = left.saturating_sub(usize::try_from(end.offset - at.offset).unwrap_or(usize::MAX));
            at = *end;
            records.extend(more.into_iter().take(limit - records.len()).map(|(raw, _)| raw));
        }
        Ok(records)
    }

    /// Waits until the log is longer than `len`, or the time is over. Returns its length.
    pub fn wait(&self, len: u64, timeout: Duration) -> Result<u64> {
        let end = Instant::now() + timeout;
        loop {
            self.follow()?;
            let now = self.len()?;
            let left = end.saturating_duration_since(Instant::now());
            if now > len || left.is_zero() {
                return Ok(now);
            }
            self.grown.wait_for(&mut self.waiting.lock(), left.min(POLL));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Repository;

    #[test]
    fn a_reply_of_records_keeps_to_its_limit_in_bytes() {
        let repository = Repository::memory().unwrap();
        let log = &repository.log;
        let roster = |len: usize| Event::Roster { signed: vec![7; len] };
        let _lock = log.lock_for_append().unwrap();
        // A read of the file takes twice as much as a reply may hold.
        let lens = [3 << 20; 6].into_iter().chain([LOG_BYTES + 1, 5, LOG_BYTES - 300, 300]);
        let events: Vec<Event> = lens.map(roster).collect();
        log.append(&events).unwrap();
        let (mut from, mut counts) = (0, Vec::new());
        while from < events.len() {
            let records = log.records(from as u64, 100).unwrap();
            let bytes: usize = records.iter().map(Vec::len).sum();
            assert!(!records.is_empty() && (bytes <= LOG_BYTES || records.len() == 1), "{} {bytes}", records.len());
            assert!(records.iter().zip(&events[from..]).all(|(raw, event)| {
                crate::base::codec::decode::<LogRecord>("a record", raw).unwrap().event == *event
            }));
            from += records.len();
            counts.push(records.len());
        }
        assert_eq!(counts, [2, 2, 2, 1, 2, 1]);
        assert_eq!(log.records(0, 1).unwrap().len(), 1);
        assert!(log.records(events.len() as u64, 100).unwrap().is_empty());
    }
}
