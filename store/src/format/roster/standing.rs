//! Whether a client is on the roster.

use minicbor::{Decode, Encode};

use super::Roster;
use crate::base::{id::ClientId, time::Time};

/// What the roster says of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Standing {
    /// What it stores counts.
    #[n(0)]
    Active,
    /// It was ended at this time.
    #[n(1)]
    Ended(#[n(0)] Time),
    /// It is not on the roster.
    #[n(2)]
    Unknown,
}

impl Roster {
    /// Returns whether a client is one whose objects count from now on. Clocks differ: a client that the roster ends
    /// counts as ended at once.
    pub fn standing(&self, id: ClientId) -> Standing {
        match self.client(id).map(|client| client.until) {
            None => Standing::Unknown,
            Some(None) => Standing::Active,
            Some(Some(until)) => Standing::Ended(until),
        }
    }
}
