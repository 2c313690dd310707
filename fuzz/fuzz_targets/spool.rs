//! The spool of the file cache: it returns all changes in order, from memory and from its file.

#![no_main]

use std::{io, sync::LazyLock};

use bkfs_fs::cache::{Change, Spool};
use bkfs_fuzz::Input;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));

/// Limits the bytes of one input. The spool holds fewer in memory.
const TOTAL_MAX: usize = 6 << 20;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut input, mut spool, mut total) = (Input(data), Spool::new(FOLDER.path()), 0);
    let mut wanted = Vec::new();
    while !input.0.is_empty() && total < TOTAL_MAX {
        let (kind, key, number) = (input.u8(), [input.u8(); 16], u32::from(input.u16()));
        if kind < 64 {
            spool.remove(&key);
            wanted.push(Change::Remove { key });
            continue;
        }
        let bytes = match kind {
            64..250 => input.bytes(kind.into()).to_vec(),
            _ => vec![kind; input.u32() as usize % TOTAL_MAX],
        };
        total += bytes.len();
        spool.put(&key, number, &bytes);
        wanted.push(Change::Put { key, number, bytes });
    }
    assert_eq!(spool.is_empty(), wanted.is_empty());
    let mut seen = Vec::new();
    let drained = spool.drain(|change| {
        seen.push(change);
        Ok::<_, io::Error>(())
    });
    drained.expect("a temporary folder");
    assert!(seen == wanted);
});
