//! A repository's store: packs, objects and the log on a backend, with the index beside it. It holds no keys; the same
//! code is the embedded repository at a path, one repository of a server, and the repository in memory of tests.
//!
//! ```text
//! config, config.2          the signed configuration; written last by `init`, so it marks a whole repository
//! log, log.2                the log, in two files
//! packs/ab/<pack id>        packs, in 256 folders by the first byte of their ids
//! parity/ab/<pack id>       their parity, if the settings want it
//! settings, settings.2      what the store's keeper has settled
//! slots/<id>, slots.2/      passphrase slots           } small objects lie twice; whichever copy is whole is read
//! snapshots/<id>, .2/       stored snapshots           }
//! prunes/<hash>, .2/        what prunes condemned      }
//! grave/<pack id>           packs that were swept, until their time is over
//! lock                      held by whoever appends to the log
//! ```
//!
//! **Order of writes.** A pack is durable before it enters the index and before it is acknowledged; its parity follows
//! ([`packs::parity`]), and a push into a local repository ends when that is durable too. A snapshot's object is durable before
//! the log names it; the log is durable before the index follows and the commit is acknowledged.
//! Whatever the index lacks is read in from packs and log when the repository is opened, so a crash between any two
//! writes loses nothing that was acknowledged.
//!
//! Several processes may use one repository: each appends under the lock, after reading what others appended.

pub mod backend;
pub mod index;
mod layout;
pub mod log;
mod objects;
mod packs;
pub mod prune;
mod repair;
pub mod scrub;
mod snapshots;

pub use self::log::LogReport;
pub use self::prune::{Revived, Tidied};
pub use self::repair::IndexReport;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::{
    access::{
        ForgetReply, ForgetRequest, InitRequest, Lease, Maintain, Manage, Mending, OPENED_SNAPSHOTS_MAX, Open,
        OpenRequest, Opened, PackInfo, PruneReply, PruneRequest, Push, QUARANTINE_MAX, Read, ReadReply, ReadRequest,
        Receipt, RepairReply, RepairRequest,
    },
    base::{
        error::{Error, Result},
        id::{ChunkId, Hash, KeyId, PackId, SlotId, SnapshotId},
        time::Time,
    },
    crypto::{self, VerifyingKey, Wrap},
    format::{
        config::{Config, verify_config},
        erasure::Parity,
        fate::Fate,
        keys::Slot,
        log::{Event, LogRecord},
        loss::Lost,
        pack::{Pack, PackUpload},
        roster::{RosterView, verify_roster},
        snapshot::SnapshotObject,
    },
    repository::{
        backend::{Backend, LocalBackend, MemoryBackend},
        index::{CommitRow, Index, Pin},
        log::pair::LogPair,
    },
};

/// A repository's store.
pub struct Repository {
    /// First, so that it ends before what it uses.
    maker: packs::parity::Maker,
    backend: Arc<dyn Backend>,
    log: LogPair,
    index: Arc<Index>,
    state: Mutex<Option<State>>,
    parity_at_init: Option<Parity>,
    mending: Mutex<()>,
    grown: Condvar,
    looked: log::follow::Looked,
    clock: fn() -> Time,
    /// The floor: what is younger cannot be made unrecoverable.
    protect_secs: u64,
    /// What a prune has marked so far.
    marking: Mutex<Option<prune::marking::Marking>>,
    /// One sweep at a time copies.
    sweeping: Mutex<()>,
}

/// What is known of a repository that exists.
#[derive(Clone)]
struct State {
    config_bytes: Vec<u8>,
    config: Config,
    admin: VerifyingKey,
    parity: Option<Parity>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({})", self.backend.place())
    }
}

impl Repository {
    /// The repository in a folder, with its index in another (in the user's cache, or beside it on a server). The
    /// repository need not be there yet: [`Access::init`] makes it.
    pub fn local(folder: &Path, index: &Path) -> Result<Self> {
        let open = || Self::on(Box::new(LocalBackend::new(folder)), Index::open(index)?);
        match open() {
            // Damage that showed only now has been marked: the second try begins with a new index.
            Err(Error::Index { .. }) => open(),
            opened => opened,
        }
    }

    /// A repository in memory. Its index lies in the system's temporary folder as long as it lives.
    pub fn memory() -> Result<Self> {
        Self::on(Box::new(MemoryBackend::default()), Index::temporary()?)
    }

    /// A repository on any backend, with its index in a folder.
    pub fn with_backend(backend: Box<dyn Backend>, index: &Path) -> Result<Self> {
        Self::on(backend, Index::open(index)?)
    }

    fn on(backend: Box<dyn Backend>, index: Arc<Index>) -> Result<Self> {
        let backend: Arc<dyn Backend> = backend.into();
        let repository = Self {
            maker: packs::parity::Maker::new(backend.clone(), index.clone()),
            backend,
            log: layout::log(),
            index,
            state: Mutex::new(None),
            parity_at_init: Some(Parity::default()),
            mending: Mutex::default(),
            grown: Condvar::new(),
            looked: log::follow::Looked::default(),
            clock: system_time,
            protect_secs: 0,
            marking: Mutex::default(),
            sweeping: Mutex::default(),
        };
        match repository.state() {
            Ok(_) => repository.read_in()?,
            Err(Error::NoRepository { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(repository)
    }

    /// The same repository with a floor: nobody who uses it through [`Access`] can make unrecoverable what is younger.
    pub fn with_floor(self, protect_secs: u64) -> Self {
        Self { protect_secs, ..self }
    }

    /// The same repository with another clock, for tests.
    pub fn with_clock(self, clock: fn() -> Time) -> Self {
        Self { clock, ..self }
    }

    /// Whether a folder holds a repository.
    pub fn exists(folder: &Path) -> Result<bool> {
        let backend = LocalBackend::new(folder);
        let is_there =
            backend.len(layout::CONFIG)?.is_some() || backend.len(&layout::second(layout::CONFIG))?.is_some();
        Ok(is_there || layout::is_in_use(&backend)?)
    }

    /// Bytes of all packs that the index knows.
    pub fn bytes_stored(&self) -> Result<u64> {
        self.index.packs().bytes()
    }

    /// Whether a pack is there whole, as far as its length tells, and its chunks are found, none of them condemned or in
    /// quarantine. If so, it is durable on return.
    pub fn has_pack(&self, id: PackId, len: u64) -> Result<bool> {
        let is_live = self.index.packs().has(&id)?
            && self.index.prunes().condemned_frames(&id)?.is_none()
            && self.index.quarantine().frames_of(&id)?.is_none();
        let is_there = is_live && self.backend.len(&layout::pack(id))? == Some(len);
        if is_there {
            self.settle_packs()?;
        }
        Ok(is_there)
    }

    /// The same, for a session that is about to rely on it: if it is there, it is pinned.
    pub fn keep_pack(&self, lease: Lease, id: PackId, len: u64) -> Result<bool> {
        let is_there = self.has_pack(id, len)?;
        if is_there {
            self.index.packs().pin(&id, self.pin(lease))?;
        }
        Ok(is_there)
    }

    fn pin(&self, lease: Lease) -> Pin {
        Pin { session: lease.session, secs: (self.clock)().secs }
    }

    /// What it means that there is no configuration.
    fn no_config(&self) -> Error {
        let place = self.backend.place();
        match layout::is_in_use(&*self.backend) {
            Ok(false) => Error::NoRepository { place },
            Ok(true) => {
                let what = format!("the repository at {place}");
                Error::damaged(
                    what,
                    "its configuration is missing, in both copies; put `config` back from a copy of it",
                )
            }
            Err(error) => error,
        }
    }

    fn state(&self) -> Result<State> {
        let mut slot = self.state.lock();
        if let Some(state) = &*slot {
            return Ok(state.clone());
        }
        let bytes =
            self.get_object(layout::CONFIG, |bytes| verify_config(bytes).map(drop))?.ok_or_else(|| self.no_config())?;
        let config = verify_config(&bytes)?;
        let admin = VerifyingKey::from_slice(&config.admin_public)
            .ok_or_else(|| Error::damaged(Config::HEADER.what, "its admin key has a wrong length"))?;
        let state = State { config_bytes: bytes.to_vec(), config, admin, parity: self.load_parity()? };
        *slot = Some(state.clone());
        Ok(state)
    }
}

fn system_time() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time { secs: since.as_secs() as i64, nanos: since.subsec_nanos() }
}

impl Open for Repository {
    fn open(&self, request: &OpenRequest) -> Result<Opened> {
        let state = self.state()?;
        self.read_in()?;
        if let Err(error) = self.clear_away() {
            // As on a full disk, or one that can only be read: it must be readable all the same, and what was swept only takes room.
            tracing::warn!(%error, "what was swept cannot be moved away");
        }
        // In this order: whatever is condemned after the generation was read is told as lost, or comes after `now`.
        let generation = self.generation()?;
        let now = self.seen()?;
        let head_at_seen = match &request.seen {
            Some(seen) => self.head_at(seen.log_len)?,
            None => None,
        };
        let seen =
            request.seen.filter(|seen| seen.incarnation == now.incarnation && head_at_seen == Some(seen.log_head));
        let lost = seen.map_or(Ok(Lost::Everything), |seen| self.lost_since(seen.log_len))?;
        let last = match &request.client {
            Some(client) => self.index.commits().newest_of(client)?,
            None => None,
        };
        Ok(Opened {
            config: state.config_bytes,
            roster: self.roster_bytes()?,
            slots: self.slots()?,
            now,
            head_at_seen,
            lease: Lease { session: u64::from_le_bytes(crypto::random()), generation },
            lost,
            chunks: self.index.chunks().count()?,
            last: last.map(|row| crate::access::LastSnapshot { id: row.snapshot, sequence: row.sequence }),
            snapshots: self.newest_objects(OPENED_SNAPSHOTS_MAX)?,
            protect_secs: self.protect_secs,
        })
    }

    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64> {
        self.wait(len, timeout)
    }
}

impl Read for Repository {
    fn read(&self, request: &ReadRequest) -> Result<ReadReply> {
        self.read_frames(request)
    }

    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        packs::read::bounded(keys.len())?;
        self.index.chunks().wraps(keys)
    }

    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        packs::read::bounded(ids.len())?;
        let place =
            |place: Option<(u32, u32)>| place.map_or(0, |(pack, frame)| u64::from(pack) << 32 | u64::from(frame));
        Ok(self.index.chunks().locate(ids)?.into_iter().map(place).collect())
    }

    fn snapshots(&self, from: u64, limit: u32) -> Result<Vec<SnapshotObject>> {
        self.state()?;
        self.follow()?;
        let unexpired = |row: &CommitRow| !Fate::is_expired(row.fate);
        self.objects(self.index.commits().from(from, limit.min(1024) as usize, unexpired)?)
    }

    fn log(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>> {
        self.state()?;
        self.follow()?;
        self.records(from, limit.min(4096) as usize)
    }

    fn mend(&self, id: PackId) -> Result<Mending> {
        self.state()?;
        match self.index.packs().has(&id)? {
            true => Ok(self.tend(id)?.mending),
            false => Err(Error::PackDamaged { pack: id, reason: "it is not in the repository".into() }),
        }
    }
}

impl Push for Repository {
    fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        packs::read::bounded(ids.len())?;
        let looked = self.looked.times.load(SeqCst);
        let has = self.index.chunks().has(ids)?;
        // Another process may have stored it.
        if has.contains(&false) && self.catch_up(looked)? { self.index.chunks().has(ids) } else { Ok(has) }
    }

    fn put_pack(&self, lease: Lease, upload: &PackUpload) -> Result<()> {
        let pack = Pack::parse(&upload.bytes)?;
        let table = &pack.table;
        let damaged = |reason: String| Error::PackDamaged { pack: upload.id, reason };
        if table.id != upload.id {
            return Err(damaged(format!("it is pack {}", table.id)));
        }
        if table.is_copied {
            return Err(damaged("it is one that only a store makes".into()));
        }
        self.state()?;
        let roster = self.roster()?;
        roster.counts(table.client, (self.clock)(), || format!("pack {}", table.id))?;
        table.verify(&roster)?;
        let len = upload.bytes.len() as u64;
        loop {
            // What is condemned or swept must be live again in the log before it is relied on, or a later reading of the log
            // would take it away.
            let lock = self.revive_for(table.id)?;
            if self.keep_pack(lease, table.id, len)? {
                return Ok(());
            }
            self.backend.put(&layout::pack(table.id), &upload.bytes)?;
            self.take_in(table, &upload.bytes, Some(self.pin(lease)))?;
            // Another process may have found it already and pruned it, and the index have heard of that first.
            if lock.is_some() || self.index.packs().has(&table.id)? {
                return self.release_put(table.id, lock);
            }
        }
    }

    fn commit(&self, lease: Lease, snapshot: &[u8]) -> Result<Receipt> {
        let receipt = self.commit_as(lease, snapshot, None)?;
        // The process may be about to end, and the medium to be unplugged.
        self.maker.wait();
        Ok(receipt)
    }
}

impl Manage for Repository {
    fn init(&self, request: &InitRequest) -> Result<()> {
        let config = verify_config(&request.config)?;
        let admin = VerifyingKey::from_slice(&config.admin_public)
            .ok_or_else(|| Error::damaged(Config::HEADER.what, "its admin key has a wrong length"))?;
        verify_roster(&request.roster, &admin, config.repo)?;
        let _lock = self.backend.lock()?;
        if self.backend.len(layout::CONFIG)?.is_some() || self.backend.len(&layout::second(layout::CONFIG))?.is_some() {
            // Whoever made it may have died before it was durable.
            self.backend.settle("")?;
            return Err(Error::RepositoryExists { place: self.backend.place() });
        }
        if layout::is_in_use(&*self.backend)? {
            return Err(self.no_config());
        }
        // An `init` that was cut short may have left these; without a configuration nothing of it counts.
        self.log.delete(&*self.backend)?;
        self.index.clear()?;
        for slot in &request.slots {
            self.put_bounded_slot(slot)?;
        }
        let incarnation = crate::base::id::Incarnation(crate::crypto::random());
        self.append(&[
            Event::Init { config: Hash::of(&[&request.config]) },
            Event::Incarnation { incarnation, reason: "init".into() },
            Event::Roster { signed: request.roster.clone() },
        ])?;
        self.put_settings(self.parity_at_init)?;
        self.put_object(layout::CONFIG, &request.config)?;
        *self.state.lock() = None;
        self.state().map(drop)
    }

    fn put_roster(&self, signed: &[u8]) -> Result<()> {
        let state = self.state()?;
        let number = verify_roster(signed, &state.admin, state.config.repo)?.number;
        let _lock = self.writing()?;
        let mut view = RosterView::new(&self.roster_bytes()?, state.admin, state.config.repo)?;
        let newest = view.newest().number;
        if number != newest + 1 {
            return Err(Error::LeaseRefused { reason: format!("roster {number} does not follow roster {newest}") });
        }
        view.advance(signed)?;
        self.append(&[Event::Roster { signed: signed.to_vec() }])
    }

    fn put_slot(&self, slot: &Slot) -> Result<()> {
        self.state()?;
        let _lock = self.backend.lock()?;
        self.put_bounded_slot(slot)
    }

    fn remove_slot(&self, id: SlotId) -> Result<()> {
        self.state()?;
        let _lock = self.backend.lock()?;
        let slots = self.slots()?;
        match slots.iter().any(|slot| slot.id == id) {
            false => Err(Error::Invalid(format!("there is no key slot {id}"))),
            true if slots.iter().all(|slot| slot.id == id) => {
                Err(Error::Invalid("the last key slot is kept: add another one first".into()))
            }
            true => self.delete_object(&layout::slot(id)),
        }
    }

    fn forget(&self, request: &ForgetRequest) -> Result<ForgetReply> {
        self.forget_snapshots(request)
    }

    fn unforget(&self, snapshots: &[SnapshotId]) -> Result<()> {
        self.unforget_snapshots(snapshots)
    }
}

impl Maintain for Repository {
    fn packs(&self, after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>> {
        self.state()?;
        // Another process may have pruned.
        self.follow()?;
        let packs = self.index.packs().list(after, limit.min(65_536) as usize)?;
        Ok(packs.into_iter().map(|(id, len)| PackInfo { id, len }).collect())
    }

    fn read_pack(&self, id: PackId) -> Result<Bytes> {
        let bytes = self.backend.get(&layout::pack(id))?;
        bytes.ok_or_else(|| Error::PackDamaged { pack: id, reason: "its file is missing".into() })
    }

    fn prune(&self, request: &PruneRequest) -> Result<PruneReply> {
        self.state()?;
        match request {
            PruneRequest::Begin => self.begin_marking(),
            PruneRequest::Live { prune, filters } => self.mark_live(*prune, filters),
            PruneRequest::Condemn { prune, log_len, limits, dry_run, is_confirmed } => {
                let options =
                    prune::marking::CondemnOptions { limits: *limits, dry_run: *dry_run, is_confirmed: *is_confirmed };
                self.condemn(*prune, *log_len, &options)
            }
            PruneRequest::Sweep => self.sweep().map(PruneReply::Swept),
            PruneRequest::Abort => self.abort_prune(),
            PruneRequest::Mixed { prune, limits, bytes } => {
                self.mixed_frames(*prune, limits, *bytes).map(PruneReply::Mixed)
            }
            PruneRequest::Moved { prune, frames } => self.note_moved(*prune, frames),
            PruneRequest::Committed { from } => self.committed_from(*from).map(PruneReply::Committed),
        }
    }

    fn repair(&self, request: &RepairRequest) -> Result<RepairReply> {
        self.state()?;
        match request {
            RepairRequest::Verify { pack, dry_run: false } => self.mend(*pack).map(RepairReply::Verified),
            RepairRequest::Verify { pack, dry_run: true } => self.look_at(*pack).map(RepairReply::Verified),
            RepairRequest::Quarantine { after } => {
                self.follow()?;
                Ok(RepairReply::Quarantine(self.quarantine_to_repair(*after, QUARANTINE_MAX)?))
            }
            RepairRequest::Drop { pack, keep } => self.drop_pack(*pack, keep).map(RepairReply::Dropped),
        }
    }
}

/// A record with its place and time.
fn record(seq: u64, time: Time, event: Event) -> LogRecord {
    LogRecord { seq, time, event }
}
