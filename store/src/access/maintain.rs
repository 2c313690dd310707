//! Maintaining a store.

use bytes::Bytes;
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
}

/// Maintaining a store: listing and fetching whole packs, reclaiming space, repairing damage.
pub trait Maintain: Send + Sync {
    /// Lists the packs whose ids follow `after`, in the order of their ids; at most `limit`. Returns an empty list
    /// after the last pack. Packs that were swept or dropped are not listed.
    fn packs(&self, after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>>;

    /// Returns a whole pack as it is stored. Its bytes may be damaged. Fails with [`crate::Error::PackDamaged`] if its
    /// file is missing.
    fn read_pack(&self, id: PackId) -> Result<Bytes>;

    /// Does one step of a prune. Each request states its reply and what is durable on return.
    fn prune(&self, request: &PruneRequest) -> Result<PruneReply>;

    /// Does one step of a repair. Each request states its reply and what is durable on return.
    fn repair(&self, request: &RepairRequest) -> Result<RepairReply>;
}
