//! Error correction of a repository: every pack gets parity, even after a crash, and parity mends what the disk
//! damaged, in place.

#![allow(clippy::unwrap_used)]

#[path = "mending/scrub.rs"]
mod scrub;
#[path = "mending/world.rs"]
mod world;

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bkfs_store::{
    Error, Result,
    access::{Mending, Open, OpenRequest, Read, ReadRequest, Span},
    base::id::PackId,
    format::{
        erasure::{Parity, SHARD_LEN},
        pack::PackUpload,
    },
    repository::{
        Repository,
        backend::{Backend, Listed, LocalBackend, Lock, Room},
    },
};
use bytes::Bytes;
use world::{World, put, readable, write_at};

/// A disk with bad sectors, or one that refuses writes.
struct BadDisk {
    disk: LocalBackend,
    /// Reads of this span fail, in the file whose name ends with this text.
    unreadable: parking_lot::Mutex<Option<(String, std::ops::Range<u64>)>>,
    /// Puts of objects whose names begin with this text fail.
    refused: parking_lot::Mutex<Option<&'static str>>,
}

impl BadDisk {
    fn new(place: &Path) -> Arc<Self> {
        let disk = LocalBackend::new(place);
        Arc::new(Self { disk, unreadable: Default::default(), refused: Default::default() })
    }

    fn sectors(&self, name: &str, offset: u64, len: u64) -> Result<()> {
        match &*self.unreadable.lock() {
            Some((bad, span)) if name.ends_with(bad) && offset < span.end && offset + len > span.start => {
                Err(Error::io(name, io::Error::from_raw_os_error(5)))
            }
            _ => Ok(()),
        }
    }
}

/// Lets a test and a repository share one disk.
struct Shared(Arc<BadDisk>);

impl Backend for Shared {
    fn place(&self) -> String {
        self.0.disk.place()
    }
    fn put_all(&self, objects: &[(&str, &[u8])]) -> Result<()> {
        let refused = *self.0.refused.lock();
        match objects.iter().find(|(name, _)| refused.is_some_and(|prefix| name.starts_with(prefix))) {
            Some((name, _)) => Err(Error::Full { place: (*name).into() }),
            None => self.0.disk.put_all(objects),
        }
    }
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.0.sectors(name, 0, u64::MAX / 2)?;
        self.0.disk.get(name)
    }
    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Option<Bytes>> {
        self.0.sectors(name, offset, len as u64)?;
        self.0.disk.get_range(name, offset, len)
    }
    fn len(&self, name: &str) -> Result<Option<u64>> {
        self.0.disk.len(name)
    }
    fn delete(&self, name: &str) -> Result<()> {
        self.0.disk.delete(name)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        self.0.disk.list(folder)
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.0.disk.rename(from, to)
    }
    fn settle(&self, folder: &str) -> Result<()> {
        self.0.disk.settle(folder)
    }
    fn stamp(&self, folder: &str) -> Result<Option<u64>> {
        self.0.disk.stamp(folder)
    }

    fn room(&self) -> Option<Room> {
        self.0.disk.room()
    }
    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.disk.append(name, offset, bytes)
    }
    fn lock(&self) -> Result<Box<dyn Lock>> {
        self.0.disk.lock()
    }
}

#[test]
fn every_pack_gets_parity_unless_parity_is_off() {
    for parity in [Some(Parity::default()), Parity::percent(30), None] {
        let world = World::new();
        let repo = world.made(parity);
        let check = |repo: Repository, frames| {
            let (pack, _) = world.pack(frames);
            put(&repo, &pack);
            drop(repo);
            let share = fs::metadata(world.parity_file(pack.id)).map(|m| m.len() * 100 / pack.bytes.len() as u64).ok();
            match parity.map(Parity::get) {
                None => assert!(!world.place().join("parity").exists()),
                // 5 % of 32 shards, but at least two shards.
                Some(5) => assert!(share.is_some_and(|share| (6..=8).contains(&share)), "{share:?} %"),
                Some(_) => assert!(share.is_some_and(|share| (30..=34).contains(&share)), "{share:?} %"),
            }
        };
        check(repo, 40);
        // Parity is a setting of the repository, not of the process that opens it.
        check(world.open().with_parity(Parity::percent(90)), 41);
    }
}

#[test]
fn a_burst_is_mended_in_place_and_one_that_is_too_long_is_reported_exactly() {
    let world = World::new();
    let repo = world.made(Some(Parity::default()));
    // Two parity shards mend a burst of one shard and one byte.
    let (pack, ids) = world.pack(40);
    put(&repo, &pack);
    let (file, len) = (world.pack_file(pack.id), pack.bytes.len());
    for at in [0, 1, 70_001, len / 2, len - SHARD_LEN - 1] {
        write_at(&file, at as u64, &[0x55; SHARD_LEN + 1]);
        assert!(matches!(repo.mend(pack.id).unwrap(), Mending::Mended(1..=2)), "at {at}");
        assert!(fs::read(&file).unwrap() == pack.bytes, "at {at}");
        assert_eq!(repo.mend(pack.id).unwrap(), Mending::Whole);
    }
    // Three shards in the middle are one too many.
    let at = 5 * SHARD_LEN + 100;
    write_at(&file, at as u64, &vec![0x55; SHARD_LEN * 2]);
    let span = Span { start: 5 * SHARD_LEN as u32, end: 8 * SHARD_LEN as u32 };
    assert_eq!(repo.mend(pack.id).unwrap(), Mending::Lost(vec![span]));
    let hurt: Vec<bool> = readable(&repo, &pack, &ids).iter().map(|whole| !whole).collect();
    let frames = |number: usize| {
        let frame = &bkfs_store::format::pack::Pack::parse(&pack.bytes).unwrap().table.frames[number];
        (frame.offset as usize, (frame.offset + frame.len) as usize)
    };
    let expected: Vec<bool> = (0..ids.len()).map(|i| frames(i).0 < at + 2 * SHARD_LEN && frames(i).1 > at).collect();
    assert_eq!(hurt, expected, "frames that the burst did not touch are whole");
    assert!(expected.iter().any(|hurt| *hurt) && expected.iter().any(|hurt| !hurt));
    // Once one of the three shards is back, the other two can be mended.
    write_at(&file, 5 * SHARD_LEN as u64, &pack.bytes[5 * SHARD_LEN..6 * SHARD_LEN]);
    assert_eq!(repo.mend(pack.id).unwrap(), Mending::Mended(2));
    assert!(fs::read(&file).unwrap() == pack.bytes);
}

#[test]
fn damaged_parity_is_recreated_from_the_whole_pack() {
    let world = World::new();
    let repo = world.made(Some(Parity::default()));
    let (pack, _) = world.pack(10);
    put(&repo, &pack);
    let file = world.parity_file(pack.id);
    let whole = fs::read(&file).unwrap();
    for left in [0, 100, whole.len() - 1] {
        fs::write(&file, &whole[..left]).unwrap();
        assert_eq!(repo.mend(pack.id).unwrap(), Mending::Whole);
        assert!(fs::read(&file).unwrap() == whole);
    }
    write_at(&file, whole.len() as u64 / 2, b"xxxxxx");
    assert_eq!(repo.mend(pack.id).unwrap(), Mending::Whole);
    assert!(fs::read(&file).unwrap() == whole);
    fs::remove_file(&file).unwrap();
    assert_eq!(repo.mend(pack.id).unwrap(), Mending::Whole);
    assert!(fs::read(&file).unwrap() == whole);
}

#[test]
fn a_pack_beyond_mending_is_left_unchanged() {
    let world = World::new();
    let repo = world.made(Some(Parity::default()));
    let (pack, ids) = world.pack(40);
    put(&repo, &pack);
    let file = world.pack_file(pack.id);
    // The pack's file holds another pack's bytes, beside another pack's parity. Then the file is gone.
    let (other, _) = world.pack(12);
    put(&repo, &other);
    fs::write(&file, &other.bytes).unwrap();
    fs::copy(world.parity_file(other.id), world.parity_file(pack.id)).unwrap();
    assert_eq!(repo.mend(pack.id).unwrap(), Mending::NoParity);
    assert!(fs::read(&file).unwrap() == other.bytes);
    fs::remove_file(&file).unwrap();
    assert_eq!(repo.mend(pack.id).unwrap(), Mending::NoParity);
    assert!(!file.exists());
    assert!(readable(&repo, &pack, &ids).iter().all(|whole| !whole));
    assert!(repo.mend(PackId([1; 32])).is_err(), "a pack that was never stored");
    fs::write(&file, &pack.bytes).unwrap();
    // The store gave the pack up when its file was missing. The next opening finds the file again.
    repo.open(&OpenRequest::default()).unwrap();
    assert_eq!(repo.mend(pack.id).unwrap(), Mending::Whole);
    assert_eq!(repo.mend(pack.id).unwrap(), Mending::Whole);
    assert!(readable(&repo, &pack, &ids).iter().all(|whole| *whole));
}

#[test]
fn a_truncated_pack_is_mended_when_the_index_is_rebuilt() {
    let world = World::new();
    let repo = world.made(Some(Parity::default()));
    let (pack, ids) = world.pack(40);
    put(&repo, &pack);
    drop(repo);
    let file = world.pack_file(pack.id);
    for cut in [1, 64, 3000, SHARD_LEN] {
        let end = (pack.bytes.len() - cut) as u64;
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(end).unwrap();
        fs::remove_dir_all(world.index()).unwrap();
        let repo = world.open();
        assert!(readable(&repo, &pack, &ids).iter().all(|whole| *whole), "{cut} bytes");
        assert!(fs::read(&file).unwrap() == pack.bytes);
    }
}

#[test]
fn unreadable_sectors_are_mended_and_cost_only_their_own_frames_until_then() {
    let world = World::new();
    world.made(Some(Parity::default()));
    let disk = BadDisk::new(&world.place());
    let repo = Repository::with_backend(Box::new(Shared(disk.clone())), &world.index()).unwrap();
    let (pack, ids) = world.pack(40);
    put(&repo, &pack);
    let sector = 600_000..604_096;
    *disk.unreadable.lock() = Some((format!("packs/{:02x}/{}", pack.id.0[0], pack.id), sector.clone()));
    // All frames are requested at once, and read in one run.
    let reply = repo.read(&ReadRequest { ids: ids.clone(), neighbour_bytes: 0, avoid: vec![] }).unwrap();
    let bad = reply.frames.iter().filter(|frame| frame.bytes.is_empty()).count();
    assert_eq!((reply.frames.len(), bad), (40, 1));
    assert_eq!(repo.mend(pack.id).unwrap(), Mending::Mended(1));
    // The file was rewritten elsewhere on the disk.
    *disk.unreadable.lock() = None;
    assert!(fs::read(world.pack_file(pack.id)).unwrap() == pack.bytes);

    // More damage than parity can mend: no byte is overwritten, because the disk may be able to read it tomorrow.
    *disk.unreadable.lock() = Some((format!("packs/{:02x}/{}", pack.id.0[0], pack.id), 0..300_000));
    assert!(matches!(repo.mend(pack.id).unwrap(), Mending::Lost(_)));
    *disk.unreadable.lock() = None;
    assert!(fs::read(world.pack_file(pack.id)).unwrap() == pack.bytes);
    assert_eq!(repo.mend(pack.id).unwrap(), Mending::Whole);
}

#[test]
fn parity_that_could_not_be_written_is_written_later() {
    let world = World::new();
    world.made(Some(Parity::default()));
    let disk = BadDisk::new(&world.place());
    *disk.refused.lock() = Some("parity/");
    let packs: Vec<PackUpload> = (0..5).map(|_| world.pack(3).0).collect();
    let repo = Repository::with_backend(Box::new(Shared(disk.clone())), &world.index()).unwrap();
    // The packs are what matters: each put is acknowledged.
    packs[..4].iter().for_each(|pack| put(&repo, pack));
    drop(repo);
    assert!(packs.iter().all(|pack| !world.parity_file(pack.id).exists()));
    // Opening a repository only to read from it does nothing.
    drop(world.open());
    assert!(packs.iter().all(|pack| !world.parity_file(pack.id).exists()));
    // The first write makes all missing parity.
    let repo = world.open();
    put(&repo, &packs[4]);
    until(|| packs.iter().all(|pack| world.parity_file(pack.id).exists()));
    drop(repo);

    // The same if the index, which held the marks, is gone.
    packs.iter().for_each(|pack| fs::remove_file(world.parity_file(pack.id)).unwrap());
    fs::remove_dir_all(world.index()).unwrap();
    let repo = world.open();
    bkfs_store::repository::resume_parity(&repo).unwrap();
    until(|| packs.iter().all(|pack| world.parity_file(pack.id).exists()));
    drop(repo);
    // Once done, the work is not repeated.
    fs::remove_file(world.parity_file(packs[0].id)).unwrap();
    let repo = world.open();
    bkfs_store::repository::resume_parity(&repo).unwrap();
    put(&repo, &world.pack(1).0);
    drop(repo);
    assert!(!world.parity_file(packs[0].id).exists());
}

fn until(done: impl Fn() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("timed out");
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// While a pack is damaged and mended, a reader sees the damaged bytes or the whole ones, but never a torn file.
#[test]
fn reading_continues_while_a_pack_is_mended() {
    let world = World::new();
    let repo = Arc::new(world.made(Some(Parity::default())));
    let (pack, ids) = world.pack(20);
    put(&repo, &pack);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for id in &ids[5..] {
                    let reply = repo.read(&ReadRequest { ids: vec![*id], neighbour_bytes: 0, avoid: vec![] }).unwrap();
                    let frame = &reply.frames[0].bytes;
                    assert!(pack.bytes.windows(frame.len()).any(|window| window == &frame[..]) && !frame.is_empty());
                }
            }
        });
        let _stop = SetOnDrop(&stop);
        for _ in 0..10 {
            write_at(&world.pack_file(pack.id), 2000, &[0; 500]);
            assert_eq!(repo.mend(pack.id).unwrap(), Mending::Mended(1));
        }
    });
    assert!(fs::read(world.pack_file(pack.id)).unwrap() == pack.bytes);
}
