//! The log as a file: one record after another, each followed by the chained hash up to and including it.
//!
//! ```text
//! record := length u32, little-endian | that many bytes of CBOR | chained hash (32)
//! ```
//!
//! This module only encodes and decodes. `repository::log::pair` stores the file twice and handles torn ends and
//! damage.

use super::record::LogRecord;
use crate::base::{
    codec,
    error::{Error, Result},
    id::Hash,
};

/// The largest record in bytes.
pub const RECORD_MAX: usize = 16 * 1024 * 1024;
/// Bytes that the file adds to a record.
pub(super) const OVERHEAD: usize = 4 + Hash::LEN;

/// A position in the log, between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode)]
pub struct Position {
    /// The number of records before it.
    #[n(0)]
    pub len: u64,
    /// The chained hash of the records before it.
    #[n(1)]
    pub head: Hash,
    /// The number of bytes of the file before it.
    #[n(2)]
    pub offset: u64,
}

/// Encodes a record that follows `at` for the file. Returns its bytes and the position after it.
pub fn encode(at: Position, record: &LogRecord) -> (Vec<u8>, Position) {
    encode_bytes(at, &record.encode())
}

/// Encodes a record for the file, like [`encode`], from the bytes of the record.
pub fn encode_bytes(at: Position, body: &[u8]) -> (Vec<u8>, Position) {
    let head = LogRecord::link(at.head, body);
    let mut bytes = Vec::with_capacity(body.len() + OVERHEAD);
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(head.as_bytes());
    let next = Position { len: at.len + 1, head, offset: at.offset + bytes.len() as u64 };
    (bytes, next)
}

/// Decodes the bytes of a record that [`next_record`] found at `at`.
pub fn decode(at: Position, raw: &[u8]) -> Result<LogRecord> {
    let record: LogRecord = codec::decode("a record of the log", raw)?;
    match record.seq == at.len {
        true => Ok(record),
        false => Err(damaged(at, "it has the number of another record")),
    }
}

/// Finds the record at `at`, where `bytes` begins. Returns it encoded, and the position after it, or `None` if `bytes`
/// ends before the record does.
pub fn next_record(at: Position, bytes: &[u8]) -> Result<Option<(&[u8], Position)>> {
    let Some(len) = bytes.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*len) as usize;
    if len > RECORD_MAX {
        return Err(damaged(at, "its length is out of bounds"));
    }
    let Some(rest) = bytes.get(4..4 + len + Hash::LEN) else { return Ok(None) };
    let (body, hash) = rest.split_at(len);
    let head = LogRecord::link(at.head, body);
    if head.as_bytes() != hash {
        return Err(damaged(at, "its hash does not continue the chain"));
    }
    Ok(Some((body, Position { len: at.len + 1, head, offset: at.offset + (len + OVERHEAD) as u64 })))
}

fn damaged(at: Position, reason: &str) -> Error {
    Error::damaged(format!("the log, record {} at byte {},", at.len, at.offset), reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::time::Time, format::log::Event};
    use proptest::prelude::*;

    fn record(seq: u64) -> LogRecord {
        LogRecord { seq, time: Time { secs: 5, nanos: 6 }, event: Event::Init { config: Hash([7; 32]) } }
    }

    #[test]
    fn records_chain_and_a_torn_record_is_none() {
        let start = Position::default();
        let (one, next) = encode(start, &record(0));
        let (two, end) = encode(next, &record(1));
        let file = [one.clone(), two].concat();
        let parse =
            |at, bytes| next_record(at, bytes).map(|found| found.map(|(raw, next)| (decode(at, raw).unwrap(), next)));
        let (read, at) = parse(start, &file).unwrap().unwrap();
        assert_eq!((read, at), (record(0), next));
        assert_eq!(parse(at, &file[one.len()..]).unwrap().unwrap(), (record(1), end));
        for cut in 0..one.len() {
            assert_eq!(parse(start, &file[..cut]).unwrap(), None);
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_passes(at: prop::sample::Index, bit in 0u32..8) {
            let (mut bytes, _) = encode(Position::default(), &record(0));
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            // A larger length makes the record look torn; every other change is an error.
            prop_assert!(!matches!(next_record(Position::default(), &bytes), Ok(Some(_))));
        }
    }
}
