//! Proofs that a store holds chunks: some bytes of their frames, and what ties these to the signature of a pack.
//!
//! The signature covers the BLAKE3 of the table before it, and the table contains the BLAKE3 of header and frames. So
//! two [slices](crate::format::slice) are a proof: one of the table, with the chunk's id and all that locates its
//! frame, and one of header and frames, with the bytes that were asked for. The pack's id proves less: it is not
//! signed, and a table that is genuine can be put behind frames that are not.
//!
//! A pack that the store made has no signature ([`super`]). Then a proof says only that the store shows a pack that
//! lists the chunk: it may have made it up. Whether it holds the chunk is known to those who open it.

use minicbor::{Decode, Encode, bytes::ByteArray};

use super::{
    layout::{
        CHUNKS_MAX, CONTEXT, FRAME_CHUNKS_MAX, FRAME_MAX, FRAME_MIN, FRAMES_MAX, HEADER_LEN, TABLE_HEAD, WRAP_MAX,
        WRAPS_MAX,
    },
    table::PackTable,
};
use crate::{
    base::{
        error::{Error, Result},
        id::{ChunkId, ClientId, PackId},
    },
    crypto::SIGNATURE_LEN,
    format::{
        roster::Signers,
        slice::{OpenSlice, Slice, Source, Span},
    },
};

/// The length of a frame's entry in the table.
const FRAME_ENTRY: usize = 8;

/// What a store shows of one pack.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PackProof {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// Of the table before its signature.
    #[n(1)]
    table: Slice,
    /// The signature, or what replaces it.
    #[n(2)]
    signature: ByteArray<SIGNATURE_LEN>,
    /// Of header and frames.
    #[n(3)]
    frames: Slice,
}

/// A chunk of a pack, and a byte of its frame that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// The chunk.
    pub id: ChunkId,
    /// Its number among the chunks of the pack, in the order of the table.
    pub number: u32,
    /// Any number. Taken modulo the frame's length, it is the place of the byte.
    pub at: u64,
}

impl PackProof {
    /// Makes a proof for some chunks of a pack. `content` are the pack's bytes before its table.
    pub fn new(table: &PackTable, content: &mut dyn Source, chunks: &[Proven]) -> Result<Self> {
        let message = &table.signed.message;
        let ids_at = message.len() - 32 - table.chunks() * ChunkId::LEN;
        let mut shown: Vec<Span> = vec![(0, ids_at), (message.len() - 32, message.len())];
        let mut bytes: Vec<Span> = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let id_at = ids_at + chunk.number as usize * ChunkId::LEN;
            shown.push((id_at, id_at + ChunkId::LEN));
            let mut before = 0;
            let frame = table.frames.iter().find(|frame| {
                before += frame.ids.len();
                before > chunk.number as usize
            });
            let frame = frame.ok_or_else(|| table.damaged("it has fewer chunks than its row says"))?;
            let at = byte_of(chunk.at, frame.offset as usize, frame.len as usize);
            bytes.push((at, at + 1));
        }
        Ok(Self {
            pack: table.id,
            table: Slice::cut(&mut message.as_slice(), &shown)?,
            signature: table.signed.signature.into(),
            frames: Slice::cut(content, &bytes)?,
        })
    }

    /// Whether the bytes that it shows are those that the table's hash covers.
    pub fn is_consistent(&self) -> bool {
        let frames_hash = self.frames.open().map(|frames| frames.hash);
        let table = self.table.open();
        table
            .as_ref()
            .and_then(|table| table.get(table.len - 32, 32))
            .is_some_and(|hash| frames_hash.is_some_and(|h| h == hash))
    }

    /// Verifies the proof: that the table is signed by one of these clients, or has no signature, and that the frames
    /// are those of the table. What it proves is asked of the result.
    pub fn open(&self, signers: &Signers) -> Result<ProvenPack<'_>> {
        let bad = |reason: &str| Error::PackDamaged { pack: self.pack, reason: reason.to_owned() };
        let table = self.table.open().ok_or_else(|| bad("the hashes of its table do not fit"))?;
        let frames = self.frames.open().ok_or_else(|| bad("the hashes of its frames do not fit"))?;
        let short = || bad("its table is not shown");
        let hash_at = table.len.checked_sub(32).ok_or_else(short)?;
        if table.get(hash_at, 32).ok_or_else(short)? != frames.hash {
            return Err(bad("the frames that are shown are not those of its table"));
        }
        let head = table.get(0, TABLE_HEAD).ok_or_else(short)?;
        let (origin, wraps) = (head[1], usize::from(u16::from_le_bytes([head[2], head[3]])));
        let frame_count = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if origin > 1 || wraps > WRAPS_MAX || frame_count == 0 || frame_count > FRAMES_MAX {
            return Err(bad("its table is out of bounds"));
        }
        if head[8..24] != *signers.repo.as_bytes() {
            return Err(bad("it belongs to another repository"));
        }
        let client = ClientId::from_slice(&head[24..TABLE_HEAD]).ok_or_else(short)?;
        let key =
            signers.key(client).ok_or_else(|| Error::NotOnRoster { what: format!("pack {}", self.pack), client })?;
        let is_signed = origin == 0;
        if is_signed && !key.verify_hash(CONTEXT, &table.hash, &self.signature[..]) {
            return Err(bad("its signature is not valid"));
        }
        let mut sizes_at = TABLE_HEAD;
        for _ in 0..wraps {
            let len = table.get(sizes_at, 2).ok_or_else(short)?;
            let len = usize::from(u16::from_le_bytes([len[0], len[1]]));
            if len > WRAP_MAX {
                return Err(bad("its table is out of bounds"));
            }
            sizes_at += 2 + len;
        }
        let sizes = table.get(sizes_at, frame_count * FRAME_ENTRY).ok_or_else(short)?;
        let (mut shown, mut offset, mut chunks) = (Vec::with_capacity(frame_count), HEADER_LEN, 0);
        for entry in sizes.as_chunks::<FRAME_ENTRY>().0 {
            let len = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) as usize;
            let count = usize::from(u16::from_le_bytes([entry[4], entry[5]]));
            if !(FRAME_MIN..=FRAME_MAX).contains(&len) || !(1..=FRAME_CHUNKS_MAX).contains(&count) {
                return Err(bad("its table has a frame out of bounds"));
            }
            shown.push(ShownFrame { offset, len, first_chunk: chunks });
            offset += len;
            chunks += count;
        }
        let ids_at = sizes_at + sizes.len();
        if chunks > CHUNKS_MAX || offset != frames.len || ids_at + chunks * ChunkId::LEN != hash_at {
            return Err(bad("its table does not fit its frames"));
        }
        Ok(ProvenPack { client, is_signed, table, content: frames, frames: shown, ids_at, chunks })
    }
}

/// A proof that was verified.
#[derive(Debug)]
pub struct ProvenPack<'p> {
    /// The client that made its frames.
    pub client: ClientId,
    /// Whether that client signed the pack. If not, the store made it.
    pub is_signed: bool,
    table: OpenSlice<'p>,
    content: OpenSlice<'p>,
    frames: Vec<ShownFrame>,
    ids_at: usize,
    chunks: usize,
}

#[derive(Debug)]
struct ShownFrame {
    offset: usize,
    len: usize,
    first_chunk: usize,
}

impl ProvenPack<'_> {
    /// Whether the pack lists the chunk at this place, and the byte that is asked for is shown.
    pub fn proves(&self, chunk: &Proven) -> bool {
        let number = chunk.number as usize;
        if number >= self.chunks
            || self.table.get(self.ids_at + number * ChunkId::LEN, ChunkId::LEN) != Some(&chunk.id.0)
        {
            return false;
        }
        let after = self.frames.partition_point(|frame| frame.first_chunk <= number);
        let Some(frame) = after.checked_sub(1).and_then(|i| self.frames.get(i)) else { return false };
        self.content.get(byte_of(chunk.at, frame.offset, frame.len), 1).is_some()
    }
}

/// The place of the byte that is asked for.
fn byte_of(at: u64, offset: usize, len: usize) -> usize {
    offset + (at % len.max(1) as u64) as usize
}
