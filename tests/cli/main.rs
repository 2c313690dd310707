//! The command line as people and scripts meet it: what each command prints, and for every kind of bad input a clear
//! message that names the thing, the right exit code, nothing lost and nothing left mounted.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod damage;
mod exclude;
mod forget;
mod fstab;
mod keys;
mod killing;
mod many;
mod mounting;
mod network;
mod prune;
mod repair;
mod rollback;
mod scrub;
mod source;
mod usage;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Output,
};

/// What a command must end with.
#[track_caller]
fn expect(output: &Output, code: i32, words: &[&str]) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "exit code\nstdout: {out}\nstderr: {err}");
    for word in words {
        assert!(err.contains(word), "{word:?} is not in what was said: {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A small source: a few files, one of them of several chunks.
fn make_source(dir: &Path) {
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::fs::write(dir.join("hello"), "hello\n").unwrap();
    std::fs::write(dir.join("sub/big"), noise(1, 1 << 20)).unwrap();
    std::fs::write(dir.join("sub/small"), noise(2, 5000)).unwrap();
}

/// Bytes that do not compress, the same each time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                // Temporary files come and go.
                false if entry.file_name().to_str().unwrap().starts_with('.') => {}
                false => found.push(entry.path()),
            }
        }
    }
    found
}

/// The packs below a folder, largest first.
fn packs(folder: &Path) -> Vec<PathBuf> {
    let mut found = files(folder);
    found.retain(|path| path.to_str().unwrap().contains("/packs/"));
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    found
}

/// Changes each byte of a span of a file.
fn damage(path: &Path, span: Range<usize>) {
    let mut bytes = fs::read(path).unwrap();
    bytes[span].iter_mut().for_each(|b| *b ^= 0x11);
    fs::write(path, bytes).unwrap();
}
