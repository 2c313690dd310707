//! A store that answers some requests of a prune and then no more: what a pruner that dies, or a connection that breaks, looks like
//! from the store.

use std::{sync::Arc, time::Duration};

use bkfs_store::{
    Error, Result,
    access::*,
    base::id::*,
    crypto::Wrap,
    format::{keys::Slot, pack::PackUpload, snapshot::SnapshotObject},
};
use bytes::Bytes;

/// Passes on everything but those requests of a prune that are not allowed any more.
pub struct Fuse {
    access: Arc<dyn Access>,
    allows: Box<dyn Fn(&PruneRequest) -> bool + Send + Sync>,
    watch: Box<dyn Fn(&'static str) + Send + Sync>,
}

impl Fuse {
    pub fn new(access: Arc<dyn Access>, allows: impl Fn(&PruneRequest) -> bool + Send + Sync + 'static) -> Self {
        Self { access, allows: Box::new(allows), watch: Box::new(|_| {}) }
    }

    /// Is told the name of each other call before it is passed on.
    pub fn watched(self, watch: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        Self { watch: Box::new(watch), ..self }
    }
}

macro_rules! pass {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Access for Fuse {
            $(fn $name(&self, $($arg: $type),*) -> $result {
                (self.watch)(stringify!($name));
                self.access.$name($($arg),*)
            })*

            fn prune(&self, request: &PruneRequest) -> Result<PruneReply> {
                match (self.allows)(request) {
                    true => self.access.prune(request),
                    false => Err(Error::Interrupted),
                }
            }
        }
    };
}

pass! {
    init(request: &InitRequest) -> Result<()>;
    open(request: &OpenRequest) -> Result<Opened>;
    has(ids: &[ChunkId]) -> Result<Vec<bool>>;
    put_pack(lease: Lease, pack: &PackUpload) -> Result<()>;
    places(ids: &[ChunkId]) -> Result<Vec<u64>>;
    read(request: &ReadRequest) -> Result<ReadReply>;
    wraps(keys: &[KeyId]) -> Result<Vec<Wrap>>;
    commit(lease: Lease, snapshot: &[u8]) -> Result<Receipt>;
    snapshots(from: u64, limit: u32) -> Result<Vec<SnapshotObject>>;
    forget(request: &ForgetRequest) -> Result<ForgetReply>;
    unforget(ids: &[SnapshotId]) -> Result<()>;
    log(from: u64, limit: u32) -> Result<Vec<Vec<u8>>>;
    wait_log(len: u64, timeout: Duration) -> Result<u64>;
    put_roster(signed: &[u8]) -> Result<()>;
    put_slot(slot: &Slot) -> Result<()>;
    remove_slot(id: SlotId) -> Result<()>;
    packs(after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>>;
    read_pack(id: PackId) -> Result<Bytes>;
    mend(id: PackId) -> Result<Mending>;
    repair(request: &RepairRequest) -> Result<RepairReply>;
}
