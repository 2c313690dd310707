//! Filters of live ids. A filter covers the ids with one first byte, and keeps enough of their bits to mistake a dead
//! id for a live one only once in 65,000.
//!
//! Ids are hashes, so their bits are as good as random. For `n` ids, a filter keeps log2(n) + 16 bits after the first
//! byte. Sorted, the differences are small and take two or three bytes each. This is larger than the best known
//! filters, but the format is simple: any sequence of bytes is either a set of numbers or an error.
//!
//! ```text
//! filter := bits u8 | varint (first number) | varint (difference to the previous number)...
//! ```

use crate::base::{
    error::{Error, Result},
    id::ChunkId,
};

/// Maximum number of ids in a filter. More ids are sent as several filters.
pub const FILTER_IDS: usize = 1 << 20;
/// Bits that are kept beyond the log2(n) that tell `n` ids apart.
const SPARE_BITS: u32 = 16;

/// Returns the part of an id whose first bits a filter keeps: the eight bytes after the first one.
pub fn filter_key(id: &ChunkId) -> u64 {
    id.0[1..9].iter().fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// Encodes the filter of at most [`FILTER_IDS`] [keys](filter_key), and sorts them.
pub fn encode_filter(keys: &mut [u64]) -> Vec<u8> {
    debug_assert!(keys.len() <= FILTER_IDS, "the caller splits");
    keys.sort_unstable();
    let bits = (usize::BITS - keys.len().leading_zeros() + SPARE_BITS).min(u64::BITS);
    let mut bytes = Vec::with_capacity(1 + keys.len() * 3);
    bytes.push(bits as u8);
    let mut before = None;
    for key in keys.iter().map(|key| key >> (u64::BITS - bits)) {
        match before {
            Some(before) if before == key => continue,
            Some(before) => put_varint(&mut bytes, key - before),
            None => put_varint(&mut bytes, key),
        }
        before = Some(key);
    }
    bytes
}

/// A decoded filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFilter {
    bits: u32,
    /// Strictly increasing.
    keys: Vec<u64>,
}

impl LiveFilter {
    /// Decodes a filter.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |reason: &str| Error::damaged("a filter of live chunks", reason);
        let (&bits, mut rest) = bytes.split_first().ok_or_else(|| damaged("it is empty"))?;
        if !(1..=64).contains(&bits) {
            return Err(damaged("its number of bits is out of bounds"));
        }
        let bits = u32::from(bits);
        // Each id takes at least one byte, so the length of the input bounds the allocation.
        let mut keys = Vec::with_capacity(rest.len().min(FILTER_IDS) / 2);
        let mut before: Option<u64> = None;
        while !rest.is_empty() {
            let step = take_varint(&mut rest).ok_or_else(|| damaged("a number is cut off or too large"))?;
            let key = match before {
                Some(_) if step == 0 => return Err(damaged("its numbers do not increase")),
                Some(before) => before.checked_add(step),
                None => Some(step),
            };
            let key =
                key.filter(|key| bits == 64 || key >> bits == 0).ok_or_else(|| damaged("a number is too large"))?;
            if keys.len() == FILTER_IDS {
                return Err(damaged("it holds too many ids"));
            }
            keys.push(key);
            before = Some(key);
        }
        Ok(Self { bits, keys })
    }

    /// How many ids it contains; fewer than it was made of if some do not differ in the bits that it keeps.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whether the filter contains an id with this [key](filter_key). Rarely, it is true for one that it does not
    /// contain.
    pub fn holds(&self, key: u64) -> bool {
        self.keys.binary_search(&(key >> (u64::BITS - self.bits))).is_ok()
    }
}

/// Appends a number, seven bits per byte, the lowest bits first.
pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Removes a number from the front. Returns `None` if it is cut off or too large.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        value |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_filter_holds_all_its_ids(mut keys in proptest::collection::vec(any::<u64>(), 0..500)) {
            let filter = LiveFilter::decode(&encode_filter(&mut keys)).unwrap();
            for key in &keys {
                prop_assert!(filter.holds(*key));
            }
        }

        #[test]
        fn any_bytes_decode_to_a_set_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(filter) = LiveFilter::decode(&bytes) {
                prop_assert!(filter.keys.is_sorted());
                filter.holds(7);
            }
        }
    }

    #[test]
    fn a_dead_id_is_rarely_taken_for_a_live_one() {
        let key = |n: u64| u64::from_be_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().unwrap());
        let mut keys: Vec<u64> = (0..20_000).map(key).collect();
        let bytes = encode_filter(&mut keys);
        assert!(bytes.len() < 20_000 * 3 + 1000, "{} bytes", bytes.len());
        let filter = LiveFilter::decode(&bytes).unwrap();
        let wrong = (20_000..220_000).filter(|n| filter.holds(key(*n))).count();
        assert!(wrong < 20, "{wrong} of 200,000");
    }

    #[test]
    fn an_empty_filter_holds_nothing() {
        let filter = LiveFilter::decode(&encode_filter(&mut [])).unwrap();
        assert!(!filter.holds(0) && !filter.holds(u64::MAX));
    }
}
