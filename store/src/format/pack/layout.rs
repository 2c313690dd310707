//! The layout of packs: bounds, lengths and magics.

use crate::{
    base::id::{ClientId, KeyId, RepoId},
    crypto::{NONCE_LEN, SIGNATURE_LEN, TAG_LEN},
};

/// A writer ends a pack that has reached this many bytes.
pub const PACK_TARGET: usize = 16 * 1024 * 1024;
/// The longest pack in bytes.
pub const PACK_MAX: usize = 64 * 1024 * 1024;
/// The longest sealed frame in bytes.
pub const FRAME_MAX: usize = crate::format::frame::FRAME_MAX;
/// The shortest sealed frame in bytes: key id, nonce and tag.
pub const FRAME_MIN: usize = KeyId::LEN + NONCE_LEN + TAG_LEN;
/// Maximum number of frames in a pack.
pub const FRAMES_MAX: usize = 65_536;
/// Maximum number of chunks in one frame.
pub const FRAME_CHUNKS_MAX: usize = crate::format::frame::CHUNKS_MAX;
/// Maximum number of chunks in a pack.
pub const CHUNKS_MAX: usize = 262_144;
/// Maximum number of data keys that the frames of a pack use.
pub const WRAPS_MAX: usize = 64;
/// The longest encoded wrap, in bytes.
pub const WRAP_MAX: usize = 4096;
/// The length of the header in bytes.
pub const HEADER_LEN: usize = 16;
/// The length of the footer in bytes.
pub const FOOTER_LEN: usize = 64;

pub(crate) const MAGIC: [u8; 8] = *b"bkfspack";
pub(crate) const FOOTER_MAGIC: [u8; 8] = *b"bkfspend";
pub(crate) const VERSION: u16 = 1;
/// Lengths of the fixed parts of the table in bytes: before the wraps, and after the ids.
pub(super) const TABLE_HEAD: usize = 8 + RepoId::LEN + ClientId::LEN;
pub(super) const TABLE_TAIL: usize = 32 + SIGNATURE_LEN;
/// The context of the signature.
pub(super) const CONTEXT: &[u8; 8] = b"bkfspack";
