//! Frames: the input as it is, and behind the seal.

#![no_main]

use bkfs_fuzz::keys;
use bkfs_store::{
    crypto::NONCE_LEN,
    format::frame::{self, BODY_MAX, CHUNKS_MAX, ChunkKind, FRAME_MAX, FrameBuilder},
};
use bytes::Bytes;

fn check(chunks: &[Bytes]) {
    let keys = keys();
    assert!(chunks.len() <= CHUNKS_MAX);
    assert!(4 + chunks.iter().map(|chunk| 4 + chunk.len()).sum::<usize>() <= BODY_MAX);
    let mut builder = FrameBuilder::new();
    chunks.iter().for_each(|chunk| builder.push(chunk));
    let sealed = builder.seal(keys.full.repo, ChunkKind::Data, &keys.data, 1);
    assert!(sealed.len() <= FRAME_MAX);
    assert_eq!(frame::open(&sealed, keys.full.repo, ChunkKind::Data, &keys.data).expect("opens"), chunks);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let keys = keys();
    if let Ok(chunks) = frame::open(data, keys.full.repo, ChunkKind::Data, &keys.data) {
        check(&chunks);
    }

    let mut sealed = keys.data.id().as_bytes().to_vec();
    let start = sealed.len();
    sealed.resize(start + NONCE_LEN, 0);
    sealed.extend_from_slice(data);
    let associated = [&keys.full.repo.0[..], &[0, 1]].concat();
    keys.data.aead().seal_in_place(&mut sealed, start, &associated);
    match frame::open(&sealed, keys.full.repo, ChunkKind::Data, &keys.data) {
        Ok(chunks) => check(&chunks),
        Err(reason) => assert!(!reason.contains("authentication"), "the seal is always valid here"),
    }
});
