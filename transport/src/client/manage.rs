//! Managing a remote repository.

use bkfs_store::{
    Result,
    access::{ForgetReply, ForgetRequest, InitRequest, Manage},
    base::id::{SlotId, SnapshotId},
    format::keys::Slot,
};

use super::{Remote, exchange::expect_reply};
use crate::message::{Call, Reply};

impl Manage for Remote {
    fn init(&self, request: &InitRequest) -> Result<()> {
        expect_reply!(self.call_once(Call::Init(request.clone()))?, Reply::Done => ())
    }

    fn put_roster(&self, signed: &[u8]) -> Result<()> {
        expect_reply!(self.call(Call::PutRoster(signed.to_vec()))?, Reply::Done => ())
    }

    fn put_seal_keys(&self, signed: &[u8]) -> Result<()> {
        expect_reply!(self.call(Call::PutSealKeys(signed.to_vec()))?, Reply::Done => ())
    }

    fn put_slot(&self, slot: &Slot) -> Result<()> {
        expect_reply!(self.call(Call::PutSlot(slot.clone()))?, Reply::Done => ())
    }

    fn remove_slot(&self, id: SlotId) -> Result<()> {
        expect_reply!(self.call(Call::RemoveSlot(id))?, Reply::Done => ())
    }

    fn forget(&self, request: &ForgetRequest) -> Result<ForgetReply> {
        expect_reply!(self.call(Call::Forget(request.clone()))?, Reply::Forgotten(reply) => reply)
    }

    fn unforget(&self, snapshots: &[SnapshotId]) -> Result<()> {
        expect_reply!(self.call(Call::Unforget(snapshots.to_vec()))?, Reply::Done => ())
    }
}
