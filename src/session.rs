//! Opening a repository: the place becomes an [`Access`], its configuration is verified, what it shows is compared with
//! what this machine has seen before, and keys are chosen.
//!
//! Keys are looked for in this order. To push: the key file that was given, the push key in the configuration folder.
//! To read: the key file that was given, the kernel's keyring (`bkfs key unlock`), the passphrase.

mod connect;
mod keys;

pub use connect::{connect_new, identity};

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bkfs_store::{
    Error,
    access::{Access, OpenRequest, Opened, Seen},
    config::Config,
    id::{ClientId, RepoId},
    keys::{FullKey, PushKey, verify_config},
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

/// An opened repository.
pub struct Session {
    /// Where it is.
    pub place: Place,
    /// Its store.
    pub access: Arc<dyn Access>,
    /// What it answered when it was opened.
    pub opened: Opened,
    /// Its verified configuration.
    pub config: Config,
    /// Its folder in the configuration folder.
    pub folder: RepoFolder,
    /// How it contradicts what was seen before, if it does.
    pub rollback: Option<String>,
    keys: LocalKeys,
}

impl Session {
    /// Opens the repository to read from it or to manage it.
    pub fn open(context: &Context, repo: &RepoArgs) -> Result<Self> {
        Self::open_at(context, repo, None, |_| None)
    }

    /// Opens the repository to push to it. `cached` is the point to which the caches of the push refer.
    pub fn open_to_push(context: &Context, repo: &RepoArgs, cached: impl Fn(RepoId) -> Option<Seen>) -> Result<Self> {
        Self::open_at(context, repo, None, cached)
    }

    /// Opens the repository to mount it. A lost server is waited for only so long: somebody stands before an `ls`.
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
        let mut first = remembered.open(access.as_ref(), expected.and_then(&cached))?;
        let config = verify_config(&first.config)?;
        if expected != Some(config.repo) {
            check_expected(&place, expected, config.repo, given.as_ref())?;
            // It is remembered, but at another place; or it is new here.
            remembered = Remembered::of(context, given.as_ref(), Some(config.repo))?;
            if remembered.client.is_some() || remembered.state.seen().is_some() {
                first = remembered.open(access.as_ref(), cached(config.repo))?;
            }
        }
        let folder = context.folders.repository(config.repo);
        let rollback = remembered.contradiction(access.as_ref(), &first, cached(config.repo))?;
        let keys = LocalKeys { given, machine: remembered.machine };
        keys.check_config(&config)?;
        let session = Self { place, access, opened: first, config, folder, rollback, keys };
        session.remember(context);
        Ok(session)
    }

    /// The key to push with, if this machine has one.
    pub fn push_key(&self) -> Option<&PushKey> {
        self.keys.push()
    }

    /// The full key, wherever it is to be found; `operation` is what it is needed for.
    pub fn full_key(&self, context: &Context, operation: &'static str) -> Result<FullKey> {
        let full = self.keys.find_full(context, &self.place, self.config.repo, &self.opened.slots, operation)?;
        full.check_config(&self.config)?;
        Ok(full)
    }

    /// Says on standard error that the repository was rolled back, if it was. Reading goes on.
    pub fn warn_of_rollback(&self) {
        if let Some(how) = &self.rollback {
            eprintln!("bkfs: warning: {}", self.rollback_text(how));
        }
    }

    /// The same as an error.
    pub fn rollback_failure(&self) -> Option<Failure> {
        let how = self.rollback.as_ref()?;
        Some(Failure::new(self.rollback_text(how), ROLLBACK_HINT).exit(Exit::RolledBack))
    }

    /// Takes the present state of the repository for right, whatever was seen before.
    pub fn accept_rollback(&self) -> Result<()> {
        self.folder.accept(self.opened.now, self.push_key().map(|key| (key.client_id(), self.opened.last)))
    }

    /// Opens again, as the same client: after the roster has changed.
    pub fn reopen(&mut self, client: Option<ClientId>, seen: Option<Seen>) -> Result<()> {
        self.opened = self.access.open(&OpenRequest { client, seen })?;
        Ok(())
    }

    /// Takes a fresh push key for the one of this machine.
    pub fn set_machine_key(&mut self, key: PushKey) {
        self.keys.machine = Some(key);
    }

    /// The client whose snapshots a rollback would take away.
    pub fn client(&self) -> Option<ClientId> {
        self.push_key().map(PushKey::client_id)
    }

    fn rollback_text(&self, how: &str) -> String {
        format!("{} was rolled back or replaced by an older copy: {how}. Snapshots may be missing", self.place)
    }

    /// Keeps what was seen, unless it contradicts. Not being able to is no reason to refuse a restore.
    fn remember(&self, context: &Context) {
        let keep = || -> Result<()> {
            context.folders.places().set_repository(&self.place.to_string(), self.config.repo)?;
            match self.rollback {
                Some(_) => Ok(()),
                None => self.folder.advance(self.opened.now),
            }
        };
        if let Err(error) = keep() {
            tracing::warn!("what was seen of the repository is not kept: {error:#}");
        }
    }
}

const ROLLBACK_HINT: &str = "ask the server's operator whether an older copy was put back; if that is so and meant, run \
     `bkfs check --accept-rollback`";

/// What this machine knows of a repository before it is opened.
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

    /// Compares what was opened with what was seen. The opening told of one point of the log only: that of the caches,
    /// which may be another than that of the last sight. Usually the log's end decides, else it is asked once more.
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

/// Another repository than before at a place is nothing to go on with silently.
fn check_expected(place: &Place, expected: Option<RepoId>, found: RepoId, given: Option<&GivenKey>) -> Result<()> {
    if let Some(key) = given.map(GivenKey::repo).filter(|key| *key != found) {
        return Err(Error::WrongKey { key: key.to_string(), found: found.to_string() }.into());
    }
    match expected {
        Some(expected) => Err(Failure::new(
            format!("{place} holds another repository than before: {found}, where {expected} was"),
            "if it was made anew on purpose, delete the line of this place in places.toml in the configuration folder",
        )
        .exit(Exit::WrongKey)
        .into()),
        None => Ok(()),
    }
}
