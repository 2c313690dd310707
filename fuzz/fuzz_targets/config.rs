//! The configuration: the input as it is, and signed by the admin key that golden configurations name.

#![no_main]

use bkfs_fuzz::{encodes_back, keys};
use bkfs_store::{
    crypto::{SealPublic, signed::Signed},
    format::{chunker::Chunker, config},
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let keys = keys();
    let _ = config::verify_config(data);
    let payload = data.to_vec();
    let signed = Signed::new(&config::Config::HEADER.magic, payload, &keys.full.admin).encode();
    let Ok(config) = config::verify_config(&signed) else { return };
    assert!(signed.len() <= 16 << 10);
    encodes_back(&config);
    assert!(config.created.nanos < 1_000_000_000);
    let public = SealPublic::from_bytes(&config.seal_public, Default::default()).expect("a checked key");
    assert_eq!(public.to_bytes(), config.seal_public);
    let _ = (keys.full.check_config(&config), Chunker::new(&config.chunker, keys.ids.chunker()));
});
