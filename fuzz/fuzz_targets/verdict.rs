//! Verdicts: the input as it is, and behind the admin key's signature.

#![no_main]

use bkfs_fuzz::{encodes_back, keys};
use bkfs_store::{crypto::signed::Signed, format::verdict::Verdict};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let full = &keys().full;
    let admin = full.admin.verifying_key();
    let _ = Verdict::verify(data, &admin, full.repo);
    let _ = Verdict::refuses(data);
    let signed = Signed::new(&Verdict::HEADER.magic, data.to_vec(), &full.admin).encode();
    let Ok(verdict) = Verdict::verify(&signed, &admin, full.repo) else { return };
    assert!(signed.len() <= Verdict::SIZE_MAX && verdict.repo == full.repo);
    assert!(verdict.verified.len() <= Verdict::PACKS_MAX && verdict.refused.len() <= Verdict::PACKS_MAX);
    assert_eq!(Verdict::refuses(&signed), !verdict.refused.is_empty());
    encodes_back(&verdict);
});
