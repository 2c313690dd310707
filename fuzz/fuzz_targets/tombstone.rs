//! Tombstones: the input as it is, and behind the admin key's signature.

#![no_main]

use bkfs_fuzz::{encodes_back, keys};
use bkfs_store::{crypto::signed::Signed, format::tombstone::Tombstone};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let full = &keys().full;
    let admin = full.admin.verifying_key();
    let _ = Tombstone::verify(data, &admin, full.repo);
    let signed = Signed::new(&Tombstone::HEADER.magic, data.to_vec(), &full.admin).encode();
    let Ok(tombstone) = Tombstone::verify(&signed, &admin, full.repo) else { return };
    assert!(signed.len() <= Tombstone::SIZE_MAX && tombstone.repo == full.repo);
    encodes_back(&tombstone);
    assert_eq!(Tombstone::verify(&tombstone.sign(full), &admin, full.repo).expect("what was signed"), tombstone);
    let _ = tombstone.applies_to(tombstone.snapshot, tombstone.log_len);
    // A tombstone never applies to another snapshot.
    let mut other = tombstone.snapshot;
    other.0[0] ^= 1;
    assert!(!tombstone.applies_to(other, 0));
});
