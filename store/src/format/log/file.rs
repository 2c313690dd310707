//! The log as a file: records framed one after another, each with the hash that the chain has behind it.
//!
//! ```text
//! record := length u32, little-endian | that many bytes of CBOR | chained hash (32)
//! ```
//!
//! This module frames and unframes. Where a log is kept, twice, and what becomes of torn ends and damage, is in
//! [`crate::repository::log::pair`].

use super::record::LogRecord;
use crate::base::{
    codec,
    error::{Error, Result},
    id::Hash,
};

/// Largest record in bytes.
pub const RECORD_MAX: usize = 16 * 1024 * 1024;
const OVERHEAD: usize = 4 + Hash::LEN;

/// A place in the log between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode)]
pub struct Position {
    /// How many records lie before.
    #[n(0)]
    pub len: u64,
    /// The chain's hash there.
    #[n(1)]
    pub head: Hash,
    /// How many bytes of the file lie before.
    #[n(2)]
    pub offset: u64,
}

/// Frames a record that follows `at`; returns its bytes and the place behind it.
pub fn frame(at: Position, record: &LogRecord) -> (Vec<u8>, Position) {
    frame_bytes(at, &record.encode())
}

/// Frames the bytes of any record that follows `at`.
pub fn frame_bytes(at: Position, body: &[u8]) -> (Vec<u8>, Position) {
    let head = LogRecord::link(at.head, body);
    let mut bytes = Vec::with_capacity(body.len() + OVERHEAD);
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(head.as_bytes());
    let next = Position { len: at.len + 1, head, offset: at.offset + bytes.len() as u64 };
    (bytes, next)
}

/// Decodes a record that [`split`] found at `at`.
pub fn decode(at: Position, raw: &[u8]) -> Result<LogRecord> {
    let record: LogRecord = codec::decode("a record of the log", raw)?;
    match record.seq == at.len {
        true => Ok(record),
        false => Err(damaged(at, "it has another number")),
    }
}

/// Finds the record at `at`, which is where `bytes` begin, and leaves it encoded. None if the bytes end before it does.
pub fn split(at: Position, bytes: &[u8]) -> Result<Option<(&[u8], Position)>> {
    let Some(len) = bytes.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*len) as usize;
    if len > RECORD_MAX {
        return Err(damaged(at, "its length is out of bounds"));
    }
    let Some(rest) = bytes.get(4..4 + len + Hash::LEN) else { return Ok(None) };
    let (body, hash) = rest.split_at(len);
    let head = LogRecord::link(at.head, body);
    if head.as_bytes() != hash {
        return Err(damaged(at, "it does not fit the chain"));
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
    fn records_chain_and_torn_ones_are_none() {
        let start = Position::default();
        let (one, next) = frame(start, &record(0));
        let (two, end) = frame(next, &record(1));
        let file = [one.clone(), two].concat();
        let parse = |at, bytes| split(at, bytes).map(|found| found.map(|(raw, next)| (decode(at, raw).unwrap(), next)));
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
            let (mut bytes, _) = frame(Position::default(), &record(0));
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            // A larger length makes it look torn; everything else is an error.
            prop_assert!(!matches!(split(Position::default(), &bytes), Ok(Some(_))));
        }
    }
}
