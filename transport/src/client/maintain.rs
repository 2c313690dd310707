//! Maintaining a remote repository.

use bkfs_store::{
    Result,
    access::{Maintain, PackInfo, PruneReply, PruneRequest, RepairReply, RepairRequest},
    base::id::PackId,
};

use super::{Remote, exchange::expect_reply};
use crate::message::{Call, Reply};

impl Maintain for Remote {
    fn packs(&self, after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>> {
        expect_reply!(self.call(Call::Packs(after, limit))?, Reply::Packs(packs) => packs)
    }

    fn prune(&self, request: &PruneRequest) -> Result<PruneReply> {
        expect_reply!(self.call(Call::Prune(request.clone()))?, Reply::Pruned(reply) => reply)
    }

    fn repair(&self, request: &RepairRequest) -> Result<RepairReply> {
        expect_reply!(self.call(Call::Repair(request.clone()))?, Reply::Repaired(reply) => reply)
    }
}
