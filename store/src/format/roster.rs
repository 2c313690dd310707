//! The roster: the list of the clients whose snapshots and packs count, signed by the admin key.
//!
//! Every change makes a whole new roster with the next number; the log keeps them all. Labels are sealed, because host
//! names are nothing that the server needs to know.
//!
//! [`verify_roster`] checks one roster, [`RosterView`] the chain of them.

mod view;

pub use view::RosterView;

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::{ClientId, RepoId},
        time::Time,
    },
    crypto::{VerifyingKey, signed::Signed},
};

/// One client of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RosterClient {
    /// Its id, derived from `public`.
    #[n(0)]
    pub id: ClientId,
    /// Its signing public key (Ed25519, 32 bytes).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub public: Vec<u8>,
    /// When it was added.
    #[n(2)]
    pub since: Time,
    /// From when on nothing of it counts any more, by the receive time of the server.
    #[n(3)]
    pub until: Option<Time>,
    /// Whether it holds the full key, and so belongs to the trusted domain.
    #[n(4)]
    pub is_trusted: bool,
    /// Its label (host name), sealed for full-key holders.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub label: Vec<u8>,
}

/// The roster. Stored as a [`crate::crypto::signed::Signed`] whose payload is this record behind [`Roster::HEADER`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Roster {
    /// The repository.
    #[n(0)]
    pub repo: RepoId,
    /// 1 for the first roster, one more for each that follows.
    #[n(1)]
    pub number: u64,
    /// The clients, in the order in which they came.
    #[n(2)]
    pub clients: Vec<RosterClient>,
}

impl Roster {
    /// Magic and version.
    pub const HEADER: Header = Header { what: "the roster", magic: *b"bkfsrost", version: 1 };

    /// Most clients.
    pub const CLIENTS_MAX: usize = 10_000;
    /// Largest signed roster in bytes.
    pub const SIZE_MAX: usize = 8 * 1024 * 1024;
    /// Longest sealed label in bytes.
    pub const LABEL_MAX: usize = 512;

    /// Finds a client.
    pub fn client(&self, id: ClientId) -> Option<&RosterClient> {
        self.clients.iter().find(|c| c.id == id)
    }
}

impl Roster {
    /// The client, if what it wrote counts when it was received then; [`Error::NotOnRoster`] names `what` otherwise.
    /// Only the store's clock is asked, so `since`, which the admin's machine wrote, does not enter.
    pub fn active_client(
        &self,
        client: ClientId,
        received: Time,
        what: impl FnOnce() -> String,
    ) -> Result<&RosterClient> {
        self.client(client)
            .filter(|c| c.until.is_none_or(|until| received < until))
            .ok_or_else(|| Error::NotOnRoster { what: what(), client })
    }
}

impl RosterClient {
    /// The key that the client signs with. Present in every roster that [`verify_roster`] let pass.
    pub fn key(&self) -> Result<VerifyingKey> {
        VerifyingKey::from_slice(&self.public).ok_or_else(|| damaged("a public key has a wrong length"))
    }
}

/// Reads a roster of the repository: size, signature, and that every client's id is that of its key, once.
pub fn verify_roster(bytes: &[u8], admin: &VerifyingKey, repo: RepoId) -> Result<Roster> {
    let what = Roster::HEADER.what;
    if bytes.len() > Roster::SIZE_MAX {
        return Err(Error::TooLarge { what, size: bytes.len() as u64, limit: Roster::SIZE_MAX as u64 });
    }
    let signed = Signed::decode(what, bytes)?;
    let roster: Roster = Roster::HEADER.decode(signed.verify(what, &Roster::HEADER.magic, admin)?)?;
    if roster.repo != repo {
        return Err(damaged("it is of another repository"));
    }
    if roster.number == 0 || roster.clients.len() > Roster::CLIENTS_MAX {
        return Err(damaged("its number or its length is out of bounds"));
    }
    let mut ids = std::collections::HashSet::with_capacity(roster.clients.len());
    for client in &roster.clients {
        if client.key()?.client_id() != client.id || !ids.insert(client.id) {
            return Err(damaged("a client's id does not fit its key, or comes twice"));
        }
        if client.label.len() > Roster::LABEL_MAX {
            return Err(damaged("a label is too long"));
        }
        let times = [Some(client.since), client.until];
        if times.into_iter().flatten().any(|t| t.nanos >= 1_000_000_000) {
            return Err(damaged("a time has too many nanoseconds"));
        }
    }
    Ok(roster)
}

fn damaged(reason: &str) -> Error {
    Error::damaged(Roster::HEADER.what, reason)
}
