//! Opening a repository: connect to its place, verify its configuration, compare it with what this machine has seen
//! before, and find the keys.
//!
//! Keys are searched in this order. To push: the key file that was given, then the push key in the configuration
//! folder. To read: the key file that was given, then the kernel's keyring (`bkfs key unlock`), then the passphrase.

mod connect;
mod keys;

pub use connect::{connect_new, identity};

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bkfs_store::{
    Error,
    access::{Access, OpenRequest, Opened, Seen},
    base::id::{ClientId, RepoId},
    format::{
        config::{Config, verify_config},
        keys::{FullKey, PushKey},
    },
};

use self::{
    connect::connect,
    keys::{GivenKey, LocalKeys, machine_key},
};
use crate::{
    args::RepoArgs,
    config::{RepoFolder, SeenState},
    context::Context,
    failure::{Exit, Failure},
    place::Place,
};

/// A repository that is open.
pub struct Session {
    /// Where it is.
    pub place: Place,
    /// The store behind it.
    pub access: Arc<dyn Access>,
    /// The store's reply when it was opened.
    pub opened: Opened,
    /// Its verified configuration.
    pub config: Config,
    /// Its folder in the configuration folder.
    pub folder: RepoFolder,
    /// How it contradicts what this machine has seen before, if it does.
    pub rollback: Option<String>,
    /// The keys that were found without asking for a passphrase.
    keys: LocalKeys,
}

impl Session {
    /// Opens the repository for reading or administration.
    pub fn open(context: &Context, repo: &RepoArgs) -> Result<Self> {
        Self::open_at(context, repo, None, |_| None)
    }

    /// Opens the repository for a push. `cached` returns the point of the log that the push's caches refer to.
    pub fn open_to_push(context: &Context, repo: &RepoArgs, cached: impl Fn(RepoId) -> Option<Seen>) -> Result<Self> {
        Self::open_at(context, repo, None, cached)
    }

    /// Opens the repository for a mount. `patience` limits how long to wait for a lost server, because a person may be
    /// waiting for `ls` to return.
    pub fn open_to_mount(context: &Context, repo: &RepoArgs, patience: Duration) -> Result<Self> {
        Self::open_at(context, repo, Some(patience), |_| None)
    }

    fn open_at(
        context: &Context,
        repo: &RepoArgs,
        patience: Option<Duration>,
        cached: impl Fn(RepoId) -> Option<Seen>,
    ) -> Result<Self> {
        let given = GivenKey::load(context)?;
        let place = Place::parse(repo.repository.as_deref().or(given.as_ref().and_then(GivenKey::url)))?;
        let access = connect(context, &place, patience)?;
        let expected = match context.folders.places().repository(&place.to_string())? {
            Some(id) => Some(id),
            None => given.as_ref().map(GivenKey::repo),
        };
        let mut remembered = Remembered::of(context, given.as_ref(), expected)?;
        let mut opened = remembered.open(access.as_ref(), expected.and_then(&cached))?;
        let config = verify_config(&opened.config)?;
        if expected != Some(config.repo) {
            check_expected(&place, expected, config.repo, given.as_ref())?;
            // This repository is remembered from another place, or it is new to this machine.
            remembered = Remembered::of(context, given.as_ref(), Some(config.repo))?;
            if remembered.client.is_some() || remembered.state.seen().is_some() {
                opened = remembered.open(access.as_ref(), cached(config.repo))?;
            }
        }
        let folder = context.folders.repository(config.repo);
        let rollback = remembered.contradiction(access.as_ref(), &opened, cached(config.repo))?;
        let keys = LocalKeys { given, machine: remembered.machine };
        keys.check_config(&config)?;
        let session = Self { place, access, opened, config, folder, rollback, keys };
        session.remember(context);
        Ok(session)
    }

    /// Returns the key to push with, if this machine has one.
    pub fn push_key(&self) -> Option<&PushKey> {
        self.keys.push()
    }

    /// Finds the full key. `operation` says in errors what the key is needed for.
    pub fn full_key(&self, context: &Context, operation: &'static str) -> Result<FullKey> {
        let full = self.keys.find_full(context, &self.place, self.config.repo, &self.opened.slots, operation)?;
        full.check_config(&self.config)?;
        Ok(full)
    }

    /// Prints a warning if the repository was rolled back. Reading can continue.
    pub fn warn_of_rollback(&self) {
        if let Some(how) = &self.rollback {
            eprintln!("bkfs: warning: {}", self.rollback_text(how));
        }
    }

    /// Returns an error if the repository was rolled back.
    pub fn rollback_failure(&self) -> Option<Failure> {
        let how = self.rollback.as_ref()?;
        Some(Failure::new(self.rollback_text(how), ROLLBACK_HINT).exit(Exit::RolledBack))
    }

    /// Accepts the current state of the repository, whatever was seen before.
    pub fn accept_rollback(&self) -> Result<()> {
        self.folder.accept(self.opened.now, self.push_key().map(|key| (key.client_id(), self.opened.last)))
    }

    /// Opens the repository again, after the roster has changed.
    pub fn reopen(&mut self, client: Option<ClientId>, seen: Option<Seen>) -> Result<()> {
        self.opened = self.access.open(&OpenRequest { client, seen })?;
        Ok(())
    }

    /// Sets this machine's push key.
    pub fn set_machine_key(&mut self, key: PushKey) {
        self.keys.machine = Some(key);
    }

    /// Returns the client that this machine is, if it has a push key.
    pub fn client(&self) -> Option<ClientId> {
        self.push_key().map(PushKey::client_id)
    }

    fn rollback_text(&self, how: &str) -> String {
        format!("{} was rolled back or replaced by an older copy: {how}. Snapshots may be missing", self.place)
    }

    /// Records what was seen, unless it contradicts what was seen before. A failure is only a warning: it must not
    /// prevent a restore.
    fn remember(&self, context: &Context) {
        let keep = || -> Result<()> {
            context.folders.places().set_repository(&self.place.to_string(), self.config.repo)?;
            match self.rollback {
                Some(_) => Ok(()),
                None => self.folder.advance(self.opened.now),
            }
        };
        if let Err(error) = keep() {
            tracing::warn!("cannot record what was seen of the repository: {error:#}");
        }
    }
}

const ROLLBACK_HINT: &str = "ask the server's operator whether an older copy was put back; if that was intended, run \
     `bkfs check --accept-rollback`";

/// What this machine remembers of a repository before it opens it.
struct Remembered {
    client: Option<ClientId>,
    machine: Option<PushKey>,
    state: SeenState,
}

impl Remembered {
    fn of(context: &Context, given: Option<&GivenKey>, repo: Option<RepoId>) -> Result<Self> {
        let Some(repo) = repo else {
            return Ok(Self { client: None, machine: None, state: SeenState::default() });
        };
        let folder = context.folders.repository(repo);
        let machine = machine_key(&folder)?;
        let given = given.and_then(|n| n.push.as_ref()).filter(|key| key.repo == repo);
        let client = given.or(machine.as_ref()).map(PushKey::client_id);
        Ok(Self { client, machine, state: folder.seen()? })
    }

    fn open(&self, access: &dyn Access, cached: Option<Seen>) -> Result<Opened> {
        Ok(access.open(&OpenRequest { client: self.client, seen: cached.or(self.state.seen()) })?)
    }

    /// Compares the opened repository with what was seen before. The reply covers only one point of the log: the one
    /// that the caches refer to, which may differ from the one last seen. Usually the end of the log decides; otherwise
    /// this asks the store once more.
    fn contradiction(&self, access: &dyn Access, opened: &Opened, cached: Option<Seen>) -> Result<Option<String>> {
        let mut opened = opened.clone();
        if let (Some(seen), Some(cached)) = (self.state.seen(), cached)
            && seen.log_len != cached.log_len
        {
            opened.head_at_seen = match opened.now.log_len.cmp(&seen.log_len) {
                std::cmp::Ordering::Less => None,
                std::cmp::Ordering::Equal => Some(opened.now.log_head),
                std::cmp::Ordering::Greater => {
                    access.open(&OpenRequest { client: None, seen: Some(seen) })?.head_at_seen
                }
            };
        }
        Ok(self.state.contradiction(&opened, self.client))
    }
}

/// Fails if the place holds another repository than before, or another than the given key belongs to. The user must not
/// continue unaware of that.
fn check_expected(place: &Place, expected: Option<RepoId>, found: RepoId, given: Option<&GivenKey>) -> Result<()> {
    if let Some(key) = given.map(GivenKey::repo).filter(|key| *key != found) {
        return Err(Error::WrongKey { key: key.to_string(), found: found.to_string() }.into());
    }
    match expected {
        Some(expected) => Err(Failure::new(
            format!("{place} holds another repository than before: {found} instead of {expected}"),
            "if it was replaced on purpose, delete the line for this place in places.toml in the configuration folder",
        )
        .exit(Exit::WrongKey)
        .into()),
        None => Ok(()),
    }
}
