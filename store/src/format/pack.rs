//! Packs: files of sealed frames with a table of contents; the unit of upload and of storage.
//!
//! A pack's id is the BLAKE3 of all its bytes before the footer, so anyone can verify a pack without keys. The
//! uploader's signature covers the table, and the table contains a hash of everything before it. All numbers are
//! little-endian:
//!
//! ```text
//! header, 16 bytes   magic "bkfspack" | version u16 = 1 | kind u8 | 5 zero bytes
//! frames             sealed frames back to back; a frame begins with the 32-byte id of its data key
//! table              kind u8 | origin u8 | wraps u16 | frames u32 | repository 16 | client 16
//!                    wraps:  each length u16 and the wrap's CBOR
//!                    frames: each length u32 | chunks u16 | 0 u16
//!                    ids:    32 bytes a chunk, frame after frame
//!                    BLAKE3 of header and frames, 32 | Ed25519 signature over the table so far, 64
//! footer, 64 bytes   table's offset u64 | table's length u32 | version u16 | 10 zero bytes | pack id 32 | "bkfspend"
//! ```
//!
//! The *origin* is 0 for a pack that a client made, and 1 for a pack into which the store has copied a client's frames.
//! The store has no client's key. In place of the signature, it writes the BLAKE3 of the table so far and 32 zero
//! bytes: they reveal damage to a table that is read without its pack. The first such packs have 64 zero bytes instead,
//! and can only be verified whole. A pack of origin 1 is accepted only from the store's own disk.
//!
//! A reader reads the footer first, then the table, then frames. The parser trusts nothing and verifies structure and
//! bounds. It leaves one check to its caller: whether the client is on the roster ([`PackTable::verify`]). The frames
//! are sealed; whether they hold the listed chunks is known only after opening them.

mod layout;
mod parse;
mod proof;
mod table;
mod write;

#[cfg(test)]
mod tests;

pub use layout::{
    CHUNKS_MAX, FOOTER_LEN, FRAME_CHUNKS_MAX, FRAME_MAX, FRAME_MIN, FRAMES_MAX, HEADER_LEN, PACK_MAX, PACK_TARGET,
    WRAP_MAX, WRAPS_MAX,
};
pub use parse::{FOOTER_READ, Footer, Pack};
pub use proof::{PackProof, Proven, ProvenPack};
pub use table::{FrameEntry, PackTable};
pub use write::{PackUpload, PackWriter};
