//! Following the truth: the log's tail and packs that the index lacks are read in.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use crate::{
    access::{LOG_BYTES, Seen},
    base::{
        error::{Error, Result},
        id::{Hash, PackId},
        time::Time,
    },
    format::{
        fate::Step,
        log::{
            Event, LogRecord,
            file::{self as log_file, Position},
        },
        pack::{FOOTER_LEN, Footer, Pack, PackTable},
        roster::{Roster, verify_roster},
        snapshot,
    },
    repository::{
        Repository,
        backend::Lock,
        index::{Batch, CommitRow, CondemnRow, LivenessChange, SnapshotChange},
        layout,
        prune::sets,
        record,
    },
};

/// How often another process's appends are looked for while waiting.
const POLL: Duration = Duration::from_millis(200);

/// When packs were last looked for that other processes have stored.
#[derive(Debug, Default)]
pub(in crate::repository) struct Looked {
    /// How long the log was then.
    at: AtomicU64,
    /// How often that was done.
    pub times: AtomicU64,
}

impl Repository {
    /// Brings the index up to date with log and packs.
    pub(in crate::repository) fn read_in(&self) -> Result<()> {
        let owner = Hash::of(&[&self.state()?.config_bytes]);
        if self.index.owner()?.is_some_and(|other| other != owner) {
            self.index.clear()?;
        }
        self.settle_log();
        self.settle_config();
        self.follow()?;
        if self.index.owner()?.is_none() {
            self.index.set_owner(owner)?;
        }
        self.look_for_packs(self.index.log().position()?.len, true)
    }

    /// Takes in what other processes have stored, if the log has grown since packs were last looked for: what counts in a pack that is not
    /// known is told of there. Returns whether they were looked for since [`Looked`] was so.
    pub(in crate::repository) fn catch_up(&self, since: u64) -> Result<bool> {
        self.follow()?;
        let len = self.index.log().position()?.len;
        if self.looked.at.load(SeqCst) != len {
            // Nothing is given up for lost by reading.
            self.look_for_packs(len, false)?;
        }
        Ok(self.looked.times.load(SeqCst) != since)
    }

    /// Looks for packs, the log being so long.
    fn look_for_packs(&self, len: u64, gives_up: bool) -> Result<()> {
        self.find_packs(gives_up)?;
        // Only now: whoever comes meanwhile must look, too.
        self.looked.at.store(len, SeqCst);
        self.looked.times.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Makes both files of the log whole, where a crash or damage left them different. A place that can only be read is read
    /// as it is.
    fn settle_log(&self) {
        let settle = || match self.log.is_settled(&*self.backend)? {
            true => Ok(()),
            false => self.backend.lock().and_then(|_lock| self.log.settle(&*self.backend)),
        };
        if let Err(error) = settle() {
            tracing::warn!(%error, "the copies of the log cannot be made whole");
        }
    }

    /// Makes sure that the configuration lies twice. An `init` that died may have left one copy, not yet durable; whoever
    /// sees it takes the repository for one.
    fn settle_config(&self) {
        let settle = || {
            let bytes = self.state()?.config_bytes;
            for name in [layout::CONFIG.to_owned(), layout::second(layout::CONFIG)] {
                if self.backend.get(&name).ok().flatten().as_deref() != Some(&bytes) {
                    tracing::info!(object = name, "a copy of the configuration is made whole");
                    self.backend.put(&name, &bytes)?;
                }
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = settle() {
            tracing::warn!(%error, "the configuration cannot be kept twice");
        }
    }

    /// The lock, for whoever will append: the log is whole and taken in.
    pub(in crate::repository) fn writing(&self) -> Result<Box<dyn Lock>> {
        let lock = self.backend.lock()?;
        self.log.settle(&*self.backend)?;
        self.follow()?;
        Ok(lock)
    }

    /// Takes in what was appended to the log since.
    pub(in crate::repository) fn follow(&self) -> Result<()> {
        let mut at = self.index.log().position()?;
        if !self.log.fits(&*self.backend, at)? {
            tracing::info!("the index does not fit the log and is built anew");
            self.index.clear()?;
            at = Position::default();
            self.forget_shards()?;
        }
        loop {
            let records = self.log.read(&*self.backend, at)?;
            if records.is_empty() {
                return Ok(());
            }
            let (mut batch, start) = (Batch::default(), at);
            for (raw, next) in records {
                self.take(&mut batch, log_file::decode(at, &raw)?, at)?;
                at = next;
            }
            self.index.log().apply(start, &batch, at)?;
            // Another thread may have gone further meanwhile.
            at = self.index.log().position()?;
        }
    }

    fn take(&self, batch: &mut Batch, record: LogRecord, at: Position) -> Result<()> {
        batch.starts.push((record.seq, at.offset));
        batch.newest_time = Some(record.time);
        let (seq, time) = (record.seq, record.time);
        let mut change = |snapshot, step| batch.changes.push(SnapshotChange { seq, time, snapshot, step });
        match record.event {
            Event::Incarnation { incarnation, .. } => batch.incarnation = Some(incarnation),
            Event::Roster { signed } => batch.roster = Some(signed),
            Event::Commit { snapshot, client, target, sequence, sender } => {
                let received = record.time;
                let (fate, changed) = (None, seq);
                let row = CommitRow { seq, received, snapshot, client, target, sequence, sender, fate, changed };
                batch.commits.push(row);
                match self.stored_snapshot(snapshot) {
                    Ok(Some(bytes)) => {
                        if let Ok(wrap) = snapshot::wrap_of(&bytes) {
                            self.index.chunks().add_wrap(&wrap, &client)?;
                        }
                    }
                    Ok(None) => tracing::warn!(%snapshot, "a committed snapshot is missing"),
                    Err(error) => tracing::warn!(%snapshot, %error, "a committed snapshot is damaged"),
                }
            }
            Event::Forget { snapshot, .. } => change(snapshot, Step::Forget),
            Event::Unforget { snapshot } => change(snapshot, Step::Unforget),
            Event::Expire { snapshot } => change(snapshot, Step::Expire),
            Event::Condemn { generation, set } => {
                let row = CondemnRow { seq, set, secs: time.secs };
                let set = self.condemned_set(set).inspect_err(|error| {
                    if !sets::is_old(time.secs, (self.clock)().secs) {
                        tracing::warn!(generation, %error, "what a prune condemned cannot be read; it stays");
                    }
                });
                batch.liveness.push(LivenessChange::Condemn { row, generation, set: set.ok() });
            }
            Event::Sweep { packs } => {
                let packs = packs.into_iter().map(|id| (id, self.table_of_swept(id))).collect();
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

    /// When the log's newest record was written.
    pub(in crate::repository) fn newest_time(&self) -> Result<Time> {
        self.index.log().newest_time()
    }

    /// Appends events, durably, and takes them in. The caller has the lock from [`Repository::writing`].
    pub(in crate::repository) fn append(&self, events: &[Event]) -> Result<()> {
        let start = self.index.log().position()?;
        let (mut at, mut bytes) = (start, Vec::new());
        for event in events {
            let (framed, next) = log_file::frame(at, &record(at.len, (self.clock)(), event.clone()));
            bytes.extend(framed);
            at = next;
        }
        self.log.append(&*self.backend, start, &bytes)?;
        self.follow()?;
        self.grown.notify_all();
        Ok(())
    }

    /// Makes durable that the packs are there which were found and not put. To be called before anything is acknowledged
    /// that may rely on them.
    pub(in crate::repository) fn settle_packs(&self) -> Result<()> {
        let unsettled = self.index.packs().unsettled()?;
        if unsettled.is_empty() {
            return Ok(());
        }
        unsettled.iter().try_for_each(|(first, _)| self.backend.settle(&layout::pack_folder(*first)))?;
        self.index.packs().remove_unsettled(&unsettled)
    }

    /// Reads in the packs that the index lacks, and gives up those that are missing, or leaves that to the next opening. Folders that have not changed since they were read are passed over.
    fn find_packs(&self, gives_up: bool) -> Result<()> {
        // Without one nothing can be said of packs: they must not be refused for that.
        self.roster()?;
        let (mut stamps, mut missing) = (Vec::new(), Vec::new());
        for first in 0..=u8::MAX {
            let folder = layout::pack_folder(first);
            let stamp = self.backend.stamp(&folder)?.map(|stamp| stamp.to_le_bytes().to_vec());
            if stamp.is_some() && self.index.packs().folder_stamp(first)? == stamp {
                continue;
            }
            let (mut is_first, mut is_read, mut there) = (true, true, HashSet::new());
            for listed in self.backend.list(&folder)? {
                let Ok(id) = listed.name.parse::<PackId>() else { continue };
                there.insert(id);
                if self.index.packs().has(&id)? {
                    continue;
                }
                // A swept pack that is still here is on its way out.
                if self.index.prunes().swept_at(&id)?.is_some() {
                    continue;
                }
                if is_first {
                    self.index.packs().add_unsettled(first)?;
                    is_first = false;
                }
                match self.table_or_mended(id, listed.len) {
                    Ok((table, len)) if self.lacks_parity(id)? => {
                        self.index.packs().add_without_parity(&table, len, None, &[])?
                    }
                    Ok((table, len)) => self.index.packs().add(&table, len, None)?,
                    Err(error @ Error::Io { .. }) if !error.is_unreadable() => return Err(error),
                    Err(error) => {
                        tracing::warn!(pack = %id, %error, "a pack cannot be read in; its chunks count as missing");
                        // It is looked at again until it is mended or put back.
                        is_read = false;
                    }
                }
            }
            missing.extend(self.missing(first, &there)?);
            if let Some(stamp) = stamp.filter(|_| is_read) {
                stamps.push((first, stamp));
            }
        }
        if !gives_up && !missing.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.give_up(&missing) {
            // As where nothing can be written; whoever can write will find them missing, too.
            tracing::warn!(%error, "that packs are missing cannot be noted");
            return Ok(());
        }
        if stamps.is_empty() { Ok(()) } else { self.index.packs().set_folder_stamps(&stamps) }
    }

    fn forget_shards(&self) -> Result<()> {
        self.index.packs().forget_folder_stamps()
    }

    /// A pack's table; if it is damaged, after mending the pack. And the pack's length.
    fn table_or_mended(&self, id: PackId, len: u64) -> Result<(PackTable, u64)> {
        match self.table_of(id, len) {
            Ok(table) => Ok((table, len)),
            Err(error @ Error::Io { .. }) if !error.is_unreadable() => Err(error),
            Err(error) => {
                // Whatever it says of itself may be damage, a version or a length too. Even a pack with lost frames may have its table and
                // footer back.
                if let Err(failure) = self.tend(id) {
                    tracing::warn!(pack = %id, %failure, "a damaged pack could not be mended");
                }
                let len = self.backend.len(&layout::pack(id))?.unwrap_or(0);
                self.table_of(id, len).map(|table| (table, len)).map_err(|_| error)
            }
        }
    }

    /// A pack's table, read from its end. Frames are not read: each proves itself when it is opened.
    pub(in crate::repository) fn table_of(&self, id: PackId, len: u64) -> Result<PackTable> {
        let name = layout::pack(id);
        let damaged = |reason: &str| Error::PackDamaged { pack: id, reason: reason.to_owned() };
        let tail_at = len.checked_sub(FOOTER_LEN as u64).ok_or_else(|| damaged("it is too short"))?;
        let tail = self.backend.get_range(&name, tail_at, FOOTER_LEN)?.ok_or_else(|| damaged("it vanished"))?;
        let footer = Footer::parse_tail(&tail, len)?;
        if footer.id != id {
            return Err(damaged("its footer names another pack"));
        }
        let table = self.backend.get_range(&name, footer.table_offset as u64, footer.table_len)?;
        let mut table = footer.table(&table.ok_or_else(|| damaged("it vanished"))?)?;
        if !table.proves_itself() {
            table = Pack::parse(&self.backend.get(&name)?.ok_or_else(|| damaged("it vanished"))?)?.table;
        }
        table.verify(&self.roster()?)?;
        Ok(table)
    }

    /// Where the log stands.
    pub(in crate::repository) fn seen(&self) -> Result<Seen> {
        let at = self.index.log().position()?;
        let incarnation = self.index.log().incarnation()?;
        let incarnation = incarnation.ok_or_else(|| Error::damaged("the log", "it names no incarnation"))?;
        Ok(Seen { incarnation, log_len: at.len, log_head: at.head })
    }

    /// The chain's hash at a length; none if the log is shorter.
    pub(in crate::repository) fn head_at(&self, len: u64) -> Result<Option<Hash>> {
        let now = self.index.log().position()?;
        if len == 0 {
            return Ok(Some(Hash::default()));
        }
        let end = if len == now.len { Some(now.offset) } else { self.index.log().offset(len)? };
        match end {
            Some(end) => self.log.hash_before(&*self.backend, end),
            None => Ok(None),
        }
    }

    /// Records from `from` on, encoded: `limit`, or [`LOG_BYTES`] and more, or all that there are. One reading of the log may
    /// end earlier, where one of its files is damaged.
    pub(in crate::repository) fn records(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>> {
        let (Some(offset), Some(head)) = (self.index.log().offset(from)?, self.head_at(from)?) else {
            return Ok(Vec::new());
        };
        let (mut at, mut records, mut bytes) = (Position { len: from, head, offset }, Vec::new(), 0);
        while records.len() < limit && bytes < LOG_BYTES {
            let more = self.log.read(&*self.backend, at)?;
            let Some((_, end)) = more.last() else { break };
            at = *end;
            for (raw, _) in more.into_iter().take(limit - records.len()) {
                bytes += raw.len();
                records.push(raw);
            }
        }
        Ok(records)
    }

    /// The newest roster's bytes.
    pub(in crate::repository) fn roster_bytes(&self) -> Result<Vec<u8>> {
        self.index.log().roster()?.ok_or_else(|| Error::damaged("the log", "it holds no roster"))
    }

    /// The newest roster, verified.
    pub(in crate::repository) fn roster(&self) -> Result<Roster> {
        let state = self.state()?;
        verify_roster(&self.roster_bytes()?, &state.admin, state.config.repo)
    }

    /// Waits until the log is longer than `len`.
    pub(in crate::repository) fn wait(&self, len: u64, timeout: Duration) -> Result<u64> {
        let end = Instant::now() + timeout;
        loop {
            self.follow()?;
            let now = self.index.log().position()?.len;
            let left = end.saturating_duration_since(Instant::now());
            if now > len || left.is_zero() {
                return Ok(now);
            }
            self.grown.wait_for(&mut self.state.lock(), left.min(POLL));
        }
    }
}
