//! The server's log, and what follows from it: accounts, invitations, clients and what they may do.
//!
//! Framed and chained as a repository's log is, and kept in two files like it. Only hashes of invitations' secrets are kept.
//! A record that is torn was never acknowledged and is cut off; one that fits the chain in neither file stops the server
//! from starting.

use std::{collections::HashMap, path::Path};

use bkfs_store::{
    Error, Result,
    base::{codec, id::Hash},
    format::log::file::{self as log_file, Position},
    repository::{
        backend::{Backend, LocalBackend, Lock},
        log::pair::LogPair,
    },
};
use minicbor::{Decode, Encode};
use parking_lot::Mutex;

use crate::{Permissions, token::TokenSecret, url::Name};

const FORMAT: u32 = 1;

/// What can happen to a server. Numbers are never used again.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(flat)]
enum Event {
    /// The server was made; always and only the first record.
    #[n(0)]
    Init {
        #[n(0)]
        format: u32,
        #[n(1)]
        address: String,
        /// The floor: nothing younger can be made unrecoverable by a network credential.
        #[n(2)]
        protect_secs: u64,
    },
    /// An invitation was made.
    #[n(1)]
    Invite {
        #[n(0)]
        secret: Hash,
        #[n(1)]
        account: Name,
        #[n(2)]
        can: Permissions,
        #[n(3)]
        expires_secs: i64,
    },
    /// An invitation was used: a client joined.
    #[n(2)]
    Join {
        #[n(0)]
        secret: Hash,
        #[n(1)]
        client: Hash,
        #[n(2)]
        account: Name,
        #[n(3)]
        can: Permissions,
    },
    /// An account may store so many bytes.
    #[n(3)]
    Quota {
        #[n(0)]
        account: Name,
        #[n(1)]
        bytes: u64,
    },
}

/// A record: when, and what.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
struct Record {
    #[n(0)]
    secs: i64,
    #[n(1)]
    event: Event,
}

#[derive(Default)]
struct State {
    at: Position,
    address: Option<String>,
    protect_secs: u64,
    invitations: HashMap<Hash, Invitation>,
    clients: HashMap<(Hash, Name), Permissions>,
    quotas: HashMap<Name, u64>,
}

struct Invitation {
    account: Name,
    can: Permissions,
    expires_secs: i64,
    used: bool,
}

/// Reads and appends the server's log.
pub struct Registry {
    backend: LocalBackend,
    log: LogPair,
    state: Mutex<State>,
}

impl Registry {
    /// The registry of a server's folder; nothing is read yet.
    pub fn new(data: &Path) -> Self {
        Self { backend: LocalBackend::new(data), log: LogPair::new("log", "log.2"), state: Mutex::default() }
    }

    /// Writes the first record. What a creation that was cut short left behind is removed.
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

    /// Makes both files of the log whole, where a crash or damage left them different.
    pub fn settle(&self) -> Result<()> {
        match self.log.is_settled(&self.backend)? {
            true => Ok(()),
            false => self.writing().map(drop),
        }
    }

    /// Takes in what was appended since.
    pub fn refresh(&self) -> Result<()> {
        let mut state = self.state.lock();
        if !self.log.fits(&self.backend, state.at)? {
            return Err(Error::damaged("the server's log", "it is shorter than it was, or another one"));
        }
        loop {
            let records = self.log.read(&self.backend, state.at)?;
            if records.is_empty() {
                return Ok(());
            }
            for (raw, next) in records {
                let record: Record = codec::decode("a record of the server's log", &raw)?;
                state.apply(record.event)?;
                state.at = next;
            }
        }
    }

    /// Looks at the whole log, and makes both its files whole. Returns whether that was needed.
    pub fn verify(&self) -> Result<bool> {
        self.log.verify(&self.backend).map(|(_, is_mended)| is_mended)
    }

    /// The lock, for whoever will append: the log is whole and taken in.
    fn writing(&self) -> Result<Box<dyn Lock>> {
        let lock = self.backend.lock()?;
        self.log.settle(&self.backend)?;
        self.refresh()?;
        Ok(lock)
    }

    /// The address that invitations carry.
    pub fn address(&self) -> Result<String> {
        self.state.lock().address.clone().ok_or_else(|| Error::damaged("the server's log", "it has no beginning"))
    }

    /// The floor in seconds, which the server's repositories keep to.
    pub fn protect_secs(&self) -> u64 {
        self.state.lock().protect_secs
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
        let _lock = self.writing()?;
        self.append(&events)
    }

    /// Uses an invitation up. The same client may repeat itself, having lost the answer.
    pub fn join(&self, secret: &TokenSecret, client: Hash) -> Result<()> {
        let secret = secret.hash();
        let _lock = self.writing()?;
        let refused = |why: &str| {
            Err(Error::NoPermission {
                operation: format!("join with this token: {why}; ask the operator for a new one"),
            })
        };
        let event = {
            let state = self.state.lock();
            match state.invitations.get(&secret) {
                None => return refused("it is unknown here"),
                Some(invitation) if invitation.used => {
                    return match state.clients.contains_key(&(client, invitation.account.clone())) {
                        true => Ok(()),
                        false => refused("it has been used"),
                    };
                }
                Some(invitation) if invitation.expires_secs < now_secs() => return refused("it has expired"),
                Some(Invitation { account, can, .. }) => {
                    Event::Join { secret, client, account: account.clone(), can: *can }
                }
            }
        };
        self.append(&[event])
    }

    /// What a client may do in an account; none if it never joined it.
    pub fn permissions(&self, client: Hash, account: &Name) -> Option<Permissions> {
        self.state.lock().clients.get(&(client, account.clone())).copied()
    }

    /// Whether a client has joined any account.
    pub fn is_known(&self, client: Hash) -> bool {
        self.state.lock().clients.keys().any(|(known, _)| *known == client)
    }

    /// How many bytes an account may store, if there is a limit.
    pub fn quota(&self, account: &Name) -> Option<u64> {
        self.state.lock().quotas.get(account).copied()
    }

    /// Appends events, durably, and takes them in. The caller has the lock from [`Registry::writing`].
    fn append(&self, events: &[Event]) -> Result<()> {
        let start = self.state.lock().at;
        let (mut at, mut bytes) = (start, Vec::new());
        for event in events {
            let record = codec::encode(&Record { secs: now_secs(), event: event.clone() });
            let (framed, next) = log_file::frame_bytes(at, &record);
            bytes.extend(framed);
            at = next;
        }
        self.log.append(&self.backend, start, &bytes)?;
        self.refresh()
    }
}

impl State {
    fn apply(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Init { format, .. } if format > FORMAT => {
                return Err(Error::NewerVersion { what: "the server's folder", found: format, known: FORMAT });
            }
            Event::Init { address, protect_secs, .. } => {
                self.address = Some(address);
                self.protect_secs = protect_secs;
            }
            Event::Invite { secret, account, can, expires_secs } => {
                self.invitations.insert(secret, Invitation { account, can, expires_secs, used: false });
            }
            Event::Join { secret, client, account, can } => {
                if let Some(invitation) = self.invitations.get_mut(&secret) {
                    invitation.used = true;
                }
                // Joining again replaces what was allowed before.
                self.clients.insert((client, account), can);
            }
            Event::Quota { account, bytes } => {
                self.quotas.insert(account, bytes);
            }
        }
        Ok(())
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
    fn an_invitation_serves_once() {
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
