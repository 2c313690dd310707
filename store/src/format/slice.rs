//! Slices: some spans of a byte string, with the hashes that prove them against the BLAKE3 of the whole.
//!
//! BLAKE3 is a tree over chunks of 1 KiB. A slice holds the chunks in which the wanted spans lie and, in the order of
//! the tree from left to right, the chaining value of each largest subtree that holds none of them. Whoever knows the
//! hash of the whole merges these and compares. (This is Bao's idea. Its own encoding holds one span, shows every inner
//! node, and needs a pass over all bytes or an outboard file; here a store that knows the values of some subtrees reads
//! little else.)
//!
//! All inputs may be hostile: the work is bounded by the length of the slice itself.

use blake3::{
    CHUNK_LEN,
    hazmat::{self, ChainingValue, HasherExt, Mode},
};
use minicbor::{Decode, Encode};

use crate::base::error::Result;

/// The longest whole, in bytes: as long as a pack may be.
const LEN_MAX: usize = 64 * 1024 * 1024;
/// Bytes that are read and hashed in one step.
const BLOCK: usize = 64 * 1024;
/// The length of a hash.
const HASH: usize = 32;

/// Some spans of a byte string, and their proof.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Slice {
    /// The length of the whole.
    #[n(0)]
    len: u64,
    /// The numbers of the chunks that are shown, ascending.
    #[n(1)]
    chunks: Vec<u32>,
    /// Their bytes, one after another.
    #[cbor(n(2), with = "minicbor::bytes")]
    bytes: Vec<u8>,
    /// The chaining values of the subtrees without such chunks.
    #[cbor(n(3), with = "minicbor::bytes")]
    hashes: Vec<u8>,
}

/// A byte string that is cut into a slice.
pub trait Source {
    /// Its length.
    fn whole_len(&self) -> usize;

    /// Reads a span. Returns exactly as many bytes, or an error.
    fn read(&mut self, start: usize, len: usize) -> Result<Vec<u8>>;

    /// The chaining value of the subtree over a span, if it is known without reading the span.
    fn known(&self, start: usize, len: usize) -> Option<ChainingValue>;
}

impl Source for &[u8] {
    fn whole_len(&self) -> usize {
        self.len()
    }

    fn read(&mut self, start: usize, len: usize) -> Result<Vec<u8>> {
        Ok(self[start..start + len].to_vec())
    }

    fn known(&self, _: usize, _: usize) -> Option<ChainingValue> {
        None
    }
}

/// A span, `(start, end)`.
pub type Span = (usize, usize);

impl Slice {
    /// Cuts a slice that shows these spans. All lie within the source, and there is at least one that is not empty.
    pub fn cut(source: &mut dyn Source, spans: &[Span]) -> Result<Self> {
        let numbers = spans.iter().flat_map(|(start, end)| start / CHUNK_LEN..end.div_ceil(CHUNK_LEN));
        let mut chunks: Vec<u32> = numbers.map(|number| number as u32).collect();
        chunks.sort_unstable();
        chunks.dedup();
        let len = source.whole_len();
        let mut slice = Self { len: len as u64, chunks: Vec::new(), bytes: Vec::new(), hashes: Vec::new() };
        slice.add(source, &chunks, 0, len)?;
        slice.chunks = chunks;
        Ok(slice)
    }

    /// Adds the subtree over a span, in which the chunks lie that are shown.
    fn add(&mut self, source: &mut dyn Source, chunks: &[u32], start: usize, len: usize) -> Result<()> {
        if chunks.is_empty() {
            self.hashes.extend_from_slice(&chaining_value(source, start, len)?);
            return Ok(());
        }
        if len <= CHUNK_LEN {
            self.bytes.extend_from_slice(&source.read(start, len)?);
            return Ok(());
        }
        let (left, middle) = halves(chunks, start, len);
        self.add(source, &chunks[..middle], start, left)?;
        self.add(source, &chunks[middle..], start + left, len - left)
    }

    /// Merges all hashes. Returns the hash of the whole and what is shown of it; none if the slice is not valid.
    pub fn open(&self) -> Option<OpenSlice<'_>> {
        let len = usize::try_from(self.len).ok().filter(|len| (1..=LEN_MAX).contains(len))?;
        let is_ascending = self.chunks.windows(2).all(|pair| pair[0] < pair[1]);
        let last = *self.chunks.last().filter(|_| is_ascending)? as usize;
        if last >= len.div_ceil(CHUNK_LEN) || !self.hashes.len().is_multiple_of(HASH) {
            return None;
        }
        let mut rest = Rest { bytes: &self.bytes, hashes: &self.hashes };
        let hash = if len <= CHUNK_LEN {
            blake3::hash(rest.bytes(len)?).into()
        } else {
            let (left, middle) = halves(&self.chunks, 0, len);
            let (left_value, right_value) =
                (rest.value(&self.chunks[..middle], 0, left)?, rest.value(&self.chunks[middle..], left, len - left)?);
            hazmat::merge_subtrees_root(&left_value, &right_value, Mode::Hash).into()
        };
        (rest.bytes.is_empty() && rest.hashes.is_empty()).then_some(OpenSlice { hash, len, slice: self })
    }
}

/// A slice whose hashes were merged.
#[derive(Debug, Clone, Copy)]
pub struct OpenSlice<'s> {
    /// The hash that the whole has if the slice is genuine. It proves nothing before it is compared.
    pub hash: [u8; HASH],
    /// The length of the whole.
    pub len: usize,
    slice: &'s Slice,
}

impl OpenSlice<'_> {
    /// The bytes of a span; none if not all of it is shown.
    pub fn get(&self, start: usize, len: usize) -> Option<&[u8]> {
        let end = start.checked_add(len).filter(|end| *end <= self.len && len > 0)?;
        let (first, last) = (start / CHUNK_LEN, (end - 1) / CHUNK_LEN);
        let chunks = &self.slice.chunks;
        let at = chunks.binary_search(&u32::try_from(first).ok()?).ok()?;
        // They ascend, so if the last one is where it should be, so are those between.
        if *chunks.get(at + last - first)? as usize != last {
            return None;
        }
        // All chunks but the last of the whole have the same length, and that one comes last.
        let offset = at * CHUNK_LEN + start % CHUNK_LEN;
        self.slice.bytes.get(offset..offset + len)
    }
}

/// What is left of a slice that is being merged.
struct Rest<'s> {
    bytes: &'s [u8],
    hashes: &'s [u8],
}

impl<'s> Rest<'s> {
    fn bytes(&mut self, len: usize) -> Option<&'s [u8]> {
        let (bytes, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(bytes)
    }

    fn value(&mut self, chunks: &[u32], start: usize, len: usize) -> Option<ChainingValue> {
        if chunks.is_empty() {
            let (value, rest) = self.hashes.split_first_chunk::<HASH>()?;
            self.hashes = rest;
            return Some(*value);
        }
        if len <= CHUNK_LEN {
            return Some(subtree(self.bytes(len)?, start));
        }
        let (left, middle) = halves(chunks, start, len);
        let left_value = self.value(&chunks[..middle], start, left)?;
        let right_value = self.value(&chunks[middle..], start + left, len - left)?;
        Some(hazmat::merge_subtrees_non_root(&left_value, &right_value, Mode::Hash))
    }
}

/// The length of the left half of the subtree over a span, and how many of the chunks lie in it.
fn halves(chunks: &[u32], start: usize, len: usize) -> (usize, usize) {
    let left = hazmat::left_subtree_len(len as u64) as usize;
    (left, chunks.partition_point(|number| (*number as usize) * CHUNK_LEN < start + left))
}

/// The chaining value of the subtree over a span.
fn chaining_value(source: &mut dyn Source, start: usize, len: usize) -> Result<ChainingValue> {
    if let Some(known) = source.known(start, len) {
        return Ok(known);
    }
    if len <= BLOCK {
        return Ok(subtree(&source.read(start, len)?, start));
    }
    let left = hazmat::left_subtree_len(len as u64) as usize;
    let left_value = chaining_value(source, start, left)?;
    let right_value = chaining_value(source, start + left, len - left)?;
    Ok(hazmat::merge_subtrees_non_root(&left_value, &right_value, Mode::Hash))
}

/// The chaining value of a subtree that is not the whole.
fn subtree(bytes: &[u8], start: usize) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start as u64).update(bytes);
    hasher.finalize_non_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec;
    use proptest::prelude::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn spans_are_proved_against_the_hash_of_the_whole() {
        for len in [1, 2, 1023, 1024, 1025, 2048, 5000, 65_536, 65_537, 300_000, 1 << 20] {
            let whole = bytes(len);
            for spans in [vec![(0, 1)], vec![(len - 1, len)], vec![(0, len)], vec![(len / 3, len / 2 + 1), (0, 1)]] {
                let slice = Slice::cut(&mut &whole[..], &spans).unwrap();
                let open = slice.open().unwrap();
                assert_eq!((open.hash, open.len), (blake3::hash(&whole).into(), len), "{len} {spans:?}");
                for (start, end) in spans {
                    assert_eq!(open.get(start, end - start), Some(&whole[start..end]));
                }
            }
        }
    }

    #[test]
    fn what_is_not_shown_cannot_be_taken() {
        let whole = bytes(10_000);
        let slice = Slice::cut(&mut &whole[..], &[(0, 10), (9_999, 10_000)]).unwrap();
        let open = slice.open().unwrap();
        assert!(open.get(0, 1024).is_some() && open.get(9_216, 784).is_some());
        for (start, len) in [(0, 1025), (1024, 1), (9_215, 1), (9_999, 2), (0, 10_000), (0, 0), (usize::MAX, 2)] {
            assert_eq!(open.get(start, len), None, "{start} {len}");
        }
    }

    #[test]
    fn a_slice_is_short() {
        let whole = bytes(16 << 20);
        let slice = Slice::cut(&mut &whole[..], &[(5_000_000, 5_000_001)]).unwrap();
        assert_eq!((slice.bytes.len(), slice.hashes.len()), (1024, 14 * 32));
    }

    proptest! {
        #[test]
        fn a_changed_slice_has_another_hash_or_shows_the_same(
            len in 1usize..20_000, at: prop::sample::Index, place: prop::sample::Index, bit in 0u8..8
        ) {
            let whole = bytes(len);
            let at = at.index(len);
            let slice = Slice::cut(&mut &whole[..], &[(at, at + 1)]).unwrap();
            let mut encoded = codec::encode(&slice);
            let place = place.index(encoded.len());
            encoded[place] ^= 1 << bit;
            if let Ok(changed) = codec::decode::<Slice>("a slice", &encoded)
                && let Some(open) = changed.open()
                && open.hash == *blake3::hash(&whole).as_bytes()
            {
                prop_assert!(open.get(at, 1).is_none_or(|byte| byte[0] == whole[at]));
            }
        }
    }
}
