//! Packs, as they come from a disk or a client: whole, and only footer and table.

#![no_main]

use bkfs_fuzz::{Input, keys};
use bkfs_store::format::pack::{Footer, Pack};
use bytes::Bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(footer) = Footer::parse(data) {
        assert_eq!(footer.table_offset + footer.table_len + 64, data.len());
        if let Ok(table) = footer.table(&data[footer.table_offset..][..footer.table_len]) {
            bkfs_fuzz::check_table(&table, footer.table_offset);
            let _ = table.verify(&keys().roster);
        }
    }
    let mut input = Input(data);
    let len = u64::from_le_bytes(input.array());
    if let Ok(footer) = Footer::parse_tail(input.0, len) {
        assert_eq!((footer.table_offset + footer.table_len + 64) as u64, len);
        assert!(len <= 64 << 20);
        let _ = footer.table(input.0);
    }
    if let Ok(pack) = Pack::parse(&Bytes::copy_from_slice(data)) {
        let _ = pack.table.verify(&keys().roster);
    }
});
