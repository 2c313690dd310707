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
};
use crate::{permission::Permissions, token::TokenSecret, url::Name};

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
        Self { backend: LocalBackend::new(data), log: LogPair::new("log", "log.2"), replayed: Mutex::default() }
    }

    /// Writes the first record. Removes what an interrupted creation left behind.
    pub fn create(&self, address: &str, protect_secs: u64) -> Result<()> {
        let event = Event::Init { format: FORMAT, address: address.to_owned(), protect_secs };
        let _lock = self.backend.lock()?;
        self.log.delete(&self.backend)?;
        self.append(&[event])
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
                replayed.accounts.apply(record.event)?;
                replayed.position = next;
            }
        }
    }

    /// Verifies the whole log, and makes both its files whole. Returns whether that was needed.
    pub fn verify(&self) -> Result<bool> {
        self.log.verify(&self.backend).map(|(_, is_mended)| is_mended)
    }

    /// Records an invitation.
    pub fn invite(
        &self,
        secret: &TokenSecret,
        account: &Name,
        can: Permissions,
        quota_bytes: Option<u64>,
        valid_secs: i64,
    ) -> Result<()> {
        let expires_secs = now_secs().saturating_add(valid_secs);
        let mut events = vec![Event::Invite { secret: secret.hash(), account: account.clone(), can, expires_secs }];
        events.extend(quota_bytes.map(|bytes| Event::Quota { account: account.clone(), bytes }));
        let _lock = self.lock_to_append()?;
        self.append(&events)
    }

    /// Uses an invitation for a client. The same client may use it again: see [`Accounts::join`].
    pub fn join(&self, secret: &TokenSecret, client: Hash) -> Result<()> {
        let _lock = self.lock_to_append()?;
        let event = self.replayed.lock().accounts.join(secret.hash(), client, now_secs())?;
        event.map_or(Ok(()), |event| self.append(&[event]))
    }

    /// The address that invitations carry.
    pub fn address(&self) -> Result<String> {
        let address = self.replayed.lock().accounts.address().map(str::to_owned);
        address.ok_or_else(|| Error::damaged("the server's log", "its first record is missing"))
    }

    /// The floor in seconds, which the server's repositories enforce.
    pub fn protect_secs(&self) -> u64 {
        self.replayed.lock().accounts.protect_secs()
    }

    /// What a client may do in an account. Returns `None` if it never joined the account.
    pub fn permissions(&self, client: Hash, account: &Name) -> Option<Permissions> {
        self.replayed.lock().accounts.permissions(client, account)
    }

    /// Whether a client has joined any account.
    pub fn is_known(&self, client: Hash) -> bool {
        self.replayed.lock().accounts.is_known(client)
    }

    /// How many bytes an account may store, if there is a limit.
    pub fn quota(&self, account: &Name) -> Option<u64> {
        self.replayed.lock().accounts.quota(account)
    }

    /// Takes the lock that [`Registry::append`] needs. The log is then whole, and all of it has been read.
    fn lock_to_append(&self) -> Result<Box<dyn Lock>> {
        let lock = self.backend.lock()?;
        self.log.settle(&self.backend)?;
        self.refresh()?;
        Ok(lock)
    }

    /// Appends events durably, and applies them. The caller holds the lock.
    fn append(&self, events: &[Event]) -> Result<()> {
        let start = self.replayed.lock().position;
        let (mut position, mut bytes) = (start, Vec::new());
        for event in events {
            let record = codec::encode(&Record { secs: now_secs(), event: event.clone() });
            let (framed, next) = log_file::encode_bytes(position, &record);
            bytes.extend(framed);
            position = next;
        }
        self.log.append(&self.backend, start, &bytes)?;
        self.refresh()
    }
}

fn now_secs() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(folder: &Path) -> Registry {
        let registry = Registry::new(folder);
        registry.create("host:1", 0).unwrap();
        registry
    }

    #[test]
    fn an_invitation_works_once() {
        let folder = tempfile::tempdir().unwrap();
        let running = registry(folder.path());
        let operator = Registry::new(folder.path());
        let (secret, account) = (TokenSecret::random().unwrap(), "alice".parse::<Name>().unwrap());
        operator.invite(&secret, &account, Permissions::PUSH, Some(5), 60).unwrap();
        let (one, two) = (Hash([1; 32]), Hash([2; 32]));
        running.join(&secret, one).unwrap();
        running.join(&secret, one).unwrap();
        let error = running.join(&secret, two).unwrap_err();
        assert!(error.to_string().contains("has been used"), "{error}");
        assert_eq!(running.permissions(one, &account), Some(Permissions::PUSH));
        assert_eq!(running.permissions(two, &account), None);
        assert_eq!(running.quota(&account), Some(5));
        let again = Registry::new(folder.path());
        again.refresh().unwrap();
        assert_eq!(again.permissions(one, &account), Some(Permissions::PUSH));
    }

    #[test]
    fn unknown_and_expired_invitations_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path());
        let account = "alice".parse::<Name>().unwrap();
        let (old, never) = (TokenSecret::random().unwrap(), TokenSecret::random().unwrap());
        registry.invite(&old, &account, Permissions::ALL, None, -5).unwrap();
        assert!(registry.join(&old, Hash([1; 32])).unwrap_err().to_string().contains("expired"));
        assert!(registry.join(&never, Hash([1; 32])).unwrap_err().to_string().contains("unknown"));
    }
}
