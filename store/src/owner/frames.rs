//! Opening frames with the full key.

use bytes::Bytes;

use super::keyring::KeyRing;
use crate::{
    access::SealedFrame,
    base::{
        error::{Error, Result},
        id::ChunkId,
    },
    format::frame::{self, ChunkKind},
};

/// Opens a frame and computes the ids of its chunks.
pub(crate) fn open(keys: &KeyRing, kind: ChunkKind, sealed: &SealedFrame) -> Result<Vec<(ChunkId, Bytes)>> {
    let key = frame::key_id(&sealed.bytes).ok_or_else(|| frame_damaged(sealed, "it is too short"))?;
    let key = keys.data_key(key).map_err(|error| match error {
        // It is more likely that the frame's key id is damaged than that a key is lost.
        Error::KeyMissing { .. } => frame_damaged(sealed, error.to_string()),
        error => error,
    })?;
    let chunks = frame::open(&sealed.bytes, keys.repo(), kind, &key).map_err(|e| frame_damaged(sealed, e))?;
    let ids = keys.ids();
    let name = |chunk: &Bytes| match kind {
        ChunkKind::Data => ids.data_id(chunk),
        ChunkKind::Tree => ids.tree_id(chunk),
    };
    Ok(chunks.into_iter().map(|chunk| (name(&chunk), chunk)).collect())
}

/// The error of a frame that does not open or does not hold what it should.
pub(crate) fn frame_damaged(frame: &SealedFrame, reason: impl Into<String>) -> Error {
    Error::FrameDamaged { pack: frame.pack, frame: frame.frame, reason: reason.into() }
}
