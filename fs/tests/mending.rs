//! Error correction from end to end. Up to the promised amount of damage to a pack, all files read correctly. Beyond
//! it, the files that lost bytes fail, and no others.

#![allow(clippy::unwrap_used)]
#![allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use bkfs_store::{
    access::{Mending, Span},
    base::id::PackId,
    format::{
        erasure::SHARD_LEN,
        frame::ChunkKind,
        pack::{Pack, PackTable},
        tree::Node,
    },
    owner::{
        check::{self, CheckOptions},
        reader::Reader,
    },
};
use common::Owner;

struct World {
    folder: tempfile::TempDir,
    owner: Owner,
    contents: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The fullest pack of data.
    table: PackTable,
    bytes: Vec<u8>,
}

/// 150 files that do not compress, enough for a full pack and more.
fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let owner = Owner::new(folder.path());
    let mut noise = blake3::Hasher::new().update(b"files").finalize_xof();
    let mut contents = BTreeMap::new();
    for i in 0..150usize {
        let len = [300, 5_000, 140_000, 40_000, 700_000][i % 5];
        let mut bytes = vec![0; len];
        noise.fill(&mut bytes);
        fs::write(source.join(format!("file{i:03}")), &bytes).unwrap();
        contents.insert(format!("file{i:03}").into_bytes(), bytes);
    }
    owner.push(&source, &folder.path().join("cache"));
    let packs = owner.access.packs(None, 100).unwrap();
    let largest = packs.iter().max_by_key(|pack| pack.len).unwrap();
    let bytes = owner.access.read_pack(largest.id).unwrap();
    let table = Pack::parse(&bytes).unwrap().table;
    assert_eq!(table.kind, ChunkKind::Data);
    World { folder, owner, contents, table, bytes: bytes.to_vec() }
}

impl World {
    fn pack_file(&self) -> PathBuf {
        let id = self.table.id;
        self.folder.path().join(format!("repo/packs/{:02x}/{id}", id.0[0]))
    }

    /// Returns how many shards parity can repair: 13 of a full pack.
    fn parity_shards(&self) -> usize {
        (self.bytes.len().div_ceil(SHARD_LEN) * 5).div_ceil(100)
    }

    fn damage(&self, ranges: &[std::ops::Range<usize>]) {
        let mut bytes = self.bytes.clone();
        ranges.iter().for_each(|range| bytes[range.clone()].iter_mut().for_each(|b| *b ^= 0x40));
        fs::write(self.pack_file(), bytes).unwrap();
    }

    fn is_whole(&self) -> bool {
        fs::read(self.pack_file()).unwrap() == self.bytes
    }

    fn files(&self, reader: &Reader) -> Vec<Node> {
        let list = reader.snapshots().unwrap();
        let root = &list.last().unwrap().snapshot.root;
        reader.dir(root.subtree.as_ref().unwrap()).read_from(0, usize::MAX).unwrap()
    }

    /// Returns the names of the files that cannot be read. Asserts that all others are correct.
    fn unreadable(&self) -> BTreeSet<Vec<u8>> {
        let reader = self.owner.reader();
        let files = self.files(&reader);
        assert_eq!(files.len(), self.contents.len());
        let failed = files.iter().filter(|node| match reader.file(node).read_at(0, node.size as usize) {
            Ok(bytes) => {
                assert!(bytes == self.contents[&node.name], "{}", node.name.escape_ascii());
                false
            }
            Err(error) => {
                assert!(error.to_string().contains(&self.table.id.to_string()), "{error}");
                true
            }
        });
        failed.map(|node| node.name.clone()).collect()
    }

    /// Returns the names of the files that have chunks in frames which overlap these ranges.
    fn touched(&self, ranges: &[std::ops::Range<usize>]) -> BTreeSet<Vec<u8>> {
        let is_hit = |offset: u32, len: u32| {
            ranges.iter().any(|range| range.start < (offset + len) as usize && range.end > offset as usize)
        };
        let frames = self.table.frames.iter().filter(|frame| is_hit(frame.offset, frame.len));
        let ids: BTreeSet<_> = frames.flat_map(|frame| frame.ids.iter().copied()).collect();
        let reader = self.owner.reader();
        let has = |node: &Node| {
            let extents = reader.file(node).extents(0, node.size).unwrap();
            extents
                .iter()
                .any(|(_, e)| matches!(e, bkfs_store::format::tree::Extent::Data { id, .. } if ids.contains(id)))
        };
        self.files(&reader).iter().filter(|node| has(node)).map(|node| node.name.clone()).collect()
    }
}

#[test]
fn a_full_pack_has_the_promised_parity() {
    let world = world();
    assert!(world.bytes.len() > 15 << 20, "{} bytes", world.bytes.len());
    assert!((12..=13).contains(&world.parity_shards()));
}

#[test]
fn reading_mends_any_burst_of_the_promised_length() {
    let world = world();
    let longest = (world.parity_shards() - 1) * SHARD_LEN + 1;
    let end = world.bytes.len() - longest;
    for start in [0, 1, 5 * SHARD_LEN, 77 * SHARD_LEN + SHARD_LEN - 1, 3_333_333, end] {
        world.damage(&[start..start + longest]);
        assert_eq!(world.unreadable(), BTreeSet::new(), "from {start}");
        assert!(world.is_whole(), "from {start}: the pack was not mended in place");
    }
}

#[test]
fn reading_mends_the_promised_number_of_scattered_shards() {
    let world = world();
    let (count, shards) = (world.parity_shards(), world.bytes.len() / SHARD_LEN);
    for round in 0..4 {
        let shard = |i: usize| (i * 19 + round * 7) % shards;
        let ranges: Vec<_> = (0..count).map(|i| shard(i) * SHARD_LEN + 1000 * round).map(|at| at..at + 1).collect();
        assert_eq!(ranges.iter().map(|r| r.start / SHARD_LEN).collect::<BTreeSet<_>>().len(), count);
        world.damage(&ranges);
        assert_eq!(world.unreadable(), BTreeSet::new());
        assert!(world.is_whole());
    }
}

#[test]
fn damage_beyond_the_promise_affects_only_the_files_in_it() {
    let world = world();
    let (count, shards) = (world.parity_shards() + 1, world.table.frames.last().unwrap().offset as usize / SHARD_LEN);
    let scattered: Vec<_> =
        (0..count).map(|i| i * (shards / count) * SHARD_LEN + 11..i * (shards / count) * SHARD_LEN + 12).collect();
    let start = 40 * SHARD_LEN;
    let burst = vec![start..start + (count - 1) * SHARD_LEN + 1];
    for ranges in [scattered, burst] {
        world.damage(&ranges);
        let spans: Vec<Span> = {
            let mut spans: Vec<Span> = Vec::new();
            for shard in ranges.iter().flat_map(|r| r.start / SHARD_LEN..r.end.div_ceil(SHARD_LEN)) {
                let (start, end) = ((shard * SHARD_LEN) as u32, ((shard + 1) * SHARD_LEN) as u32);
                match spans.last_mut().filter(|last| last.end == start) {
                    Some(last) => last.end = end,
                    None => spans.push(Span { start, end }),
                }
            }
            spans
        };
        assert_eq!(world.owner.access.mend(world.table.id).unwrap(), Mending::Lost(spans));
        let expected = world.touched(&ranges);
        assert!(!expected.is_empty() && expected.len() < world.contents.len() / 2, "{} files", expected.len());
        assert_eq!(world.unreadable(), expected);
    }
    // With the original bytes back, everything can be read.
    fs::write(world.pack_file(), &world.bytes).unwrap();
    assert_eq!(world.unreadable(), BTreeSet::new());
}

#[test]
fn concurrent_readers_mend_a_damaged_pack() {
    let world = world();
    world.damage(&[SHARD_LEN..2 * SHARD_LEN, 9 * SHARD_LEN..11 * SHARD_LEN]);
    let reader = world.owner.reader();
    let files = world.files(&reader);
    std::thread::scope(|scope| {
        for part in files.chunks(20) {
            let (reader, world) = (reader.clone(), &world);
            scope.spawn(move || {
                for node in part {
                    let bytes = reader.file(node).read_at(0, node.size as usize).unwrap();
                    assert!(bytes == world.contents[&node.name]);
                }
            });
        }
    });
    assert!(world.is_whole());
}

#[test]
fn damaged_trees_and_ends_of_packs_are_mended() {
    let world = world();
    let all = world.owner.access.packs(None, 100).unwrap();
    for pack in &all {
        let path = file_of(world.folder.path(), pack.id);
        let mut bytes = fs::read(&path).unwrap();
        let whole = bytes.clone();
        // Damage part of a frame in each pack, and the end of the pack.
        let len = bytes.len();
        bytes[40..80].fill(9);
        bytes[len - 300..].fill(0);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(world.unreadable(), BTreeSet::new());
        // Reading does not notice damage in frames that it does not need.
        world.owner.access.mend(pack.id).unwrap();
        assert!(fs::read(&path).unwrap() == whole);
    }
}

#[test]
fn a_check_mends_and_reports_it() {
    let world = world();
    let check = || {
        let reader = world.owner.reader();
        let opened = world.owner.access.open(&Default::default()).unwrap();
        check::check(
            &reader,
            &*world.owner.access,
            &opened,
            &CheckOptions { read_data: check::ReadData::All, threads: 2 },
            &Default::default(),
        )
        .unwrap()
    };
    world.damage(&[100_000..300_000]);
    let report = check();
    assert_eq!((report.packs_mended, report.problems_total), (1, 0), "{:?}", report.problems);
    assert!(world.is_whole());
    assert_eq!(check().packs_mended, 0);
    let longest = world.parity_shards() * SHARD_LEN + 1;
    world.damage(&[100_000..100_000 + longest]);
    let report = check();
    assert_eq!(report.packs_mended, 0);
    let named: BTreeSet<Vec<u8>> = report.problems.iter().map(|p| p.path.clone()).filter(|p| !p.is_empty()).collect();
    assert_eq!(named, world.touched(&[100_000..100_000 + longest]));
}

fn file_of(folder: &Path, id: PackId) -> PathBuf {
    folder.join(format!("repo/packs/{:02x}/{id}", id.0[0]))
}
