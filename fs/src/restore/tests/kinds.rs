//! Everything that is stored is restored: all kinds, attributes, and shapes of files.

use std::{
    fs,
    io::Read,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, FileTypeExt, MetadataExt},
    },
    path::Path,
};

use bkfs_store::{base::time::Time, format::tree::NodeKind};

use super::{fake::*, *};
use crate::restore::Reason;

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn files_of_all_shapes() {
    let mut fake = Fake::default();
    let big: Vec<Vec<u8>> = (0..40).map(|i| noise(200_000 + i, i as u64)).collect();
    let pieces: Vec<Piece> = big.iter().map(|b| Piece::Data(b.clone())).collect();
    let sparse =
        [Piece::Hole(3 << 30), Piece::Data(b"middle".to_vec()), Piece::Hole(2 << 30), Piece::Data(b"end".to_vec())];
    let mut spread = Vec::new();
    for i in 0..50u64 {
        spread.push(Piece::Hole(1 << 20));
        spread.push(Piece::Data(noise(100_000, 1000 + i)));
    }
    spread.push(Piece::Hole(1 << 40));
    let nodes = vec![
        inline("empty", b""),
        inline("inline", b"short"),
        fake.file("big", &pieces),
        fake.file("sparse", &sparse),
        fake.file("spread", &spread),
        fake.file("hole", &[Piece::Hole(12345)]),
    ];
    let root = fake.folder("", nodes);
    for verify in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("new/dest");
        let report = try_restore(&fake, &root, &dest, &RestoreOptions { verify, ..options() }).unwrap();
        assert_eq!((report.files, report.problems.len()), (6, 0), "{:?}", report.problems);
        assert_eq!(fs::read(dest.join("empty")).unwrap(), b"");
        assert_eq!(fs::read(dest.join("inline")).unwrap(), b"short");
        assert_eq!(fs::read(dest.join("big")).unwrap(), big.concat());
        assert_eq!(fs::read(dest.join("hole")).unwrap(), vec![0; 12345]);
        let file = fs::File::open(dest.join("sparse")).unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!(meta.len(), (5 << 30) + 9);
        assert!(meta.blocks() < 1000, "the holes are kept: {}", meta.blocks());
        let mut buffer = [0; 6];
        file.read_exact_at(&mut buffer, 3 << 30).unwrap();
        assert_eq!(&buffer, b"middle");
        let file = fs::File::open(dest.join("spread")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 50 * ((1 << 20) + 100_000) + (1 << 40));
        for i in 0..50u64 {
            let mut buffer = vec![0; 100_000];
            file.read_exact_at(&mut buffer, i * ((1 << 20) + 100_000) + (1 << 20)).unwrap();
            assert_eq!(buffer, noise(100_000, 1000 + i));
        }
        // Compared with what was just restored, holes included.
        let again = try_restore(&fake, &root, &dest, &RestoreOptions { verify, ..options() }).unwrap();
        assert_eq!((again.files, again.kept, again.problems.len()), (0, 6, 0), "{:?}", again.problems);
    }
}

#[test]
fn kinds_modes_and_times() {
    let mut fake = Fake::default();
    let at = |secs, nanos| Time { secs, nanos };
    let odd_name = [b'n', 0xff, 0xfe, b'\n', b'"', b'-', b' '];
    let mut inner = fake.folder("inner", vec![inline("x", b"1")]);
    inner.mode = 0o1700;
    inner.mtime = at(-1, 999_999_999);
    let mut closed = fake.folder("closed", vec![inline("y", b"2")]);
    closed.mode = 0;
    let root = fake.folder(
        "",
        vec![
            Node { mode: 0o4755, mtime: at(-2_000_000_000, 1), ..inline("setuid", b"u") },
            Node { mode: 0o2711, mtime: at(5_000_000_000, 999_999_999), ..inline("setgid", b"g") },
            Node { mode: 0, ..inline("closed file", b"c") },
            Node {
                xattrs: Some(vec![xattr("user.bin", b"\0\xff\n"), xattr("user.empty", b"")]),
                mode: 0o400,
                ..inline("xattr", b"x")
            },
            inline(odd_name, b"o"),
            inline("n".repeat(255), b"l"),
            Node { mtime: at(7, 7), mode: 0o777, ..symlink("dangling", "/no/such/target") },
            Node { mode: 0o777, ..symlink("long", "t".repeat(4000)) },
            Node { mode: 0o622, mtime: at(8, 8), ..node("fifo", NodeKind::Fifo) },
            Node { mode: 0o755, mtime: at(9, 9), ..node("socket", NodeKind::Socket) },
            inner,
            closed,
        ],
    );
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("d");
    let report = restore(&fake, &root, &dest);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!((report.files, report.dirs, report.others), (8, 2, 4));
    let meta = |name: &str| fs::symlink_metadata(dest.join(name)).unwrap();
    let time = |name: &str| (meta(name).mtime(), meta(name).mtime_nsec());
    assert_eq!(meta("setuid").mode() & 0o7777, 0o4755);
    assert_eq!(time("setuid"), (-2_000_000_000, 1));
    assert_eq!(meta("setgid").mode() & 0o7777, 0o2711);
    assert_eq!(time("setgid"), (5_000_000_000, 999_999_999));
    assert_eq!(meta("closed file").mode() & 0o7777, 0);
    assert_eq!(meta("inner").mode() & 0o7777, 0o1700);
    assert_eq!(time("inner"), (-1, 999_999_999));
    assert_eq!(meta("closed").mode() & 0o7777, 0);
    assert_eq!(time("dangling"), (7, 7));
    assert_eq!(fs::read_link(dest.join("dangling")).unwrap().as_os_str(), "/no/such/target");
    assert_eq!(fs::read_link(dest.join("long")).unwrap().into_os_string().into_vec().len(), 4000);
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!((meta("fifo").mode() & 0o7777, time("fifo")), (0o622, (8, 8)));
    assert!(meta("socket").file_type().is_socket());
    assert_eq!((meta("socket").mode() & 0o7777, time("socket")), (0o755, (9, 9)));
    assert!(dest.join(std::ffi::OsStr::from_bytes(&odd_name)).exists());
    assert_eq!(::xattr::get(dest.join("xattr"), "user.bin").unwrap().unwrap(), b"\0\xff\n");
    assert_eq!(::xattr::get(dest.join("xattr"), "user.empty").unwrap().unwrap(), b"");
    // The destination gets the attributes of the root.
    let root_meta = fs::metadata(&dest).unwrap();
    assert_eq!(
        (root_meta.mode() & 0o7777, root_meta.mtime(), root_meta.mtime_nsec()),
        (0o755, 1_000_000_000, 123_456_789)
    );
    // Restore again: everything exists, and a folder that denies access is opened and closed again.
    let again = restore(&fake, &root, &dest);
    assert!(again.problems.is_empty(), "{:?}", again.problems);
    assert_eq!((again.files, again.dirs, again.others, again.kept), (0, 0, 0, 14));
    assert_eq!(meta("closed").mode() & 0o7777, 0);
    fs::set_permissions(dest.join("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn owners_and_devices_need_root() {
    let mut fake = Fake::default();
    let root = fake.folder(
        "",
        vec![
            Node { uid: 1234, gid: 4321, mode: 0o6755, ..inline("theirs", b"t") },
            Node { uid: 77, gid: 78, ..symlink("link", "theirs") },
            device("null", NodeKind::CharDevice, 1, 3),
            device("block", NodeKind::BlockDevice, 259, 70_000),
        ],
    );
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&fake, &root, dir.path());
    let meta = |name: &str| fs::symlink_metadata(dir.path().join(name)).unwrap();
    if is_root() {
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!((meta("theirs").uid(), meta("theirs").gid(), meta("theirs").mode() & 0o7777), (1234, 4321, 0o6755));
        assert_eq!((meta("link").uid(), meta("link").gid()), (77, 78));
        assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
        assert_eq!(meta("block").rdev(), rustix::fs::makedev(259, 70_000));
        assert!(meta("block").file_type().is_block_device());
    } else {
        // A set-id program of another user must not run with our rights.
        assert_eq!(meta("theirs").mode() & 0o7777, 0o755);
        assert_eq!(report.owners_skipped, 2);
        assert!(report.problems.iter().all(|p| matches!(p.reason, Reason::Device)), "{:?}", report.problems);
        assert_eq!(report.problems.len(), 2);
    }
}

#[test]
fn hard_links_across_folders() {
    let mut fake = Fake::default();
    let big: Vec<Piece> = (0..40).map(|i| Piece::Data(noise(200_000, i))).collect();
    let file = fake.file("f", &big);
    let named = |name: &str| linked(Node { name: name.into(), ..file.clone() }, 1, 4);
    let b = fake
        .folder("b", vec![named("two"), linked(symlink("s2", "t"), 2, 2), linked(node("p2", NodeKind::Fifo), 3, 2)]);
    let c = fake.folder("c", vec![named("three"), named("four")]);
    let root = fake.folder(
        "",
        vec![named("one"), b, c, linked(symlink("s1", "t"), 2, 2), linked(node("p1", NodeKind::Fifo), 3, 2)],
    );
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&fake, &root, dir.path());
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!((report.files, report.links), (1, 5));
    let inode = |name: &str| fs::symlink_metadata(dir.path().join(name)).unwrap().ino();
    for name in ["b/two", "c/three", "c/four"] {
        assert_eq!(inode(name), inode("one"));
    }
    assert_eq!(inode("b/s2"), inode("s1"));
    assert_eq!(inode("b/p2"), inode("p1"));
    let folder = fs::metadata(dir.path().join("c")).unwrap();
    assert_eq!(folder.mtime(), 1_000_000_000, "links are created before the folder gets its time");
    // The first name is missing, others exist: afterwards they are one file again.
    fs::remove_file(dir.path().join("one")).unwrap();
    fs::remove_file(dir.path().join("c/three")).unwrap();
    let report = restore(&fake, &root, dir.path());
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    for name in ["b/two", "c/three", "c/four"] {
        assert_eq!(inode(name), inode("one"));
    }
}

#[test]
fn names_that_share_a_group_but_not_the_contents_are_files_of_their_own() {
    let mut fake = Fake::default();
    let folder = |fake: &mut Fake, name: &str| {
        let (same, differs) = (inline("same", b"one"), inline("differs", name.as_bytes()));
        fake.folder(name, vec![linked(differs, 1, 6), linked(same, 1, 6), linked(symlink("to", name), 1, 6)])
    };
    let folders = ["a", "b"].map(|name| folder(&mut fake, name));
    let root = fake.folder("", folders.to_vec());
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let report = restore(&fake, &root, dir.path());
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let inode = |name: &str| fs::symlink_metadata(dir.path().join(name)).unwrap().ino();
        for name in ["a", "b"] {
            assert_eq!(fs::read(dir.path().join(name).join("differs")).unwrap(), name.as_bytes());
            assert_eq!(fs::read_link(dir.path().join(name).join("to")).unwrap(), Path::new(name));
        }
        assert_eq!(inode("a/same"), inode("b/same"));
        assert_ne!(inode("a/differs"), inode("b/differs"));
    }
}

#[test]
fn a_large_folder_is_shared_among_threads() {
    let mut fake = Fake::default();
    let nodes = (0..5000).map(|i| inline(format!("{i:06}"), format!("{i}").as_bytes())).collect();
    let root = fake.folder("", nodes);
    let dir = tempfile::tempdir().unwrap();
    let progress = RestoreProgress::default();
    let report = run::run(&fake, root, dir.path(), &options(), &progress).unwrap();
    assert_eq!(report.files, 5000);
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(get(&progress.entries_done), get(&progress.entries_total));
    assert_eq!(get(&progress.bytes_done), get(&progress.bytes_total));
    assert_eq!(fs::read_to_string(dir.path().join("004321")).unwrap(), "4321");
}

#[test]
fn paths_may_be_longer_than_the_system_allows() {
    let mut fake = Fake::default();
    let mut at = fake.folder("x".repeat(40), vec![inline("deepest", b"here")]);
    for _ in 0..2000 {
        at = fake.folder("x".repeat(40), vec![at]);
    }
    let root = fake.folder("", vec![at]);
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&fake, &root, dir.path());
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!((report.files, report.dirs), (1, 2001));
    let again = restore(&fake, &root, dir.path());
    assert_eq!((again.kept, again.problems.len()), (2002, 0));
    // `remove_dir_all` keeps one handle open for each level, which would be too many.
    let status = std::process::Command::new("rm").arg("-rf").arg(dir.path()).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_single_entry_appears_under_its_name() {
    let mut fake = Fake::default();
    let file = fake.file("f", &[Piece::Data(noise(5000, 1))]);
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("d");
    let report = restore(&fake, &file, &dest);
    assert_eq!(report.files, 1, "{:?}", report.problems);
    assert_eq!(fs::read(dest.join("f")).unwrap(), noise(5000, 1));
    assert_ne!(fs::metadata(&dest).unwrap().mtime(), 1_000_000_000, "the folder does not get the file's time");
}

#[test]
fn a_missing_chunk_costs_one_file() {
    let mut fake = Fake::default();
    let pieces: Vec<Piece> = (0..40).map(|i| Piece::Data(noise(200_000, i))).collect();
    let nodes = vec![
        fake.file("a", &[Piece::Data(noise(5000, 1))]),
        fake.file("bad", &[Piece::Data(noise(5000, 2))]),
        fake.file("c", &[Piece::Data(noise(5000, 3))]),
        fake.file("large", &pieces),
        inline("i", b"i"),
    ];
    let Some(bkfs_store::format::tree::Content::Extents(extents)) = &nodes[1].content else { panic!("extents") };
    let bkfs_store::format::tree::Extent::Data { id, .. } = extents[0] else { panic!("data") };
    fake.chunks.remove(&id);
    let last = noise(200_000, 39);
    fake.chunks.retain(|_, bytes| *bytes != last);
    let root = fake.folder("", nodes);
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&fake, &root, dir.path());
    let bad: Vec<_> = report.problems.iter().map(|p| p.path.to_str().unwrap()).collect();
    assert_eq!(bad, ["bad", "large"]);
    assert_eq!(names(dir.path()), ["a", "c", "i"]);
}
