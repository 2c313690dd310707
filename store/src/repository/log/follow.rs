//! The log of a repository, and the index that follows it.
//!
//! **Order.** A record is durable before the index follows it, and the index has followed it before the caller goes on.
//! So the index never knows more than the log, and a process that appends knows all of the log. Appending needs the
//! repository's lock; following does not.
//!
//! Several processes may append. Each takes in what the others appended before it appends, and whenever it is asked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{pair::LogPair, rosters::Rosters};
use crate::{
    access::{LOG_BYTES, Seen},
    base::{
        error::{Error, Result},
        id::{Hash, Incarnation},
        time::Time,
    },
    crypto,
    format::{
        fate::FateStep,
        log::{
            Event, LogRecord,
            file::{self as log_file, Position},
        },
        roster::{Roster, RosterView, verify_roster},
        snapshot,
    },
    repository::{
        backend::{Backend, Lock},
        clock::system_time,
        index::{Batch, CommitRow, CondemnRow, Index, LivenessChange, SnapshotChange},
        layout,
        objects::Objects,
        packs::files::PackFiles,
        prune::condemned,
    },
};

/// How often a waiting reader looks for records that another process has appended.
const POLL: Duration = Duration::from_millis(200);
/// The generation before the first prune.
const FIRST_GENERATION: u64 = 1;

/// The log of a repository.
#[derive(Debug)]
pub struct Log {
    backend: Arc<dyn Backend>,
    pair: LogPair,
    index: Arc<Index>,
    objects: Arc<Objects>,
    rosters: Arc<Rosters>,
    files: Arc<PackFiles>,
    /// Gives records their times. All parts of the repository ask it.
    clock: Mutex<fn() -> Time>,
    /// Notified when this process has appended.
    grown: Condvar,
    /// Held to wait for `grown`; it guards nothing.
    waiting: Mutex<()>,
}

impl Log {
    pub fn new(
        backend: Arc<dyn Backend>,
        index: Arc<Index>,
        objects: Arc<Objects>,
        rosters: Arc<Rosters>,
        files: Arc<PackFiles>,
    ) -> Self {
        Self {
            backend,
            pair: LogPair::new(layout::LOG, layout::SECOND_LOG),
            index,
            objects,
            rosters,
            files,
            clock: Mutex::new(system_time),
            grown: Condvar::new(),
            waiting: Mutex::new(()),
        }
    }

    /// Replaces the clock.
    pub fn set_clock(&self, clock: fn() -> Time) {
        *self.clock.lock() = clock;
    }

    /// The time by the repository's clock.
    pub fn now(&self) -> Time {
        let clock = *self.clock.lock();
        clock()
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
        self.pair.settle(&*self.backend)?;
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
            self.index.log().apply(start, &batch, at)?;
            // Another thread may have gone further in the meantime.
            at = self.index.log().position()?;
        }
    }

    fn apply_record(&self, batch: &mut Batch, record: LogRecord, at: Position) -> Result<()> {
        let (seq, time) = (record.seq, record.time);
        batch.starts.push((seq, at.offset));
        batch.newest_time = Some(time);
        let mut change = |snapshot, step| batch.changes.push(SnapshotChange { seq, time, snapshot, step });
        match record.event {
            Event::Incarnation { incarnation, .. } => batch.incarnation = Some(incarnation),
            Event::Roster { signed } => batch.roster = Some(signed),
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
            Event::Forget { snapshot, .. } => change(snapshot, FateStep::Forget),
            Event::Unforget { snapshot } => change(snapshot, FateStep::Unforget),
            Event::Expire { snapshot } => change(snapshot, FateStep::Expire),
            Event::Condemn { generation, set } => {
                let row = CondemnRow { seq, set, secs: time.secs };
                let set = self.objects.condemned_set(set).inspect_err(|error| {
                    if !condemned::is_old(time.secs, self.now().secs) {
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
            Event::Init { .. } | Event::Annotation { .. } | Event::Gap => {}
        }
        Ok(())
    }

    /// Appends events, durably, and applies them to the index. The caller holds the lock from [`Log::lock_for_append`].
    pub fn append(&self, events: &[Event]) -> Result<()> {
        let start = self.index.log().position()?;
        let (mut at, mut bytes) = (start, Vec::new());
        for event in events {
            let record = LogRecord { seq: at.len, time: self.now(), event: event.clone() };
            let (framed, next) = log_file::encode(at, &record);
            bytes.extend(framed);
            at = next;
        }
        self.pair.append(&*self.backend, start, &bytes)?;
        self.follow()?;
        self.grown.notify_all();
        Ok(())
    }

    /// Appends a roster, which must follow the newest one.
    pub fn put_roster(&self, signed: &[u8]) -> Result<()> {
        let config = self.objects.config()?;
        let number = verify_roster(signed, &config.admin, config.config.repo)?.number;
        let _lock = self.lock_for_append()?;
        let mut view = RosterView::new(&self.rosters.signed()?, config.admin, config.config.repo)?;
        let newest = view.newest().number;
        if number != newest + 1 {
            return Err(Error::LeaseRefused { reason: format!("roster {number} does not follow roster {newest}") });
        }
        view.advance(signed)?;
        self.append(&[Event::Roster { signed: signed.to_vec() }])
    }

    /// The newest roster, verified.
    pub fn roster(&self) -> Result<Roster> {
        self.rosters.newest()
    }

    /// The newest roster's signed bytes.
    pub fn signed_roster(&self) -> Result<Vec<u8>> {
        self.rosters.signed()
    }

    /// How many records there are.
    pub fn len(&self) -> Result<u64> {
        Ok(self.index.log().position()?.len)
    }

    /// When the newest record was written.
    pub fn newest_time(&self) -> Result<Time> {
        self.index.log().newest_time()
    }

    /// The newest generation.
    pub fn generation(&self) -> Result<u64> {
        Ok(self.index.prunes().generation()?.unwrap_or(FIRST_GENERATION))
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

    /// Records from `from` on, encoded: `limit` of them, or at least [`LOG_BYTES`], or all that there are. One read of
    /// the log may end earlier, where one of its files is damaged.
    pub fn records(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>> {
        let (Some(offset), Some(head)) = (self.index.log().offset(from)?, self.head_at(from)?) else {
            return Ok(Vec::new());
        };
        let (mut at, mut records, mut bytes) = (Position { len: from, head, offset }, Vec::new(), 0);
        while records.len() < limit && bytes < LOG_BYTES {
            let more = self.pair.read(&*self.backend, at)?;
            let Some((_, end)) = more.last() else { break };
            at = *end;
            for (raw, _) in more.into_iter().take(limit - records.len()) {
                bytes += raw.len();
                records.push(raw);
            }
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
