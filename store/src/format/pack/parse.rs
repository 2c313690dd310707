//! Reading packs: a whole pack with all verification, or only the table, which the footer locates.

use bytes::Bytes;

use super::{
    layout::{
        CHUNKS_MAX, FOOTER_LEN, FOOTER_MAGIC, FRAME_CHUNKS_MAX, FRAME_MAX, FRAME_MIN, FRAMES_MAX, HEADER_LEN, MAGIC,
        PACK_MAX, TABLE_HEAD, TABLE_TAIL, VERSION, WRAP_MAX, WRAPS_MAX,
    },
    table::{FrameEntry, PackTable, Signature, checksum},
};
use crate::{
    base::{
        codec,
        error::{Error, Result},
        id::{ChunkId, ClientId, KeyId, PackId, RepoId},
    },
    crypto::{SIGNATURE_LEN, Wrap},
    format::frame::ChunkKind,
};

/// The number of bytes at a pack's end that a reader of tables requests first. Most tables are shorter.
pub const FOOTER_READ: usize = 32 * 1024;

/// A whole pack in memory. Everything but the signature is verified.
#[derive(Debug, Clone)]
pub struct Pack {
    /// Its table.
    pub table: PackTable,
    bytes: Bytes,
}

impl Pack {
    /// Verifies id, structure and bounds, and that the table contains the wrap of every data key that the frames name.
    pub fn parse(bytes: &Bytes) -> Result<Self> {
        let footer = Footer::parse(bytes)?;
        let damaged = |reason: String| Error::PackDamaged { pack: footer.id, reason };
        let (header, table) = (&bytes[..HEADER_LEN], &bytes[footer.table_offset..bytes.len() - FOOTER_LEN]);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes[..footer.table_offset]);
        let frames_hash = hasher.finalize();
        if hasher.update(table).finalize() != footer.id.0 {
            return Err(damaged("the hash of its bytes is not its id".into()));
        }
        let table = footer.table(table)?;
        if header[..8] != MAGIC || header[8..10] != VERSION.to_le_bytes() || header[10] != table.kind.number() {
            return Err(damaged("its header contradicts its table".into()));
        }
        if header[11..].iter().any(|byte| *byte != 0) {
            return Err(damaged("its header has nonzero reserved bytes".into()));
        }
        if frames_hash != *table.frames_hash() {
            return Err(damaged("its frames are not those that were signed".into()));
        }
        let pack = Self { table, bytes: bytes.clone() };
        pack.check_keys()?;
        Ok(pack)
    }

    /// Returns the bytes of a sealed frame.
    pub fn frame(&self, number: usize) -> Option<Bytes> {
        let entry = self.table.frames.get(number)?;
        Some(self.bytes.slice(entry.offset as usize..(entry.offset + entry.len) as usize))
    }

    fn check_keys(&self) -> Result<()> {
        for (number, entry) in self.table.frames.iter().enumerate() {
            let key = &self.bytes[entry.offset as usize..][..KeyId::LEN];
            if !self.table.wraps.iter().any(|wrap| wrap.key.0 == key) {
                return Err(self
                    .table
                    .damaged(format!("it does not contain the wrap of the data key of frame {number}")));
            }
        }
        Ok(())
    }
}

/// The contents of a pack's footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// The id that the pack claims to have.
    pub id: PackId,
    /// The offset of the table in the pack.
    pub table_offset: usize,
    /// The length of the table in bytes.
    pub table_len: usize,
}

impl Footer {
    /// Reads the footer of a whole pack.
    pub fn parse(pack: &[u8]) -> Result<Self> {
        Self::parse_tail(pack, pack.len() as u64)
    }

    /// Reads the footer from a pack's last bytes. `pack_len` is the length of the whole pack.
    pub fn parse_tail(tail: &[u8], pack_len: u64) -> Result<Self> {
        let damaged = |reason: &str| Error::damaged("a pack", reason);
        if pack_len > PACK_MAX as u64 {
            return Err(Error::TooLarge { what: "a pack", size: pack_len, limit: PACK_MAX as u64 });
        }
        let footer = tail.last_chunk::<FOOTER_LEN>().ok_or_else(|| damaged("it is shorter than a footer"))?;
        if footer[56..] != FOOTER_MAGIC {
            return Err(damaged("it does not end with a footer: it is cut off, or is not a pack"));
        }
        let version = u16::from_le_bytes([footer[12], footer[13]]);
        if version > VERSION {
            return Err(Error::NewerVersion { what: "a pack", found: version.into(), known: VERSION.into() });
        }
        let id = PackId(footer[24..56].try_into().expect("32 bytes"));
        let damaged = |reason: &str| Error::PackDamaged { pack: id, reason: reason.into() };
        if version == 0 || footer[14..24] != [0; 10] {
            return Err(damaged("its footer has version 0 or nonzero reserved bytes"));
        }
        let table_offset = u64::from_le_bytes(footer[..8].try_into().expect("8 bytes"));
        let table_len = u32::from_le_bytes(footer[8..12].try_into().expect("4 bytes"));
        let end = table_offset.checked_add(u64::from(table_len)).and_then(|end| end.checked_add(FOOTER_LEN as u64));
        if table_offset < HEADER_LEN as u64 || (table_len as usize) < TABLE_HEAD + TABLE_TAIL || end != Some(pack_len) {
            return Err(damaged("its footer contradicts its length"));
        }
        Ok(Self { id, table_offset: table_offset as usize, table_len: table_len as usize })
    }

    /// Decodes the table. Neither the client's signature nor the frames are verified.
    pub fn table(&self, table: &[u8]) -> Result<PackTable> {
        let damaged = |reason: &str| Error::PackDamaged { pack: self.id, reason: format!("its table {reason}") };
        if table.len() != self.table_len {
            return Err(damaged("is cut off"));
        }
        let short = || damaged("ends too early");
        let (message, signature) = table.split_last_chunk::<SIGNATURE_LEN>().ok_or_else(short)?;
        let (rest, _frames_hash) = message.split_last_chunk::<32>().ok_or_else(short)?;
        let mut rest = Fields(rest);

        let kind =
            ChunkKind::from_number(rest.u8().ok_or_else(short)?).ok_or_else(|| damaged("has an unknown kind"))?;
        let origin = rest.u8().ok_or_else(short)?;
        let wraps_len = usize::from(rest.u16().ok_or_else(short)?);
        let frames_len = rest.u32().ok_or_else(short)? as usize;
        if origin > 1 || wraps_len > WRAPS_MAX || frames_len == 0 || frames_len > FRAMES_MAX {
            return Err(damaged("is out of bounds"));
        }
        let repo = RepoId::from_slice(rest.take(RepoId::LEN).ok_or_else(short)?).ok_or_else(short)?;
        let client = ClientId::from_slice(rest.take(ClientId::LEN).ok_or_else(short)?).ok_or_else(short)?;

        let mut wraps = Vec::with_capacity(wraps_len);
        for _ in 0..wraps_len {
            let len = usize::from(rest.u16().ok_or_else(short)?);
            let bytes = rest.take(len).filter(|_| len <= WRAP_MAX).ok_or_else(short)?;
            wraps.push(codec::decode::<Wrap>("a wrap", bytes).map_err(|e| damaged(&format!("has a bad wrap: {e}")))?);
        }
        let sizes = rest.take(frames_len * 8).ok_or_else(short)?;
        let frames = self.frames(sizes, &mut rest).ok_or_else(|| damaged("has frames out of bounds"))?;
        if !rest.0.is_empty() {
            return Err(damaged("is followed by more"));
        }
        let is_copied = origin == 1;
        if is_copied && *signature != [0; SIGNATURE_LEN] && *signature != checksum(message) {
            return Err(damaged("does not match its checksum"));
        }
        let signed = Signature { message: message.to_vec(), signature: *signature };
        Ok(PackTable { id: self.id, kind, repo, client, wraps, frames, is_copied, signed })
    }

    fn frames(&self, sizes: &[u8], ids: &mut Fields<'_>) -> Option<Vec<FrameEntry>> {
        let mut frames = Vec::with_capacity(sizes.len() / 8);
        let (mut offset, mut chunks_total) = (HEADER_LEN, 0);
        let mut sizes = Fields(sizes);
        while !sizes.0.is_empty() {
            let (len, chunks, reserved) = (sizes.u32()? as usize, usize::from(sizes.u16()?), sizes.u16()?);
            chunks_total += chunks;
            let good = (FRAME_MIN..=FRAME_MAX).contains(&len)
                && (1..=FRAME_CHUNKS_MAX).contains(&chunks)
                && chunks_total <= CHUNKS_MAX
                && offset + len <= self.table_offset
                && reserved == 0;
            let ids = ids.take(chunks * ChunkId::LEN).filter(|_| good)?;
            let ids = ids.chunks_exact(ChunkId::LEN).filter_map(ChunkId::from_slice).collect();
            frames.push(FrameEntry { offset: offset as u32, len: len as u32, ids });
            offset += len;
        }
        (offset == self.table_offset).then_some(frames)
    }
}

impl PackTable {
    /// Returns the table of a pack in which everything else may be damaged, or `None` if the table or the footer is,
    /// too.
    pub fn salvage(bytes: &[u8]) -> Option<Self> {
        let footer = Footer::parse(bytes).ok()?;
        footer.table(bytes.get(footer.table_offset..)?.get(..footer.table_len)?).ok()
    }

    /// Returns the signed BLAKE3 of header and frames.
    fn frames_hash(&self) -> &[u8; 32] {
        self.signed.message.last_chunk().expect("a parsed table holds the hash")
    }
}

/// Removes fields from the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
}
