//! The roster: the list of the clients whose snapshots and packs count, signed by the admin key.
//!
//! Every change makes a whole new roster with the next number; the log keeps them all. Labels are sealed, because host
//! names are nothing that the server needs to know.

use minicbor::{Decode, Encode};

use crate::{
    codec::Header,
    id::{ClientId, RepoId},
    tree::Time,
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
    pub trusted: bool,
    /// Its label (host name), sealed for full-key holders.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub label: Vec<u8>,
}

/// The roster. Stored as a [`crate::signed::Signed`] whose payload is this record behind [`Roster::HEADER`].
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

    /// Finds a client.
    pub fn client(&self, id: ClientId) -> Option<&RosterClient> {
        self.clients.iter().find(|c| c.id == id)
    }
}
