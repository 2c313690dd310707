//! The layout of packs: bounds, lengths and magics.

use crate::{
    base::id::{ClientId, KeyId, RepoId},
    crypto::{NONCE_LEN, SIGNATURE_LEN, TAG_LEN},
};

/// A writer ends a pack when it has grown to this many bytes.
pub const PACK_TARGET: usize = 16 * 1024 * 1024;
/// No pack is longer, in bytes.
pub const PACK_MAX: usize = 64 * 1024 * 1024;
/// No sealed frame is longer, in bytes.
pub const FRAME_MAX: usize = crate::format::frame::FRAME_MAX;
/// No sealed frame is shorter: key id, nonce and tag.
pub const FRAME_MIN: usize = KeyId::LEN + NONCE_LEN + TAG_LEN;
/// How many frames a pack has at most.
pub const FRAMES_MAX: usize = 65_536;
/// How many chunks one frame has at most.
pub const FRAME_CHUNKS_MAX: usize = crate::format::frame::CHUNKS_MAX;
/// How many chunks a pack has at most.
pub const CHUNKS_MAX: usize = 262_144;
/// How many data keys a pack's frames use at most.
pub const WRAPS_MAX: usize = 64;
/// The longest encoded wrap, in bytes.
pub const WRAP_MAX: usize = 4096;
/// Length of the header in bytes.
pub const HEADER_LEN: usize = 16;
/// Length of the footer in bytes.
pub const FOOTER_LEN: usize = 64;

pub(crate) const MAGIC: [u8; 8] = *b"bkfspack";
pub(crate) const FOOTER_MAGIC: [u8; 8] = *b"bkfspend";
pub(crate) const VERSION: u16 = 1;
/// The table's fixed parts: before the wraps, and after the ids.
pub(super) const TABLE_HEAD: usize = 8 + RepoId::LEN + ClientId::LEN;
pub(super) const TABLE_TAIL: usize = 32 + SIGNATURE_LEN;
/// What a signature is bound to.
pub(super) const CONTEXT: &[u8; 8] = b"bkfspack";
