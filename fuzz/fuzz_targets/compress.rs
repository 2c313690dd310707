//! Compression: decompresses any bytes to any length that a frame may claim; compresses and decompresses the input.

#![no_main]

use bkfs_fuzz::Input;
use bkfs_store::format::{
    compress::{compress, decompress},
    frame::BODY_MAX,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let len = input.u32() as usize % (BODY_MAX + 1);
    if let Some(plain) = decompress(input.0, len) {
        assert_eq!(plain.len(), len);
    }
    let mut out = b"before".to_vec();
    if compress(input.0, 1 + (len % 4) as i32, &mut out) {
        assert!(out.len() - 6 < input.0.len());
        assert_eq!(decompress(&out[6..], input.0.len()).as_deref(), Some(input.0));
        assert_eq!(decompress(&out[6..], input.0.len() + 1), None);
    } else {
        assert_eq!(out, b"before");
    }
});
