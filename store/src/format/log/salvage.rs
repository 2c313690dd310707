//! Recovers what is left of a log whose two files are both damaged at the same place.
//!
//! A record proves itself: the hash after it is the hash of the 32 bytes before it and its own bytes. So a record
//! behind damage can be found wherever it begins, and its number tells how many records are missing in between. If the
//! two files are damaged at different bytes of one record, the right mixture of both proves itself, too.
//!
//! These are pure functions over bytes. `repository/relog.rs` decides what is written, and what replaces a lost record.

use super::{
    file::{self, OVERHEAD, Position, RECORD_MAX},
    record::LogRecord,
};
use crate::base::{codec, id::Hash};

/// The CBOR head of an array of three: the first byte of every record.
const ARRAY_OF_3: u8 = 0x83;
/// Differing bytes that are closer together than this are taken from the same file. Disks damage whole sectors, and a
/// few bytes of a damaged sector may be right by chance. If no such mixture is right, every differing byte is chosen by
/// itself.
const RUN_GAPS: [usize; 2] = [16, 1];
/// Maximum number of bytes to hash in the search for the right mixture of two damaged copies of a record.
const MIX_BYTES_MAX: usize = 256 << 20;

/// What is left of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Salvaged {
    /// The encoded records in their positions; `None` for a lost record.
    pub records: Vec<Option<Vec<u8>>>,
    /// The number of bytes after the last record that was found: an append that a crash tore, or damage.
    pub cut: usize,
    /// Whether the cut bytes look like damage rather than a torn append.
    pub is_cut_damaged: bool,
}

impl Salvaged {
    /// Whether no record is lost.
    pub fn is_whole(&self) -> bool {
        !self.is_cut_damaged && self.records.iter().all(Option::is_some)
    }
}

/// Finds all records that are whole in one of the files, or in a mixture of both.
pub fn salvage(first: &[u8], second: &[u8]) -> Salvaged {
    let files = [first, second];
    let (mut at, mut found) = (Position::default(), Salvaged::default());
    loop {
        if let Some((raw, next)) = whole_record(at, files).or_else(|| mixed_record(at, files)) {
            found.records.push(Some(raw));
            at = next;
            continue;
        }
        let Some(again) = find_next(at, files) else { break };
        found.records.extend((at.len..again.len).map(|_| None));
        at = again;
    }
    let rest = |file: &[u8]| file.len().saturating_sub(at.offset as usize);
    found.cut = rest(first).max(rest(second));
    // A crash tears the append to the first file: a record is appended to the second only after the first has all of
    // it.
    let is_torn = matches!(file::next_record(at, first.get(at.offset as usize..).unwrap_or_default()), Ok(None));
    found.is_cut_damaged = if second.is_empty() { !is_torn } else { rest(second) > 0 };
    found
}

/// Returns the record at this position, if it is whole in one of the files.
fn whole_record(at: Position, files: [&[u8]; 2]) -> Option<(Vec<u8>, Position)> {
    files.iter().find_map(|file| {
        let (raw, next) = file::next_record(at, file.get(at.offset as usize..)?).ok()??;
        Some((raw.to_vec(), next))
    })
}

/// Returns the record at this position, if a mixture of the bytes of both files is right.
fn mixed_record(at: Position, files: [&[u8]; 2]) -> Option<(Vec<u8>, Position)> {
    let [one, two] = [files[0].get(at.offset as usize..)?, files[1].get(at.offset as usize..)?];
    for (head, gap) in [one, two].into_iter().flat_map(|head| RUN_GAPS.map(|gap| (head, gap))) {
        let len = u32::from_le_bytes(*head.first_chunk()?) as usize;
        let end = len.checked_add(OVERHEAD).filter(|_| len <= RECORD_MAX)?;
        let (Some(one), Some(two)) = (one.get(..end), two.get(..end)) else { continue };
        let runs = differing_runs(one, two, gap);
        if runs.len() >= 24 || end << runs.len() > MIX_BYTES_MAX {
            continue;
        }
        for choice in 0..1u32 << runs.len() {
            let mut mixture = one.to_vec();
            for (number, run) in runs.iter().enumerate() {
                if choice >> number & 1 == 1 {
                    mixture[run.clone()].copy_from_slice(&two[run.clone()]);
                }
            }
            if let Ok(Some((raw, next))) = file::next_record(at, &mixture) {
                return Some((raw.to_vec(), next));
            }
        }
    }
    None
}

/// Returns the runs of bytes in which two copies differ.
fn differing_runs(one: &[u8], two: &[u8], gap: usize) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for at in (0..one.len()).filter(|at| one[*at] != two[*at]) {
        match runs.last_mut().filter(|last| at < last.end + gap) {
            Some(last) => last.end = at + 1,
            None => runs.push(at..at + 1),
        }
    }
    runs
}

/// Returns the next position behind damage where a record begins.
fn find_next(at: Position, files: [&[u8]; 2]) -> Option<Position> {
    let begin = at.offset as usize + OVERHEAD + 1;
    let end = files.iter().map(|file| file.len()).max()?;
    (begin..end).find_map(|offset| files.iter().find_map(|file| record_at(at, file, offset)))
}

fn record_at(at: Position, file: &[u8], offset: usize) -> Option<Position> {
    // The cheap test first: most offsets fail it.
    if *file.get(offset + 4)? != ARRAY_OF_3 {
        return None;
    }
    let head = Hash::from_slice(file.get(offset - Hash::LEN..offset)?)?;
    let here = Position { len: 0, head, offset: offset as u64 };
    let (raw, _) = file::next_record(here, &file[offset..]).ok()??;
    let record: LogRecord = codec::decode("a record of the log", raw).ok()?;
    // Each of the records in between took at least this many bytes.
    let most = (offset - at.offset as usize) / (OVERHEAD + 1);
    let count = record.seq.checked_sub(at.len).filter(|count| (1..=most as u64).contains(count))?;
    Some(Position { len: at.len + count, ..here })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{base::time::Time, format::log::Event};

    /// Returns a log of `count` records, where each one begins, and the encoded records.
    fn log(count: u64) -> (Vec<u8>, Vec<usize>, Vec<Vec<u8>>) {
        let (mut at, mut bytes, mut starts, mut raws) = (Position::default(), Vec::new(), Vec::new(), Vec::new());
        for seq in 0..count {
            let signed = blake3::hash(&seq.to_le_bytes()).as_bytes().repeat(1 + seq as usize % 5);
            let record = LogRecord { seq, time: Time { secs: seq as i64, nanos: 0 }, event: Event::Roster { signed } };
            starts.push(bytes.len());
            let (framed, next) = file::encode(at, &record);
            bytes.extend(framed);
            raws.push(record.encode());
            at = next;
        }
        (bytes, starts, raws)
    }

    #[test]
    fn a_whole_log_is_whole_and_a_torn_end_is_cut() {
        let (bytes, _, raws) = log(9);
        let found = salvage(&bytes, &bytes);
        assert!(found.is_whole() && found.cut == 0);
        assert_eq!(found.records, raws.iter().cloned().map(Some).collect::<Vec<_>>());
        let torn = [&bytes[..], &bytes[..20]].concat();
        let found = salvage(&torn, &bytes);
        assert!(found.is_whole() && found.cut == 20);
        assert!(salvage(&bytes[..100], &bytes).is_whole());
        assert!(salvage(b"", b"").is_whole());
    }

    #[test]
    fn a_record_that_is_damaged_in_both_files_costs_only_itself() {
        let (bytes, starts, raws) = log(9);
        for (number, start) in starts.iter().enumerate() {
            let end = starts.get(number + 1).copied().unwrap_or(bytes.len());
            for at in *start..end {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x41;
                let found = salvage(&damaged, &damaged);
                // The next record proves itself by the hash at the end of this one.
                let is_hash = at >= end - Hash::LEN && number + 1 < raws.len();
                for (place, raw) in raws.iter().enumerate() {
                    let is_lost = place == number || (is_hash && place == number + 1);
                    match found.records.get(place) {
                        Some(Some(found)) => assert!(found == raw && place != number, "byte {at}, record {place}"),
                        Some(None) => assert!(is_lost, "byte {at}, record {place}"),
                        None => {
                            assert!(place + 1 >= number.max(raws.len() - 2) && is_lost, "byte {at}, record {place}")
                        }
                    }
                }
                assert!(!found.is_whole());
            }
        }
    }

    #[test]
    fn two_copies_that_are_damaged_at_different_bytes_make_a_whole_one() {
        let (bytes, starts, _) = log(9);
        let (mut one, mut two) = (bytes.clone(), bytes.clone());
        for (number, start) in starts.iter().enumerate() {
            one[start + 6] ^= 1;
            two[start + 30] ^= 1;
            if number % 2 == 0 {
                two[start + 1] ^= 0x10;
            }
        }
        let found = salvage(&one, &two);
        assert!(found.is_whole());
        assert_eq!(found, salvage(&bytes, &bytes));
    }

    proptest! {
        #[test]
        fn whatever_the_damage_found_records_are_right(
            spans in proptest::collection::vec((0usize..2, 0usize..2000, 0usize..400, any::<u8>()), 0..8),
            cuts in (0usize..2500, 0usize..2500),
        ) {
            let (bytes, _, raws) = log(20);
            let mut files = [bytes.clone(), bytes];
            for (file, at, len, value) in spans {
                let end = (at + len).min(files[file].len());
                files[file][at.min(end)..end].fill(value);
            }
            files[0].truncate(cuts.0);
            files[1].truncate(cuts.1);
            let found = salvage(&files[0], &files[1]);
            for (place, record) in found.records.iter().enumerate() {
                prop_assert!(record.as_ref().is_none_or(|raw| raws.get(place) == Some(raw)));
            }
        }

        #[test]
        fn no_bytes_panic(one: Vec<u8>, two: Vec<u8>) {
            let _ = salvage(&one, &two);
        }
    }
}
