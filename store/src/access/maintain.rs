//! Maintaining a store.

use minicbor::{Decode, Encode};

use super::{
    prune::{PruneReply, PruneRequest},
    repair::{RepairReply, RepairRequest},
};
use crate::base::{error::Result, id::PackId};

/// A pack in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PackInfo {
    /// The pack.
    #[n(0)]
    pub id: PackId,
    /// Its length in bytes.
    #[n(1)]
    pub len: u64,
    /// Whether its file is missing or has another length, or its parity's file is missing or has a wrong length. That
    /// shows without reading them.
    #[n(2)]
    #[cbor(default)]
    pub is_suspect: bool,
    /// What key holders have said of it.
    #[n(3)]
    #[cbor(default)]
    pub judged: Judged,
}

/// What key holders have said of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum Judged {
    /// Nothing.
    #[n(0)]
    #[default]
    Not,
    /// All its frames hold what its table names.
    #[n(1)]
    Verified,
    /// Some of its frames do not. They are not used.
    #[n(2)]
    Refused,
}

/// Maintaining a store: listing packs, reclaiming space, repairing damage.
pub trait Maintain: Send + Sync {
    /// Lists the packs whose ids follow `after`, in the order of their ids; at most `limit`. Returns an empty list
    /// after the last pack. Packs that were swept or dropped are not listed.
    fn packs(&self, after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>>;

    /// Does one step of a prune. Each request states its reply and what is durable on return.
    fn prune(&self, request: &PruneRequest) -> Result<PruneReply>;

    /// Does one step of a repair. Each request states its reply and what is durable on return.
    fn repair(&self, request: &RepairRequest) -> Result<RepairReply>;
}
