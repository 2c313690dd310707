//! Writes chunks of one kind into new frames and packs, as a push would.

use crate::{
    base::{error::Result, id::ChunkId},
    crypto::{DataKey, Wrap},
    format::{
        compress::LEVEL_DEFAULT,
        frame::{ChunkKind, FrameBuilder, GATHER_BYTES},
        keys::PushKey,
        pack::{PackUpload, PackWriter},
    },
};

/// Plaintext bytes in a frame of pages at most: as in a push.
const PAGES_BYTES: usize = 256 * 1024;
/// Chunks in a frame at most: as in a push.
const CHUNKS_MAX: usize = 4096;

/// What new frames and packs are sealed and signed with.
pub(super) struct Sealer<'a> {
    push: &'a PushKey,
    key: DataKey,
    wrap: Wrap,
}

impl<'a> Sealer<'a> {
    /// Returns a sealer with a new data key.
    pub fn new(push: &'a PushKey) -> Result<Self> {
        let key = DataKey::random();
        let wrap = push.seal()?.wrap(push.repo, &key);
        Ok(Self { push, key, wrap })
    }
}

/// A frame and a pack to which chunks of one kind are added.
pub(super) struct CopyWriter<'a> {
    sealer: &'a Sealer<'a>,
    kind: ChunkKind,
    frame: FrameBuilder,
    /// The chunks in the frame.
    ids: Vec<ChunkId>,
    pack: Option<PackWriter>,
}

impl<'a> CopyWriter<'a> {
    pub fn new(sealer: &'a Sealer<'a>, kind: ChunkKind) -> Self {
        Self { sealer, kind, frame: FrameBuilder::new(), ids: Vec::new(), pack: None }
    }

    /// Adds a chunk. Returns the pack if it is full; chunks that are still in the frame are not in that pack.
    pub fn add(&mut self, id: ChunkId, chunk: &[u8]) -> Option<PackUpload> {
        let limit = if self.kind == ChunkKind::Data { GATHER_BYTES } else { PAGES_BYTES };
        if self.frame.len() + chunk.len() > limit || self.ids.len() >= CHUNKS_MAX {
            self.end_frame();
        }
        self.frame.push(chunk);
        self.ids.push(id);
        self.pack.take_if(|pack| pack.is_full()).map(PackWriter::finish)
    }

    /// Returns the last pack; none if there is nothing left to store.
    pub fn finish(mut self) -> Option<PackUpload> {
        self.end_frame();
        self.pack.map(PackWriter::finish)
    }

    fn end_frame(&mut self) {
        if self.ids.is_empty() {
            return;
        }
        let Sealer { push, key, wrap } = self.sealer;
        let (frame, ids) = (std::mem::take(&mut self.frame), std::mem::take(&mut self.ids));
        let pack = self.pack.get_or_insert_with(|| {
            let mut pack = PackWriter::new(self.kind, push.repo, &push.signing);
            pack.add_wrap(wrap);
            pack
        });
        pack.add(&frame.seal(push.repo, self.kind, key, LEVEL_DEFAULT), &ids);
    }
}
