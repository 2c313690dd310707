//! Frames: the unit of encryption and of reading. A frame holds one chunk of a large file, or several small chunks.
//!
//! ```text
//! frame   := data key id (32) | nonce (24) | ciphertext | tag (16)
//! opened  := codec u8 | body length u32 | payload length u32 | payload | zeros up to the padded length
//! body    := chunk count u32 | length u32 of each chunk | the chunks          (payload is the body, or zstd of it)
//! ```
//!
//! Integers are little-endian. The associated data is repository, kind and version. The padded length follows Padmé: a
//! length reveals only O(log log n) bits, at a cost of at most 12 %, and far less for large frames. A frame names its
//! data key but not its pack or position, so a server can copy it to another pack. The chunk ids, which readers check,
//! bind it to its meaning.

use std::cell::RefCell;

use bytes::Bytes;

use crate::{
    base::id::{KeyId, RepoId},
    crypto::{DataKey, NONCE_LEN, TAG_LEN},
    format::compress,
};

/// The largest body of a frame in bytes. It bounds what a reader allocates for a frame.
pub const BODY_MAX: usize = 8 * 1024 * 1024;
/// The largest frame in bytes: an incompressible body with overhead and padding.
pub const FRAME_MAX: usize = BODY_MAX + BODY_MAX / 8 + 1024;
/// Maximum number of chunks in a frame.
pub const CHUNKS_MAX: usize = 16_384;
/// The chunks of small files are gathered into a frame up to this many plaintext bytes: they compress together, and one
/// fetch also returns the neighbours that `cp -r` reads next. Measured in docs/design/0011: a repository of small files
/// is 6 % larger with 256 KiB, and 3 % smaller with 1 MiB; but to read one file, a reader must open its whole frame.
pub const GATHER_BYTES: usize = 640 * 1024;

const OPENED_HEADER: usize = 9;
const CODEC_RAW: u8 = 0;
const CODEC_ZSTD: u8 = 1;
const VERSION: u8 = 1;

/// The kind of a chunk: bytes of a file, or a page of a tree. Each kind has its own packs and its own id key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum ChunkKind {
    /// Bytes of files.
    #[n(0)]
    Data,
    /// Pages of trees and of content trees.
    #[n(1)]
    Tree,
}

impl ChunkKind {
    /// Returns its number in frames and packs.
    pub(crate) fn number(self) -> u8 {
        match self {
            ChunkKind::Data => 0,
            ChunkKind::Tree => 1,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [ChunkKind::Data, ChunkKind::Tree].into_iter().find(|kind| kind.number() == number)
    }
}

/// Gathers chunks for one frame.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    lens: Vec<u32>,
    bytes: Vec<u8>,
}

impl FrameBuilder {
    /// Returns a frame without chunks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a chunk. The sum of the chunks stays within [`BODY_MAX`], because callers gather far less.
    ///
    /// # Panics
    /// If the body or the number of chunks would exceed the format's bounds.
    pub fn push(&mut self, chunk: &[u8]) {
        assert!(self.body_len() + chunk.len() + 4 <= BODY_MAX && self.lens.len() < CHUNKS_MAX, "a frame overflows");
        self.lens.push(chunk.len() as u32);
        self.bytes.extend_from_slice(chunk);
    }

    /// Returns the number of plaintext bytes added so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no chunk yet.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Returns how many chunks were added.
    pub fn count(&self) -> usize {
        self.lens.len()
    }

    fn body_len(&self) -> usize {
        4 + 4 * self.lens.len() + self.bytes.len()
    }

    /// Compresses, pads and seals the chunks; returns the frame's bytes.
    pub fn seal(self, repo: RepoId, kind: ChunkKind, key: &DataKey, level: i32) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body_len());
        body.extend_from_slice(&(self.lens.len() as u32).to_le_bytes());
        for len in &self.lens {
            body.extend_from_slice(&len.to_le_bytes());
        }
        body.extend_from_slice(&self.bytes);
        drop(self.bytes);

        let start = KeyId::LEN + NONCE_LEN;
        let mut frame = Vec::with_capacity(start + OPENED_HEADER + padded(body.len()) + TAG_LEN + OPENED_HEADER);
        frame.extend_from_slice(key.id().as_bytes());
        frame.resize(start + OPENED_HEADER, 0);
        let codec = match compress::compress(&body, level, &mut frame) {
            true => CODEC_ZSTD,
            false => {
                frame.extend_from_slice(&body);
                CODEC_RAW
            }
        };
        let payload_len = frame.len() - start - OPENED_HEADER;
        frame[start] = codec;
        frame[start + 1..start + 5].copy_from_slice(&(body.len() as u32).to_le_bytes());
        frame[start + 5..start + 9].copy_from_slice(&(payload_len as u32).to_le_bytes());
        frame.resize(start + padded(OPENED_HEADER + payload_len), 0);
        key.aead().seal_in_place(&mut frame, KeyId::LEN, &associated_data(repo, kind));
        frame
    }
}

/// Returns the id of the data key that a frame is sealed under, or `None` if the bytes are too short for a frame.
pub fn key_id(frame: &[u8]) -> Option<KeyId> {
    (frame.len() >= KeyId::LEN + NONCE_LEN + TAG_LEN).then(|| KeyId::from_slice(&frame[..KeyId::LEN]))?
}

/// Opens a frame and returns its chunks, as slices of one buffer. The caller checks their ids.
pub fn open(frame: &[u8], repo: RepoId, kind: ChunkKind, key: &DataKey) -> Result<Vec<Bytes>, &'static str> {
    if frame.len() > FRAME_MAX {
        return Err("it is larger than a frame can be");
    }
    if key_id(frame) != Some(key.id()) {
        return Err("it names another data key");
    }
    // The opened bytes are read once and then dropped. A buffer that is kept saves the kernel from mapping new pages
    // each time.
    SCRATCH.with_borrow_mut(|scratch| {
        if !key.aead().open_into(&frame[KeyId::LEN..], &associated_data(repo, kind), scratch) {
            return Err("its authentication tag is not valid");
        }
        let body = decompress_body(scratch);
        if scratch.capacity() > SCRATCH_MAX {
            *scratch = Vec::new();
        }
        split_chunks(&body?)
    })
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
/// The largest buffer that a thread keeps, in bytes. Few frames are larger.
const SCRATCH_MAX: usize = 1 << 20;

fn decompress_body(opened: &[u8]) -> Result<Bytes, &'static str> {
    let (header, rest) = opened.split_at_checked(OPENED_HEADER).ok_or("it is too short")?;
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
    let (codec, body_len, payload_len) = (header[0], number(1), number(5));
    if body_len > BODY_MAX {
        return Err("its body is too long");
    }
    let payload = rest.get(..payload_len).ok_or("its payload is cut short")?;
    match codec {
        CODEC_RAW if payload_len == body_len => Ok(Bytes::copy_from_slice(payload)),
        CODEC_ZSTD => Ok(compress::decompress(payload, body_len).ok_or("its payload does not decompress")?.into()),
        _ => Err("its codec is unknown"),
    }
}

fn split_chunks(body: &Bytes) -> Result<Vec<Bytes>, &'static str> {
    let number = |at: usize| {
        let four = body.get(at..at + 4)?;
        Some(u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize)
    };
    let count = number(0).filter(|&n| n <= CHUNKS_MAX).ok_or("its chunk count is wrong")?;
    let mut at = 4 + 4 * count;
    if at > body.len() {
        return Err("its chunk lengths are cut short");
    }
    let mut chunks = Vec::with_capacity(count);
    for i in 0..count {
        let end = number(4 + 4 * i).and_then(|len| at.checked_add(len)).filter(|&end| end <= body.len());
        let end = end.ok_or("a chunk reaches beyond its end")?;
        chunks.push(body.slice(at..end));
        at = end;
    }
    if at == body.len() { Ok(chunks) } else { Err("bytes follow its last chunk") }
}

fn associated_data(repo: RepoId, kind: ChunkKind) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&repo.0);
    bytes[16] = kind.number();
    bytes[17] = VERSION;
    bytes
}

/// Returns the Padmé length: keeps as many significant bits of a length as its exponent has bits, and rounds up.
fn padded(len: usize) -> usize {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1usize << exponent.saturating_sub(kept)) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Secret;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    const REPO: RepoId = RepoId([5; 16]);

    fn key() -> DataKey {
        DataKey::new(Secret::new([8; 32]))
    }

    fn sealed(chunks: &[Vec<u8>], kind: ChunkKind) -> Vec<u8> {
        let mut builder = FrameBuilder::new();
        chunks.iter().for_each(|c| builder.push(c));
        builder.seal(REPO, kind, &key(), 3)
    }

    #[test]
    fn padding_is_padme() {
        // Values of the rule in "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019.
        for (len, want) in [(0, 0), (1, 1), (9, 10), (100, 104), (1000, 1024), (100_000, 100_352), (262_144, 262_144)] {
            assert_eq!(padded(len), want, "{len}");
        }
        for len in 1..10_000usize {
            assert!(padded(len) >= len && padded(len) * 100 <= len * 112 + 100 && padded(padded(len)) == padded(len));
        }
    }

    #[test]
    fn a_frame_does_not_open_with_another_kind_repository_or_key() {
        let frame = sealed(&[vec![1; 100]], ChunkKind::Data);
        assert!(open(&frame, REPO, ChunkKind::Data, &key()).is_ok());
        assert!(open(&frame, REPO, ChunkKind::Tree, &key()).is_err());
        assert!(open(&frame, RepoId([6; 16]), ChunkKind::Data, &key()).is_err());
        assert!(open(&frame, REPO, ChunkKind::Data, &DataKey::random()).is_err());
    }

    #[test]
    fn a_frame_of_the_first_version_still_opens() {
        let frame = GOLDEN.split_whitespace().collect::<String>();
        let bytes = HEXLOWER.decode(frame.as_bytes()).unwrap();
        let chunks = open(&bytes, REPO, ChunkKind::Data, &key()).unwrap();
        assert_eq!(chunks, [&b"hello"[..], b"", &[b'x'; 300]]);
    }
    const GOLDEN: &str = "
        77c264b2514ee0dc5e76c175acc75fc7ec162be45e41f52060c2996f141d7bcdc202f229a830fe6218eda667c49700ef
        2c97af607d0af115a967b544ab992fb09bde18d9ba5b081c4c09e4f4a6e0488429be6e0d18dad0c745ef249caadc980e
        f3d21f88b5dd4d31b2560e3012d48a9a8cd2c8cd";

    proptest! {
        #[test]
        fn chunks_come_back(chunks in prop::collection::vec(prop::collection::vec(0u8..8, 0..300), 0..40)) {
            let frame = sealed(&chunks, ChunkKind::Tree);
            prop_assert!(frame.len() <= FRAME_MAX);
            let opened = open(&frame, REPO, ChunkKind::Tree, &key()).unwrap();
            prop_assert_eq!(opened, chunks);
        }

        #[test]
        fn a_flipped_bit_is_noticed(at: prop::sample::Index, bit in 0u32..8) {
            let mut frame = sealed(&[vec![3; 200], vec![4; 10]], ChunkKind::Data);
            let at = at.index(frame.len());
            frame[at] ^= 1u8 << bit;
            prop_assert!(open(&frame, REPO, ChunkKind::Data, &key()).is_err());
        }

        #[test]
        fn no_body_panics(body: Vec<u8>) {
            let _ = split_chunks(&body.into());
        }
    }
}
