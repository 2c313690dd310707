//! The records of the server's log.

use bkfs_store::base::id::{ClientId, Hash};
use minicbor::{Decode, Encode};

use super::quota::Limits;
use crate::{addresses::Addresses, permission::Permissions, url::Name};

/// The version of the server's folder, in its first record.
pub const FORMAT: u32 = 2;

/// What can happen to a server. A number is never given another meaning.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(flat)]
pub enum Event {
    /// The server was made. Always the first record, and only that.
    #[n(0)]
    Init {
        /// The version: see [`FORMAT`].
        #[n(0)]
        format: u32,
        /// The addresses that invitations carry.
        #[n(1)]
        addresses: Addresses,
        /// The floor: no network credential can make a younger snapshot unrecoverable.
        #[n(2)]
        protect_secs: u64,
    },
    /// An invitation was made. The first one makes the account.
    #[n(1)]
    Invite {
        /// The hash of the invitation's secret.
        #[n(0)]
        secret: Hash,
        /// The account that it opens.
        #[n(1)]
        account: Name,
        /// What a client that uses it may do.
        #[n(2)]
        can: Permissions,
        /// When it expires, in seconds of Unix time.
        #[n(3)]
        expires_secs: i64,
        /// How many clients may use it.
        #[n(4)]
        uses: u32,
        /// The only repository in which a client that uses it may do that; none for all.
        #[n(5)]
        repository: Option<Name>,
        /// The name of the client that uses it.
        #[n(6)]
        client_name: Option<Name>,
    },
    /// An invitation was used: a client joined.
    #[n(2)]
    Join {
        /// The hash of the invitation's secret.
        #[n(0)]
        secret: Hash,
        /// The fingerprint of the client's certificate.
        #[n(1)]
        client: Hash,
        /// The account that it joined.
        #[n(2)]
        account: Name,
    },
    /// The server got other addresses.
    #[n(4)]
    Addresses(#[n(0)] Addresses),
    /// An account got other limits.
    #[n(5)]
    Limit {
        /// The account.
        #[n(0)]
        account: Name,
        /// All its limits.
        #[n(1)]
        limits: Limits,
    },
    /// An account now shares the limits of another one, or of none.
    #[n(6)]
    Parent {
        /// The account.
        #[n(0)]
        account: Name,
        /// The other one.
        #[n(1)]
        parent: Option<Name>,
    },
    /// A client may do other things than before.
    #[n(7)]
    Permit {
        /// The account.
        #[n(0)]
        account: Name,
        /// The client.
        #[n(1)]
        client: Hash,
        /// The repository; none for all, whatever was recorded for one before.
        #[n(2)]
        repository: Option<Name>,
        /// All that it may do there.
        #[n(3)]
        can: Permissions,
    },
    /// A client may do nothing in an account any more, nor join it again.
    #[n(8)]
    Revoke {
        /// The account.
        #[n(0)]
        account: Name,
        /// The client.
        #[n(1)]
        client: Hash,
    },
    /// A client got a name.
    #[n(9)]
    Rename {
        /// The account.
        #[n(0)]
        account: Name,
        /// The client.
        #[n(1)]
        client: Hash,
        /// Its name.
        #[n(2)]
        name: Name,
    },
    /// An account was removed, with its clients, invitations and repositories.
    #[n(10)]
    Remove {
        /// The account.
        #[n(0)]
        account: Name,
    },
    /// A client showed that it holds the key of a client of a repository's roster, or acted as if it did.
    #[n(11)]
    Tie {
        /// The account.
        #[n(0)]
        account: Name,
        /// The repository.
        #[n(1)]
        repository: Name,
        /// The fingerprint of the client's certificate.
        #[n(2)]
        client: Hash,
        /// The client on the roster.
        #[n(3)]
        key: ClientId,
        /// Whether it has only sent a snapshot of that client.
        #[n(4)]
        by_snapshot: bool,
    },
    /// An invitation was withdrawn: it cannot be used any more.
    #[n(12)]
    Withdraw {
        /// The hash of the invitation's secret.
        #[n(0)]
        secret: Hash,
    },
}

/// A record: an event, its time, and who made it happen.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Record {
    /// Seconds of Unix time.
    #[n(0)]
    pub secs: i64,
    /// What happened.
    #[n(1)]
    pub event: Event,
    /// The fingerprint of the client whose request it was; none if it was the operator.
    #[n(2)]
    pub by: Option<Hash>,
}
