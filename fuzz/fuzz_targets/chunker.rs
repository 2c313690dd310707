//! The chunker: any bytes with any parameters. Parameters that are out of bounds are rejected. With all others, the
//! cuts are within bounds and do not depend on how the file was read.

#![no_main]

use bkfs_fuzz::Input;
use bkfs_store::{
    crypto::Secret,
    format::{chunker::Chunker, config::ChunkerParams},
};

/// Limits the bytes that are cut: enough for many chunks of the smallest sizes, and fast.
const SOURCE_MAX: usize = 1 << 19;

fn params(input: &mut Input<'_>) -> ChunkerParams {
    match input.u8() % 4 {
        0 => ChunkerParams { min: input.u32(), candidates: input.u32(), accept: input.u32(), max: input.u32() },
        _ => {
            let min = 512 + u32::from(input.u16());
            let candidates = 1 << (9 + input.u8() % 12);
            let accept = 1 + u32::from(input.u8());
            let max = (min + 1 + input.u32() % (1 << 18)).next_multiple_of(2);
            ChunkerParams { min, candidates, accept, max }
        }
    }
}

/// Repeats the bytes of the input, with noise in between.
fn source(input: &mut Input<'_>) -> Vec<u8> {
    let (len, every) = (input.u32() as usize % SOURCE_MAX, usize::from(input.u16()) + 1);
    let seed: &[u8] = if input.0.is_empty() { b"\0" } else { input.0 };
    let mut noise = vec![0; len];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut noise);
    for at in (0..len).filter(|at| at / every % 2 == 0) {
        noise[at] = seed[at % seed.len()];
    }
    noise
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let params = params(&mut input);
    let Ok(chunker) = Chunker::new(&params, &Secret::new([7; 32])) else { return };
    let (min, max) = (params.min as usize, params.max as usize);
    assert!(params.candidates.is_power_of_two() && (512..=1 << 20).contains(&params.candidates));
    assert!((1..=65_536).contains(&params.accept) && (512..=1 << 20).contains(&min));
    assert!(max % 2 == 0 && min < max && max <= 4 << 20);

    let source = source(&mut input);
    let mut rest = &source[..];
    while !rest.is_empty() {
        let len = chunker.cut(rest, true).expect("the last source always has a chunk");
        assert!((1..=max).contains(&len) && (len >= min || len == rest.len()));
        match chunker.cut(rest, false) {
            // The bytes after the longest chunk do not matter.
            Some(early) => assert_eq!((early, chunker.cut(&rest[..max], false)), (len, Some(len))),
            None => assert!(rest.len() < max),
        }
        rest = &rest[len..];
    }
});
