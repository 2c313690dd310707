//! Compression of frames: zstd, or none if it does not pay.
//!
//! Each thread keeps its contexts, because creating one costs as much as compressing a small frame. Data that does not
//! shrink by at least 1/32 is stored uncompressed. zstd skips incompressible data at several GB/s, so there is no
//! estimate beforehand.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

/// The default level. It is low because compression is by far the most expensive stage of a push (design, section 14).
pub const LEVEL_DEFAULT: i32 = 3;

thread_local! {
    static COMPRESSOR: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses `plain` and appends the result to `out` if that saves space. Returns whether it did; if not, `out` is
/// unchanged.
pub fn compress(plain: &[u8], level: i32, out: &mut Vec<u8>) -> bool {
    let worthwhile = plain.len() - plain.len() / 32;
    if plain.len() < 32 {
        return false;
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(l, _)| *l != level) {
            *slot = Compressor::new(level).ok().map(|c| (level, c));
        }
        let Some((_, compressor)) = slot else { return false };
        let start = out.len();
        // zstd gives up as soon as the destination is full, which is when compression no longer pays.
        out.resize(start + worthwhile, 0);
        match compressor.compress_to_buffer(plain, &mut out[start..]) {
            Ok(len) => {
                out.truncate(start + len);
                true
            }
            Err(_) => {
                out.truncate(start);
                false
            }
        }
    })
}

/// Decompresses to exactly `len` bytes. Returns `None` if the data is damaged or has another length. The caller bounds
/// `len`.
pub fn decompress(data: &[u8], len: usize) -> Option<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Decompressor::new().ok();
        }
        let plain = slot.as_mut()?.decompress(data, len).ok()?;
        (plain.len() == len).then_some(plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn noise_is_not_compressed() {
        let mut noise = vec![0; 100_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let mut out = b"before".to_vec();
        assert!(!compress(&noise, 3, &mut out));
        assert_eq!(out, b"before");
    }

    proptest! {
        #[test]
        fn compressed_data_decompresses_to_the_same(plain in prop::collection::vec(0u8..4, 0..5000), level in 1i32..5) {
            let mut out = vec![1, 2, 3];
            if compress(&plain, level, &mut out) {
                prop_assert!(out.len() - 3 <= plain.len());
                prop_assert_eq!(decompress(&out[3..], plain.len()), Some(plain.clone()));
                prop_assert_eq!(decompress(&out[3..], plain.len() + 1), None);
            }
        }

        #[test]
        fn no_input_panics(data: Vec<u8>, len in 0usize..100_000) {
            let _ = decompress(&data, len);
        }
    }
}
