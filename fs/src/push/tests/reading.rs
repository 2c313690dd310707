//! Tests of reading single files, most of them while the file changes.

use std::{fs, io::Write, path::Path, sync::Arc};

use super::{fake::Fake, noise};
use crate::{
    exclude::{ExcludeOptions, Excludes},
    filesystem::Filesystems,
    metadata::Stat,
    push::{
        budget::Closed,
        clock,
        dedup::Dedup,
        piece::{FileEnd, Piece, PieceSink, ReadJob},
        problems::ProblemList,
        read::FileReader,
    },
    walk::{Roots, Walk},
};

/// Collects the pieces of a file, and calls a function at each chunk.
struct Collect<F> {
    bytes: Vec<u8>,
    restarts: u32,
    end: Option<FileEnd>,
    failed: Option<std::io::Error>,
    at_chunk: F,
}

impl<F: FnMut()> PieceSink for Collect<F> {
    fn reserve(&mut self, _: usize) -> Result<(), Closed> {
        Ok(())
    }
    fn piece(&mut self, piece: Piece) -> Result<(), Closed> {
        match piece {
            Piece::Chunk { bytes, .. } => {
                self.bytes.extend(bytes);
                (self.at_chunk)();
            }
            Piece::Hole(len) => self.bytes.extend(vec![0; len as usize]),
            Piece::Restart => {
                self.bytes.clear();
                self.restarts += 1;
            }
            Piece::End(end) => self.end = Some(*end),
            Piece::Failed(error) => self.failed = Some(error),
        }
        Ok(())
    }
}

/// Reads the file `f`, which was listed before `between` runs.
fn read<F: FnMut()>(dir: &Path, between: impl FnOnce(), at_chunk: F) -> Collect<F> {
    let store = Fake::new();
    let ids = store.client.ids();
    let dedup = Dedup::new(store.clone(), Default::default(), None, true);
    let reader = FileReader::new(ids, &store.config.chunker, dedup.announcer(), Arc::default(), clock::now).unwrap();
    let roots = Roots::new(Some(dir), &[".".into()]).unwrap();
    let excludes = Excludes::new(&ExcludeOptions::default()).unwrap();
    let problems = Arc::new(ProblemList::default());
    let (mut walk, root, _) = Walk::start(&roots, excludes, problems, [0; 16]).unwrap();
    let dir_handle = walk.take(&root).unwrap().dir;
    let stat = Stat::of(&dir_handle, c"f").unwrap();
    let filesystem = Filesystems::default().of_handle(&dir_handle, &stat);
    between();
    let job = ReadJob {
        number: 1,
        dir: dir_handle,
        name: Box::from(&b"f"[..]),
        stat,
        filesystem,
        hard_link: None,
        is_device: false,
    };
    let mut sink = Collect { bytes: vec![], restarts: 0, end: None, failed: None, at_chunk };
    assert_eq!(reader.read(&job, &mut sink), Ok(()));
    sink
}

#[test]
fn a_file_that_changed_since_it_was_listed_is_read_as_it_is_now() {
    for (before, after) in [(1000, 2000), (1000, 500_000), (500_000, 1000), (500_000, 700_000), (10, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, noise(1, before)).unwrap();
        let sink = read(dir.path(), || fs::write(&path, noise(2, after)).unwrap(), || {});
        let end = sink.end.unwrap();
        assert!(!end.is_changing && end.node.size == after as u64, "{before} {after}");
        if after > 256 {
            assert!(sink.bytes == noise(2, after), "{before} {after}");
        }
    }
}

#[test]
fn a_file_that_keeps_changing_is_read_a_few_times_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, noise(1, 300_000)).unwrap();
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    let sink = read(dir.path(), || {}, || file.write_all(b"more").unwrap());
    let end = sink.end.unwrap();
    assert!(end.is_changing && sink.restarts == 2);
    assert_eq!(end.node.size, sink.bytes.len() as u64);
    assert!(sink.bytes.starts_with(&noise(1, 300_000)));
}

#[test]
fn a_file_that_was_removed_or_replaced_by_another_kind_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, b"x").unwrap();
    let sink = read(dir.path(), || fs::remove_file(&path).unwrap(), || {});
    assert_eq!(sink.failed.unwrap().kind(), std::io::ErrorKind::NotFound);
    fs::write(&path, b"x").unwrap();
    let swap = || {
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    };
    assert!(read(dir.path(), swap, || {}).failed.is_some());
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"x").unwrap();
    let swap = || {
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    };
    assert!(read(dir.path(), swap, || {}).failed.is_some());
}

#[test]
fn holes_of_all_lengths_read_as_zeros() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = fs::File::create(&path).unwrap();
    let mut expected = vec![0; 3_000_000];
    for (at, len) in [(4096, 4096), (12288, 100_000), (400_000, 5000), (1_000_000, 1), (2_500_000, 200_000)] {
        let bytes = noise(at as u64, len);
        file.write_all_at(&bytes, at as u64).unwrap();
        expected[at..at + len].copy_from_slice(&bytes);
    }
    file.set_len(3_000_000).unwrap();
    let sink = read(dir.path(), || {}, || {});
    assert!(sink.bytes == expected);
}
