//! A repository through the seam: each request, and the part that answers it.
//!
//! Most requests ask for the configuration first: that fails if there is no repository.

use std::time::Duration;

use bytes::Bytes;

use super::{Repository, init::init, prune::Caller};
use crate::{
    access::{
        CONTESTED_MAX, Challenge, ForgetReply, ForgetRequest, InitRequest, LOG_RECORDS_MAX, Lease, Maintain, Manage,
        Mending, OPENED_SNAPSHOTS_MAX, Open, OpenRequest, Opened, PackInfo, Proofs, PruneReply, PruneRequest, Push,
        QUARANTINE_MAX, Read, ReadReply, ReadRequest, Receipt, RepairReply, RepairRequest,
    },
    base::{
        error::Result,
        id::{ChunkId, ClientId, KeyId, PackId, SlotId, SnapshotId},
    },
    crypto::{self, Wrap},
    format::{keys::Slot, loss::Lost, pack::PackUpload, snapshot::SnapshotObject},
};

/// How many snapshots one request returns at most.
const SNAPSHOTS_MAX: u32 = 1024;
/// How many packs one request lists at most.
const PACKS_MAX: u32 = 65_536;

impl Open for Repository {
    fn open(&self, request: &OpenRequest) -> Result<Opened> {
        let config = self.objects.config()?;
        self.packs.read_in()?;
        if let Err(error) = self.prunes.finish_moves() {
            // As on a full disk or one that can only be read. It must be readable all the same, and swept packs only
            // take room.
            tracing::warn!(%error, "swept packs cannot be moved away");
        }
        // The generation is read before `now`: what is condemned after that is either told as lost, or comes after
        // `now`.
        let generation = self.log.generation()?;
        let now = self.log.seen()?;
        let head_at_seen = match &request.seen {
            Some(seen) => self.log.head_at(seen.log_len)?,
            None => None,
        };
        let seen =
            request.seen.filter(|seen| seen.incarnation == now.incarnation && head_at_seen == Some(seen.log_head));
        let lost = seen.map_or(Ok(Lost::Everything), |seen| self.prunes.lost_since(seen.log_len))?;
        let last = match &request.client {
            Some(client) => self.snapshots.newest_of(client)?,
            None => None,
        };
        let standing = match request.client {
            Some(client) => Some(self.log.roster()?.standing(client)),
            None => None,
        };
        Ok(Opened {
            config: config.signed.clone(),
            roster: self.log.signed_roster()?,
            slots: self.objects.slots()?,
            now,
            head_at_seen,
            lease: Lease { session: u64::from_le_bytes(crypto::random()), generation },
            lost,
            chunks: self.packs.chunk_count()?,
            last,
            snapshots: self.snapshots.newest(OPENED_SNAPSHOTS_MAX)?,
            protect_secs: self.snapshots.floor().secs(),
            time: self.log.now()?,
            standing,
            room: None,
            seal_keys: self.log.signed_seal_keys()?,
        })
    }

    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64> {
        self.log.wait(len, timeout)
    }
}

impl Read for Repository {
    fn read(&self, request: &ReadRequest) -> Result<ReadReply> {
        self.packs.read(request)
    }

    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        self.packs.wraps(keys)
    }

    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        self.packs.sort_keys(ids)
    }

    fn snapshots(&self, from: u64, limit: u32) -> Result<Vec<SnapshotObject>> {
        self.objects.config()?;
        self.snapshots.from(from, limit.min(SNAPSHOTS_MAX) as usize)
    }

    fn log(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>> {
        self.objects.config()?;
        self.log.follow()?;
        self.log.records(from, LOG_RECORDS_MAX.min(limit as usize))
    }

    fn mend(&self, id: PackId) -> Result<Mending> {
        self.objects.config()?;
        self.packs.mend(id)
    }

    fn read_pack(&self, id: PackId) -> Result<Bytes> {
        self.packs.bytes(id)
    }

    fn judge(&self, verdict: &[u8]) -> Result<()> {
        self.packs.judge(verdict)
    }
}

impl Push for Repository {
    fn has(&self, client: Option<ClientId>, ids: &[ChunkId]) -> Result<Vec<bool>> {
        self.packs.has(client, ids)
    }

    fn prove(&self, client: Option<ClientId>, challenges: &[Challenge]) -> Result<Proofs> {
        self.packs.prove(client, challenges)
    }

    fn put_pack(&self, lease: Lease, upload: &PackUpload) -> Result<()> {
        self.packs.put(lease, upload)
    }

    fn commit(&self, lease: Lease, snapshot: &[u8]) -> Result<Receipt> {
        let receipt = self.snapshots.commit(lease, snapshot, None)?;
        // The process may be about to end, and the medium to be unplugged.
        self.packs.wait_for_parity();
        Ok(receipt)
    }
}

impl Manage for Repository {
    fn init(&self, request: &InitRequest) -> Result<()> {
        init(&self.objects, &self.log, request)
    }

    fn put_roster(&self, signed: &[u8]) -> Result<()> {
        self.log.put_roster(signed)
    }

    fn put_seal_keys(&self, signed: &[u8]) -> Result<()> {
        self.log.put_seal_keys(signed)
    }

    fn put_slot(&self, slot: &Slot) -> Result<()> {
        self.objects.config()?;
        self.objects.put_slot(slot)
    }

    fn remove_slot(&self, id: SlotId) -> Result<()> {
        self.objects.config()?;
        self.objects.remove_slot(id)
    }

    fn forget(&self, request: &ForgetRequest) -> Result<ForgetReply> {
        self.snapshots.forget(request)
    }

    fn unforget(&self, snapshots: &[SnapshotId]) -> Result<()> {
        self.snapshots.unforget(snapshots)
    }
}

impl Maintain for Repository {
    fn packs(&self, after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>> {
        self.objects.config()?;
        self.packs.list(after, limit.min(PACKS_MAX) as usize)
    }

    fn prune(&self, request: &PruneRequest) -> Result<PruneReply> {
        self.prune_for(request, Caller::staying())
    }

    fn repair(&self, request: &RepairRequest) -> Result<RepairReply> {
        self.objects.config()?;
        match request {
            RepairRequest::Verify { pack, dry_run: false } => self.packs.mend(*pack).map(RepairReply::Verified),
            RepairRequest::Verify { pack, dry_run: true } => self.packs.preview_mend(*pack).map(RepairReply::Verified),
            RepairRequest::Quarantine { after } => {
                self.packs.quarantined_to_repair(*after, QUARANTINE_MAX).map(RepairReply::Quarantine)
            }
            RepairRequest::Contested { after } => {
                self.packs.contested(*after, CONTESTED_MAX).map(RepairReply::Contested)
            }
            RepairRequest::Drop { pack, keep } => self.maintenance.drop_pack(*pack, keep).map(RepairReply::Dropped),
        }
    }
}
