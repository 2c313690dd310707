//! The records of the server's log.

use bkfs_store::base::id::Hash;
use minicbor::{Decode, Encode};

use crate::{permission::Permissions, url::Name};

/// The version of the server's folder, in its first record.
pub const FORMAT: u32 = 1;

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
        /// The address that invitations carry.
        #[n(1)]
        address: String,
        /// The floor: no network credential can make a younger snapshot unrecoverable.
        #[n(2)]
        protect_secs: u64,
    },
    /// An invitation was made.
    #[n(1)]
    Invite {
        /// The hash of the invitation's secret.
        #[n(0)]
        secret: Hash,
        /// The account that it opens.
        #[n(1)]
        account: Name,
        /// What the client that uses it may do.
        #[n(2)]
        can: Permissions,
        /// When it expires, in seconds of Unix time.
        #[n(3)]
        expires_secs: i64,
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
        /// What it may do there.
        #[n(3)]
        can: Permissions,
    },
    /// An account got a quota.
    #[n(3)]
    Quota {
        /// The account.
        #[n(0)]
        account: Name,
        /// How many bytes it may store.
        #[n(1)]
        bytes: u64,
    },
}

/// A record: an event and its time.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Record {
    /// Seconds of Unix time.
    #[n(0)]
    pub secs: i64,
    /// What happened.
    #[n(1)]
    pub event: Event,
}
