//! Keeping a store in order.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::{PruneReply, PruneRequest, RepairReply, RepairRequest};
use crate::base::{error::Result, id::PackId};

/// A pack in the store, as `check` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PackInfo {
    /// The pack.
    #[n(0)]
    pub id: PackId,
    /// Its length in bytes.
    #[n(1)]
    pub len: u64,
}

/// What keeps a store in order: listing and fetching whole packs, reclaiming space, repairing damage.
pub trait Maintain: Send + Sync {
    /// The packs whose ids follow `after`, in the order of their ids; at most `limit`.
    fn packs(&self, after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>>;

    /// A whole pack, as stored.
    fn read_pack(&self, id: PackId) -> Result<Bytes>;

    /// One step of a prune, by a holder of the full key. What is durable on return is said at each request.
    fn prune(&self, request: &PruneRequest) -> Result<PruneReply>;

    /// One step of a repair, by a holder of the full key. What is durable on return is said at each request.
    fn repair(&self, request: &RepairRequest) -> Result<RepairReply>;
}
