//! Tests of files that are read from streams.

use std::{io, sync::atomic::Ordering::Relaxed};

use parking_lot::Mutex;

use super::*;
use crate::push::stream::{Stream, StreamFile, StreamSource};

/// What a stream of a test does after its bytes.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Whole,
    ReadFails,
    FinishFails,
    /// Nothing ever comes.
    Silent,
}

struct Made {
    bytes: Vec<u8>,
    end: End,
    opened: Arc<Mutex<Vec<String>>>,
    name: String,
}

struct Reading {
    bytes: io::Cursor<Vec<u8>>,
    end: End,
    was_idle: bool,
}

impl StreamSource for Made {
    fn open(&self) -> io::Result<Box<dyn Stream>> {
        self.opened.lock().push(self.name.clone());
        Ok(Box::new(Reading { bytes: io::Cursor::new(self.bytes.clone()), end: self.end, was_idle: false }))
    }
}

impl Stream for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Every second call finds nothing, as a slow pipe does.
        self.was_idle = !self.was_idle;
        if self.was_idle {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A pipe gives what it has, in odd pieces.
        let len = buffer.len().min(61_111);
        match io::Read::read(&mut self.bytes, &mut buffer[..len])? {
            0 if self.end == End::ReadFails => Err(io::Error::other("the pipe broke")),
            0 if self.end == End::Silent => {
                std::thread::sleep(std::time::Duration::from_millis(5));
                Err(io::ErrorKind::WouldBlock.into())
            }
            read => Ok(read),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.was_idle = !self.was_idle;
        match self.end {
            _ if self.was_idle => Err(io::ErrorKind::WouldBlock.into()),
            End::FinishFails => Err(io::Error::other("it failed with code 1")),
            _ => Ok(()),
        }
    }
}

impl Case {
    /// Adds a stream, and notes when it is opened.
    fn stream(&mut self, path: &str, bytes: &[u8], end: End) -> Arc<Mutex<Vec<String>>> {
        let opened = Arc::<Mutex<Vec<String>>>::default();
        let source = Made { bytes: bytes.to_vec(), end, opened: opened.clone(), name: path.to_owned() };
        self.options.streams.push(StreamFile::new(path.as_bytes(), Arc::new(source)).unwrap());
        opened
    }

    /// The paths of all entries of the newest snapshot, in order.
    fn listed(&self) -> Vec<String> {
        let store = &self.store;
        let reader = bkfs_store::owner::reader::Reader::new(store.clone(), store.full.clone(), &store.config, 1 << 20);
        let (mut found, mut open) = (Vec::new(), vec![(String::new(), self.root())]);
        while let Some((path, subtree)) = open.pop() {
            for node in reader.dir(&subtree).read_from(0, 1000).unwrap() {
                let path = format!("{path}{}", String::from_utf8_lossy(&node.name));
                found.push(path.clone());
                open.extend(node.subtree.map(|subtree| (path + "/", subtree)));
            }
        }
        found.sort();
        found
    }
}

#[test]
fn streams_of_all_lengths_are_read_back_among_files() {
    let mut case = Case::new();
    case.write("a", &noise(1, 3000));
    case.write("m/n", &noise(2, 3000));
    case.write("z", &noise(3, 3000));
    let lengths = [0usize, 1, 256, 257, 61_111, 128 * 1024, 128 * 1024 + 1, 20_000_000];
    for len in lengths {
        case.stream(&format!("m/s{len}"), &noise(len as u64, len), End::Whole);
        case.stream(&format!("new/deep/s{len}"), &noise(len as u64, len), End::Whole);
    }
    case.stream("b", b"between", End::Whole);
    let report = case.push();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!((report.totals.files, report.totals.dirs), (3 + 17, 3));
    for len in lengths {
        read_back(&case, &format!("m/s{len}"), &noise(len as u64, len));
        let node = read_back(&case, &format!("new/deep/s{len}"), &noise(len as u64, len));
        assert_eq!((node.mode, node.mtime, node.size), (0o600, report.time, len as u64));
    }
    read_back(&case, "b", b"between");
    read_back(&case, "m/n", &noise(2, 3000));
    assert!(case.progress.bytes_held_max.load(Relaxed) <= (BUDGET_BYTES + (8 << 20)) as u64);
    let paths: Vec<String> =
        case.store.newest().paths.iter().map(|path| String::from_utf8_lossy(&path.0).into_owned()).collect();
    assert_eq!((paths[0].as_str(), paths[1].as_str(), paths.len()), (".", "m/s0", 18));
    // The next push reads them again and sends nothing but the trees, and one without them has the files alone.
    let report = case.push();
    assert_eq!((report.stats.files_unchanged, report.stats.chunks_new < 6), (3, true), "{:?}", report.stats);
    read_back(&case, "m/s20000000", &noise(20_000_000, 20_000_000));
    case.options.streams.clear();
    case.push();
    assert_eq!(case.listed(), ["a", "m", "m/n", "z"]);
    assert_eq!(case.root(), case.fresh_root());
}

#[test]
fn a_stream_alone_makes_a_snapshot() {
    let mut case = Case::new();
    case.options.paths.clear();
    case.write("not this", b"x");
    case.stream("db.sql", &noise(1, 300_000), End::Whole);
    case.push();
    assert_eq!(case.listed(), ["db.sql"]);
    read_back(&case, "db.sql", &noise(1, 300_000));
    let root = case.store.newest().root;
    assert_eq!(root.kind, bkfs_store::format::tree::NodeKind::Directory);
    // Without any stream, there is nothing to push.
    case.options.streams.clear();
    assert!(case.try_push().unwrap_err().to_string().contains("no path is given"));
}

#[test]
fn a_stream_that_fails_leaves_no_half_file() {
    let mut case = Case::new();
    case.write("f", b"x");
    case.stream("dumps/whole", &noise(1, 1000), End::Whole);
    case.push();
    case.options.streams.clear();
    let opened = case.stream("dumps/whole", &noise(1, 5_000_000), End::FinishFails);
    case.stream("a", &noise(2, 5_000_000), End::ReadFails);
    case.stream("g", b"short", End::FinishFails);
    case.stream("h", b"after them", End::Whole);
    let report = case.push();
    let mut problems: Vec<String> =
        report.problems.iter().map(|(path, error)| format!("{} {error}", path.display())).collect();
    problems.sort();
    let at = |name: &str| case.at(name).display().to_string();
    assert_eq!(
        problems,
        [
            format!("{} the pipe broke", at("a")),
            format!("{} it failed with code 1", at("dumps/whole")),
            format!("{} it failed with code 1", at("g")),
        ]
    );
    assert_eq!((report.stats.errors, opened.lock().len()), (3, 1));
    // Neither the half contents nor those of the push before.
    assert_eq!(case.listed(), ["dumps", "f", "h"]);
    read_back(&case, "h", b"after them");
}

#[test]
fn streams_are_opened_one_after_another_in_the_order_of_names() {
    let mut case = Case::new();
    case.write("b/x", b"x");
    let opened = case.stream("c", b"3", End::Whole);
    for name in ["a", "b/w", "b.x"] {
        case.stream(name, b"x", End::Whole);
    }
    // All note in one list.
    let sources = ["c", "a", "b/w", "b.x"].map(|name| {
        let (bytes, opened) = (name.as_bytes().to_vec(), opened.clone());
        StreamFile::new(name.as_bytes(), Arc::new(Made { bytes, end: End::Whole, opened, name: name.into() })).unwrap()
    });
    case.options.streams = sources.to_vec();
    case.push();
    assert_eq!(*opened.lock(), ["a", "b/w", "b.x", "c"]);
    assert_eq!(case.listed(), ["a", "b", "b.x", "b/w", "b/x", "c"]);
}

#[test]
fn a_place_that_is_taken_is_refused_before_anything_is_read() {
    let mut case = Case::new();
    case.write("dir/f", b"x");
    std::os::unix::fs::symlink("dir", case.at("link")).unwrap();
    for (path, words) in [
        ("dir/f", "is there already"),
        ("dir", "is there already"),
        ("link", "is there already"),
        ("link/x", "is no folder"),
        ("dir/f/x", "is no folder"),
    ] {
        case.options.streams.clear();
        let opened = case.stream(path, b"x", End::Whole);
        let error = case.try_push().unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(path), "{path}: {error}");
        assert_eq!((opened.lock().len(), case.store.commits.load(Relaxed)), (0, 0));
    }
    // What the sources do not name is not in the way.
    case.options.paths = vec!["dir".into()];
    case.options.streams.clear();
    case.stream("link", b"x", End::Whole);
    case.push();
    assert_eq!(case.listed(), ["dir", "dir/f", "link"]);
    for pair in [["x", "x"], ["x", "x/y"], ["x/y", "x"]] {
        case.options.streams.clear();
        pair.iter().for_each(|path| drop(case.stream(path, b"x", End::Whole)));
        let error = case.try_push().unwrap_err().to_string();
        assert!(error.contains("two streams want the path"), "{error}");
    }
}

#[test]
fn a_path_that_is_none_is_refused() {
    let long = "n".repeat(256);
    for path in ["", "/x", "../x", "a/../x", "a//x", "a/", ".", "./x", "a\0b", &long] {
        let source = Made { bytes: vec![], end: End::Whole, opened: Arc::default(), name: String::new() };
        let made = StreamFile::new(path.as_bytes(), Arc::new(source));
        assert!(made.is_err(), "{path:?}");
    }
}

#[test]
fn a_push_stops_while_a_stream_is_silent() {
    let mut case = Case::new();
    case.stream("s", &noise(1, 100), End::Silent);
    let progress = Arc::new(PushProgress::default());
    let stopper = progress.clone();
    let stops = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        stopper.stop.store(true, Relaxed);
    });
    let access: Arc<dyn access::Push> = case.store.clone();
    let opened = access.open(&OpenRequest { client: Some(case.store.client.client_id()), seen: None }).unwrap();
    let (config, key) = (&case.store.config, &case.store.client);
    let repository = OpenedRepository { access, opened: &opened, config, key };
    let stopped = Push::new(repository, case.cache.path(), &case.options).progress(&progress).run();
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    stops.join().unwrap();
}

#[test]
fn a_push_that_cannot_store_ends_although_a_stream_goes_on() {
    let mut case = Case::new();
    case.store.full_at.store(1, Relaxed);
    case.stream("s", &noise(1, 60_000_000), End::Silent);
    assert!(!matches!(case.try_push(), Ok(_) | Err(Error::Interrupted)));
    assert_eq!(case.store.commits.load(Relaxed), 0);
}
