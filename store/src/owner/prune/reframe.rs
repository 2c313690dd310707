//! Rewriting mixed frames: those in which some chunks are live and many are dead. Chunks of small files share frames,
//! and the store cannot open a frame: as long as one chunk is needed, all of them stay. A key holder fetches such
//! frames, within a budget, and writes their live chunks into new packs, as a push would.
//!
//! This step deletes nothing. The new packs are durable before the store is told which chunks have moved, and the store
//! checks that for itself. If the prune ends in between, some chunks are stored twice. A frame that cannot be read
//! stays as it is.

mod copy_writer;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use self::copy_writer::{CopyWriter, Sealer};
use super::{progress::PruneProgress, report::PruneReport, sent_filters::SentFilters, session::Marked};
use crate::{
    access::{Lease, MixedFrame, MovedFrame, Push},
    base::{
        error::{Error, ErrorKind, Result},
        id::{ChunkId, PackId},
    },
    format::{frame::ChunkKind, keys::PushKey, loss::FrameBits, pack::PackUpload},
    owner::{reader::Reader, verdicts::Verdicts},
};

/// Bytes of frames that are fetched together.
const FETCHED_BYTES: u64 = 4 << 20;

/// What a frame takes of the budget at least, in bytes. Something is remembered of each.
const FRAME_COST_MIN: u64 = 1024;

/// Rewrites frames for one prune.
pub(super) struct Reframer<'a> {
    reader: &'a Reader,
    access: &'a dyn Push,
    sealer: Sealer<'a>,
    /// Bytes of frames that may still be fetched.
    budget: u64,
    /// Chunks that are in new packs, or in those that are being written.
    written: HashSet<ChunkId>,
    /// Frames that have not moved. The store would offer them again and again.
    kept: HashSet<(PackId, u32)>,
}

/// A mixed frame, and which of its chunks are live.
struct LiveFrame<'a> {
    frame: &'a MixedFrame,
    live: Vec<bool>,
}

impl LiveFrame<'_> {
    fn live_ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.frame.ids.iter().zip(&self.live).filter(|(_, live)| **live).map(|(id, _)| id)
    }

    fn place(&self) -> (PackId, u32) {
        (self.frame.pack, self.frame.frame)
    }
}

impl<'a> Reframer<'a> {
    /// Returns a reframer that fetches at most `budget` bytes of frames.
    pub fn new(reader: &'a Reader, access: &'a dyn Push, push_key: &'a PushKey, budget: u64) -> Result<Self> {
        let (written, kept) = (HashSet::new(), HashSet::new());
        Ok(Self { reader, access, sealer: Sealer::new(push_key)?, budget, written, kept })
    }

    /// Returns the frames that are best rewritten next; none if enough is done.
    pub fn next_frames(&self, marked: &Marked<'_>) -> Result<Vec<MixedFrame>> {
        let mut frames = marked.mixed_frames(self.budget)?;
        frames.retain(|frame| !self.kept.contains(&(frame.pack, frame.frame)));
        Ok(frames)
    }

    /// Rewrites `frames` and those that follow, until enough is done.
    pub fn run(
        mut self,
        marked: &Marked<'_>,
        mut frames: Vec<MixedFrame>,
        filters: &SentFilters,
        progress: &PruneProgress,
        report: &mut PruneReport,
    ) -> Result<()> {
        while !frames.is_empty() {
            let ids: Vec<ChunkId> = frames.iter().flat_map(|frame| &frame.ids).copied().collect();
            let mut live = filters.hold(&ids)?.into_iter();
            let live_of = |frame| LiveFrame { frame, live: live.by_ref().take(frame.ids.len()).collect() };
            let live_frames: Vec<LiveFrame<'_>> = frames.iter().map(live_of).collect();
            self.copy(&live_frames, marked.lease(), progress, report)?;
            let moved = self.moved(&live_frames);
            let bytes: u64 = frames.iter().map(|frame| u64::from(frame.len)).sum();
            // A store that offers frames of no length, for ever, comes to the end of the budget as well.
            let least = frames.len() as u64 * FRAME_COST_MIN;
            self.budget = self.budget.saturating_sub(bytes.max(least));
            report.reframed_read_bytes += bytes;
            report.reframed += moved.len() as u64;
            if !moved.is_empty() {
                marked.report_moved(moved)?;
            }
            frames = if self.budget > 0 { self.next_frames(marked)? } else { Vec::new() };
        }
        Ok(())
    }

    /// Writes the live chunks of frames into new packs, and stores them.
    fn copy(
        &mut self,
        frames: &[LiveFrame<'_>],
        lease: Lease,
        progress: &PruneProgress,
        report: &mut PruneReport,
    ) -> Result<()> {
        let Self { reader, access, sealer, written, .. } = self;
        let verdicts = Verdicts::new(&**reader.access(), reader.keys().full());
        let mut copying = Copying { reader, access: *access, lease, written, verdicts, report };
        let (mut data, mut trees) =
            (CopyWriter::new(sealer, ChunkKind::Data), CopyWriter::new(sealer, ChunkKind::Tree));
        let mut begin = 0;
        while begin < frames.len() {
            progress.fail_if_stopped()?;
            let kind = frames[begin].frame.kind;
            let mut bytes = 0;
            let together = frames[begin..].iter().take_while(|LiveFrame { frame, .. }| {
                bytes += u64::from(frame.len);
                frame.kind == kind && (bytes <= FETCHED_BYTES || bytes == u64::from(frame.len))
            });
            let group = &frames[begin..begin + together.count()];
            let writer = match kind {
                ChunkKind::Data => &mut data,
                ChunkKind::Tree => &mut trees,
            };
            copying.copy_group(group, writer)?;
            begin += group.len();
        }
        [data, trees].into_iter().filter_map(CopyWriter::finish).try_for_each(|pack| copying.store(&pack))?;
        copying.verdicts.finish();
        Ok(())
    }

    /// Returns the frames whose live chunks are all in new packs. Remembers the others as kept.
    fn moved(&mut self, frames: &[LiveFrame<'_>]) -> Vec<MovedFrame> {
        let moved = frames.iter().filter_map(|LiveFrame { frame, live }| {
            let mut chunks = FrameBits::none(frame.ids.len());
            let mut is_copied = true;
            for (n, id) in (0u32..).zip(&frame.ids).filter(|(n, _)| live[*n as usize]) {
                chunks.set(n);
                is_copied &= self.written.contains(id);
            }
            let moved = MovedFrame { pack: frame.pack, frame: frame.frame, chunks };
            (is_copied && !moved.chunks.is_empty()).then_some(moved)
        });
        let moved: Vec<MovedFrame> = moved.collect();
        let done: HashSet<(PackId, u32)> = moved.iter().map(|moved| (moved.pack, moved.frame)).collect();
        self.kept.extend(frames.iter().map(LiveFrame::place).filter(|place| !done.contains(place)));
        moved
    }
}

/// Copies chunks from mixed frames into new packs.
struct Copying<'a> {
    reader: &'a Reader,
    access: &'a dyn Push,
    /// The prune's lease, so that it keeps these packs.
    lease: Lease,
    written: &'a mut HashSet<ChunkId>,
    /// The new packs hold what was opened, so everybody may rely on them, as on the frames that were rewritten.
    verdicts: Verdicts<'a>,
    report: &'a mut PruneReport,
}

impl Copying<'_> {
    /// Fetches frames together, and copies their live chunks that were not copied yet.
    fn copy_group(&mut self, group: &[LiveFrame<'_>], writer: &mut CopyWriter<'_>) -> Result<()> {
        let mut chunks = match self.fetch(group) {
            Err(error) if group.len() > 1 && is_lost(&error) => {
                // One at a time, to save what can be read.
                return group.iter().try_for_each(|one| self.copy_group(std::slice::from_ref(one), writer));
            }
            Err(error) if is_lost(&error) => {
                let (pack, frame) = group[0].place();
                tracing::warn!(%pack, frame, %error, "cannot read a mixed frame; it stays as it is");
                self.report.frames_lost += 1;
                return Ok(());
            }
            chunks => chunks?,
        };
        for id in group.iter().flat_map(LiveFrame::live_ids) {
            if let Some(chunk) = chunks.remove(id) {
                let full = writer.add(*id, &chunk);
                self.written.insert(*id);
                if let Some(pack) = full {
                    self.store(&pack)?;
                }
            }
        }
        Ok(())
    }

    fn fetch(&self, group: &[LiveFrame<'_>]) -> Result<HashMap<ChunkId, Bytes>> {
        let mut seen = HashSet::new();
        let mut wanted: Vec<ChunkId> = group.iter().flat_map(LiveFrame::live_ids).copied().collect();
        wanted.retain(|id| !self.written.contains(id) && seen.insert(*id));
        let mut chunks = HashMap::with_capacity(wanted.len());
        self.reader.fetch(group[0].frame.kind, &wanted, 0, &mut |id, chunk| {
            if seen.contains(&id) {
                chunks.insert(id, chunk);
            }
        })?;
        Ok(chunks)
    }

    fn store(&mut self, pack: &PackUpload) -> Result<()> {
        self.report.reframed_written_bytes += pack.bytes.len() as u64;
        self.access.put_pack(self.lease, pack)?;
        self.verdicts.verify(pack.id);
        Ok(())
    }
}

/// Whether an error is about what is stored.
fn is_lost(error: &Error) -> bool {
    matches!(error, Error::ChunkMissing { .. }) || error.kind() == ErrorKind::Damaged
}
