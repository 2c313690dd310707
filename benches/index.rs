//! The index: adding packs, and looking up chunks among 500,000 others.

use std::sync::{Arc, OnceLock};

use bkfs_store::{
    base::id::{ChunkId, RepoId},
    crypto::{DataKey, SealSecret, Secret, SigningKey, random},
    format::{
        frame::{ChunkKind, FrameBuilder},
        pack::{Pack, PackTable, PackWriter},
        roster::Domains,
    },
    repository::index::Index,
};
use divan::{Bencher, counter::ItemsCount};

/// Chunks in one pack of small files.
const CHUNKS: usize = 4096;
/// Packs that are in the index before the measurement.
const PACKS: usize = 122;

/// Returns the table of a pack whose chunks are in no other pack, and the length of the pack.
fn table() -> (PackTable, u64) {
    let (repo, key) = (RepoId([1; 16]), DataKey::random());
    let mut writer = PackWriter::new(ChunkKind::Data, repo, &SigningKey::from_seed(Secret::new(random())));
    writer.add_wrap(&SealSecret::random(Default::default()).public().wrap(repo, &key));
    for _ in 0..CHUNKS / 16 {
        let mut frame = FrameBuilder::new();
        (0..16).for_each(|_| frame.push(b"some"));
        let ids: Vec<ChunkId> = (0..16).map(|_| ChunkId(random())).collect();
        writer.add(&frame.seal(repo, ChunkKind::Data, &key, 1), &ids);
    }
    let pack = writer.finish();
    (Pack::parse(&pack.bytes).unwrap().table, pack.bytes.len() as u64)
}

struct Filled {
    index: Arc<Index>,
    ids: Vec<ChunkId>,
    _folder: tempfile::TempDir,
}

fn filled() -> &'static Filled {
    static FILLED: OnceLock<Filled> = OnceLock::new();
    FILLED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path()).unwrap();
        let mut ids = Vec::new();
        for _ in 0..PACKS {
            let (table, len) = table();
            index.packs().add(&table, len, None).unwrap();
            ids.extend(table.frames.iter().flat_map(|frame| &frame.ids).step_by(16));
        }
        Filled { index, ids, _folder: folder }
    })
}

#[divan::bench(sample_count = 40, sample_size = 1)]
fn insert(bencher: Bencher<'_, '_>) {
    let filled = filled();
    bencher
        .counter(ItemsCount::new(CHUNKS))
        .with_inputs(table)
        .bench_local_values(|(table, len)| filled.index.packs().add(&table, len, None).unwrap());
}

#[divan::bench]
fn hit(bencher: Bencher<'_, '_>) {
    let filled = filled();
    bencher
        .counter(ItemsCount::new(filled.ids.len()))
        .bench_local(|| filled.index.chunks().has(&filled.ids, None, &Domains::default()).unwrap());
}

#[divan::bench]
fn miss(bencher: Bencher<'_, '_>) {
    let (filled, ids) = (filled(), (0..CHUNKS).map(|_| ChunkId(random())).collect::<Vec<_>>());
    bencher
        .counter(ItemsCount::new(ids.len()))
        .bench_local(|| filled.index.chunks().has(&ids, None, &Domains::default()).unwrap());
}
