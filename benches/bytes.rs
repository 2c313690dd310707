//! From bytes to sealed frames and back, on one thread: chunk, hash, compress, seal.

use bkfs_store::{
    base::id::RepoId,
    crypto::{DataKey, Secret},
    format::{
        chunker::Chunker,
        compress,
        config::ChunkerParams,
        frame::{self, ChunkKind, FrameBuilder},
        keys::IdKeys,
    },
};
use divan::{Bencher, counter::BytesCount};

use crate::material::{noise, text};

const REPO: RepoId = RepoId([1; 16]);

#[divan::bench]
fn chunk(bencher: Bencher<'_, '_>) {
    let ids = IdKeys::new(Secret::new([1; 32]));
    let chunker = Chunker::new(&ChunkerParams::default(), ids.chunker()).unwrap();
    let bytes = noise(8 << 20, 1);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| {
        let (mut rest, mut count) = (&bytes[..], 0);
        while let Some(len) = chunker.cut(rest, true).filter(|&len| len > 0) {
            rest = &rest[len..];
            count += 1;
        }
        count
    });
}

#[divan::bench(args = [512, 4096, 65_536])]
fn id(bencher: Bencher<'_, '_>, len: usize) {
    let ids = IdKeys::new(Secret::new([1; 32]));
    let bytes = noise(len, 1);
    bencher.counter(BytesCount::new(len)).bench(|| ids.data_id(&bytes));
}

fn compress(bencher: Bencher<'_, '_>, bytes: &[u8], level: i32) {
    bencher.counter(BytesCount::new(bytes.len())).bench(|| {
        let mut out = Vec::new();
        compress::compress(bytes, level, &mut out);
        out
    });
}

#[divan::bench(args = [1, 2, 3, 6])]
fn compress_text_256k(bencher: Bencher<'_, '_>, level: i32) {
    compress(bencher, &text(256 << 10, 1), level);
}

#[divan::bench(args = [1, 2, 3, 6])]
fn compress_text_64k(bencher: Bencher<'_, '_>, level: i32) {
    compress(bencher, &text(64 << 10, 1), level);
}

#[divan::bench]
fn compress_noise(bencher: Bencher<'_, '_>) {
    compress(bencher, &noise(64 << 10, 1), compress::LEVEL_DEFAULT);
}

#[divan::bench]
fn decompress_text(bencher: Bencher<'_, '_>) {
    let (bytes, mut out) = (text(256 << 10, 1), Vec::new());
    compress::compress(&bytes, compress::LEVEL_DEFAULT, &mut out);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| compress::decompress(&out, bytes.len()));
}

#[divan::bench]
fn seal(bencher: Bencher<'_, '_>) {
    let key = DataKey::random();
    let bytes = noise(64 << 10, 1);
    bencher
        .counter(BytesCount::new(bytes.len()))
        .with_inputs(|| bytes.clone())
        .bench_local_values(|mut bytes| key.aead().seal_in_place(&mut bytes, 0, b"frame"));
}

fn open(bencher: Bencher<'_, '_>, bytes: &[u8]) {
    let key = DataKey::random();
    let mut builder = FrameBuilder::new();
    builder.push(bytes);
    let sealed = builder.seal(REPO, ChunkKind::Data, &key, compress::LEVEL_DEFAULT);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| frame::open(&sealed, REPO, ChunkKind::Data, &key));
}

#[divan::bench]
fn open_noise_frame(bencher: Bencher<'_, '_>) {
    open(bencher, &noise(64 << 10, 1));
}

#[divan::bench]
fn open_text_frame(bencher: Bencher<'_, '_>) {
    open(bencher, &text(64 << 10, 1));
}
