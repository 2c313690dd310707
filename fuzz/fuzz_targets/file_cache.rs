//! Records of the file cache: segments of any bytes with valid checksums are put into a cache, read and removed.

#![no_main]

use std::sync::LazyLock;

use bkfs_fs::cache::{Cache, Cursor, record};
use bkfs_fuzz::{Input, encodes_back, keys};

static CACHE: LazyLock<(tempfile::TempDir, Cache)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = Cache::open(folder.path(), keys().full.repo, Default::default()).expect("a cache");
    (folder, cache)
});

const KEY: [u8; 16] = [7; 16];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (_, cache) = &*CACHE;
    let (mut input, mut number) = (Input(data), 0u32);
    let mut spool = cache.spool();
    while let Some(body) = input.part() {
        let sum = blake3::Hasher::new().update(&KEY).update(&number.to_le_bytes()).update(body).finalize();
        let segment = [body, &sum.as_bytes()[..8]].concat();
        // The highest bit of the first byte selects a segment without a checksum. The other bits are used as they are.
        let segment = if body.first().is_some_and(|first| first & 0x80 != 0) { body } else { &segment[..] };
        spool.put(&KEY, number, segment);
        number += 1;
    }
    cache.apply(spool, None).expect("a cache that is written");

    let (mut cursor, mut steps) = (Cursor::new(cache, KEY), 0);
    assert!(number > 0 || cursor.is_absent());
    let _ = cursor.epoch();
    while let Some(entry) = cursor.entry() {
        assert!(entry.name.len() <= 255 && entry.stamp.len() == record::STAMP);
        let _ = entry.is_dir();
        if let Ok(node) = entry.decode() {
            encodes_back(&node);
        }
        assert!(cursor.subtree().is_none(), "a tree before the last entry");
        cursor.advance();
        steps += 1;
        assert!(steps <= data.len(), "a record without an end");
    }
    if let Some(subtree) = cursor.subtree() {
        encodes_back(&subtree);
    }

    let mut spool = cache.spool();
    spool.remove(&KEY);
    cache.apply(spool, None).expect("a cache that is written");
    assert!(Cursor::new(cache, KEY).is_absent(), "what was removed is gone");
});
