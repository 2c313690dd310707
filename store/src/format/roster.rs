//! The roster: the list of the clients whose snapshots and packs count, signed by the admin key.
//!
//! Every change creates a complete new roster with the next number; the log keeps all of them. Labels are sealed,
//! because the server does not need to know host names.
//!
//! [`verify_roster`] checks one roster, [`RosterView`] checks a chain of rosters.

mod domains;
mod endorsement;
mod standing;
mod view;

pub use domains::Domains;
pub use endorsement::{Endorsement, EndorsementSignature, Signers};
pub use standing::Standing;
pub use view::RosterView;

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::{ClientId, DomainId, RepoId},
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
    /// The public part of its signing key (Ed25519, 32 bytes).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub public: Vec<u8>,
    /// When it was added.
    #[n(2)]
    pub since: Time,
    /// When it was removed. What the server receives from it at that time or later does not count.
    #[n(3)]
    pub until: Option<Time>,
    /// The trust domain that it belongs to. It never changes: packs belong to the domain of the client that made them.
    #[n(4)]
    pub domain: DomainId,
    /// Its label (the host name), sealed for holders of the full key.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub label: Vec<u8>,
    /// The admin's signature under its public key: see [`Endorsement`]. Not verified with the roster, whose signature
    /// covers it.
    #[n(6)]
    pub endorsement: EndorsementSignature,
}

/// The roster. Stored as a [`crate::crypto::signed::Signed`] whose payload is this record behind [`Roster::HEADER`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Roster {
    /// The repository.
    #[n(0)]
    pub repo: RepoId,
    /// The roster's number: 1 for the first, and one more for each that follows.
    #[n(1)]
    pub number: u64,
    /// The clients, in the order in which they were added.
    #[n(2)]
    pub clients: Vec<RosterClient>,
}

impl Roster {
    /// Magic and version.
    pub const HEADER: Header = Header { what: "the roster", magic: *b"bkfsrost", version: 2 };

    /// Maximum number of clients on a roster.
    pub const CLIENTS_MAX: usize = 10_000;
    /// The largest signed roster in bytes.
    pub const SIZE_MAX: usize = 8 * 1024 * 1024;
    /// The longest sealed label in bytes.
    pub const LABEL_MAX: usize = 512;

    /// Returns the client with this id.
    pub fn client(&self, id: ClientId) -> Option<&RosterClient> {
        self.clients.iter().find(|c| c.id == id)
    }

    /// Returns the client if objects that the store received from it at `received` count. Otherwise returns
    /// [`Error::NotOnRoster`] for the object that `what` names. `received` is a time of the store's clock; `since`,
    /// which the admin's machine wrote, is ignored.
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
    /// Returns the key that verifies the client's signatures. It never fails for a roster that [`verify_roster`]
    /// returned.
    pub fn key(&self) -> Result<VerifyingKey> {
        VerifyingKey::from_slice(&self.public).ok_or_else(|| damaged("a public key has the wrong length"))
    }
}

/// Decodes a roster of the repository. Checks its size, its signature, and that each client's id belongs to its key and
/// is unique.
pub fn verify_roster(bytes: &[u8], admin: &VerifyingKey, repo: RepoId) -> Result<Roster> {
    let what = Roster::HEADER.what;
    if bytes.len() > Roster::SIZE_MAX {
        return Err(Error::TooLarge { what, size: bytes.len() as u64, limit: Roster::SIZE_MAX as u64 });
    }
    let signed = Signed::decode(what, bytes)?;
    let roster: Roster = Roster::HEADER.decode(signed.verify(what, &Roster::HEADER.magic, admin)?)?;
    if roster.repo != repo {
        return Err(damaged("it belongs to another repository"));
    }
    if roster.number == 0 || roster.clients.len() > Roster::CLIENTS_MAX {
        return Err(damaged("its number or its number of clients is out of bounds"));
    }
    let mut ids = std::collections::HashSet::with_capacity(roster.clients.len());
    for client in &roster.clients {
        if client.key()?.client_id() != client.id || !ids.insert(client.id) {
            return Err(damaged("a client's id does not belong to its key, or is not unique"));
        }
        if client.label.len() > Roster::LABEL_MAX {
            return Err(damaged("a label is too long"));
        }
    }
    Ok(roster)
}

fn damaged(reason: &str) -> Error {
    Error::damaged(Roster::HEADER.what, reason)
}
