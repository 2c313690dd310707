//! The command line as people and scripts use it: what each command prints, and for every kind of bad input a clear
//! message that names the object, the right exit code, no loss of data, and no mount left behind.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod accounts;
mod alarm;
mod clients;
mod cookbook;
mod copies;
mod damage;
mod derived;
mod devices;
mod empty;
mod exclude;
mod filesystems;
mod forget;
mod fstab;
mod json;
mod keys;
mod killing;
mod latest;
mod lengths;
mod listing;
mod many;
mod medium;
mod mounting;
mod names;
mod network;
mod notify;
mod operations;
mod owner;
mod packaging;
mod passphrase;
mod places;
mod profiles;
mod prune;
mod recovery;
mod repair;
mod reserve;
mod restart;
mod rollback;
mod rotate;
mod runs;
mod schedule;
mod scrub;
mod secrets;
mod servers;
mod setup;
mod shell;
mod signals;
mod source;
mod sources;
mod space;
mod status;
mod streams;
mod usage;
mod watch;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Output,
};

/// Asserts the exit code of a command and the words that it prints on standard error.
#[track_caller]
fn expect(output: &Output, code: i32, words: &[&str]) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "exit code\nstdout: {out}\nstderr: {err}");
    for word in words {
        assert!(err.contains(word), "{word:?} is not in the message: {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Creates a small source: a few files, one of them with several chunks.
fn make_source(dir: &Path) {
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::fs::write(dir.join("hello"), "hello\n").unwrap();
    std::fs::write(dir.join("sub/big"), noise(1, 1 << 20)).unwrap();
    std::fs::write(dir.join("sub/small"), noise(2, 5000)).unwrap();
}

/// Returns bytes that do not compress. They are the same each time.
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

/// Returns all files below a folder.
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

/// Returns the packs below a folder, largest first.
fn packs(folder: &Path) -> Vec<PathBuf> {
    let mut found = files(folder);
    found.retain(|path| path.to_str().unwrap().contains("/packs/"));
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    found
}

/// Changes each byte in a span of a file.
fn damage(path: &Path, span: Range<usize>) {
    let mut bytes = fs::read(path).unwrap();
    bytes[span].iter_mut().for_each(|b| *b ^= 0x11);
    fs::write(path, bytes).unwrap();
}
