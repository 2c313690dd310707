//! A log in two files, each with its own damage. What is read was written, from the first record on, and mending
//! removes no record that could be read. If one file is whole and the other is not longer, nothing is lost.

#![no_main]

use bkfs_fuzz::Input;
use bkfs_store::{
    format::log::file::{self as log_file, Position},
    repository::{
        backend::{Backend, MemoryBackend},
        log::pair::LogPair,
    },
};

const NAMES: [&str; 2] = ["one", "two"];

/// Reads all records up to the end or to damage. Returns them, and whether the end was reached.
fn read(log: &LogPair, backend: &MemoryBackend) -> (Vec<Vec<u8>>, bool) {
    let (mut at, mut all) = (Position::default(), Vec::new());
    loop {
        match log.read(backend, at) {
            Err(_) => return (all, false),
            Ok(records) if records.is_empty() => return (all, true),
            Ok(records) => {
                for (bytes, next) in records {
                    assert_eq!((next.len, next.offset), (at.len + 1, at.offset + bytes.len() as u64 + 36));
                    all.push(bytes);
                    at = next;
                }
            }
        }
    }
}

/// Returns the file with the damage that the input describes, or `None` if the file is lost.
fn damaged(input: &mut Input<'_>, whole: &[u8]) -> Option<Vec<u8>> {
    let mut file = whole.to_vec();
    for _ in 0..input.u8() % 4 {
        let (kind, at) = (input.u8(), input.u16() as usize % (file.len() + 1));
        match kind % 5 {
            0 => file.truncate(at),
            1 if at < file.len() => file[at] ^= input.u8(),
            2 => drop(file.splice(at..file.len().min(at + 8), input.array::<8>())),
            3 => file.extend_from_slice(input.bytes(at % 64)),
            4 => return None,
            _ => {}
        }
    }
    Some(file)
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut input, mut at, mut whole, mut wanted) = (Input(data), Position::default(), Vec::new(), Vec::new());
    for _ in 0..input.u8() % 8 {
        let len = usize::from(input.u8());
        let body = input.bytes(len);
        let (framed, next) = log_file::encode_bytes(at, body);
        whole.extend_from_slice(&framed);
        wanted.push(body.to_vec());
        at = next;
    }
    let (backend, log) = (MemoryBackend::default(), LogPair::new(NAMES[0], NAMES[1]));
    let files: Vec<Option<Vec<u8>>> = NAMES.iter().map(|_| damaged(&mut input, &whole)).collect();
    for (name, file) in NAMES.iter().zip(&files) {
        if let Some(file) = file {
            backend.put(name, file).expect("memory");
        }
    }
    let (seen, _) = read(&log, &backend);
    assert!(wanted.starts_with(&seen), "a record that was never written was read");
    // Bytes beyond the end of the other file could be a record that both have lost. That is an error, and nothing is
    // cut.
    let keeps = files.iter().any(|file| file.as_ref() == Some(&whole))
        && files.iter().flatten().all(|file| file.len() <= whole.len());
    match log.settle(&backend) {
        Err(error) => assert!(!keeps, "{error}"),
        Ok(()) => {
            let (settled, is_end) = read(&log, &backend);
            // If both files have the same damage, neither can be chosen. Reading stops at the damage.
            assert!(is_end || (files[0] == files[1] && files[0].as_ref() != Some(&whole)));
            assert!(settled.starts_with(&seen) && wanted.starts_with(&settled));
            let [one, two] = NAMES.map(|name| backend.get(name).expect("memory").unwrap_or_default());
            assert_eq!(one, two);
            if keeps {
                assert_eq!(one, whole);
            }
        }
    }
});
