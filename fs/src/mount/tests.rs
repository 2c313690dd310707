//! Real mounts of a source in memory. Without FUSE they are skipped, and print why.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirEntryExt, FileExt, FileTypeExt, MetadataExt, PermissionsExt},
    },
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bkfs_store::{
    base::{
        id::{ChunkId, HardLinkGroup},
        time::Time,
    },
    format::tree::{Content, Device, Extent, Node, NodeKind, Xattr},
};
use rustix::mount::{MountFlags, mount_remount};
use tempfile::TempDir;

use super::*;
use crate::vfs::testing::{self, Memory};

const FIRST: &str = "snapshots/1970-01-01T000000Z";

struct Mounted {
    memory: Arc<Memory>,
    vfs: Arc<Vfs>,
    mount: Option<Mount>,
    dir: TempDir,
}

impl Mounted {
    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }
}

/// Mounts a root folder with these entries. Returns none if this machine cannot mount.
fn mounted(make: impl FnOnce(&Memory) -> Vec<Node>) -> Option<Mounted> {
    mounted_with(MountOptions { threads: 4, ..MountOptions::default() }, make)
}

fn mounted_with(options: MountOptions, make: impl FnOnce(&Memory) -> Vec<Node>) -> Option<Mounted> {
    if let Err(error) = point::check_fuse() {
        println!("skipped: no /dev/fuse ({error})");
        return None;
    }
    let memory = Arc::new(Memory::default());
    let nodes = make(&memory);
    let root = memory.dir(b"", nodes);
    memory.push(0, "home", "alpha", &["keep"], root);
    let vfs = Arc::new(Vfs::all(memory.clone(), VfsOptions::new(owner())).unwrap());
    let dir = tempfile::tempdir().unwrap();
    match mount_vfs(vfs.clone(), dir.path(), &options) {
        Ok(mount) => Some(Mounted { memory, vfs, mount: Some(mount), dir }),
        Err(error @ (Error::NoFusermount | Error::Refused { .. })) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_snapshot_looks_like_ordinary_folders_and_files() {
    let Some(mounted) = mounted(|memory| {
        let sub = memory.dir(b"sub", vec![testing::file(b"deep", 5), testing::file(b"\xff\xfe", 1)]);
        vec![testing::file(b"file", 3_000_000), testing::file(&[b'n'; 255], 9), sub]
    }) else {
        return;
    };
    assert_eq!(names(mounted.dir.path()), ["hosts", "ids", "latest", "snapshots", "tags", "targets"]);
    let bytes = fs::read(mounted.path("latest/file")).unwrap();
    assert_eq!(bytes.len(), 3_000_000);
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == testing::byte(at as u64)));
    assert_eq!(fs::read(mounted.path("targets/home/latest/sub/deep")).unwrap().len(), 5);
    let odd = mounted.path(FIRST).join("sub").join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(fs::metadata(odd).unwrap().len(), 1);
    assert_eq!(errno(fs::metadata(mounted.path("latest/nothing"))), libc::ENOENT);
    assert_eq!(fs::read_link(mounted.path("latest")).unwrap(), Path::new(FIRST));
    assert_eq!(names(&mounted.path("tags/keep")), ["1970-01-01T000000Z", "latest"]);
    // A read at any offset returns the byte there.
    let file = File::open(mounted.path("latest/file")).unwrap();
    for at in [0u64, 1, 4095, 131_071, 2_999_999] {
        let mut byte = [0];
        assert_eq!(file.read_at(&mut byte, at).unwrap(), 1);
        assert_eq!(byte[0], testing::byte(at));
    }
    assert_eq!(file.read_at(&mut [0], 3_000_000).unwrap(), 0);
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let point = mounted.dir.path().canonicalize().unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(1) == point.to_str()).unwrap();
    assert!(line.starts_with("bkfs ") && line.contains(" fuse.bkfs ro,"), "{line}");
}

#[test]
fn every_kind_and_attribute_is_shown() {
    let Some(mounted) = mounted(|memory| {
        let mut device = testing::node(b"device", NodeKind::CharDevice);
        device.device = Some(Device { major: 259, minor: 70_000 });
        let mut link = testing::node(b"link", NodeKind::Symlink);
        link.target = Some(b"not/\xffthere".to_vec());
        let mut file = testing::file(b"file", 3);
        (file.mode, file.uid, file.gid) = (0o4751, 123_456, 4_000_000_000);
        file.mtime = Time { secs: -1_000_000_000, nanos: 123_456_789 };
        file.ctime = Some(Time { secs: 5_000_000_000, nanos: 1 });
        let xattr = |name: &[u8], value: &[u8]| Xattr { name: name.to_vec(), value: value.to_vec() };
        file.xattrs = Some(vec![xattr(b"user.binary", b"\0\x01\xff"), xattr(b"user.empty", b"")]);
        let mut sticky = memory.dir(b"sticky", vec![]);
        sticky.mode = 0o3777;
        sticky.xattrs = Some(vec![xattr(b"user.dir", &[7; 10_000])]);
        let (fifo, socket) = (testing::node(b"fifo", NodeKind::Fifo), testing::node(b"socket", NodeKind::Socket));
        vec![device, link, file, sticky, fifo, socket]
    }) else {
        return;
    };
    let at = |name: &str| fs::symlink_metadata(mounted.path(FIRST).join(name)).unwrap();
    let kinds = [
        at("device").file_type().is_char_device(),
        at("link").is_symlink(),
        at("file").is_file(),
        at("sticky").is_dir(),
        at("fifo").file_type().is_fifo(),
        at("socket").file_type().is_socket(),
    ];
    assert_eq!(kinds, [true; 6]);
    let file = at("file");
    assert_eq!((file.permissions().mode(), file.uid(), file.gid()), (0o104751, 123_456, 4_000_000_000));
    assert_eq!((file.mtime(), file.mtime_nsec()), (-1_000_000_000, 123_456_789));
    assert_eq!((file.ctime(), file.ctime_nsec()), (5_000_000_000, 1));
    assert_eq!(at("sticky").permissions().mode(), 0o43777);
    assert_eq!(at("device").rdev(), libc::makedev(259, 70_000));
    let target = fs::read_link(mounted.path(FIRST).join("link")).unwrap();
    assert_eq!(target.as_os_str().as_bytes(), b"not/\xffthere");
    let path = mounted.path(FIRST).join("file");
    let mut listed: Vec<_> = xattr::list(&path).unwrap().collect();
    listed.sort();
    assert_eq!(listed, ["user.binary", "user.empty"]);
    assert_eq!(xattr::get(&path, "user.binary").unwrap().unwrap(), b"\0\x01\xff");
    assert_eq!(xattr::get(&path, "user.empty").unwrap().unwrap(), b"");
    assert_eq!(xattr::get(&path, "user.none").unwrap(), None);
    assert_eq!(xattr::get(mounted.path(FIRST).join("sticky"), "user.dir").unwrap().unwrap(), [7; 10_000]);
    let shown = rustix::fs::statvfs(mounted.dir.path()).unwrap();
    assert_eq!((shown.f_blocks, shown.f_files, shown.f_namemax), (0, 0, 255), "no disk that could be full");
}

#[test]
fn every_write_is_refused() {
    let Some(mounted) = mounted(|_| vec![testing::file(b"file", 3)]) else { return };
    let (dir, file) = (mounted.path(FIRST), mounted.path(FIRST).join("file"));
    let refused = [
        errno(OpenOptions::new().write(true).open(&file)),
        errno(OpenOptions::new().append(true).open(&file)),
        errno(File::create(dir.join("new"))),
        errno(fs::create_dir(dir.join("new"))),
        errno(fs::remove_file(&file)),
        errno(fs::remove_dir(&dir)),
        errno(fs::rename(&file, dir.join("other"))),
        errno(fs::hard_link(&file, dir.join("other"))),
        errno(std::os::unix::fs::symlink("x", dir.join("other"))),
        errno(fs::set_permissions(&file, fs::Permissions::from_mode(0o600))),
        errno(std::os::unix::fs::chown(&file, Some(1), Some(1))),
        errno(File::open(&file).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH)),
        errno(xattr::set(&file, "user.a", b"b")),
        errno(fs::create_dir(mounted.path("snapshots/new"))),
        errno(fs::remove_file(mounted.path("latest"))),
    ];
    assert_eq!(refused, [libc::EROFS; 15]);
    // Flushing a file that was only read is not an error.
    File::open(&file).unwrap().sync_all().unwrap();
}

#[test]
fn holes_are_found_and_hard_links_are_one_file() {
    let Some(mounted) = mounted(|memory| {
        let data = |len| Extent::Data { id: ChunkId::default(), len };
        let mut sparse = testing::file(b"sparse", (5 << 30) + 200_000);
        let holes = vec![data(100_000), Extent::Hole { len: 5 << 30 }, data(100_000)];
        sparse.content = Some(Content::Extents(holes));
        let linked = |name: &[u8]| Node {
            hard_link: Some(HardLinkGroup([1; 16])),
            links: Some(2),
            ..testing::file(name, 70_000)
        };
        let sub = memory.dir(b"sub", vec![linked(b"b")]);
        vec![sparse, linked(b"a"), sub]
    }) else {
        return;
    };
    let path = mounted.path(FIRST);
    let mut file = File::open(path.join("sparse")).unwrap();
    assert_eq!(file.metadata().unwrap().blocks(), 49 * 8);
    let seek = |file: &File, offset, hole: bool| {
        use rustix::fs::SeekFrom;
        let from = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
        rustix::fs::seek(file, from)
    };
    assert_eq!(seek(&file, 0, true), Ok(100_000));
    assert_eq!(seek(&file, 100_000, false), Ok((5 << 30) + 100_000));
    assert_eq!(seek(&file, 5 << 30 | 150_000, true), Ok((5 << 30) + 200_000));
    assert_eq!(seek(&file, (5 << 30) + 200_000, false), Err(rustix::io::Errno::NXIO));
    file.seek(SeekFrom::End(-1)).unwrap();
    let mut last = Vec::new();
    file.read_to_end(&mut last).unwrap();
    assert_eq!(last, [testing::byte((5 << 30) + 199_999)]);
    let (a, b) = (fs::metadata(path.join("a")).unwrap(), fs::metadata(path.join("sub/b")).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    assert_eq!(fs::read(path.join("sub/b")).unwrap(), fs::read(path.join("a")).unwrap());
}

#[test]
fn a_folder_of_200_000_entries_is_listed_completely() {
    let Some(mounted) = mounted(|memory| {
        let many = (0..200_000).map(|n| testing::file(format!("{n:06}").as_bytes(), n)).collect();
        vec![memory.dir(b"many", many)]
    }) else {
        return;
    };
    let path = mounted.path(FIRST).join("many");
    let mut inodes = std::collections::HashSet::new();
    let (mut count, mut last) = (0, None);
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        inodes.insert(entry.ino());
        count += 1;
        if count == 123_456 {
            last = Some(entry);
        }
    }
    assert_eq!((count, inodes.len()), (200_000, 200_000));
    let last = last.unwrap();
    let stat = last.metadata().unwrap();
    assert_eq!(
        (stat.ino(), stat.len().to_string()),
        (last.ino(), last.file_name().to_string_lossy().trim_start_matches('0').to_owned())
    );
    // The numbers are the same again, whatever the kernel has forgotten since.
    assert!(fs::read_dir(&path).unwrap().all(|entry| inodes.contains(&entry.unwrap().ino())));
    assert_eq!(errno(fs::metadata(path.join("200000"))), libc::ENOENT);
    assert_eq!(fs::read(path.join("131072")).unwrap().len(), 131_072);
}

#[test]
fn new_snapshots_appear_while_mounted() {
    let Some(mounted) = mounted(|_| vec![testing::file(b"file", 3)]) else { return };
    assert_eq!(names(&mounted.path("snapshots")), ["1970-01-01T000000Z"]);
    assert_eq!(fs::read_link(mounted.path("latest")).unwrap(), Path::new(FIRST));
    let root = mounted.memory.dir(b"", vec![testing::file(b"new", 4)]);
    mounted.memory.push(60, "home", "alpha", &[], root.clone());
    mounted.memory.push(120, "etc", "alpha", &[], mounted.memory.dir(b"", vec![]));
    wait_for("the listing", || names(&mounted.path("snapshots")).len() == 3);
    wait_for("the link", || fs::read(mounted.path("latest/new")).is_ok_and(|bytes| bytes.len() == 4));
    wait_for("the target", || names(&mounted.path("targets")) == ["etc", "home"]);
    assert_eq!(fs::read(mounted.path("snapshots/1970-01-01T000100Z/new")).unwrap().len(), 4);
}

#[test]
fn damage_and_an_unreachable_store_cause_errors_until_they_are_gone() {
    let Some(mounted) = mounted(|memory| {
        let sub = memory.dir(b"sub", vec![testing::file(b"deep", 5)]);
        vec![testing::file(b"file", 4 << 20), sub]
    }) else {
        return;
    };
    *mounted.memory.lost.lock() = Some(1 << 20..(1 << 20) + 4096);
    let file = File::open(mounted.path(FIRST).join("file")).unwrap();
    let read = |at| file.read_at(&mut [0; 4096], at);
    assert_eq!(errno(read(1 << 20)), libc::EIO);
    assert_eq!(read(0).unwrap(), 4096);
    assert_eq!(read((1 << 20) + 4096).unwrap(), 4096);
    *mounted.memory.lost.lock() = None;
    assert_eq!(read(1 << 20).unwrap(), 4096);
    mounted.memory.away.store(true, Ordering::SeqCst);
    assert_eq!(errno(fs::metadata(mounted.path(FIRST).join("sub/deep"))), libc::EIO);
    mounted.memory.away.store(false, Ordering::SeqCst);
    assert_eq!(fs::metadata(mounted.path(FIRST).join("sub/deep")).unwrap().len(), 5);
}

#[test]
fn a_panic_fails_only_its_request() {
    let Some(mounted) = mounted(|_| vec![testing::file(b"file", 1 << 20)]) else { return };
    mounted.memory.panics.store(true, Ordering::SeqCst);
    for _ in 0..20 {
        // More requests than there are threads.
        assert_eq!(errno(fs::read(mounted.path(FIRST).join("file"))), libc::EIO);
    }
    mounted.memory.panics.store(false, Ordering::SeqCst);
    assert_eq!(fs::read(mounted.path(FIRST).join("file")).unwrap().len(), 1 << 20);
}

#[test]
fn many_readers_at_the_same_time() {
    let Some(mounted) =
        mounted(|_| (0..20).map(|n| testing::file(format!("f{n}").as_bytes(), 1_000_000 + n)).collect())
    else {
        return;
    };
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let path = mounted.path(FIRST);
            scope.spawn(move || {
                for n in 0..20 {
                    let n = (n * 7 + thread) % 20;
                    let bytes = fs::read(path.join(format!("f{n}"))).unwrap();
                    assert_eq!(bytes.len() as u64, 1_000_000 + n);
                    assert!(bytes.iter().enumerate().step_by(997).all(|(at, byte)| *byte == testing::byte(at as u64)));
                    assert_eq!(names(&path).len(), 20);
                }
            });
        }
    });
}

#[test]
fn listing_a_folder_does_not_wait_behind_reads() {
    let big = |n| testing::file(format!("f{n}").as_bytes(), 8 << 20);
    let made =
        mounted(|memory| (0..8).map(big).chain([memory.dir(b"sub", vec![testing::file(b"small", 9)])]).collect());
    let Some(mounted) = made else { return };
    let path = &mounted.path(FIRST);
    std::thread::scope(|scope| {
        let held = mounted.memory.lost.lock();
        for n in 0..8 {
            scope.spawn(move || assert_eq!(fs::read(path.join(format!("f{n}"))).unwrap().len(), 8 << 20));
        }
        // More reads than there are threads that answer the kernel; no more begin until these end.
        wait_for("reads", || mounted.memory.reads.load(Ordering::SeqCst) >= 6);
        let listing = scope.spawn(|| names(&path.join("sub")));
        wait_for("the folder", || listing.is_finished());
        assert_eq!(listing.join().unwrap(), ["small"]);
        drop(held);
    });
}

#[test]
fn known_folders_are_opened_and_listed_without_requests() {
    let Some(mounted) = mounted(|memory| {
        vec![memory.dir(b"sub", (0..100).map(|n| testing::file(format!("{n}").as_bytes(), 10)).collect())]
    }) else {
        return;
    };
    let path = mounted.path(FIRST).join("sub");
    let walk = || {
        for entry in fs::read_dir(&path).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().len(), 10);
        }
    };
    walk();
    let lookups = || mounted.memory.lookups.load(Ordering::SeqCst);
    let cost = |action: &dyn Fn()| {
        let before = lookups();
        action();
        lookups() - before
    };
    // The kernel may drop what it caches when memory is short, so one walk without a request is enough.
    assert!((0..20).any(|_| cost(&walk) == 0), "listing and attributes come from the kernel's cache");
    let miss = || assert_eq!(errno(fs::metadata(path.join("none"))), libc::ENOENT);
    assert!((0..20).any(|_| cost(&miss) == 0), "so does the absence of a name");
}

#[test]
fn inodes_that_the_kernel_forgets_are_released() {
    let Some(mounted) = mounted(|memory| {
        (0..50).map(|n| memory.dir(format!("d{n}").as_bytes(), vec![testing::file(b"f", 1)])).collect()
    }) else {
        return;
    };
    for entry in fs::read_dir(mounted.path(FIRST)).unwrap() {
        assert_eq!(names(&entry.unwrap().path()), ["f"]);
    }
    assert!(mounted.vfs.held().0 >= 50);
    if !point::is_root() {
        return println!("skipped the rest: a remount needs root");
    }
    // A remount drops what the kernel caches of this mount; /proc/sys/vm/drop_caches would take it from every mount.
    wait_for("the kernel to forget the folders", || {
        mount_remount(mounted.path(""), MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV, "").unwrap();
        mounted.vfs.held().0 < 50
    });
    assert_eq!(names(&mounted.path(FIRST)).len(), 50);
}

#[test]
fn unmounting_a_mount_in_use_frees_its_mountpoint_immediately() {
    let Some(mut mounted) = mounted(|_| vec![testing::file(b"file", 100_000)]) else { return };
    let file = File::open(mounted.path(FIRST).join("file")).unwrap();
    let mount = mounted.mount.take().unwrap();
    assert_eq!(mount.unmount().unwrap(), Unmounted::InUse);
    assert!(names(mounted.dir.path()).is_empty());
    // A reader may finish.
    assert_eq!(file.read_at(&mut [0; 10], 90_000).unwrap(), 10);
    drop(file);
    // The mountpoint can be used again.
    let again = mount_vfs(mounted.vfs.clone(), mounted.dir.path(), &MountOptions::default()).unwrap();
    assert_eq!(names(&mounted.path("snapshots")).len(), 1);
    assert_eq!(again.unmount().unwrap(), Unmounted::Ended);
}

#[test]
fn unmounting_from_another_thread_or_outside_ends_the_wait() {
    for from_outside in [false, true] {
        let Some(mut mounted) = mounted(|_| vec![]) else { return };
        let mount = mounted.mount.take().unwrap();
        let (unmounter, mountpoint) = (mount.unmounter(), mount.mountpoint().to_owned());
        let waiting = std::thread::spawn(move || mount.wait());
        match from_outside {
            true => {
                let program = if point::is_root() { vec!["umount"] } else { vec!["fusermount3", "-u"] };
                let status =
                    std::process::Command::new(program[0]).args(&program[1..]).arg(&mountpoint).status().unwrap();
                assert!(status.success());
            }
            false => assert_eq!(unmounter.unmount().unwrap(), Unmounted::Ended),
        }
        waiting.join().unwrap().unwrap();
        assert_eq!(unmounter.unmount().unwrap(), Unmounted::Ended, "it is unmounted already");
        assert!(names(&mountpoint).is_empty());
    }
}

#[test]
fn dropping_unmounts() {
    let Some(mut mounted) = mounted(|_| vec![]) else { return };
    drop(mounted.mount.take());
    assert!(names(mounted.dir.path()).is_empty());
}

#[test]
fn an_existing_mount_is_not_mounted_over() {
    let Some(mounted) = mounted(|_| vec![]) else { return };
    let again = mount_vfs(mounted.vfs.clone(), mounted.dir.path(), &MountOptions::default());
    assert!(matches!(again, Err(Error::NotEmpty(_))));
}

#[test]
fn with_allow_other_owner_mode_and_acl_decide_access() {
    if !point::is_root() {
        return println!("skipped: becoming another user needs root");
    }
    // (tag, permissions, id) of user::rw-, user:65534:..., group::---, mask::r--, other::---
    let acl = |nobody: u16| {
        let entries =
            [(1u16, 6u16, u32::MAX), (2, nobody, 65_534), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
        let encoded = entries
            .iter()
            .flat_map(|(tag, perm, id)| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
        let name = b"system.posix_acl_access".to_vec();
        Some(vec![Xattr { name, value: [2, 0, 0, 0].into_iter().chain(encoded).collect() }])
    };
    let file = |name: &[u8], mode, gid| Node { mode, gid, uid: 0, ..testing::file(name, 5) };
    let Some(mounted) = mounted_with(MountOptions { allow_other: true, ..MountOptions::default() }, |_| {
        let mut may = file(b"granted", 0o640, 0);
        may.xattrs = acl(4);
        // The group bits are the mask; the group itself has no rights.
        let mut masked = file(b"masked", 0o640, 65_534);
        masked.xattrs = acl(0);
        vec![may, masked, file(b"open", 0o644, 0), file(b"closed", 0o600, 0)]
    }) else {
        return;
    };
    let reads = |path: &Path| {
        use std::os::unix::process::CommandExt;
        let mut cat = std::process::Command::new("cat");
        cat.arg(path).uid(65_534).gid(65_534);
        cat.stderr(std::process::Stdio::null()).output().unwrap().status.success()
    };
    let plain = tempfile::tempdir().unwrap();
    fs::set_permissions(plain.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(plain.path().join("file"), "").unwrap();
    if !reads(&plain.path().join("file")) {
        return println!("skipped: the folder for temporary files is closed to other users");
    }
    let reads = |name: &str| reads(&mounted.path(FIRST).join(name));
    assert_eq!(["open", "closed", "granted", "masked"].map(reads), [true, false, true, false]);
}
