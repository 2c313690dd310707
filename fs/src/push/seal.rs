//! Sealing, packing and uploading: frames become packs, and packs are stored.
//!
//! Frames are compressed and sealed on all cores, packed in order, and uploaded at the same time. A pack holds its
//! frames in the order in which they were given, whatever order the sealing threads finish in. What waits between the
//! stages is bounded by count: frames are small and of one size, and packs are handed over one by one.

use std::{
    io,
    ops::ControlFlow,
    sync::Arc,
    thread::{Builder, Scope, ScopedJoinHandle},
};

use bkfs_store::{
    Error, Result,
    access::{Lease, Push},
    base::id::ChunkId,
    crypto::{DataKey, Wrap},
    format::{
        compress::LEVEL_DEFAULT,
        frame::{ChunkKind, FrameBuilder},
        keys::PushKey,
        pack::{PackUpload, PackWriter},
    },
};
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::{
    context::PushContext,
    dedup::Dedup,
    progress::{self, PushProgress},
};
use crate::pool::{WorkerPool, cores};

/// Frames between the assembler and the packer.
const FRAMES: usize = 32;
/// Packs that are uploaded at a time: the store writes one while the next one travels.
const UPLOADS: usize = 2;

/// The data key of one round, and its wrap.
pub struct WrappedKey {
    /// The key that frames are sealed with.
    pub key: DataKey,
    /// The same, sealed to the repository's public key.
    pub wrap: Wrap,
}

impl WrappedKey {
    /// A new random data key.
    pub fn random(key: &PushKey) -> Result<Self> {
        let data_key = DataKey::random();
        let wrap = key.seal()?.wrap(key.repo, &data_key);
        Ok(Self { key: data_key, wrap })
    }
}

/// What the stages from sealing to uploading share.
pub struct Sealer<'a> {
    access: &'a Arc<dyn Push>,
    key: &'a PushKey,
    data_key: &'a WrappedKey,
    dedup: &'a Dedup,
    progress: &'a PushProgress,
    lease: Lease,
    level: i32,
    /// Packs are made and counted, but not sent.
    is_dry_run: bool,
    /// The error that stopped the stages.
    failed: Mutex<Option<Error>>,
}

/// The running stages.
pub struct Sealing<'scope> {
    jobs: Sender<SealJob>,
    order: Sender<OrderedFrame>,
    packer: ScopedJoinHandle<'scope, Result<()>>,
    failed: &'scope Mutex<Option<Error>>,
}

/// The stages have stopped. [`Sealing::finish`] returns the reason.
pub struct Stopped;

struct SealJob {
    kind: ChunkKind,
    frame: FrameBuilder,
    sealed: Sender<Vec<u8>>,
}

/// A frame at its place in the order; its bytes follow when a thread has sealed them.
struct OrderedFrame {
    kind: ChunkKind,
    ids: Vec<ChunkId>,
    bytes: Receiver<Vec<u8>>,
}

struct Upload {
    pack: PackUpload,
    ids: Vec<ChunkId>,
}

impl<'a> Sealer<'a> {
    /// Stages that seal with `data_key` and store packs under `lease`. Acknowledged chunks are reported to `dedup`.
    pub fn new(context: &'a PushContext<'_>, data_key: &'a WrappedKey, dedup: &'a Dedup, lease: Lease) -> Self {
        let level = context.options.level;
        Self {
            access: &context.access,
            key: context.key,
            data_key,
            dedup,
            progress: &context.progress,
            lease,
            level: if level == 0 { LEVEL_DEFAULT } else { level },
            is_dry_run: context.options.dry_run,
            failed: Mutex::default(),
        }
    }

    /// Starts all threads.
    pub fn start<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>) -> io::Result<Sealing<'scope>> {
        let seal = move |job: SealJob| {
            let bytes = job.frame.seal(self.key.repo, job.kind, &self.data_key.key, self.level);
            // If the packer has stopped, the bytes are not wanted.
            let _ = job.sealed.send(bytes);
            ControlFlow::Continue(())
        };
        let jobs = WorkerPool::full(scope, "seal", cores(), FRAMES, seal)?.into_sender();
        let (order, in_order) = bounded(FRAMES);
        let packer = Builder::new().name("pack".to_owned()).spawn_scoped(scope, move || self.pack(scope, in_order))?;
        Ok(Sealing { jobs, order, packer, failed: &self.failed })
    }

    /// Packs frames in order.
    fn pack<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        frames: Receiver<OrderedFrame>,
    ) -> Result<()> {
        let upload = move |upload| self.upload(upload);
        let mut uploads = WorkerPool::growing(scope, "upload", UPLOADS, 0, upload);
        let mut data = OpenPack::new(ChunkKind::Data);
        let mut tree = OpenPack::new(ChunkKind::Tree);
        let mut is_running = true;
        for frame in frames {
            let Ok(bytes) = frame.bytes.recv() else { break };
            let pack = match frame.kind {
                ChunkKind::Data => &mut data,
                ChunkKind::Tree => &mut tree,
            };
            is_running = pack.add(self, &bytes, frame.ids, &mut uploads);
            if !is_running {
                break;
            }
        }
        if is_running {
            data.send(&mut uploads);
            tree.send(&mut uploads);
        }
        uploads.finish();
        match self.failed.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Stores a pack. After the first error it breaks, and every uploading thread ends.
    fn upload(&self, upload: Upload) -> ControlFlow<()> {
        let len = upload.pack.bytes.len() as u64;
        if self.failed.lock().is_some() {
            return ControlFlow::Break(());
        }
        if self.is_dry_run {
            progress::add(&self.progress.bytes_stored, len);
            return ControlFlow::Continue(());
        }
        if let Err(error) = self.access.put_pack(self.lease, &upload.pack) {
            self.failed.lock().get_or_insert(error);
            return ControlFlow::Break(());
        }
        progress::add(&self.progress.bytes_stored, len);
        self.dedup.acknowledged(&upload.ids);
        ControlFlow::Continue(())
    }
}

impl Sealing<'_> {
    /// Adds a frame to the order.
    pub fn frame(&self, kind: ChunkKind, frame: FrameBuilder, ids: Vec<ChunkId>) -> Result<(), Stopped> {
        let (sealed, bytes) = bounded(1);
        self.order.send(OrderedFrame { kind, ids, bytes }).map_err(|_| Stopped)?;
        self.jobs.send(SealJob { kind, frame, sealed }).map_err(|_| Stopped)
    }

    /// Whether the stages have failed, so that nothing more is wanted.
    pub fn has_failed(&self) -> bool {
        self.failed.lock().is_some() || self.packer.is_finished()
    }

    /// Waits until every pack is stored.
    pub fn finish(self) -> Result<()> {
        drop((self.jobs, self.order));
        self.packer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A pack that is being filled, and the chunks that it will hold.
struct OpenPack {
    kind: ChunkKind,
    pack: Option<PackWriter>,
    ids: Vec<ChunkId>,
}

impl OpenPack {
    fn new(kind: ChunkKind) -> Self {
        Self { kind, pack: None, ids: Vec::new() }
    }

    /// Adds a frame; false if packs are not taken any more.
    fn add(
        &mut self,
        sealer: &Sealer<'_>,
        bytes: &[u8],
        ids: Vec<ChunkId>,
        uploads: &mut WorkerPool<'_, Upload>,
    ) -> bool {
        if self.pack.as_ref().is_some_and(|pack| !pack.fits(bytes.len(), ids.len())) && !self.send(uploads) {
            return false;
        }
        let pack = self.pack.get_or_insert_with(|| {
            let mut pack = PackWriter::new(self.kind, sealer.key.repo, &sealer.key.signing);
            pack.add_wrap(&sealer.data_key.wrap);
            pack
        });
        pack.add(bytes, &ids);
        self.ids.extend(ids);
        !pack.is_full() || self.send(uploads)
    }

    /// Hands the pack over, if there is one; false if packs are not taken any more.
    fn send(&mut self, uploads: &mut WorkerPool<'_, Upload>) -> bool {
        match self.pack.take() {
            Some(pack) => {
                let ids = std::mem::take(&mut self.ids);
                uploads.submit(Upload { pack: pack.finish(), ids }).is_ok()
            }
            None => true,
        }
    }
}
