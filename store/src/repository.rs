//! A repository's store: packs, objects and the log on a backend, and the index of them. No key ever comes here. The
//! same code is the embedded repository at a path, a repository of a server, and the repository in memory of tests.
//!
//! ```text
//! config, config.2          the signed configuration; written last by `init`, so it marks a complete repository
//! log, log.2                the log, in two files
//! packs/ab/<pack id>        packs, in 256 folders by the first byte of their ids
//! parity/ab/<pack id>       their parity, if the settings ask for it
//! settings, settings.2      what the store's operator has settled
//! slots/<id>, slots.2/      passphrase slots           } small objects are kept twice; a reader takes whichever copy
//! snapshots/<id>, .2/       stored snapshots           } is whole
//! prunes/<hash>, .2/        what prunes condemned      }
//! grave/<pack id>           packs that were swept, until their time is over
//! scrub                     what the last scrub found
//! reserve                   takes room until the disk is full; then forgets and prunes use the room
//! lock                      held by the process that appends to the log
//! ```
//!
//! **Parts.** [`Repository`] is a composition of parts. Each part owns its state, and is handed the other parts that it
//! needs:
//!
//! - `objects`: what is kept twice: configuration, settings, slots, snapshots, condemned sets;
//! - `log`: the log, and the index that follows it;
//! - `packs`: packs with parity, mending and quarantine;
//! - `snapshots`: commits and the trash;
//! - `prunes`: prunes in progress, condemned frames, the grave;
//! - `maintenance`: scrubs, and repairs of damaged packs.
//!
//! **Order of writes.** A pack is durable before it enters the index and before it is acknowledged. Its parity follows;
//! a push into a local repository ends when the parity is durable, too. A snapshot's object is durable before the log
//! names it. The log is durable before the index follows it and the commit is acknowledged. Whatever the index lacks is
//! read in from packs and log when the repository is opened. So a crash between any two writes loses nothing that was
//! acknowledged.
//!
//! Several processes may use one repository. Each appends under the lock, after reading what others appended.

mod access;
pub mod backend;
mod clock;
pub mod index;
mod init;
mod layout;
mod limits;
pub mod log;
mod maintenance;
mod objects;
mod operator;
mod packs;
pub mod prune;
pub mod repair;
mod reserve;
pub mod scrub;
mod snapshots;
mod usage;

pub use log::LogReport;
pub use operator::Operator;
pub use prune::{Reclaimable, Reclaimed, Revived, Tidied};
pub use repair::IndexReport;
pub use usage::{Usage, log_bytes, stores_snapshot};

use std::{path::Path, sync::Arc};

use self::{
    backend::{Backend, LocalBackend, MemoryBackend},
    index::Index,
    log::{Log, Rosters},
    maintenance::Maintenance,
    objects::Objects,
    packs::{Packs, files::PackFiles, find::Finder, mend::Mender, put::PackStore, quarantine::Quarantine},
    prune::{Caller, PruneParts, Prunes, copier::Copier, grave::Grave},
    repair::drop::PackDropper,
    reserve::Reserve,
    scrub::{ScrubOptions, ScrubProgress, ScrubReport, Scrubber},
    snapshots::{Snapshots, floor::Floor},
};
use crate::{
    access::{Lease, PruneReply, PruneRequest, Receipt},
    base::{
        error::{Error, Result},
        id::{Hash, PackId},
        time::Time,
    },
    format::{erasure::Parity, loss::Quarantined, roster::Roster},
};

/// A repository's store.
#[derive(Debug)]
pub struct Repository {
    objects: Arc<Objects>,
    log: Arc<Log>,
    packs: Packs,
    snapshots: Arc<Snapshots>,
    prunes: Prunes,
    maintenance: Maintenance,
}

/// Whether a folder holds a repository, whole or damaged.
pub fn exists(folder: &Path) -> Result<bool> {
    Objects::new(Arc::new(LocalBackend::new(folder))).has_repository()
}

impl Repository {
    /// The repository in a folder, with its index in another folder (in the user's cache, or next to it on a server).
    /// The repository does not have to exist yet: [`crate::access::Manage::init`] creates it.
    pub fn local(folder: &Path, index: &Path) -> Result<Self> {
        let open = || compose(Arc::new(LocalBackend::new(folder)), Index::open(index)?);
        match open() {
            // Damage that was found only now has been marked: the second try begins with a new index.
            Err(Error::Index { .. }) => open(),
            opened => opened,
        }
    }

    /// A repository in memory. Its index is in the system's temporary folder as long as the repository lives.
    pub fn memory() -> Result<Self> {
        compose(Arc::new(MemoryBackend::default()), Index::temporary()?)
    }

    /// A repository on any backend, with its index in a folder.
    pub fn with_backend(backend: Box<dyn Backend>, index: &Path) -> Result<Self> {
        compose(backend.into(), Index::open(index)?)
    }

    /// The same repository with a floor, in seconds: a younger snapshot cannot be made unrecoverable through
    /// [`crate::access`].
    pub fn with_floor(self, protect_secs: u64) -> Self {
        self.snapshots.floor().set(protect_secs);
        self
    }

    /// The same repository with another clock, for tests.
    pub fn with_clock(self, clock: fn() -> Time) -> Self {
        self.log.set_clock(clock);
        self
    }

    /// The same repository; [`crate::access::Manage::init`] gives it this much parity instead of the default.
    pub fn with_parity(self, parity: Option<Parity>) -> Self {
        self.objects.set_parity_at_init(parity);
        self
    }

    /// How much parity packs get.
    pub fn parity(&self) -> Result<Option<Parity>> {
        Ok(self.objects.config()?.parity)
    }

    /// The newest roster, verified.
    pub fn roster(&self) -> Result<Arc<Roster>> {
        self.log.roster()
    }

    /// Whether a pack's file has its full length, and none of its frames is condemned or in quarantine. If so, the pack
    /// is durable on return, and pinned for a session that is about to rely on it.
    pub fn keep_pack(&self, lease: Lease, id: PackId, len: u64) -> Result<bool> {
        self.packs.keep(lease, id, len)
    }

    /// Commits a snapshot that a network identity has sent.
    pub fn commit_as(&self, lease: Lease, snapshot: &[u8], sender: Option<Hash>) -> Result<Receipt> {
        self.snapshots.commit(lease, snapshot, sender)
    }

    /// Does one step of a prune, unless its caller goes away before it is done ([`Maintain::prune`]).
    ///
    /// [`Maintain::prune`]: crate::access::Maintain::prune
    pub fn prune_for(&self, request: &PruneRequest, caller: Caller<'_>) -> Result<PruneReply> {
        self.objects.config()?;
        self.prunes.step(request, caller)
    }

    /// The same repository in the hands of its store's operator.
    pub fn operator(&self) -> Operator<'_> {
        Operator { objects: &self.objects, snapshots: &self.snapshots, prunes: &self.prunes }
    }

    /// The packs that have frames in quarantine, in the order of their ids.
    pub fn quarantine(&self, after: Option<PackId>, limit: usize) -> Result<Vec<Quarantined>> {
        self.packs.quarantined(after, limit)
    }

    /// Waits for the parity of all packs that were stored so far.
    pub fn wait_for_parity(&self) {
        self.packs.wait_for_parity();
    }

    /// Verifies everything that is stored, and mends what can be mended. The results are kept; those of a scrub that
    /// was stopped have no end. Fails if the scrub cannot go on.
    pub fn scrub(&self, options: &ScrubOptions, progress: &ScrubProgress) -> Result<ScrubReport> {
        self.objects.config()?;
        self.maintenance.scrub(options, progress)
    }

    /// What the last scrub found, or the one that runs has found so far. None if there was none, or its results cannot
    /// be read.
    pub fn last_scrub(&self) -> Result<Option<ScrubReport>> {
        self.maintenance.last_scrub()
    }
}

/// Makes the parity that a crash left missing, in the background. Storing a pack does this as well.
pub fn resume_parity(repository: &Repository) -> Result<()> {
    repository.packs.resume_parity()
}

/// Puts a repository together, and brings its index up to date if it exists.
fn compose(backend: Arc<dyn Backend>, index: Arc<Index>) -> Result<Repository> {
    let objects = Arc::new(Objects::new(backend.clone()));
    let rosters = Arc::new(Rosters::new(index.clone(), objects.clone()));
    let files = Arc::new(PackFiles::new(backend.clone(), index.clone(), rosters.clone()));
    let reserve = Arc::new(Reserve::new(backend.clone()));
    let log = Arc::new(Log::new(backend.clone(), reserve, index.clone(), objects.clone(), rosters, files.clone()));

    let quarantine = Arc::new(Quarantine::new(index.clone(), log.clone(), files.clone()));
    let mender = Arc::new(Mender::new(index.clone(), objects.clone(), log.clone(), files.clone(), quarantine.clone()));
    let finder = Arc::new(Finder::new(
        index.clone(),
        objects.clone(),
        log.clone(),
        files.clone(),
        mender.clone(),
        quarantine.clone(),
    ));
    let store =
        Arc::new(PackStore::new(index.clone(), objects.clone(), log.clone(), files.clone(), quarantine.clone()));
    let packs = Packs::new(
        index.clone(),
        log.clone(),
        files.clone(),
        quarantine.clone(),
        mender.clone(),
        store.clone(),
        finder.clone(),
    );

    let floor = Arc::new(Floor::default());
    let snapshots = Arc::new(Snapshots::new(
        index.clone(),
        objects.clone(),
        log.clone(),
        files.clone(),
        finder.clone(),
        floor.clone(),
    ));
    let grave = Arc::new(Grave::new(index.clone(), log.clone(), files.clone(), quarantine.clone(), floor));
    let copier = Arc::new(Copier::new(store));
    let prunes = Prunes::new(PruneParts {
        index: index.clone(),
        objects: objects.clone(),
        log: log.clone(),
        files: files.clone(),
        mender: mender.clone(),
        finder: finder.clone(),
        snapshots: snapshots.clone(),
        copier: copier.clone(),
        grave: grave.clone(),
    });

    let scrubber = Scrubber::new(
        backend,
        index.clone(),
        objects.clone(),
        log.clone(),
        files.clone(),
        mender.clone(),
        snapshots.clone(),
    );
    let dropper = PackDropper::new(index.clone(), log.clone(), files.clone(), mender, quarantine, copier, grave);
    let maintenance = Maintenance::new(index, files, snapshots.clone(), scrubber, dropper);

    match objects.config() {
        Ok(_) => finder.read_in()?,
        Err(Error::NoRepository { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(Repository { objects, log, packs, snapshots, prunes, maintenance })
}
