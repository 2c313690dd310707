//! Packs with valid hashes and a valid signature around any header, frames and table. The input is `length u16 | header
//! and frames | table up to the hash`; the target adds the rest.

#![no_main]

use bkfs_fuzz::{Input, keys};
use bkfs_store::format::pack::{Pack, PackTable, PackWriter};
use bytes::Bytes;

/// Returns the pack around header, frames and table.
fn seal(front: &[u8], table: &[u8]) -> Bytes {
    let mut bytes = [front, table, blake3::hash(front).as_bytes()].concat();
    let signature = keys().push.signing.sign(b"bkfspack", &bytes[front.len()..]);
    bytes.extend_from_slice(&signature);
    let (id, table_len) = (blake3::hash(&bytes), (bytes.len() - front.len()) as u32);
    bytes.extend_from_slice(&(front.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&table_len.to_le_bytes());
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&[0; 10]);
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(b"bkfspend");
    bytes.into()
}

/// Writes the same frames with the pack writer. It adds the wrap of a data key only once.
fn write(pack: &Pack) -> PackTable {
    let table = &pack.table;
    let mut writer = PackWriter::new(table.kind, table.repo, &keys().push.signing);
    table.wraps.iter().for_each(|wrap| writer.add_wrap(wrap));
    for (number, entry) in table.frames.iter().enumerate() {
        writer.add(&pack.frame(number).expect("a frame of the table"), &entry.ids);
    }
    Pack::parse(&writer.finish().bytes).expect("what the writer made").table
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let Some(front) = input.part() else { return };
    let bytes = seal(front, input.0);
    let Ok(pack) = Pack::parse(&bytes) else { return };
    let keys = keys();
    bkfs_fuzz::check_table(&pack.table, front.len());
    assert_eq!(&front[..10], b"bkfspack\x01\0");
    assert_eq!(&front[11..16], [0; 5], "reserved bytes are zero");
    let frames: Vec<Bytes> = (0..pack.table.frames.len()).map(|n| pack.frame(n).expect("a frame")).collect();
    assert_eq!(frames.concat(), &front[16..]);
    assert!(frames.iter().all(|frame| pack.table.wraps.iter().any(|wrap| frame.starts_with(&wrap.key.0))));
    let ours = pack.table.client == keys.push.client_id() && pack.table.repo == keys.full.repo;
    assert_eq!(pack.table.verify(&keys.roster).is_ok(), ours);

    let again = write(&pack);
    assert_eq!((again.kind, again.repo, &again.frames), (pack.table.kind, pack.table.repo, &pack.table.frames));
    assert!(again.wraps.iter().all(|wrap| pack.table.wraps.contains(wrap)));
});
