//! The log: a file of any bytes, and a file with records of any bytes and valid hashes.

#![no_main]

use bkfs_fuzz::{Input, encodes_back};
use bkfs_store::{
    base::codec,
    format::log::{
        LogRecord,
        file::{self as log_file, Position},
    },
};

/// Reads a log up to its end or its damage. Returns how many records it has, and where they end.
fn read(file: &[u8]) -> (u64, u64) {
    let mut at = Position::default();
    while let Ok(Some((body, next))) = log_file::next_record(at, &file[at.offset as usize..]) {
        assert!(body.len() <= 16 << 20 && next.len == at.len + 1);
        assert_eq!(next.offset, at.offset + body.len() as u64 + 36);
        if let Ok(record) = log_file::decode(at, body) {
            assert_eq!(record.seq, at.len);
            let (framed, _) = log_file::encode(at, &record);
            let (again, _) = log_file::next_record(at, &framed).expect("a record").expect("all of it");
            assert_eq!(log_file::decode(at, again).expect("what was framed"), record);
        }
        at = next;
    }
    (at.len, at.offset)
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    read(data);
    if let Ok(record) = codec::decode::<LogRecord>("a record", data) {
        encodes_back(&record);
    }

    let (mut input, mut at, mut file) = (Input(data), Position::default(), Vec::new());
    while let Some(body) = input.part() {
        let (framed, next) = log_file::encode_bytes(at, body);
        file.extend_from_slice(&framed);
        at = next;
    }
    assert_eq!(read(&file), (at.len, file.len() as u64));
    // A file that is cut off keeps the records before the cut.
    let cut = file.len() - data.len().min(file.len()) / 3;
    let (len, end) = read(&file[..cut]);
    assert!(len <= at.len && end <= cut as u64);
});
