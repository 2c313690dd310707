//! The server's log and what follows from it, read from the server's folder and appended to it.
//!
//! The log is framed and chained as a repository's log is, and kept in two files like it. It holds only hashes of the
//! secrets of invitations. A torn record was never acknowledged, and is cut off. If a record fits the chain in neither
//! file, the server does not start.

use std::path::Path;

use bkfs_store::{
    Error, Result,
    base::{codec, id::Hash},
    format::log::file::{self as log_file, Position},
    repository::{
        backend::{Backend, LocalBackend, Lock},
        log::pair::LogPair,
    },
};
use parking_lot::Mutex;

use super::{
    accounts::Accounts,
    event::{Event, FORMAT, Record},
    invitation::Invitation,
    quota::Limits,
};
use crate::{addresses::Addresses, permission::Permissions, token::TokenSecret, url::Name};

/// The name of the log's first file.
const LOG: &str = "log";

/// Reads and appends the server's log.
pub struct Registry {
    backend: LocalBackend,
    log: LogPair,
    replayed: Mutex<Replayed>,
}

/// What has been read of the log: up to where, and what follows from it.
#[derive(Default)]
struct Replayed {
    position: Position,
    accounts: Accounts,
}

impl Registry {
    /// The registry of a server's folder. Nothing is read yet.
    pub fn new(data: &Path) -> Self {
        Self { backend: LocalBackend::new(data), log: LogPair::new(LOG, "log.2"), replayed: Mutex::default() }
    }

    /// Writes the first record. Removes what an interrupted creation left behind.
    pub fn create(&self, addresses: &Addresses, protect_secs: u64) -> Result<()> {
        let event = Event::Init { format: FORMAT, addresses: addresses.clone(), protect_secs };
        let _lock = self.backend.lock()?;
        self.log.delete(&self.backend)?;
        self.append(&[event], None)
    }

    /// Whether there is a first record.
    pub fn exists(&self) -> Result<bool> {
        Ok(!self.log.read(&self.backend, Position::default())?.is_empty())
    }

    /// Makes both files of the log whole and equal, if a crash or damage left them different.
    pub fn settle(&self) -> Result<()> {
        match self.log.is_settled(&self.backend)? {
            true => Ok(()),
            false => self.lock_to_append().map(drop),
        }
    }

    /// Reads what was appended since the last time.
    pub fn refresh(&self) -> Result<()> {
        let mut replayed = self.replayed.lock();
        if !self.log.fits(&self.backend, replayed.position)? {
            let reason = "it is shorter than it was, or it is another log";
            return Err(Error::damaged("the server's log", reason));
        }
        loop {
            let records = self.log.read(&self.backend, replayed.position)?;
            if records.is_empty() {
                return Ok(());
            }
            for (raw, next) in records {
                let record: Record = codec::decode("a record of the server's log", &raw)?;
                replayed.accounts.apply(record)?;
                replayed.position = next;
            }
        }
    }

    /// Verifies the whole log, and makes both its files whole. Returns whether that was needed.
    pub fn verify(&self) -> Result<bool> {
        self.log.verify(&self.backend).map(|(_, is_mended)| is_mended)
    }

    /// Changes what the log says: decides with all of the log read, and records the events that were decided on. `by`
    /// is the client whose request it is; none if it is the operator.
    pub fn change<T>(&self, by: Option<Hash>, decide: impl FnOnce(&Accounts) -> Result<(T, Vec<Event>)>) -> Result<T> {
        let _lock = self.lock_to_append()?;
        let (value, events) = decide(&self.replayed.lock().accounts)?;
        match events.is_empty() {
            true => Ok(value),
            false => self.append(&events, by).map(|()| value),
        }
    }

    /// Asks what follows from the log, as far as it was read.
    pub fn ask<T>(&self, ask: impl FnOnce(&Accounts) -> T) -> T {
        ask(&self.replayed.lock().accounts)
    }

    /// Records an invitation, and limits of its account if some are given.
    pub fn invite(
        &self,
        secret: &TokenSecret,
        invitation: &Invitation,
        addresses: Option<&Addresses>,
    ) -> Result<Addresses> {
        let expires_secs = now_secs().saturating_add(i64::try_from(invitation.valid.as_secs()).unwrap_or(i64::MAX));
        let Invitation { account, can, quota_bytes, uses, repository, client_name, .. } = invitation.clone();
        self.change(None, |accounts| {
            if let Some(name) = &client_name {
                accounts.expect_free_name(&account, name, None)?;
            }
            let known = accounts.account(&account).map(|known| known.limits).unwrap_or_default();
            let (secret, invited) = (secret.hash(), account.clone());
            let mut events =
                vec![Event::Invite { secret, account: invited, can, expires_secs, uses, repository, client_name }];
            if let Some(bytes) = quota_bytes {
                events.push(Event::Limit { account, limits: Limits { bytes: Some(bytes), ..known } });
            }
            let addresses = addresses.or(accounts.addresses()).cloned();
            Ok((addresses.ok_or_else(|| Error::damaged("the server's log", "its first record is missing"))?, events))
        })
    }

    /// Uses an invitation for a client. The same client may use it again: see [`Accounts::join`]. Returns the account,
    /// and all that the client may do there from now on: in all repositories, or in the one of the invitation.
    pub fn join(&self, secret: &TokenSecret, client: Hash) -> Result<(Name, Permissions)> {
        let account = self.change(Some(client), |accounts| {
            let (account, event) = accounts.join(secret.hash(), client, now_secs())?;
            Ok((account, event.into_iter().collect()))
        })?;
        let can = self.ask(|accounts| {
            let held = accounts.client(client, &account);
            held.map(|held| held.can_in.values().fold(held.can, |sum, can| sum.union(*can))).unwrap_or_default()
        });
        Ok((account, can))
    }

    /// Records that invitations carry other addresses from now on.
    pub fn set_addresses(&self, addresses: &Addresses) -> Result<()> {
        self.change(None, |_| Ok(((), vec![Event::Addresses(addresses.clone())])))
    }

    /// The floor in seconds, which the server's repositories enforce.
    pub fn protect_secs(&self) -> u64 {
        self.ask(Accounts::protect_secs)
    }

    /// What a client may do in a repository of an account. Returns `None` if it may not use the account.
    pub fn permissions(&self, client: Hash, account: &Name, repository: &Name) -> Option<Permissions> {
        self.ask(|accounts| accounts.permissions(client, account, repository))
    }

    /// Whether a client may use any account.
    pub fn is_known(&self, client: Hash) -> bool {
        self.ask(|accounts| accounts.is_known(client))
    }

    /// Reads what another process has appended, if the log's length shows that there is something.
    pub fn follow(&self) -> Result<()> {
        let len = std::fs::metadata(self.backend.root().join(LOG)).map(|meta| meta.len());
        let read = self.replayed.lock().position.offset;
        if len.is_ok_and(|len| len == read) { Ok(()) } else { self.refresh() }
    }

    /// Takes the lock that [`Registry::append`] needs. The log is then whole, and all of it has been read.
    fn lock_to_append(&self) -> Result<Box<dyn Lock>> {
        let lock = self.backend.lock()?;
        self.log.settle(&self.backend)?;
        self.refresh()?;
        Ok(lock)
    }

    /// Appends events durably, and applies them. The caller holds the lock.
    fn append(&self, events: &[Event], by: Option<Hash>) -> Result<()> {
        let start = self.replayed.lock().position;
        let (mut position, mut bytes) = (start, Vec::new());
        for event in events {
            let record = codec::encode(&Record { secs: now_secs(), event: event.clone(), by });
            let (framed, next) = log_file::encode_bytes(position, &record);
            bytes.extend(framed);
            position = next;
        }
        self.log.append(&self.backend, start, &bytes)?;
        self.refresh()
    }
}

/// This machine's clock, in seconds of Unix time.
pub(super) fn now_secs() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn registry(folder: &Path) -> Registry {
        let registry = Registry::new(folder);
        registry.create(&"host:1".parse().unwrap(), 0).unwrap();
        registry
    }

    fn invitation(can: Permissions, valid_secs: u64) -> Invitation {
        Invitation { valid: Duration::from_secs(valid_secs), ..Invitation::new("alice".parse().unwrap(), can) }
    }

    #[test]
    fn an_invitation_works_once() {
        let folder = tempfile::tempdir().unwrap();
        let running = registry(folder.path());
        let operator = Registry::new(folder.path());
        let (secret, alice, main) = (TokenSecret::random().unwrap(), name("alice"), name("main"));
        let invitation = Invitation { quota_bytes: Some(5), ..invitation(Permissions::PUSH, 60) };
        operator.invite(&secret, &invitation, None).unwrap();
        let (one, two) = (Hash([1; 32]), Hash([2; 32]));
        running.join(&secret, one).unwrap();
        running.join(&secret, one).unwrap();
        let error = running.join(&secret, two).unwrap_err();
        assert!(error.to_string().contains("has been used"), "{error}");
        assert_eq!(running.permissions(one, &alice, &main), Some(Permissions::PUSH));
        assert_eq!(running.permissions(two, &alice, &main), None);
        assert_eq!(running.ask(|accounts| accounts.account(&alice).unwrap().limits.bytes), Some(5));
        let again = Registry::new(folder.path());
        again.refresh().unwrap();
        assert_eq!(again.permissions(one, &alice, &main), Some(Permissions::PUSH));
    }

    #[test]
    fn what_another_process_records_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (running, operator) = (registry(folder.path()), Registry::new(folder.path()));
        let (secret, alice, main) = (TokenSecret::random().unwrap(), name("alice"), name("main"));
        operator.invite(&secret, &invitation(Permissions::ALL, 60), None).unwrap();
        running.join(&secret, Hash([1; 32])).unwrap();
        operator.change(None, |accounts| Ok(((), vec![accounts.revoke(&alice, "0101")?]))).unwrap();
        running.follow().unwrap();
        assert_eq!(running.permissions(Hash([1; 32]), &alice, &main), None);
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_can_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let running = registry(folder.path());
        let known = |registry: &Registry| registry.ask(|accounts| accounts.addresses().unwrap().to_string());
        assert_eq!(known(&running), "host:1");
        Registry::new(folder.path()).set_addresses(&"nas:1,10.0.0.2:1".parse().unwrap()).unwrap();
        running.follow().unwrap();
        assert_eq!(known(&running), "nas:1,10.0.0.2:1");
    }
}
