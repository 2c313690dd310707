//! Small objects, each kept twice: the configuration, the store's settings, passphrase slots, snapshots and condemned
//! sets.
//!
//! An object is durable in both copies before a put returns. A reader takes whichever copy is whole. The configuration
//! and the settings are read once and remembered.

mod copies;
mod settings;
mod slots;

pub(super) use copies::Check;
pub(super) use settings::check_settings;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    base::{
        error::{Error, Result},
        id::{Hash, SnapshotId},
    },
    crypto::VerifyingKey,
    format::{
        config::{Config, verify_config},
        erasure::Parity,
        snapshot::snapshot_id,
    },
    repository::{backend::Backend, layout, prune::condemned::CondemnedSet},
};

/// The objects of one repository.
#[derive(Debug)]
pub(super) struct Objects {
    backend: Arc<dyn Backend>,
    /// What was read of a repository that exists.
    config: Mutex<Option<Arc<ConfigState>>>,
    /// The parity that `init` writes into the settings of a new repository.
    parity_at_init: Mutex<Option<Parity>>,
}

/// The configuration and the settings of a repository.
#[derive(Debug)]
pub(super) struct ConfigState {
    /// The signed configuration.
    pub signed: Vec<u8>,
    pub config: Config,
    pub admin: VerifyingKey,
    /// How much parity packs get.
    pub parity: Option<Parity>,
}

impl Objects {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, config: Mutex::new(None), parity_at_init: Mutex::new(Some(Parity::default())) }
    }

    /// Whether the place holds a repository, whole or damaged.
    pub fn has_repository(&self) -> Result<bool> {
        Ok(self.has_config()? || self.has_snapshots()?)
    }

    /// Whether there is a configuration.
    pub fn has_config(&self) -> Result<bool> {
        let [first, second] = layout::copies(layout::CONFIG);
        Ok(self.backend.len(&first)?.is_some() || self.backend.len(&second)?.is_some())
    }

    /// Whether there are snapshots, which only a repository can have stored: an `init` that was cut short leaves none.
    pub fn has_snapshots(&self) -> Result<bool> {
        for folder in layout::folders(layout::SNAPSHOTS) {
            if !self.backend.list(&folder)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The error for creating a repository where there is one. The process that created it may have died before its
    /// configuration was durable, so that is settled first.
    pub fn already_exists(&self) -> Error {
        match self.backend.settle("") {
            Ok(()) => Error::RepositoryExists { place: self.backend.place() },
            Err(error) => error,
        }
    }

    /// The error for a missing configuration: there is no repository, or its configuration was lost.
    pub fn missing_config(&self) -> Error {
        let place = self.backend.place();
        match self.has_snapshots() {
            Ok(false) => Error::NoRepository { place },
            Ok(true) => {
                let what = format!("the repository at {place}");
                Error::damaged(
                    what,
                    "both copies of its configuration are missing; put `config` back from a backup of it",
                )
            }
            Err(error) => error,
        }
    }

    /// The configuration and the settings. Fails if there is no repository.
    pub fn config(&self) -> Result<Arc<ConfigState>> {
        let mut slot = self.config.lock();
        if let Some(state) = &*slot {
            return Ok(state.clone());
        }
        let signed =
            self.get(layout::CONFIG, |bytes| verify_config(bytes).map(drop))?.ok_or_else(|| self.missing_config())?;
        let config = verify_config(&signed)?;
        let admin = admin_key(&config)?;
        let state = Arc::new(ConfigState { signed: signed.to_vec(), config, admin, parity: self.read_parity()? });
        *slot = Some(state.clone());
        Ok(state)
    }

    /// Stores the configuration of a new repository.
    pub fn put_config(&self, signed: &[u8]) -> Result<()> {
        self.put(layout::CONFIG, signed)?;
        *self.config.lock() = None;
        self.config().map(drop)
    }

    /// Makes sure that both copies of the configuration exist. An `init` that died may have left one copy that is not
    /// durable yet, and that copy makes the place a repository.
    pub fn settle_config(&self) {
        let settle = || {
            let signed = &self.config()?.signed;
            for name in layout::copies(layout::CONFIG) {
                if self.backend.get(&name).ok().flatten().as_deref() != Some(signed) {
                    tracing::info!(object = name, "a copy of the configuration is restored");
                    self.backend.put(&name, signed)?;
                }
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = settle() {
            tracing::warn!(%error, "a copy of the configuration cannot be restored");
        }
    }

    /// A stored snapshot, from whichever copy is whole.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Option<Bytes>> {
        self.get(&layout::snapshot(id), |bytes| check_snapshot(id, bytes))
    }

    /// Whatever the first copy of a snapshot holds, if it can be read.
    pub fn damaged_snapshot(&self, id: SnapshotId) -> Option<Bytes> {
        self.backend.get(&layout::snapshot(id)).ok().flatten()
    }

    pub fn put_snapshot(&self, id: SnapshotId, bytes: &[u8]) -> Result<()> {
        self.put(&layout::snapshot(id), bytes)
    }

    /// The set of condemned frames that the log names.
    pub fn condemned_set(&self, hash: Hash) -> Result<CondemnedSet> {
        let check = |bytes: &[u8]| CondemnedSet::decode(bytes, hash).map(drop);
        let bytes = self.get(&layout::condemned_set(hash), check)?;
        let bytes = bytes.ok_or_else(|| Error::damaged(CondemnedSet::HEADER.what, "it is missing"))?;
        CondemnedSet::decode(&bytes, hash)
    }

    /// Stores a set of condemned frames. Returns its hash, by which the log names it.
    pub fn put_condemned_set(&self, set: &CondemnedSet) -> Result<Hash> {
        let bytes = set.encode();
        let hash = Hash::of(&[&bytes]);
        self.put(&layout::condemned_set(hash), &bytes)?;
        Ok(hash)
    }

    /// The hashes of all stored sets of condemned frames.
    pub fn condemned_sets(&self) -> Result<BTreeSet<Hash>> {
        Ok(self.names(layout::PRUNES)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub fn remove_condemned_set(&self, hash: Hash) -> Result<()> {
        self.remove(&layout::condemned_set(hash))
    }

    /// The names of a folder's objects, whichever of their copies exist.
    pub fn names(&self, folder: &str) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for folder in layout::folders(folder) {
            names.extend(self.backend.list(&folder)?.into_iter().map(|listed| listed.name));
        }
        Ok(names)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.backend.put_all(&[(name, bytes), (&layout::second_copy(name), bytes)])
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.backend.delete(name)?;
        self.backend.delete(&layout::second_copy(name))
    }

    /// The first copy that passes the check; none if there is no copy; the check's error if no copy passes.
    fn get(&self, name: &str, check: impl Fn(&[u8]) -> Result<()>) -> Result<Option<Bytes>> {
        let mut failed: Option<Error> = None;
        for name in layout::copies(name) {
            let checked = match self.backend.get(&name) {
                Ok(None) => continue,
                Ok(Some(bytes)) => check(&bytes).map(|()| bytes),
                Err(error) if error.is_unreadable() => Err(error),
                Err(error) => return Err(error),
            };
            match checked {
                Ok(bytes) => {
                    if let Some(error) = failed {
                        tracing::warn!(object = name, %error, "the first copy is damaged; the second copy is used");
                    }
                    return Ok(Some(bytes));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }
}

/// The admin key that a configuration names.
pub(super) fn admin_key(config: &Config) -> Result<VerifyingKey> {
    VerifyingKey::from_slice(&config.admin_public)
        .ok_or_else(|| Error::damaged(Config::HEADER.what, "its admin key has a wrong length"))
}

/// Checks that these are the bytes of a snapshot.
pub(super) fn check_snapshot(id: SnapshotId, bytes: &[u8]) -> Result<()> {
    match snapshot_id(bytes) == id {
        true => Ok(()),
        false => Err(Error::SnapshotDamaged { snapshot: id, reason: "its bytes do not have its id".into() }),
    }
}
