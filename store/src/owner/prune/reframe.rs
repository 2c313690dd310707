//! Writing frames again of which little is live. Chunks of small files share frames, which the store cannot open: as long as one of them is
//! needed, the others stay. A key holder fetches such frames, within a budget, and writes what is live into new packs, as a push would.
//!
//! Nothing is let go here. The new packs are durable before the store is told which chunks are elsewhere now, and the store looks for itself whether
//! they are. Whatever ends this in between leaves some chunks twice; a frame that cannot be read is left as it is.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{Progress, PruneReport, Pruner, sent_filters::Told, unexpected};
use crate::{
    access::{Access, Lease, MixedFrame, MovedFrame, PruneLimits, PruneReply, PruneRequest},
    base::{
        error::{Error, ErrorKind, Result},
        id::{ChunkId, PackId},
    },
    crypto::{DataKey, Wrap},
    format::{
        compress::LEVEL_DEFAULT,
        frame::{ChunkKind, FrameBuilder, GATHER_BYTES},
        keys::PushKey,
        loss::FrameBits,
        pack::PackWriter,
    },
    owner::reader::Reader,
};

/// Bytes of frames that are fetched at once.
const FETCH: u64 = 4 << 20;
/// Plaintext bytes in a frame of pages, and chunks in any: as a push has them.
const PAGES: usize = 256 * 1024;
const CHUNKS: usize = 4096;

/// Writes frames again for one prune.
pub(super) struct Reframer<'a> {
    reader: &'a Reader,
    access: &'a dyn Access,
    push: &'a PushKey,
    prune: u64,
    limits: PruneLimits,
    /// Bytes of frames that may still be fetched.
    left: u64,
    key: DataKey,
    wrap: Wrap,
    /// What lies in new packs.
    written: HashSet<ChunkId>,
    /// What could not be read.
    failed: HashSet<(PackId, u32)>,
}

/// A frame and a pack in the making, of one kind.
struct Output {
    kind: ChunkKind,
    frame: FrameBuilder,
    ids: Vec<ChunkId>,
    pack: Option<PackWriter>,
}

impl<'a> Reframer<'a> {
    pub fn new(pruner: &Pruner<'a>, push: &'a PushKey, prune: u64, limits: PruneLimits, bytes: u64) -> Result<Self> {
        let key = DataKey::random();
        let wrap = push.seal()?.wrap(push.repo, &key);
        let (written, failed) = (HashSet::new(), HashSet::new());
        let Pruner { reader, access, .. } = *pruner;
        Ok(Self { reader, access, push, prune, limits, left: bytes, key, wrap, written, failed })
    }

    /// The frames that are best written again next; none if enough is done.
    pub fn next(&self) -> Result<Vec<MixedFrame>> {
        let request = PruneRequest::Mixed { prune: self.prune, limits: self.limits, bytes: self.left };
        let PruneReply::Mixed(mut frames) = self.access.prune(&request)? else { return Err(unexpected()) };
        frames.retain(|frame| !self.failed.contains(&(frame.pack, frame.frame)));
        Ok(frames)
    }

    /// Writes frames again until enough is done.
    pub fn run(
        mut self,
        mut frames: Vec<MixedFrame>,
        told: &Told,
        progress: &Progress,
        report: &mut PruneReport,
    ) -> Result<()> {
        while !frames.is_empty() {
            let moved = self.write(&frames, told, progress, report)?;
            let len: u64 = frames.iter().map(|frame| u64::from(frame.len)).sum();
            self.left = self.left.saturating_sub(len);
            report.reframed_read_bytes += len;
            report.reframed += moved.len() as u64;
            if !moved.is_empty() {
                match self.access.prune(&PruneRequest::Moved { prune: self.prune, frames: moved })? {
                    PruneReply::Done => {}
                    _ => return Err(unexpected()),
                }
            }
            frames = if self.left > 0 { self.next()? } else { Vec::new() };
        }
        Ok(())
    }

    /// Writes what is live in frames into packs, and stores those.
    fn write(
        &mut self,
        frames: &[MixedFrame],
        told: &Told,
        progress: &Progress,
        report: &mut PruneReport,
    ) -> Result<Vec<MovedFrame>> {
        let ids: Vec<ChunkId> = frames.iter().flat_map(|frame| &frame.ids).copied().collect();
        let mut live = told.live(&ids)?.into_iter();
        let mut live_of = |frame: &MixedFrame| live.by_ref().take(frame.ids.len()).collect::<Vec<bool>>();
        let frames: Vec<(&MixedFrame, Vec<bool>)> = frames.iter().map(|frame| (frame, live_of(frame))).collect();
        let mut outputs = [Output::new(ChunkKind::Data), Output::new(ChunkKind::Tree)];
        let mut begin = 0;
        while begin < frames.len() {
            progress.go_on()?;
            let mut bytes = 0;
            let same = frames[begin..].iter().take_while(|(frame, _)| {
                bytes += u64::from(frame.len);
                frame.kind == frames[begin].0.kind && (bytes <= FETCH || bytes == u64::from(frame.len))
            });
            let group = &frames[begin..begin + same.count()];
            let output = match group[0].0.kind {
                ChunkKind::Data => &mut outputs[0],
                ChunkKind::Tree => &mut outputs[1],
            };
            self.add(group, output, report)?;
            begin += group.len();
        }
        for mut output in outputs {
            output.end_frame(self);
            self.store(&mut output, report)?;
        }
        let moved = frames.iter().filter_map(|(frame, live)| {
            let mut chunks = FrameBits::none(frame.ids.len());
            let mut all = true;
            for (n, id) in (0u32..).zip(&frame.ids).filter(|(n, _)| live[*n as usize]) {
                chunks.set(n);
                all &= self.written.contains(id);
            }
            let moved = MovedFrame { pack: frame.pack, frame: frame.frame, chunks };
            (all && !moved.chunks.is_empty()).then_some(moved)
        });
        let moved: Vec<MovedFrame> = moved.collect();
        // What has not moved would be offered again and again.
        let done: HashSet<(PackId, u32)> = moved.iter().map(|moved| (moved.pack, moved.frame)).collect();
        let all = frames.iter().map(|(frame, _)| (frame.pack, frame.frame));
        self.failed.extend(all.filter(|place| !done.contains(place)));
        Ok(moved)
    }

    /// Fetches some frames, and adds what is live and not yet written.
    fn add(&mut self, group: &[(&MixedFrame, Vec<bool>)], output: &mut Output, report: &mut PruneReport) -> Result<()> {
        let mut chunks = match self.fetch(group) {
            Err(error) if group.len() > 1 && is_lost(&error) => {
                // One by one, to get what can be had.
                return group.iter().try_for_each(|one| self.add(std::slice::from_ref(one), output, report));
            }
            Err(error) if is_lost(&error) => {
                tracing::warn!(pack = %group[0].0.pack, frame = group[0].0.frame, %error, "a frame is not written again");
                report.frames_lost += 1;
                return Ok(());
            }
            chunks => chunks?,
        };
        for id in group.iter().flat_map(|(frame, live)| frame.ids.iter().zip(live)).filter(|(_, live)| **live) {
            if let Some(chunk) = chunks.remove(id.0) {
                output.add(self, *id.0, &chunk);
                self.written.insert(*id.0);
                if output.pack.as_ref().is_some_and(PackWriter::is_full) {
                    self.store(output, report)?;
                }
            }
        }
        Ok(())
    }

    fn fetch(&self, group: &[(&MixedFrame, Vec<bool>)]) -> Result<HashMap<ChunkId, Bytes>> {
        let live = group.iter().flat_map(|(frame, live)| frame.ids.iter().zip(live));
        let wanted = live.filter(|(id, live)| **live && !self.written.contains(id)).map(|(id, _)| *id);
        let mut wanted: Vec<ChunkId> = wanted.collect();
        let mut seen = HashSet::new();
        wanted.retain(|id| seen.insert(*id));
        let mut chunks = HashMap::with_capacity(wanted.len());
        self.reader.fetch(group[0].0.kind, &wanted, 0, &mut |id, chunk| {
            if seen.contains(&id) {
                chunks.insert(id, chunk);
            }
        })?;
        Ok(chunks)
    }

    /// Stores the pack in the making. It stays for this prune whatever the store is told.
    fn store(&self, output: &mut Output, report: &mut PruneReport) -> Result<()> {
        let Some(pack) = output.pack.take() else { return Ok(()) };
        let upload = pack.finish();
        report.reframed_written_bytes += upload.bytes.len() as u64;
        self.access.put_pack(Lease { session: self.prune, generation: 0 }, &upload)
    }
}

/// Whether an error is about what is stored.
fn is_lost(error: &Error) -> bool {
    matches!(error, Error::ChunkMissing { .. }) || error.kind() == ErrorKind::Damaged
}

impl Output {
    fn new(kind: ChunkKind) -> Self {
        Self { kind, frame: FrameBuilder::new(), ids: Vec::new(), pack: None }
    }

    fn add(&mut self, by: &Reframer<'_>, id: ChunkId, chunk: &[u8]) {
        let limit = if self.kind == ChunkKind::Data { GATHER_BYTES } else { PAGES };
        if self.frame.len() + chunk.len() > limit || self.ids.len() >= CHUNKS {
            self.end_frame(by);
        }
        self.frame.push(chunk);
        self.ids.push(id);
    }

    fn end_frame(&mut self, by: &Reframer<'_>) {
        if self.ids.is_empty() {
            return;
        }
        let (frame, ids) = (std::mem::take(&mut self.frame), std::mem::take(&mut self.ids));
        let pack = self.pack.get_or_insert_with(|| {
            let mut pack = PackWriter::new(self.kind, by.push.repo, &by.push.signing);
            pack.add_wrap(&by.wrap);
            pack
        });
        pack.add(&frame.seal(by.push.repo, self.kind, &by.key, LEVEL_DEFAULT), &ids);
    }
}
