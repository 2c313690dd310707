//! Maintaining a remote repository.

use bkfs_store::{
    Result,
    access::{Maintain, PackInfo, PruneReply, PruneRequest, RepairReply, RepairRequest},
    base::id::PackId,
    format::pack::PACK_MAX,
};
use bytes::Bytes;

use super::{Remote, exchange::expect_reply};
use crate::message::{Call, Reply};

impl Maintain for Remote {
    fn packs(&self, after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>> {
        expect_reply!(self.call(Call::Packs(after, limit))?, Reply::Packs(packs) => packs)
    }

    fn read_pack(&self, id: PackId) -> Result<Bytes> {
        let parse = |reply| expect_reply!(reply, Reply::Pack(len) if len <= PACK_MAX as u64 => ((), len as usize));
        self.call_with_bulk(Call::ReadPack(id), parse).map(|((), bytes)| bytes)
    }

    fn prune(&self, request: &PruneRequest) -> Result<PruneReply> {
        expect_reply!(self.call(Call::Prune(request.clone()))?, Reply::Pruned(reply) => reply)
    }

    fn repair(&self, request: &RepairRequest) -> Result<RepairReply> {
        expect_reply!(self.call(Call::Repair(request.clone()))?, Reply::Repaired(reply) => reply)
    }
}
