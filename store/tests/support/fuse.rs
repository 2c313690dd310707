//! A store that answers some requests of a prune and then no more. To the store, this is how a pruner that dies or a
//! connection that breaks looks.

use std::{sync::Arc, time::Duration};

use bkfs_store::{
    Error, Result,
    access::*,
    base::id::*,
    crypto::Wrap,
    format::{keys::Slot, pack::PackUpload, snapshot::SnapshotObject},
};
use bytes::Bytes;

/// Passes on everything except the requests of a prune that are no longer allowed.
pub struct Fuse {
    access: Arc<dyn Access>,
    allows: Box<dyn Fn(&PruneRequest) -> bool + Send + Sync>,
    watch: Box<dyn Fn(&'static str) + Send + Sync>,
}

impl Fuse {
    pub fn new(access: Arc<dyn Access>, allows: impl Fn(&PruneRequest) -> bool + Send + Sync + 'static) -> Self {
        Self { access, allows: Box::new(allows), watch: Box::new(|_| {}) }
    }

    /// `watch` gets the name of each other call before that call is passed on.
    pub fn watched(self, watch: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        Self { watch: Box::new(watch), ..self }
    }
}

macro_rules! pass {
    ($trait:ident: $($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl $trait for Fuse {
            $(fn $name(&self, $($arg: $type),*) -> $result {
                (self.watch)(stringify!($name));
                self.access.$name($($arg),*)
            })*
        }
    };
}

pass! { Open:
    open(request: &OpenRequest) -> Result<Opened>;
    wait_log(len: u64, timeout: Duration) -> Result<u64>;
}

pass! { Read:
    read(request: &ReadRequest) -> Result<ReadReply>;
    wraps(keys: &[KeyId]) -> Result<Vec<Wrap>>;
    places(ids: &[ChunkId]) -> Result<Vec<u64>>;
    snapshots(from: u64, limit: u32) -> Result<Vec<SnapshotObject>>;
    log(from: u64, limit: u32) -> Result<Vec<Vec<u8>>>;
    mend(id: PackId) -> Result<Mending>;
    read_pack(id: PackId) -> Result<Bytes>;
    judge(verdict: &[u8]) -> Result<()>;
}

pass! { Push:
    has(client: Option<ClientId>, ids: &[ChunkId]) -> Result<Vec<bool>>;
    prove(client: Option<ClientId>, challenges: &[Challenge]) -> Result<Proofs>;
    put_pack(lease: Lease, pack: &PackUpload) -> Result<()>;
    commit(lease: Lease, snapshot: &[u8]) -> Result<Receipt>;
}

pass! { Manage:
    init(request: &InitRequest) -> Result<()>;
    put_roster(signed: &[u8]) -> Result<()>;
    put_seal_keys(signed: &[u8]) -> Result<()>;
    put_slot(slot: &Slot) -> Result<()>;
    remove_slot(id: SlotId) -> Result<()>;
    forget(request: &ForgetRequest) -> Result<ForgetReply>;
    unforget(ids: &[SnapshotId]) -> Result<()>;
}

impl Maintain for Fuse {
    fn packs(&self, after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>> {
        (self.watch)("packs");
        self.access.packs(after, limit)
    }

    fn prune(&self, request: &PruneRequest) -> Result<PruneReply> {
        match (self.allows)(request) {
            true => self.access.prune(request),
            false => Err(Error::Interrupted),
        }
    }

    fn repair(&self, request: &RepairRequest) -> Result<RepairReply> {
        (self.watch)("repair");
        self.access.repair(request)
    }
}
