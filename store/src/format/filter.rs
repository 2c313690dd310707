//! Filters of live ids: of all ids with one first byte, so many bits that a dead one passes for live once in 65,000.
//!
//! Ids are hashes, so their bits are as good as random. Of `n` ids, log2(n) + 16 bits after the first byte are kept; sorted, the
//! differences are small and take two or three bytes each. That is larger than the best of filters and has nothing that
//! could be wrong: whatever the bytes are, they are a set of numbers.
//!
//! ```text
//! filter := bits u8 | varint (first number) | varint (difference to the one before)...
//! ```

use crate::base::{
    error::{Error, Result},
    id::ChunkId,
};

/// How many ids one filter holds at most; more are sent as several filters.
pub const FILTER_IDS: usize = 1 << 20;
/// Bits beyond those that tell `n` ids apart.
const SPARE_BITS: u32 = 16;

/// The bits of an id that filters keep the first of: the eight bytes after the first one.
pub fn filter_key(id: &ChunkId) -> u64 {
    id.0[1..9].iter().fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// Encodes the filter of some [keys](filter_key), at most [`FILTER_IDS`]; sorts them.
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
            return Err(damaged("it keeps an impossible number of bits"));
        }
        let bits = u32::from(bits);
        // Each id takes a byte at least, so the input bounds what is allocated.
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

    /// Whether an id with this [key](filter_key) is in it, or passes for one that is.
    pub fn holds(&self, key: u64) -> bool {
        self.keys.binary_search(&(key >> (u64::BITS - self.bits))).is_ok()
    }
}

/// Appends a number, seven bits a byte, the lowest first.
pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes a number off; none if it is cut off or too large.
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
        fn what_was_put_in_is_held(mut keys in proptest::collection::vec(any::<u64>(), 0..500)) {
            let filter = LiveFilter::decode(&encode_filter(&mut keys)).unwrap();
            for key in &keys {
                prop_assert!(filter.holds(*key));
            }
        }

        #[test]
        fn any_bytes_are_a_set_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(filter) = LiveFilter::decode(&bytes) {
                prop_assert!(filter.keys.is_sorted());
                filter.holds(7);
            }
        }
    }

    #[test]
    fn a_dead_id_rarely_passes_for_a_live_one() {
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
