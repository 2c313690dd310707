//! Frames become packs and packs are stored: compression and sealing on all cores, packing in order, uploading beside it.
//!
//! Packs hold their frames in the order in which they were given, whatever order the threads finish in. What waits
//! between the stages is bounded by count: frames are small and of one size, and packs are handed over one by one.

use std::{
    num::NonZero,
    sync::Arc,
    thread::{Scope, ScopedJoinHandle},
};

use bkfs_store::{
    Error, Result,
    access::{Access, Lease},
    base::id::ChunkId,
    crypto::{DataKey, Wrap},
    format::{
        frame::{ChunkKind, FrameBuilder},
        keys::PushKey,
        pack::{PackUpload, PackWriter},
    },
};
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::{
    dedup::Dedup,
    progress::{self, Progress},
};

/// Frames between the assembler and the packer.
const FRAMES: usize = 32;
/// Packs on their way at once: one is written by the store while the next one travels.
const UPLOADS: usize = 2;

/// What the stages need.
pub struct Sealer<'a> {
    pub(super) access: &'a Arc<dyn Access>,
    pub(super) key: &'a PushKey,
    pub(super) data_key: &'a DataKey,
    pub(super) wrap: &'a Wrap,
    pub(super) dedup: &'a Dedup,
    pub(super) progress: &'a Progress,
    pub(super) lease: Lease,
    pub(super) level: i32,
    /// What stopped the stages.
    pub(super) failed: Mutex<Option<Error>>,
}

/// The stages at work.
pub struct Sealing<'scope> {
    jobs: Sender<Job>,
    order: Sender<Sealed>,
    packer: ScopedJoinHandle<'scope, Result<u64>>,
}

/// The stages have stopped; [`Sealing::finish`] says why.
pub struct Stopped;

struct Job {
    kind: ChunkKind,
    frame: FrameBuilder,
    sealed: Sender<Vec<u8>>,
}

/// A frame in its place in the order.
struct Sealed {
    kind: ChunkKind,
    ids: Vec<ChunkId>,
    bytes: Receiver<Vec<u8>>,
}

struct Upload {
    pack: PackUpload,
    ids: Vec<ChunkId>,
}

impl<'a> Sealer<'a> {
    /// Starts all threads.
    pub fn start<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>) -> Sealing<'scope> {
        let (jobs, jobs_out) = bounded::<Job>(FRAMES);
        let (order, order_out) = bounded::<Sealed>(FRAMES);
        for _ in 0..std::thread::available_parallelism().map_or(2, NonZero::get) {
            let jobs = jobs_out.clone();
            scope.spawn(move || {
                for job in jobs {
                    let bytes = job.frame.seal(self.key.repo, job.kind, self.data_key, self.level);
                    // Nobody waits for it if the packer has stopped.
                    let _ = job.sealed.send(bytes);
                }
            });
        }
        let packer = scope.spawn(move || self.pack(scope, order_out));
        Sealing { jobs, order, packer }
    }

    /// Packs in order; returns how many bytes were stored.
    fn pack<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>, order: Receiver<Sealed>) -> Result<u64> {
        let (uploads, uploads_out) = bounded::<Upload>(0);
        let mut threads = Vec::new();
        for _ in 0..UPLOADS {
            let uploads = uploads_out.clone();
            threads.push(scope.spawn(move || self.upload(&uploads)));
        }
        drop(uploads_out);
        let mut data = Packing::new(ChunkKind::Data);
        let mut tree = Packing::new(ChunkKind::Tree);
        let mut is_running = true;
        for frame in order {
            let Ok(bytes) = frame.bytes.recv() else { break };
            let packing = match frame.kind {
                ChunkKind::Data => &mut data,
                ChunkKind::Tree => &mut tree,
            };
            is_running = packing.add(self, &bytes, frame.ids, &uploads);
            if !is_running {
                break;
            }
        }
        if is_running {
            data.send(&uploads);
            tree.send(&uploads);
        }
        drop(uploads);
        let joined = threads.into_iter().map(|thread| thread.join());
        let stored = joined.map(|stored| stored.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum();
        match self.failed.lock().take() {
            Some(error) => Err(error),
            None => Ok(stored),
        }
    }

    fn upload(&self, uploads: &Receiver<Upload>) -> u64 {
        let mut stored = 0;
        for upload in uploads {
            let len = upload.pack.bytes.len() as u64;
            if self.failed.lock().is_some() {
                return stored;
            }
            if let Err(error) = self.access.put_pack(self.lease, &upload.pack) {
                self.failed.lock().get_or_insert(error);
                return stored;
            }
            stored += len;
            progress::add(&self.progress.bytes_stored, len);
            self.dedup.acknowledged(&upload.ids);
        }
        stored
    }
}

impl Sealing<'_> {
    /// Gives a frame into the order.
    pub fn frame(&self, kind: ChunkKind, frame: FrameBuilder, ids: Vec<ChunkId>) -> Result<(), Stopped> {
        let (sealed, bytes) = bounded(1);
        self.order.send(Sealed { kind, ids, bytes }).map_err(|_| Stopped)?;
        self.jobs.send(Job { kind, frame, sealed }).map_err(|_| Stopped)
    }

    /// Waits until every pack is stored; returns their bytes.
    pub fn finish(self) -> Result<u64> {
        drop((self.jobs, self.order));
        self.packer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A pack in the making, with what it will be known to hold.
struct Packing {
    kind: ChunkKind,
    pack: Option<PackWriter>,
    ids: Vec<ChunkId>,
}

impl Packing {
    fn new(kind: ChunkKind) -> Self {
        Self { kind, pack: None, ids: Vec::new() }
    }

    /// Adds a frame; false if nobody takes packs any more.
    fn add(&mut self, sealer: &Sealer<'_>, bytes: &[u8], ids: Vec<ChunkId>, uploads: &Sender<Upload>) -> bool {
        if self.pack.as_ref().is_some_and(|pack| !pack.fits(bytes.len(), ids.len())) && !self.send(uploads) {
            return false;
        }
        let pack = self.pack.get_or_insert_with(|| {
            let mut pack = PackWriter::new(self.kind, sealer.key.repo, &sealer.key.signing);
            pack.add_wrap(sealer.wrap);
            pack
        });
        pack.add(bytes, &ids);
        self.ids.extend(ids);
        !pack.is_full() || self.send(uploads)
    }

    fn send(&mut self, uploads: &Sender<Upload>) -> bool {
        match self.pack.take() {
            Some(pack) => {
                let ids = std::mem::take(&mut self.ids);
                uploads.send(Upload { pack: pack.finish(), ids }).is_ok()
            }
            None => true,
        }
    }
}
