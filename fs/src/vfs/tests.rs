//! Tests of the file system, over a repository in memory.

use std::{
    collections::BTreeSet,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bkfs_store::{
    base::id::{ChunkId, HardLinkGroup},
    format::tree::{Content, Device, Extent, Xattr},
};

use super::{testing::Memory, *};

fn options() -> VfsOptions {
    VfsOptions { prefetch_threads: 0, ..VfsOptions::new(MountOwner { uid: 5, gid: 6 }) }
}

fn all(memory: &Arc<Memory>) -> Arc<Vfs> {
    Arc::new(Vfs::all(memory.clone(), options()).unwrap())
}

fn walk(vfs: &Vfs, path: &str) -> Result<Entry> {
    let mut entry = vfs.getattr(inode::ROOT)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        entry = vfs.lookup(entry.attr.ino, name.as_bytes())?.ok_or(Error::NotFound)?;
    }
    Ok(entry)
}

/// Lists a directory, `step` entries per call.
fn list(vfs: &Vfs, ino: u64, step: usize) -> Vec<(String, u64)> {
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let (mut taken, from) = (0, offset);
        let mut add = |listed: &Listed<'_>| {
            if taken == step {
                return false;
            }
            taken += 1;
            offset = listed.next;
            found.push((String::from_utf8_lossy(listed.name).into_owned(), listed.entry.attr.ino));
            true
        };
        vfs.readdir(ino, from, false, &mut add).unwrap();
        if taken == 0 {
            return found;
        }
    }
}

fn two_snapshots() -> Arc<Memory> {
    let memory = Arc::new(Memory::default());
    let sub = memory.dir(b"sub", vec![testing::file(b"deep", 10)]);
    let root = memory.dir(b"", vec![testing::file(b"file", 1000), sub]);
    memory.push(1_795_165_200, "home", "alpha", &["keep"], root.clone());
    memory.push(1_795_165_260, "etc", "alpha", &[], root);
    memory
}

#[test]
fn latest_is_shown_before_all_snapshots_are_loaded() {
    let memory = two_snapshots();
    let newest = memory.push(1_795_165_260, "home", "alpha", &[], memory.snapshots().unwrap()[0].record.root.clone());
    memory.gives_newest.store(true, Ordering::SeqCst);
    let before = memory.loads.load(Ordering::SeqCst);
    let loads = || memory.loads.load(Ordering::SeqCst) - before;
    let vfs = all(&memory);
    let root: Vec<String> = list(&vfs, inode::ROOT, 10).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        root,
        list(&all(&two_snapshots()), inode::ROOT, 10).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    let link = walk(&vfs, "latest/home").unwrap().attr.ino;
    let id = newest.id.to_string();
    assert_eq!(vfs.readlink(link).unwrap(), format!("../ids/{id}").into_bytes());
    assert_eq!(walk(&vfs, &format!("ids/{id}/file")).unwrap().attr.size, 1000);
    // So does the path that scripts use.
    let targets = walk(&vfs, "targets").unwrap().attr.ino;
    assert_eq!(list(&vfs, targets, 10).into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), 2 + 2);
    let link_of_target = walk(&vfs, "targets/home/latest").unwrap().attr.ino;
    assert_eq!(vfs.readlink(link_of_target).unwrap(), format!("../../ids/{id}").into_bytes());
    assert_eq!(loads(), 0);

    // Another snapshot has the same second, so only the whole list tells the name.
    let (in_ids, file) = (walk(&vfs, &format!("ids/{id}")).unwrap(), walk(&vfs, &format!("ids/{id}/sub")).unwrap());
    assert_eq!(walk(&vfs, "snapshots/2026-11-20T090100Z-2/file").unwrap().attr.size, 1000);
    assert_eq!(loads(), 1);
    assert_eq!(vfs.readlink(link).unwrap(), b"../snapshots/2026-11-20T090100Z-2");
    assert_eq!(vfs.readlink(link_of_target).unwrap(), b"2026-11-20T090100Z-2");
    assert_eq!(list(&vfs, walk(&vfs, "targets/home").unwrap().attr.ino, 10).len(), 2 + 3);
    assert_eq!(walk(&vfs, &format!("ids/{id}")).unwrap().attr.ino, in_ids.attr.ino);
    assert_eq!(walk(&vfs, &format!("ids/{id}/sub")).unwrap().attr.ino, file.attr.ino);
    assert_eq!(list(&vfs, walk(&vfs, "snapshots").unwrap().attr.ino, 10).len(), 5);
    assert_eq!(loads(), 1);
}

#[test]
fn all_paths_lead_to_a_snapshot() {
    let memory = two_snapshots();
    let vfs = all(&memory);
    let id = memory.snapshots().unwrap()[0].id.to_string();
    let mut seen = std::collections::HashSet::new();
    for prefix in ["snapshots", "targets/home", "hosts/alpha", "tags/keep"] {
        let dir = walk(&vfs, &format!("{prefix}/2026-11-20T090000Z")).unwrap();
        assert!(seen.insert(dir.attr.ino), "two paths never share a directory's number");
        let file = walk(&vfs, &format!("{prefix}/2026-11-20T090000Z/sub/deep")).unwrap();
        assert_eq!((file.attr.size, file.ttl), (10, Ttl::Forever));
        assert!(seen.insert(file.attr.ino));
    }
    for id in [id.as_str(), &id[..8]] {
        assert_eq!(walk(&vfs, &format!("ids/{id}/file")).unwrap().attr.size, 1000);
    }
    for (link, target) in [
        ("latest/etc", "../snapshots/2026-11-20T090100Z"),
        ("latest/home", "../snapshots/2026-11-20T090000Z"),
        ("hosts/alpha/latest/home", "../2026-11-20T090000Z"),
        ("targets/etc/latest", "2026-11-20T090100Z"),
        ("tags/keep/latest", "2026-11-20T090000Z"),
    ] {
        let latest = walk(&vfs, link).unwrap();
        assert_eq!(latest.attr.kind, NodeKind::Symlink, "{link}");
        assert_eq!(vfs.readlink(latest.attr.ino).unwrap(), target.as_bytes(), "{link}");
    }
    let series = list(&vfs, walk(&vfs, "latest").unwrap().attr.ino, 1);
    assert_eq!(series.len(), 4, "{series:?}");
    assert!(series.iter().map(|(_, ino)| ino).collect::<std::collections::HashSet<_>>().len() == 4, "{series:?}");
    assert_eq!(walk(&vfs, "snapshots/nothing"), Err(Error::NotFound));
    let dir = walk(&vfs, "snapshots/2026-11-20T090000Z").unwrap();
    assert_eq!(vfs.lookup(dir.attr.ino, b"nothing"), Ok(None), "for good");
    assert_eq!(vfs.lookup(walk(&vfs, "latest/etc").unwrap().attr.ino, b"x"), Err(Error::NotADirectory));
}

#[test]
fn a_snapshot_can_be_the_root() {
    let memory = two_snapshots();
    let snapshot = memory.snapshots().unwrap()[0].clone();
    let vfs = Vfs::one(memory, snapshot, options()).unwrap();
    let names: Vec<String> = list(&vfs, inode::ROOT, 2).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [".", "..", "file", "sub"]);
    assert_eq!(walk(&vfs, "sub/deep").unwrap().attr.size, 10);
}

#[test]
fn new_snapshots_appear_and_old_ones_disappear() {
    let memory = two_snapshots();
    let vfs = all(&memory);
    let snapshots = walk(&vfs, "snapshots").unwrap().attr;
    let (latest, old) =
        (walk(&vfs, "latest/home").unwrap().attr, walk(&vfs, "snapshots/2026-11-20T090000Z").unwrap().attr);
    let root = memory.dir(b"", vec![testing::file(b"new", 1)]);
    memory.push(1_795_165_300, "home", "alpha", &[], root);
    let deadline = Instant::now() + Duration::from_secs(60);
    while walk(&vfs, "snapshots/2026-11-20T090140Z/new").is_err() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(vfs.readlink(walk(&vfs, "latest/home").unwrap().attr.ino).unwrap(), b"../snapshots/2026-11-20T090140Z");
    assert_ne!(walk(&vfs, "latest/home").unwrap().attr.ino, latest.ino, "no cache can show the old target");
    assert_eq!(vfs.readlink(latest.ino), Err(Error::Stale));
    assert!(
        vfs.getattr(snapshots.ino).unwrap().attr.mtime > snapshots.mtime,
        "this makes the kernel drop cached listings"
    );
    // Data that an expired snapshot lacks is not damage.
    let gone = memory.snapshots().unwrap()[0].clone();
    memory.expire(gone.id);
    let last = memory.dir(b"", vec![]);
    memory.push(1_795_165_301, "home", "alpha", &[], last);
    while walk(&vfs, "snapshots/2026-11-20T090141Z").is_err() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(walk(&vfs, "snapshots/2026-11-20T090000Z"), Err(Error::NotFound));
    *memory.lost.lock() = Some(0..u64::MAX);
    let file = vfs.lookup(old.ino, b"file").unwrap().unwrap();
    assert_eq!(vfs.read(file.attr.ino, 0, 10), Err(Error::Stale));
}

#[test]
fn the_watcher_reports_which_folders_changed() {
    let memory = two_snapshots();
    let vfs = all(&memory);
    let snapshots = walk(&vfs, "snapshots").unwrap().attr.ino;
    let (send, receive) = std::sync::mpsc::channel();
    vfs.watch(move |dirs| send.send(dirs).unwrap()).unwrap();
    let root = memory.dir(b"", vec![]);
    memory.push(1_795_165_300, "home", "alpha", &[], root);
    let changed = receive.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(changed.contains(&inode::ROOT) && changed.contains(&snapshots), "{changed:?}");
}

#[test]
fn listings_resume_anywhere_and_agree_with_lookups() {
    let memory = Arc::new(Memory::default());
    let nodes = (0..1000).map(|n| testing::file(format!("f{n:04}").as_bytes(), n)).collect();
    let root = memory.dir(b"", nodes);
    memory.push(0, "t", "h", &[], root);
    let vfs = all(&memory);
    let dir = walk(&vfs, "snapshots/1970-01-01T000000Z").unwrap().attr.ino;
    let whole = list(&vfs, dir, usize::MAX);
    assert_eq!(whole.len(), 1002);
    for step in [1, 7, 999] {
        assert_eq!(list(&vfs, dir, step), whole);
    }
    for (name, ino) in whole.iter().skip(2) {
        assert_eq!(vfs.lookup(dir, name.as_bytes()).unwrap().unwrap().attr.ino, *ino);
    }
    for top in ["", "snapshots", "ids", "targets", "targets/t"] {
        let ino = walk(&vfs, top).unwrap().attr.ino;
        assert_eq!(list(&vfs, ino, 1), list(&vfs, ino, usize::MAX));
    }
}

#[test]
fn references_are_counted() {
    let memory = two_snapshots();
    let vfs = all(&memory);
    assert_eq!(vfs.held(), (1, 0));
    let top = vfs.lookup(inode::ROOT, b"snapshots").unwrap().unwrap().attr.ino;
    let root = vfs.lookup(top, b"2026-11-20T090000Z").unwrap().unwrap().attr.ino;
    let mut held = Vec::new();
    let mut room = 3;
    let mut add = |listed: &Listed<'_>| {
        room -= 1;
        if room >= 0 && !listed.is_dot {
            held.push(listed.entry.attr.ino);
        }
        room >= 0
    };
    vfs.readdir(root, 0, true, &mut add).unwrap();
    assert_eq!(held.len(), 1, "there was room for `.`, `..` and one entry");
    assert_eq!(vfs.held(), (3, 0), "entries without room are not held");
    let sub = vfs.lookup(root, b"sub").unwrap().unwrap().attr.ino;
    assert_eq!(vfs.held(), (4, 0));
    vfs.forget(root, 1);
    assert_eq!(vfs.held(), (4, 0), "an entry in it is held");
    vfs.forget(held[0], 1);
    assert_eq!(vfs.getattr(root), Err(Error::Stale));
    assert!(vfs.getattr(sub).is_ok());
    vfs.forget(sub, 1);
    vfs.forget(top, 1);
    assert_eq!(vfs.held(), (1, 0));
}

#[test]
fn hard_links_share_an_inode_number() {
    let memory = Arc::new(Memory::default());
    let linked = |name: &[u8], size| {
        let group = Some(HardLinkGroup([3; 16]));
        Node { hard_link: group, links: Some(2), ..testing::file(name, size) }
    };
    let sub = memory.dir(b"sub", vec![linked(b"b", 100), linked(b"changed", 50)]);
    let root = memory.dir(b"", vec![linked(b"a", 100), sub]);
    memory.push(0, "t", "h", &[], root.clone());
    memory.push(100, "t", "h", &[], root);
    let vfs = all(&memory);
    let (first, second) = ("snapshots/1970-01-01T000000Z", "snapshots/1970-01-01T000140Z");
    let a = walk(&vfs, &format!("{first}/a")).unwrap().attr;
    let b = walk(&vfs, &format!("{first}/sub/b")).unwrap().attr;
    assert_eq!((a.ino, a.nlink), (b.ino, 2));
    assert_ne!(walk(&vfs, &format!("{first}/sub/changed")).unwrap().attr.ino, a.ino, "other contents");
    assert_ne!(walk(&vfs, &format!("{second}/a")).unwrap().attr.ino, a.ino, "another snapshot's");
    assert_eq!(vfs.read(a.ino, 0, 100).unwrap().len(), 100);
    assert_eq!(vfs.getattr(b.ino).unwrap().attr.size, 100);
}

#[test]
fn contents_and_holes() {
    let memory = Arc::new(Memory::default());
    let data = |len| Extent::Data { id: ChunkId::default(), len };
    let mut sparse = testing::file(b"sparse", 40_000);
    sparse.content = Some(Content::Extents(vec![data(10_000), Extent::Hole { len: 20_000 }, data(10_000)]));
    let root = memory.dir(b"", vec![sparse, testing::node(b"fifo", NodeKind::Fifo)]);
    memory.push(0, "t", "h", &[], root);
    let vfs = all(&memory);
    let dir = "snapshots/1970-01-01T000000Z";
    let ino = walk(&vfs, &format!("{dir}/sparse")).unwrap().attr.ino;
    let read = |offset, len| vfs.read(ino, offset, len).unwrap();
    assert_eq!(read(0, 40_000).len(), 40_000);
    assert_eq!(read(39_999, 10).as_ref(), [testing::byte(39_999)]);
    assert!(read(40_000, 10).is_empty() && read(u64::MAX, 10).is_empty());
    let seek = |offset, what| vfs.seek(ino, offset, what);
    assert_eq!(seek(5, Seek::Data), Ok(5));
    assert_eq!(seek(10_000, Seek::Data), Ok(30_000));
    assert_eq!(seek(0, Seek::Hole), Ok(10_000));
    assert_eq!(seek(35_000, Seek::Hole), Ok(40_000));
    assert_eq!(seek(40_000, Seek::Hole), Err(Error::NoMore));
    assert_eq!(seek(40_000, Seek::Data), Err(Error::NoMore));
    let fifo = walk(&vfs, &format!("{dir}/fifo")).unwrap().attr.ino;
    assert_eq!(vfs.read(fifo, 0, 1), Err(Error::Invalid));
    assert_eq!(vfs.read(walk(&vfs, dir).unwrap().attr.ino, 0, 1), Err(Error::IsADirectory));
    assert_eq!(vfs.read(1 << 40, 0, 1), Err(Error::Stale));
}

#[test]
fn all_kinds_and_attributes_are_shown() {
    let memory = Arc::new(Memory::default());
    let mut device = testing::node(b"dev", NodeKind::BlockDevice);
    device.device = Some(Device { major: 8, minor: 300 });
    let mut link = testing::node(b"link", NodeKind::Symlink);
    link.target = Some(b"to/\xff".to_vec());
    let mut file = testing::file(b"file", 3);
    let xattr = |name: &[u8], value: &[u8]| Xattr { name: name.to_vec(), value: value.to_vec() };
    file.xattrs = Some(vec![xattr(b"system.posix_acl_access", &[2, 0]), xattr(b"user.a", b"\0\xff")]);
    let mut sub = memory.dir(b"sub", vec![]);
    sub.xattrs = Some(vec![xattr(b"user.dir", b"d")]);
    let socket = testing::node(b"socket", NodeKind::Socket);
    let mut root = memory.dir(b"", vec![device, link, file, sub, socket]);
    root.xattrs = Some(vec![xattr(b"user.root", b"r")]);
    memory.push(0, "t", "h", &[], root);
    let vfs = all(&memory);
    let at = |name: &str| walk(&vfs, &format!("snapshots/1970-01-01T000000Z/{name}")).unwrap().attr;
    assert_eq!((at("dev").kind, at("dev").device), (NodeKind::BlockDevice, (8, 300)));
    assert_eq!((at("socket").kind, at("link").size), (NodeKind::Socket, 4));
    assert_eq!(vfs.readlink(at("link").ino).unwrap(), b"to/\xff");
    assert_eq!(vfs.readlink(at("file").ino), Err(Error::Invalid));
    assert_eq!(vfs.listxattr(at("file").ino).unwrap(), b"system.posix_acl_access\0user.a\0");
    assert_eq!(vfs.getxattr(at("file").ino, b"user.a").unwrap(), b"\0\xff");
    assert_eq!(vfs.getxattr(at("file").ino, b"user.b"), Err(Error::NoAttribute));
    assert_eq!(vfs.getxattr(at("sub").ino, b"user.dir").unwrap(), b"d");
    assert_eq!(vfs.getxattr(at("").ino, b"user.root").unwrap(), b"r");
    assert!(vfs.listxattr(inode::ROOT).unwrap().is_empty());
}

#[test]
fn damage_affects_only_its_range_and_an_unreachable_store_recovers() {
    let memory = two_snapshots();
    let vfs = all(&memory);
    let ino = walk(&vfs, "snapshots/2026-11-20T090000Z/file").unwrap().attr.ino;
    *memory.lost.lock() = Some(500..600);
    assert_eq!(vfs.read(ino, 0, 1000), Err(Error::Io));
    assert_eq!(vfs.read(ino, 0, 500).unwrap().len(), 500);
    assert_eq!(vfs.read(ino, 600, 400).unwrap().len(), 400);
    memory.away.store(true, Ordering::SeqCst);
    assert_eq!(vfs.read(ino, 0, 10), Err(Error::Io));
    assert_eq!(walk(&vfs, "snapshots/2026-11-20T090000Z/sub/deep"), Err(Error::Io));
    assert!(walk(&vfs, "snapshots").is_ok(), "the known names are still shown");
    memory.away.store(false, Ordering::SeqCst);
    assert_eq!(vfs.read(ino, 0, 10).unwrap().len(), 10);
}

#[test]
fn a_listing_that_cannot_be_read_fails() {
    let memory = two_snapshots();
    let vfs = all(&memory);
    let dir = walk(&vfs, "snapshots/2026-11-20T090000Z").unwrap().attr.ino;
    memory.away.store(true, Ordering::SeqCst);
    assert_eq!(vfs.readdir(dir, 2, true, &mut |_| true), Err(Error::Io));
}

#[test]
fn sequential_reads_are_prefetched() {
    let memory = Arc::new(Memory::default());
    let root = memory.dir(b"", vec![testing::file(b"big", 8 << 20)]);
    memory.push(0, "t", "h", &[], root);
    let vfs = Vfs::all(memory.clone(), VfsOptions { prefetch_threads: 2, ..options() }).unwrap();
    let ino = walk(&vfs, "snapshots/1970-01-01T000000Z/big").unwrap().attr.ino;
    for n in 0..64 {
        vfs.read(ino, n << 17, 1 << 17).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let covered = || memory.prefetched.lock().iter().map(|range| range.end - range.start).sum::<u64>();
    while covered() < (8 << 20) - (1 << 17) {
        assert!(Instant::now() < deadline, "{} bytes", covered());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn many_threads_read_the_same_things() {
    let memory = two_snapshots();
    let vfs = all(&memory);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..200 {
                    let path = ["snapshots/2026-11-20T090000Z/file", "targets/etc/2026-11-20T090100Z/sub/deep"][n % 2];
                    let attr = walk(&vfs, path).unwrap().attr;
                    assert_eq!(vfs.read(attr.ino, 0, 10).unwrap(), (0..10).map(testing::byte).collect::<Vec<_>>());
                    vfs.forget(attr.ino, 1);
                }
            });
        }
    });
}
