//! Nothing outside the destination is touched, whatever the tree contains and whatever other processes do.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink as link},
    path::PathBuf,
    sync::Arc,
};

use super::{fake::*, *};
use crate::restore::{
    Reason,
    handle::{DestDir, DirHandles, open_beneath, open_dir},
};

/// A destination, and a folder next to it that must not change.
struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/precious"), "as it was").unwrap();
        fs::create_dir(dir.path().join("dest")).unwrap();
        Self { dir }
    }

    fn dest(&self) -> PathBuf {
        self.dir.path().join("dest")
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(names(self.dir.path()), ["dest", "outside"]);
            assert_eq!(names(&self.outside()), ["precious"]);
            assert_eq!(fs::read_to_string(self.outside().join("precious")).unwrap(), "as it was");
        }
    }
}

#[test]
fn names_that_are_paths_are_refused() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let up = fake.folder("..", vec![inline("evil", b"e")]);
    let here = fake.folder(".", vec![inline("evil", b"e")]);
    let root = fake.folder(
        "",
        vec![
            up,
            here,
            inline("../evil", b"e"),
            inline("/tmp/evil", b"e"),
            inline("..", b"e"),
            inline("", b"e"),
            inline("nul\0byte", b"e"),
            inline("n".repeat(256), b"e"),
            symlink("a/b", "c"),
            inline("good", b"g"),
        ],
    );
    let report = restore(&fake, &root, &sandbox.dest());
    assert_eq!(report.problems.len(), 9);
    assert!(report.problems.iter().all(|p| matches!(p.reason, Reason::BadName)));
    assert_eq!(names(&sandbox.dest()), ["good"]);
}

#[test]
fn a_link_and_a_folder_with_the_same_name() {
    for overwrite in [false, true] {
        let sandbox = Sandbox::new();
        let mut fake = Fake::default();
        let folder = fake.folder("x", vec![inline("evil", b"e"), inline("precious", b"gone")]);
        let root = fake.folder("", vec![symlink("x", sandbox.outside().to_str().unwrap()), folder]);
        let options = RestoreOptions { overwrite, threads: 1, ..options() };
        let report = try_restore(&fake, &root, &sandbox.dest(), &options).unwrap();
        assert!(overwrite || report.problems.len() == 1, "{:?}", report.problems);
    }
}

#[test]
fn a_link_where_a_folder_should_be() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let folder = fake.folder("x", vec![inline("precious", b"gone")]);
    let root = fake.folder("", vec![folder]);
    link(sandbox.outside(), sandbox.dest().join("x")).unwrap();
    let report = restore(&fake, &root, &sandbox.dest());
    assert!(matches!(report.problems[0].reason, Reason::Differs));
    assert!(fs::symlink_metadata(sandbox.dest().join("x")).unwrap().is_symlink());
    // If overwriting is allowed, the link itself is replaced, not its target.
    let overwrite = RestoreOptions { overwrite: true, ..options() };
    let report = try_restore(&fake, &root, &sandbox.dest(), &overwrite).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(fs::read_to_string(sandbox.dest().join("x/precious")).unwrap(), "gone");
}

#[test]
fn a_link_where_a_file_should_be() {
    for (overwrite, expected) in [(false, 1), (true, 0)] {
        let sandbox = Sandbox::new();
        let mut fake = Fake::default();
        let root = fake.folder("", vec![inline("x", b"new")]);
        link(sandbox.outside().join("precious"), sandbox.dest().join("x")).unwrap();
        let options = RestoreOptions { overwrite, ..options() };
        let report = try_restore(&fake, &root, &sandbox.dest(), &options).unwrap();
        assert_eq!(report.problems.len(), expected);
        assert_eq!(fs::symlink_metadata(sandbox.dest().join("x")).unwrap().is_file(), overwrite);
    }
}

#[test]
fn a_folder_swapped_for_a_link_during_the_restore() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let file = |fake: &mut Fake, name: &str| fake.file(name, &[Piece::Data(vec![7; 5000])]);
    let nodes = vec![file(&mut fake, "a"), file(&mut fake, "precious")];
    let folder = fake.folder("x", nodes);
    let root = fake.folder("", vec![folder]);
    let (dest, outside) = (sandbox.dest(), sandbox.outside());
    fake.hook = Some(Box::new(move |_| {
        if fs::rename(dest.join("x"), dest.join("moved")).is_ok() {
            link(&outside, dest.join("x")).unwrap();
        }
        Ok(())
    }));
    restore(&fake, &root, &sandbox.dest());
}

#[test]
fn a_reopened_handle_is_the_same_folder() {
    let sandbox = Sandbox::new();
    for name in ["a", "b"] {
        fs::create_dir(sandbox.dest().join(name)).unwrap();
    }
    let handles = DirHandles::new(1);
    let root = DestDir::root(fs::File::open(sandbox.dest()).unwrap().into());
    let (a, b) = (DestDir::child(&root, b"a"), DestDir::child(&root, b"b"));
    let inode = |dir: &Arc<DestDir>| handles.get(dir).map(|fd| rustix::fs::fstat(fd).unwrap().st_ino);
    let first = inode(&a).unwrap();
    assert_eq!(first, fs::metadata(sandbox.dest().join("a")).unwrap().ino());
    inode(&b).unwrap();
    assert_eq!(inode(&a).unwrap(), first);
    inode(&b).unwrap();
    fs::rename(sandbox.dest().join("a"), sandbox.dest().join("c")).unwrap();
    link(sandbox.outside(), sandbox.dest().join("a")).unwrap();
    assert!(inode(&a).is_err(), "a link is not followed");
    fs::remove_file(sandbox.dest().join("a")).unwrap();
    fs::create_dir(sandbox.dest().join("a")).unwrap();
    assert!(inode(&a).is_err(), "another folder is not mistaken for it");
}

#[test]
fn only_single_names_are_opened() {
    let sandbox = Sandbox::new();
    let fd = fs::File::open(sandbox.dest()).unwrap();
    link("../outside", sandbox.dest().join("link")).unwrap();
    for name in ["..", "../outside", "/", "", "link", "./link"] {
        assert!(open_dir(&fd, name.as_bytes()).is_err(), "{name}");
    }
    link("../outside/precious", sandbox.dest().join("file")).unwrap();
    let flags = rustix::fs::OFlags::RDONLY;
    assert!(open_beneath(&fd, b"file", flags, rustix::fs::Mode::empty()).is_err());
}

#[test]
fn wrong_lengths_are_problems() {
    use bkfs_store::format::tree::{Content, Extent};
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let mut longer = fake.file("longer", &[Piece::Data(vec![1; 1000])]);
    if let Some(Content::Extents(extents)) = &mut longer.content
        && let Some(Extent::Data { len, .. }) = extents.first_mut()
    {
        *len = 2000;
    }
    longer.size = 2000;
    let pieces: Vec<Piece> = (0..6).map(|_| Piece::Data(vec![1; 1000])).collect();
    let tree = Node { size: 7000, ..fake.file("tree", &pieces) };
    let short = Node { size: 5500, ..fake.file("short", &pieces) };
    let huge = Node { size: u64::MAX, ..fake.file("huge", &pieces) };
    let mut root = fake.folder("", vec![longer, tree, short, huge]);
    if let Some(subtree) = &mut root.subtree {
        subtree.entries = 10;
    }
    let report = restore(&fake, &root, &sandbox.dest());
    assert_eq!(report.problems.len(), 5, "{:?}", report.problems);
    assert_eq!(names(&sandbox.dest()), Vec::<String>::new());
}
