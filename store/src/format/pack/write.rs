//! Writing a pack into memory, frame by frame.

use bytes::Bytes;

use super::{
    layout::{
        CHUNKS_MAX, CONTEXT, FOOTER_LEN, FOOTER_MAGIC, FRAME_CHUNKS_MAX, FRAME_MAX, FRAME_MIN, FRAMES_MAX, HEADER_LEN,
        MAGIC, PACK_MAX, PACK_TARGET, TABLE_HEAD, TABLE_TAIL, VERSION, WRAP_MAX, WRAPS_MAX,
    },
    table::checksum,
};
use crate::{
    base::{
        codec,
        id::{ChunkId, ClientId, KeyId, PackId, RepoId},
    },
    crypto::{SigningKey, Wrap},
    format::frame::ChunkKind,
};

/// A finished pack on its way to the store.
#[derive(Debug, Clone)]
pub struct PackUpload {
    /// Its id.
    pub id: PackId,
    /// All its bytes, footer included.
    pub bytes: Bytes,
}

/// A pack under construction. Header and frames are hashed as they are added.
pub struct PackWriter {
    kind: ChunkKind,
    repo: RepoId,
    maker: Maker,
    bytes: Vec<u8>,
    hasher: blake3::Hasher,
    wraps: Vec<(KeyId, Vec<u8>)>,
    frames: Vec<(u32, u16)>,
    ids: Vec<u8>,
}

/// The maker of a pack.
enum Maker {
    /// A client, which signs the pack.
    Client(SigningKey),
    /// The store, from frames that this client made.
    Store(ClientId),
}

impl PackWriter {
    /// Returns an empty pack of a client.
    pub fn new(kind: ChunkKind, repo: RepoId, client: &SigningKey) -> Self {
        Self::made_by(kind, repo, Maker::Client(client.clone()))
    }

    /// Returns an empty pack for the store's copies of frames that a client made.
    pub fn copying(kind: ChunkKind, repo: RepoId, client: ClientId) -> Self {
        Self::made_by(kind, repo, Maker::Store(client))
    }

    fn made_by(kind: ChunkKind, repo: RepoId, maker: Maker) -> Self {
        let mut bytes = Vec::with_capacity(64 * 1024);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.push(kind.number());
        bytes.resize(HEADER_LEN, 0);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes);
        Self { kind, repo, maker, bytes, hasher, wraps: vec![], frames: vec![], ids: vec![] }
    }

    /// Adds the wrap of a data key, unless it was added before. The wraps of all data keys that the frames use must be
    /// added before [`PackWriter::finish`].
    ///
    /// # Panics
    /// If there are more than [`WRAPS_MAX`] wraps, or one is longer than [`WRAP_MAX`].
    pub fn add_wrap(&mut self, wrap: &Wrap) {
        if self.wraps.iter().any(|(key, _)| *key == wrap.key) {
            return;
        }
        let encoded = codec::encode(wrap);
        assert!(encoded.len() <= WRAP_MAX && self.wraps.len() < WRAPS_MAX, "the wraps exceed the format's bounds");
        self.wraps.push((wrap.key, encoded));
    }

    /// Whether another frame, of this length and with this many chunks, stays within the format's bounds.
    pub fn fits(&self, frame_len: usize, chunks: usize) -> bool {
        let table = 2 * TABLE_HEAD + TABLE_TAIL + (self.frames.len() + 1) * 8 + self.ids.len() + chunks * ChunkId::LEN;
        let wraps = self.wraps.iter().map(|(_, wrap)| wrap.len() + 2).sum::<usize>();
        self.frames.len() < FRAMES_MAX
            && self.ids.len() / ChunkId::LEN + chunks <= CHUNKS_MAX
            && self.bytes.len() + frame_len + table + wraps + WRAP_MAX + FOOTER_LEN <= PACK_MAX
    }

    /// Whether the wrap of another data key can be added.
    pub fn has_wrap_room(&self) -> bool {
        self.wraps.len() < WRAPS_MAX
    }

    /// Adds a sealed frame and the ids of its chunks.
    ///
    /// # Panics
    /// If the frame or the number of its chunks exceeds the format's bounds, or the frame does not
    /// [fit](PackWriter::fits).
    pub fn add(&mut self, frame: &[u8], ids: &[ChunkId]) {
        assert!((FRAME_MIN..=FRAME_MAX).contains(&frame.len()), "a frame of {} bytes", frame.len());
        assert!((1..=FRAME_CHUNKS_MAX).contains(&ids.len()), "a frame of {} chunks", ids.len());
        assert!(self.fits(frame.len(), ids.len()), "the pack exceeds the format's bounds");
        self.bytes.extend_from_slice(frame);
        self.hasher.update(frame);
        self.frames.push((frame.len() as u32, ids.len() as u16));
        ids.iter().for_each(|id| self.ids.extend_from_slice(&id.0));
    }

    /// Returns the length of header and frames so far, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no frame yet.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether the pack has reached the length at which writers end packs.
    pub fn is_full(&self) -> bool {
        self.len() >= PACK_TARGET || !self.fits(FRAME_MAX, FRAME_CHUNKS_MAX)
    }

    /// Returns how many chunks were added.
    pub fn chunks(&self) -> usize {
        self.ids.len() / ChunkId::LEN
    }

    /// Appends table and footer, and returns the finished pack.
    pub fn finish(mut self) -> PackUpload {
        let table_offset = self.bytes.len();
        let table = self.table();
        let signature = match &self.maker {
            Maker::Client(key) => key.sign(CONTEXT, &table),
            Maker::Store(_) => checksum(&table),
        };
        self.bytes.reserve_exact(table.len() + signature.len() + FOOTER_LEN);
        for part in [&table[..], &signature[..]] {
            self.bytes.extend_from_slice(part);
            self.hasher.update(part);
        }
        let id = PackId(*self.hasher.finalize().as_bytes());
        let table_len = self.bytes.len() - table_offset;
        self.bytes.extend_from_slice(&(table_offset as u64).to_le_bytes());
        self.bytes.extend_from_slice(&(table_len as u32).to_le_bytes());
        self.bytes.extend_from_slice(&VERSION.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 10]);
        self.bytes.extend_from_slice(&id.0);
        self.bytes.extend_from_slice(&FOOTER_MAGIC);
        PackUpload { id, bytes: Bytes::from(self.bytes) }
    }

    /// Returns the table up to the signature.
    fn table(&self) -> Vec<u8> {
        let mut table = Vec::with_capacity(TABLE_HEAD + TABLE_TAIL + self.frames.len() * 8 + self.ids.len() + 2048);
        let (origin, client) = match &self.maker {
            Maker::Client(key) => (0, key.verifying_key().client_id()),
            Maker::Store(client) => (1, *client),
        };
        table.extend_from_slice(&[self.kind.number(), origin]);
        table.extend_from_slice(&(self.wraps.len() as u16).to_le_bytes());
        table.extend_from_slice(&(self.frames.len() as u32).to_le_bytes());
        table.extend_from_slice(&self.repo.0);
        table.extend_from_slice(&client.0);
        for (_, wrap) in &self.wraps {
            table.extend_from_slice(&(wrap.len() as u16).to_le_bytes());
            table.extend_from_slice(wrap);
        }
        for (len, chunks) in &self.frames {
            table.extend_from_slice(&len.to_le_bytes());
            table.extend_from_slice(&chunks.to_le_bytes());
            table.extend_from_slice(&[0; 2]);
        }
        table.extend_from_slice(&self.ids);
        table.extend_from_slice(self.hasher.finalize().as_bytes());
        table
    }
}
