//! The head of a parity file: a description of the shards, and the hashes that verify them.

use blake3::hazmat::{self, ChainingValue, HasherExt, Mode};
use reed_solomon_simd::ReedSolomonEncoder;

use super::layout::{
    MAGIC, SHARD_LEN, SHARDS_MAX, TRAILER_LEN, TRAILER_MAGIC, VERSION, pack_damaged, parity_min, table_copy_len,
};
use crate::{
    base::{
        error::{Error, Result},
        id::PackId,
    },
    format::pack::{FOOTER_LEN, Footer},
};

const HASH: usize = 32;
/// The length from the magic to the end of the footer.
const FIXED: usize = 16 + FOOTER_LEN;
/// The length of a chunk of BLAKE3: the shortest subtree.
const CHUNK: usize = blake3::CHUNK_LEN;

/// How many bytes of a parity file [`file_len`] needs.
pub const START_LEN: usize = FIXED;

/// Returns how long a parity file is that begins with these bytes; none if no parity file begins so. Nothing is
/// verified.
pub fn file_len(start: &[u8]) -> Option<u64> {
    let fixed = start.first_chunk::<FIXED>().filter(|fixed| fixed[..8] == MAGIC)?;
    let parity = u64::from(u16::from_le_bytes([fixed[10], fixed[11]]));
    let shard_len = u64::from(u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]));
    let (_, footer) = fixed.split_last_chunk::<FOOTER_LEN>()?;
    let field = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| footer[at + i]));
    let table_len = field(8) & 0xffff_ffff;
    let data = field(0).checked_add(table_len)?.div_ceil(shard_len.max(1));
    let head = data.checked_add(parity + 2)?.checked_mul(HASH as u64)?.checked_add(FIXED as u64)?;
    let table = if data <= 1 { 0 } else { table_len };
    head.checked_mul(2)?.checked_add(parity * shard_len + table + TRAILER_LEN as u64)
}

/// Returns how long the head is of a parity file that begins with these bytes; none if no parity file begins so, or its
/// head would be out of bounds. Nothing is verified.
pub fn head_len(start: &[u8]) -> Option<usize> {
    let fixed = start.first_chunk::<FIXED>().filter(|fixed| fixed[..8] == MAGIC)?;
    let parity = usize::from(u16::from_le_bytes([fixed[10], fixed[11]]));
    let shard_len = u64::from(u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]));
    let (_, footer) = fixed.split_last_chunk::<FOOTER_LEN>()?;
    let field = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| footer[at + i]));
    let data = field(0).checked_add(field(8) & 0xffff_ffff)?.div_ceil(shard_len.max(1));
    let data = usize::try_from(data).ok().filter(|data| *data <= SHARDS_MAX)?;
    Some(FIXED + HASH * (2 + data + parity))
}

/// The chaining values of subtrees of a pack's hash, as the head of its parity has them.
#[derive(Debug, Clone)]
pub struct SubtreeValues {
    shard_len: usize,
    values: Vec<ChainingValue>,
}

impl SubtreeValues {
    /// Reads them from the head. They merge to the pack's id, or there is an error.
    pub fn parse(head: &[u8], pack: PackId) -> Result<Self> {
        let Head { shard_len, values, .. } = Head::parse(head, pack)?;
        Ok(Self { shard_len, values })
    }

    /// The value of the subtree over a span of the pack: of a power of two of whole shards. None for another span.
    pub fn get(&self, start: usize, len: usize) -> Option<ChainingValue> {
        let (first, count) = (start / self.shard_len, len / self.shard_len);
        let is_subtree = count.is_power_of_two() && first.is_multiple_of(count);
        let is_whole = start.is_multiple_of(self.shard_len) && len.is_multiple_of(self.shard_len);
        // The value of an only shard is that of the root. The last shard may be short.
        let is_inner = self.values.len() > 1 && first + count < self.values.len();
        (is_subtree && is_whole && is_inner).then(|| merge(&self.values[first..first + count]))
    }
}

/// Returns the length of the head of a parity file with so many data and parity shards.
pub(super) fn head_len_of(data: u64, parity: u64) -> u64 {
    FIXED as u64 + (data + parity + 2) * HASH as u64
}

/// A head whose chaining values merge to the pack's id.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub shard_len: usize,
    pub footer: Footer,
    pub footer_bytes: [u8; FOOTER_LEN],
    table_hash: [u8; HASH],
    /// One per data shard.
    values: Vec<ChainingValue>,
    /// One per parity shard. Empty while a parity file is being made.
    hashes: Vec<[u8; HASH]>,
    pub parity: usize,
}

impl Head {
    /// Returns the head for a whole pack, without the hashes of the parity shards.
    pub fn of(pack: &[u8], footer: &Footer, shard_len: usize, parity: usize) -> Result<Self> {
        let (content, tail) = pack.split_at(pack.len() - FOOTER_LEN);
        let data = content.len().div_ceil(shard_len);
        let values = content.chunks(shard_len).enumerate().map(|(i, shard)| value(shard, i, data, shard_len)).collect();
        let head = Self {
            shard_len,
            footer: *footer,
            footer_bytes: tail.try_into().map_err(|_| pack_damaged(footer.id, "its footer is cut off"))?,
            table_hash: blake3::hash(&content[footer.table_offset..]).into(),
            values,
            hashes: Vec::new(),
            parity,
        };
        match head.root() == footer.id.0 && ReedSolomonEncoder::supports(data, parity) {
            true => Ok(head),
            false => Err(pack_damaged(footer.id, "the hash of its bytes is not its id")),
        }
    }

    /// Returns the first undamaged head of a parity file of this pack, and whether either head is damaged.
    pub fn find(file: &[u8], pack: PackId) -> Result<(Self, bool)> {
        let at_front = Self::parse(file, pack);
        let at_back = Self::second_head(file).ok_or_else(|| damaged(pack, "its end is cut off or damaged"));
        match (at_front, at_back.and_then(|back| Self::parse(back, pack))) {
            (Ok(front), back) => Ok((front, back.is_err())),
            (Err(_), Ok(back)) => Ok((back, true)),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Returns the file from the second head on.
    fn second_head(file: &[u8]) -> Option<&[u8]> {
        let trailer = file.last_chunk::<TRAILER_LEN>().filter(|t| t[4..8] == [0; 4] && t[8..] == TRAILER_MAGIC)?;
        let len = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]) as usize;
        file.get(file.len().checked_sub(TRAILER_LEN)?.checked_sub(len)?..)
    }

    fn parse(bytes: &[u8], pack: PackId) -> Result<Self> {
        let bad = |reason: &str| damaged(pack, reason);
        let fixed = bytes.first_chunk::<FIXED>().ok_or_else(|| bad("it is cut off"))?;
        if fixed[..8] != MAGIC {
            return Err(bad("it does not begin with its magic"));
        }
        let version = u16::from_le_bytes([fixed[8], fixed[9]]);
        if version > VERSION {
            return Err(Error::NewerVersion { what: "a parity file", found: version.into(), known: VERSION.into() });
        }
        let parity = usize::from(u16::from_le_bytes([fixed[10], fixed[11]]));
        let shard_len = u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]) as usize;
        let (_, footer_bytes) = fixed.split_last_chunk::<FOOTER_LEN>().ok_or_else(|| bad("it is cut off"))?;
        // The pack's length follows from its footer; `parse_tail` accepts no other length.
        let field = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| footer_bytes[at + i]));
        let pack_len = field(0).saturating_add(field(8) & 0xffff_ffff).saturating_add(FOOTER_LEN as u64);
        let footer = Footer::parse_tail(footer_bytes, pack_len).map_err(|e| damaged(pack, e))?;
        let content = footer.table_offset + footer.table_len;
        if version == 0 || footer.id != pack || shard_len == 0 || !shard_len.is_multiple_of(2) || shard_len > SHARD_LEN
        {
            return Err(bad("it belongs to another pack, or its version or shard length is not valid"));
        }
        let data = content.div_ceil(shard_len);
        let is_subtree = data == 1 || (shard_len.is_power_of_two() && shard_len >= CHUNK);
        // At most as much parity as data, which is the most that `Parity` allows. So a decoder is never larger than two
        // packs.
        if !is_subtree || data > SHARDS_MAX || !(1..=data.max(parity_min(data))).contains(&parity) {
            return Err(bad("its number of shards is out of bounds"));
        }
        let len = FIXED + HASH * (1 + data + parity);
        let (head, sum) = bytes.split_at_checked(len).ok_or_else(|| bad("it is cut off"))?;
        if sum.first_chunk::<HASH>() != Some(blake3::hash(head).as_bytes()) {
            return Err(bad("its head is damaged"));
        }
        let (table, hashes) = head[FIXED..].as_chunks::<HASH>().0.split_first().ok_or_else(|| bad("it is cut off"))?;
        let (values, hashes) = (hashes[..data].to_vec(), hashes[data..].to_vec());
        let (footer_bytes, table_hash) = (*footer_bytes, *table);
        let found = Self { shard_len, footer, footer_bytes, table_hash, values, hashes, parity };
        let is_known = reed_solomon_simd::ReedSolomonDecoder::supports(data, parity);
        if is_known && found.root() == pack.0 {
            Ok(found)
        } else {
            Err(bad("its hashes do not merge to the pack's id"))
        }
    }

    /// Encodes the head with the hashes of these parity shards.
    pub fn encode(&self, shards: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.parity as u16).to_le_bytes());
        bytes.extend_from_slice(&(self.shard_len as u32).to_le_bytes());
        bytes.extend_from_slice(&self.footer_bytes);
        bytes.extend_from_slice(&self.table_hash);
        self.values.iter().for_each(|value| bytes.extend_from_slice(value));
        shards.iter().for_each(|shard| bytes.extend_from_slice(blake3::hash(shard).as_bytes()));
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        bytes
    }

    /// Returns the parity shards of the pack's content. `kept` keeps the encoder for the next pack.
    pub fn encode_shards(&self, content: &[u8], kept: &mut Option<ReedSolomonEncoder>) -> Result<Vec<Vec<u8>>> {
        let fail =
            |e: reed_solomon_simd::Error| pack_damaged(self.footer.id, format!("its parity cannot be computed: {e}"));
        let (data, parity, len) = (self.data(), self.parity, self.shard_len);
        // An encoder that failed is not kept.
        let mut encoder = match kept.take() {
            Some(mut encoder) => encoder.reset(data, parity, len).map(|()| encoder),
            None => ReedSolomonEncoder::new(data, parity, len),
        }
        .map_err(fail)?;
        for shard in content.chunks(self.shard_len) {
            encoder.add_original_shard(self.padded(shard)).map_err(fail)?;
        }
        let encoded = encoder.encode().map_err(fail)?;
        let shards = encoded.recovery_iter().map(<[u8]>::to_vec).collect();
        drop(encoded);
        *kept = Some(encoder);
        Ok(shards)
    }

    /// Pads the last shard with zeros.
    pub fn padded<'a>(&self, shard: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        if shard.len() == self.shard_len {
            return shard.into();
        }
        let mut padded = shard.to_vec();
        padded.resize(self.shard_len, 0);
        padded.into()
    }

    fn len(&self) -> usize {
        FIXED + HASH * (2 + self.data() + self.parity)
    }

    /// Returns the length of the pack before its footer.
    pub fn content_len(&self) -> usize {
        self.footer.table_offset + self.footer.table_len
    }

    /// Returns the number of data shards.
    pub fn data(&self) -> usize {
        self.values.len()
    }

    /// Whether these are the bytes of a data shard, without padding.
    pub fn is_data(&self, number: usize, shard: &[u8]) -> bool {
        self.values.get(number).is_some_and(|v| value(shard, number, self.data(), self.shard_len) == *v)
    }

    /// Returns a parity shard of the file, or `None` if it is damaged.
    pub fn parity_shard<'a>(&self, file: &'a [u8], number: usize) -> Option<&'a [u8]> {
        let shard = file.get(self.len() + number * self.shard_len..)?.get(..self.shard_len)?;
        (self.hashes.get(number) == Some(blake3::hash(shard).as_bytes())).then_some(shard)
    }

    /// Returns the file's copy of the pack's table, or `None` if it is damaged or there is none.
    pub fn table<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let table = file.get(self.len() + self.parity * self.shard_len..)?.get(..self.footer.table_len)?;
        (self.has_table() && blake3::hash(table) == self.table_hash).then_some(table)
    }

    /// Whether the file has a copy of the pack's table.
    pub fn has_table(&self) -> bool {
        table_copy_len(self.data(), self.footer.table_len) > 0
    }

    /// Returns the length of an undamaged parity file.
    pub fn file_len(&self) -> usize {
        let table = table_copy_len(self.data(), self.footer.table_len);
        2 * self.len() + self.parity * self.shard_len + table + TRAILER_LEN
    }

    fn root(&self) -> [u8; HASH] {
        match &self.values[..] {
            [] => [0; HASH],
            [only] => *only,
            values => {
                let (left, right) = values.split_at(left_len(values.len()));
                hazmat::merge_subtrees_root(&merge(left), &merge(right), Mode::Hash).into()
            }
        }
    }
}

/// Returns what a data shard must hash to: its chaining value as a subtree, or the hash itself if it is the only shard.
fn value(shard: &[u8], number: usize, of: usize, shard_len: usize) -> ChainingValue {
    match of {
        1 => blake3::hash(shard).into(),
        _ if shard.is_empty() => [0; HASH],
        _ => {
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset((number * shard_len) as u64).update(shard);
            hasher.finalize_non_root()
        }
    }
}

/// Returns how many of a subtree's shards are in its left half: the largest power of two below their number.
fn left_len(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn merge(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [] => [0; HASH],
        [only] => *only,
        values => {
            let (left, right) = values.split_at(left_len(values.len()));
            hazmat::merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

fn damaged(pack: PackId, reason: impl ToString) -> Error {
    Error::damaged(format!("the parity of pack {pack}"), reason)
}
