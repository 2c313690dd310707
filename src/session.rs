//! Opening a repository: connect to its place, verify its configuration, compare it with what this machine has seen
//! before, and find the keys.
//!
//! Keys are searched in this order. To push: the key file that was given, then the push key in the configuration
//! folder. To read: the key file that was given, then the kernel's keyring (`bkfs key unlock`), then the passphrase.

mod connect;
mod keys;

pub use connect::{connect_new, identity};
pub use keys::{Unlocked, read_key_file};

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bkfs_store::{
    Error,
    access::{Access, OpenRequest, Opened, Seen},
    base::id::{ClientId, RepoId},
    format::{
        config::{Config, verify_config},
        keys::{FullKey, PushKey, SealKeys},
        roster::Standing,
    },
};

use bkfs_transport::client::Remote;

use self::{
    connect::{Connected, connect},
    keys::{GivenKey, LocalKeys, Shown, machine_key},
};
use crate::{
    args::RepoArgs,
    config::{Accepted, RepoFolder, SeenState},
    context::Context,
    failure::{ENDED_HINT, Exit, Failure, OUTDATED_HINT},
    output,
    place::{CopyId, Place},
    rollback,
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
    /// Which copy of it this is.
    pub copy: CopyId,
    /// Whether this machine has used this copy before.
    pub is_known_copy: bool,
    /// How it contradicts what this machine has seen before, if it does.
    pub rollback: Option<String>,
    /// The connection to its server; none for a repository in a folder.
    pub remote: Option<Arc<Remote>>,
    /// Its seal keys.
    pub seal_keys: SealKeys,
    /// Whether newer ones than these are known here. A push would be sealed to an old one.
    are_seal_keys_old: bool,
    /// The keys that were found without asking for a passphrase.
    keys: LocalKeys,
}

impl Session {
    /// Opens the repository for reading or administration.
    pub fn open(context: &Context, repo: &RepoArgs) -> Result<Self> {
        Self::open_at(context, repo, GivenKey::load(context)?, None, |_, _, _| None)
    }

    /// Opens the repository as the client that has this push key, which is not yet kept on this machine.
    pub fn open_with(context: &Context, repo: &RepoArgs, key: PushKey) -> Result<Self> {
        Self::open_at(context, repo, Some(GivenKey { full: None, push: Some(key) }), None, |_, _, _| None)
    }

    /// Opens the repository for a push. `cached` returns the point of the log that a client's caches refer
    /// to.
    pub fn open_to_push(
        context: &Context,
        repo: &RepoArgs,
        cached: impl Fn(&CopyId, RepoId, ClientId) -> Option<Seen>,
    ) -> Result<Self> {
        let session = Self::open_at(context, repo, GivenKey::load(context)?, None, cached)?;
        session.check_push()?;
        Ok(session)
    }

    /// Opens the repository again on the same connection, for another push, and compares it with what was seen as
    /// [`Session::open_to_push`] does.
    pub fn open_to_push_again(
        &mut self,
        context: &Context,
        cached: impl Fn(&CopyId, RepoId, ClientId) -> Option<Seen>,
    ) -> Result<()> {
        let remembered = Remembered::of(context, self.keys.given.as_ref(), &self.copy, Some(self.config.repo))?;
        let cached = remembered.client.and_then(|client| cached(&self.copy, self.config.repo, client));
        let opened = remembered.open(self.access.as_ref(), cached)?;
        let config = verify_config(&opened.config)?;
        check_expected(&self.place, Some(self.config.repo).filter(|repo| *repo != config.repo), config.repo, None)?;
        let seal_keys = SealKeys::verify(&opened.seal_keys, &config)?;
        let rollback = remembered.contradiction(self.access.as_ref(), &opened, cached)?;
        let old = remembered.state.seal_contradiction(&seal_keys);
        let old = self.keys.renew(&seal_keys).err().map(|error| error.to_string()).or(old);
        self.are_seal_keys_old = old.is_some();
        self.rollback = old.or(rollback);
        (self.opened, self.config, self.seal_keys) = (opened, config, seal_keys);
        if let Some(how) = &self.rollback {
            rollback::found(format!("{}\n      {}", self.rollback_text(how), self.rollback_hint()));
        }
        self.remember(context);
        self.check_push()
    }

    /// Fails if this machine must not push, or what it pushes would not count.
    fn check_push(&self) -> Result<()> {
        if let Some(failure) = self.rollback_failure().filter(|_| self.are_seal_keys_old) {
            // An older state can be pushed to. But whoever has the older key must not be able to read what is pushed.
            return Err(failure.into());
        }
        if let Some(key) = self.push_key() {
            // In a repository that was rolled back, the client may be missing for that reason.
            self.check_client(key).inspect_err(|_| self.warn_of_rollback())?;
        }
        Ok(())
    }

    /// Opens the repository for a mount. `patience` limits how long to wait for a lost server, because a person may be
    /// waiting for `ls` to return.
    pub fn open_to_mount(context: &Context, repo: &RepoArgs, patience: Duration) -> Result<Self> {
        Self::open_at(context, repo, GivenKey::load(context)?, Some(patience), |_, _, _| None)
    }

    fn open_at(
        context: &Context,
        repo: &RepoArgs,
        given: Option<GivenKey>,
        patience: Option<Duration>,
        cached: impl Fn(&CopyId, RepoId, ClientId) -> Option<Seen>,
    ) -> Result<Self> {
        let place = Place::parse(context.repository(repo).or(given.as_ref().and_then(GivenKey::url)))?;
        let Connected { access, remote } = connect(context, &place, patience)?;
        let expected = match context.folders.places().repository(&place.to_string())? {
            Some(id) => Some(id),
            None => given.as_ref().map(GivenKey::repo),
        };
        let copy = place.copy();
        let cached = |repo, client: Option<ClientId>| client.and_then(|client| cached(&copy, repo, client));
        let mut remembered = Remembered::of(context, given.as_ref(), &copy, expected)?;
        remembered.show(given.as_ref(), remote.as_deref());
        let mut opened = remembered.open(access.as_ref(), expected.and_then(|repo| cached(repo, remembered.client)))?;
        let config = verify_config(&opened.config)?;
        if expected != Some(config.repo) {
            check_expected(&place, expected, config.repo, given.as_ref())?;
            // This repository is remembered from another place, or it is new to this machine.
            remembered = Remembered::of(context, given.as_ref(), &copy, Some(config.repo))?;
            remembered.show(given.as_ref(), remote.as_deref());
            if remembered.client.is_some() || remembered.state.seen().is_some() {
                opened = remembered.open(access.as_ref(), cached(config.repo, remembered.client))?;
            }
        }
        let folder = context.folders.repository(config.repo);
        let rollback = remembered.contradiction(access.as_ref(), &opened, cached(config.repo, remembered.client))?;
        let mut keys = LocalKeys { given, machine: remembered.machine };
        keys.check_config(&config)?;
        let seal_keys = SealKeys::verify(&opened.seal_keys, &config)?;
        let old = remembered.state.seal_contradiction(&seal_keys);
        let old = keys.renew(&seal_keys).err().map(|error| error.to_string()).or(old);
        let (are_seal_keys_old, rollback) = (old.is_some(), old.or(rollback));
        let is_known_copy = remembered.is_known_copy;
        let session = Self {
            place,
            access,
            opened,
            config,
            folder,
            copy,
            is_known_copy,
            rollback,
            remote,
            seal_keys,
            are_seal_keys_old,
            keys,
        };
        if let Some(how) = &session.rollback {
            rollback::found(format!("{}\n      {}", session.rollback_text(how), session.rollback_hint()));
        }
        session.remember(context);
        Ok(session)
    }

    /// Returns the key to push with, if this machine has one.
    pub fn push_key(&self) -> Option<&PushKey> {
        self.keys.push()
    }

    /// Finds the full key, with the newest seal key. `operation` says in errors what the key is needed for.
    pub fn full_key(&self, context: &Context, operation: &'static str) -> Result<FullKey> {
        Ok(self.unlock(context, operation)?.full)
    }

    /// Finds the full key like [`Session::full_key`], and tells from which passphrase slot it is.
    pub fn unlock(&self, context: &Context, operation: &'static str) -> Result<Unlocked> {
        let unlocked = self.find_key(context, operation)?;
        self.seal_keys.check_newest(&unlocked.full)?;
        Ok(unlocked)
    }

    /// Finds the full key to read what it can open. Prints a warning if it lacks the newest seal key.
    pub fn reading_key(&self, context: &Context, operation: &'static str) -> Result<FullKey> {
        let full = self.find_key(context, operation)?.full;
        let (have, newest) = (full.seal.number(), self.seal_keys.number());
        if have < newest {
            output::note(format!(
                "warning: this key is from before the seal key was rotated: it has seal key {have}, and the newest is \
                 {newest}. It does not open what was pushed since\n      {OUTDATED_HINT}"
            ));
        }
        Ok(full)
    }

    fn find_key(&self, context: &Context, operation: &'static str) -> Result<Unlocked> {
        let shown =
            Shown { place: &self.place, repo: self.config.repo, slots: &self.opened.slots, seal_keys: &self.seal_keys };
        let unlocked = self.keys.find_full(context, &shown, operation)?;
        unlocked.full.check_config(&self.config)?;
        match self.opened.roster.is_empty() {
            // The server gives it only to those who may read. What the key is needed for would fail later.
            true => Err(Error::NoPermission { operation: format!("read {} ({operation})", self.place) }.into()),
            false => Ok(unlocked),
        }
    }

    /// Fails if the client that has this key was removed from the repository: what it pushes does not count.
    pub fn check_client(&self, key: &PushKey) -> Result<()> {
        let client = key.client_id();
        let standing = match self.client() == Some(client) {
            true => self.opened.standing,
            false => self.access.open(&OpenRequest { client: Some(client), seen: None })?.standing,
        };
        let what = match standing {
            Some(Standing::Active) | None => return Ok(()),
            Some(Standing::Ended(until)) => format!("was removed from the repository on {}", output::time_local(until)),
            Some(Standing::Unknown) => "is not one of the repository's clients".to_owned(),
        };
        let message =
            format!("{}: client {} ({}) {what}; what it pushes does not count", self.place, client.short(), key.label);
        Err(Failure::new(message, ENDED_HINT).exit(Exit::WrongKey).into())
    }

    /// Returns the push key that is kept on this machine, whichever key file was given.
    pub fn machine_key(&self) -> Option<&PushKey> {
        self.keys.machine.as_ref()
    }

    /// Prints a warning if the repository was rolled back. Reading can continue; the command ends with the exit code of
    /// a rollback.
    pub fn warn_of_rollback(&self) {
        rollback::warn();
    }

    /// Returns an error if the repository was rolled back.
    pub fn rollback_failure(&self) -> Option<Failure> {
        let how = self.rollback.as_ref()?;
        Some(Failure::new(self.rollback_text(how), self.rollback_hint()).exit(Exit::RolledBack))
    }

    /// Accepts the current state of the repository, whatever was seen before.
    pub fn accept_rollback(&self) -> Result<()> {
        rollback::accepted();
        self.folder.accept(&self.copy, &self.shown())
    }

    /// Accepts this copy of the repository as one that goes on by itself.
    pub fn accept_copy(&self) -> Result<()> {
        rollback::accepted();
        self.folder.accept_copy(&self.copy, &self.shown())
    }

    /// What the repository shows.
    fn shown(&self) -> Accepted<'_> {
        let own = self.push_key().map(|key| (key.client_id(), self.opened.last));
        Accepted { now: self.opened.now, seal_keys: &self.seal_keys, own }
    }

    /// Opens the repository again, after the roster has changed.
    pub fn reopen(&mut self, client: Option<ClientId>, seen: Option<Seen>) -> Result<()> {
        self.opened = self.access.open(&OpenRequest { client, seen })?;
        Ok(())
    }

    /// Opens the repository again, after the seal key was rotated by this machine.
    pub fn reopen_rotated(&mut self, context: &Context) -> Result<()> {
        self.reopen(self.client(), Some(self.opened.now))?;
        self.seal_keys = SealKeys::verify(&self.opened.seal_keys, &self.config)?;
        self.keys.renew(&self.seal_keys)?;
        self.remember(context);
        Ok(())
    }

    /// Sets this machine's push key.
    pub fn set_machine_key(&mut self, key: PushKey) {
        if let Some(remote) = &self.remote {
            remote.show(&key);
        }
        self.keys.machine = Some(key);
    }

    /// Returns the client that this machine is, if it has a push key.
    pub fn client(&self) -> Option<ClientId> {
        self.push_key().map(PushKey::client_id)
    }

    fn rollback_hint(&self) -> &'static str {
        if self.is_known_copy { ROLLBACK_HINT } else { COPY_HINT }
    }

    fn rollback_text(&self, how: &str) -> String {
        let what = match self.is_known_copy {
            true => "was rolled back or replaced by an older copy",
            false => "was rolled back, or is another copy of the repository than the one that was used before",
        };
        format!("{} {what}: {how}. Snapshots may be missing", self.place)
    }

    /// Records what was seen, unless it contradicts what was seen before. A failure is only a warning: it must not
    /// prevent a restore.
    fn remember(&self, context: &Context) {
        let keep = || -> Result<()> {
            context.folders.places().set_repository(&self.place.to_string(), self.config.repo)?;
            match self.rollback {
                Some(_) => Ok(()),
                None => {
                    self.folder.advance(&self.copy, self.opened.now)?;
                    self.folder.saw_seal_key(&self.copy, &self.seal_keys)
                }
            }
        };
        if let Err(error) = keep() {
            tracing::warn!("cannot record what was seen of the repository: {error:#}");
        }
    }
}

const ROLLBACK_HINT: &str = "ask the server's operator whether an older copy was put back; if that was intended, run \
     `bkfs check --accept-rollback`";

const COPY_HINT: &str = "if this is a copy that is to go on by itself beside the other one, run `bkfs check \
     --accept-copy`; if an older copy was put back in its place on purpose, `bkfs check --accept-rollback`; otherwise \
     ask the server's operator";
/// What this machine remembers of a repository before it opens it.
struct Remembered {
    client: Option<ClientId>,
    machine: Option<PushKey>,
    state: SeenState,
    is_known_copy: bool,
}

impl Remembered {
    fn of(context: &Context, given: Option<&GivenKey>, copy: &CopyId, repo: Option<RepoId>) -> Result<Self> {
        let Some(repo) = repo else {
            return Ok(Self { client: None, machine: None, state: SeenState::default(), is_known_copy: false });
        };
        let folder = context.folders.repository(repo);
        let machine = machine_key(&folder)?;
        let given = given.and_then(|n| n.push.as_ref()).filter(|key| key.repo == repo);
        let client = given.or(machine.as_ref()).map(PushKey::client_id);
        let (state, is_known_copy) = folder.seen(copy)?;
        Ok(Self { client, machine, state, is_known_copy })
    }

    /// Shows the server from now on that this machine holds the key that it opens with.
    fn show(&self, given: Option<&GivenKey>, remote: Option<&Remote>) {
        let key = given.and_then(|given| given.push.as_ref()).or(self.machine.as_ref());
        if let (Some(remote), Some(key)) = (remote, key.filter(|key| Some(key.client_id()) == self.client)) {
            remote.show(key);
        }
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
