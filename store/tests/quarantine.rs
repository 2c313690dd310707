//! Damage beyond mending: the store finds it by itself and tells the next client that opens the repository, and the
//! next push of the same contents heals it. Nothing else stops for it, and nobody's word alone removes anything.

#![allow(clippy::unwrap_used)]

#[path = "quarantine/repair.rs"]
mod repair;
mod support;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bkfs_store::{
    Error, ErrorKind,
    access::{Lease, Manage, Mending, Open, OpenRequest, Push, Read},
    base::id::{ChunkId, PackId},
    format::{
        erasure::{Parity, SHARD_LEN},
        loss::{DamagedFrames, Lost},
        pack::{Pack, PackUpload},
    },
    owner::reader::Reader,
    repository::{
        Repository,
        scrub::{ScrubOptions, ScrubProgress},
    },
};

use support::world::{Files, Packed, World, problems, read_files};

/// A repository in a folder, with one push in it. One pack holds all data.
struct Scene {
    folder: tempfile::TempDir,
    world: World,
    files: Files,
    packed: Packed,
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

impl Scene {
    /// Twenty files of 100 KB: shards of 64 KiB, two of them parity.
    fn new(parity: Option<Parity>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new();
        let files: Files = (0..20).map(|i| (format!("f{i:02}"), noise(i, 100_000))).collect();
        let packed = world.packs(&files);
        let scene = Self { folder, world, files, packed };
        let repo = scene.closed().with_parity(parity);
        repo.init(&scene.world.request).unwrap();
        scene.world.push_packs(&repo, &scene.packed).unwrap();
        repo.wait_for_parity();
        scene
    }

    fn closed(&self) -> Repository {
        Repository::local(&self.place(), &self.index()).unwrap()
    }

    fn open(&self) -> Arc<Repository> {
        Arc::new(self.closed())
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    fn index(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    /// The pack with the data.
    fn pack(&self) -> &PackUpload {
        &self.packed.uploads[0].0
    }

    fn file_of(&self, id: PackId) -> PathBuf {
        self.place().join(format!("packs/{:02x}/{id}", id.0[0]))
    }

    fn damage(&self, at: usize, len: usize) {
        write_at(&self.file_of(self.pack().id), at as u64, &vec![0xee; len]);
    }

    /// All data chunks, in the order of the pack.
    fn ids(&self) -> Vec<ChunkId> {
        Pack::parse(&self.pack().bytes).unwrap().table.frames.iter().flat_map(|frame| frame.ids.clone()).collect()
    }

    /// The chunks in frames that touch a span of the pack.
    fn touched(&self, from: usize, to: usize) -> BTreeSet<ChunkId> {
        let table = Pack::parse(&self.pack().bytes).unwrap().table;
        let hit = table.frames.iter().filter(|f| (f.offset as usize) < to && (f.offset + f.len) as usize > from);
        hit.flat_map(|frame| frame.ids.clone()).collect()
    }

    /// The data chunks that a repository says it does not have.
    fn lacking(&self, repo: &Repository) -> BTreeSet<ChunkId> {
        let ids = self.ids();
        let has = repo.has(None, &ids).unwrap();
        ids.into_iter().zip(has).filter(|(_, has)| !has).map(|(id, _)| id).collect()
    }

    /// The files that read back as they were. All others must fail as damaged.
    fn readable(&self, reader: &Reader) -> BTreeSet<String> {
        let info = reader.snapshots().unwrap().into_iter().next().unwrap();
        let nodes = reader.dir(info.snapshot.root.subtree.as_ref().unwrap()).read_from(0, usize::MAX).unwrap();
        let mut found = BTreeSet::new();
        for node in nodes {
            let name = String::from_utf8(node.name.clone()).unwrap();
            match reader.file(&node).read_at(0, node.size as usize) {
                Ok(bytes) => {
                    assert!(bytes[..] == self.files[&name][..], "{name}");
                    found.insert(name);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "{name}: {error}"),
            }
        }
        found
    }

    /// Names of the files whose chunks are not among `ids`.
    fn without(&self, ids: &BTreeSet<ChunkId>) -> BTreeSet<String> {
        let is_whole = |bytes: &Vec<u8>| !ids.contains(&self.world.push.ids().data_id(bytes));
        self.files.iter().filter(|(_, bytes)| is_whole(bytes)).map(|(name, _)| name.clone()).collect()
    }
}

fn write_at(path: &Path, at: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

fn told(lost: Lost) -> BTreeSet<ChunkId> {
    match lost {
        Lost::Ids(ids) => ids.into_iter().collect(),
        Lost::Everything => panic!("more was reported than is lost"),
    }
}

/// What finds the damage: a reader, a scrub, a check, or a request to mend.
#[derive(Debug, Clone, Copy)]
enum Finder {
    Reader,
    Scrub,
    Check,
    Asked,
}

#[test]
fn lost_chunks_are_reported_and_stored_again() {
    for finder in [Finder::Reader, Finder::Scrub, Finder::Check, Finder::Asked] {
        let scene = Scene::new(Some(Parity::default()));
        let repo = scene.open();
        let before = repo.open(&OpenRequest::default()).unwrap();
        let (from, to) = (5 * SHARD_LEN, 8 * SHARD_LEN);
        scene.damage(from + 100, 2 * SHARD_LEN + 1000);
        let hit = scene.touched(from, to);
        assert!((3..6).contains(&hit.len()), "{}", hit.len());
        assert_eq!(scene.lacking(&repo), BTreeSet::new(), "the damage is not found yet");
        let readable = match finder {
            Finder::Reader => scene.readable(&scene.world.reader(repo.clone())),
            Finder::Scrub => {
                let report = repo.scrub(&ScrubOptions::default(), &ScrubProgress::default()).unwrap();
                assert_eq!(report.lost.len(), 1);
                scene.readable(&scene.world.reader(repo.clone()))
            }
            Finder::Check => {
                assert!(!problems(&scene.world.reader(repo.clone()), &*repo, true).unwrap().is_empty());
                scene.readable(&scene.world.reader(repo.clone()))
            }
            Finder::Asked => {
                assert!(matches!(repo.mend(scene.pack().id).unwrap(), Mending::Lost(_)));
                scene.readable(&scene.world.reader(repo.clone()))
            }
        };
        // Frames that share a shard with the damage may be whole. They can still be read.
        assert!(scene.without(&hit).is_subset(&readable), "{finder:?}");
        assert_eq!(scene.lacking(&repo), hit, "{finder:?}");

        // The loss is reported once, to a client that was here before. A session under way cannot commit before it is
        // told.
        let seen = Some(before.now);
        let after = repo.open(&OpenRequest { client: None, seen }).unwrap();
        assert_eq!(told(after.lost), hit);
        assert_eq!(after.head_at_seen, Some(before.now.log_head), "this is not a rollback");
        assert_eq!(after.now.incarnation, before.now.incarnation);
        assert_ne!(after.lease.generation, before.lease.generation);
        let refused = repo.commit(before.lease, b"whatever").unwrap_err();
        assert!(matches!(refused, Error::LeaseRefused { .. }), "{refused}");
        let again = repo.open(&OpenRequest { client: None, seen: Some(after.now) }).unwrap();
        assert_eq!(told(again.lost), BTreeSet::new());

        // The loss is still known when the index is rebuilt, and looking again finds no more.
        drop(repo);
        fs::remove_dir_all(scene.index()).unwrap();
        let repo = scene.open();
        assert_eq!(scene.lacking(&repo), hit);
        assert!(matches!(repo.mend(scene.pack().id).unwrap(), Mending::Lost(_)));
        assert_eq!(repo.open(&OpenRequest::default()).unwrap().now, after.now, "nothing new");
        let wrong = problems(&scene.world.reader(repo.clone()), &*repo, false).unwrap();
        let unreadable = 20 - scene.readable(&scene.world.reader(repo.clone())).len();
        assert_eq!(wrong.len(), unreadable, "a check names each damaged file without reading all data: {wrong:?}");

        // The next push of the same files heals the old snapshot.
        let receipt = scene.world.push(&*repo, &scene.files).unwrap();
        assert_eq!(scene.lacking(&repo), BTreeSet::new());
        let reader = scene.world.reader(repo.clone());
        let all = scene.world.read_all(&reader).unwrap();
        assert_eq!(all.len(), 2);
        assert!(all.contains_key(&receipt.snapshot) && all.values().all(|files| *files == scene.files), "{finder:?}");
        assert_eq!(problems(&reader, &*repo, false).unwrap(), Vec::<String>::new());
        let wrong = problems(&scene.world.reader(repo.clone()), &*repo, true).unwrap();
        assert!(
            wrong.iter().all(|text| text.contains(&scene.pack().id.to_string())),
            "only the old pack is still damaged: {wrong:?}"
        );
    }
}

#[test]
fn without_parity_the_whole_pack_counts_as_lost_but_is_still_read_from() {
    let scene = Scene::new(None);
    let repo = scene.open();
    let before = repo.open(&OpenRequest::default()).unwrap().now;
    scene.damage(1_000_000, 1);
    let hit = scene.touched(1_000_000, 1_000_001);
    assert_eq!(scene.readable(&scene.world.reader(repo.clone())), scene.without(&hit));
    assert_eq!(scene.lacking(&repo).len(), 20);
    assert_eq!(repo.quarantine(None, 10).unwrap()[0].frames, DamagedFrames::All);
    let opened = repo.open(&OpenRequest { client: None, seen: Some(before) }).unwrap();
    assert_eq!(told(opened.lost), scene.ids().into_iter().collect());
    assert_eq!(scene.readable(&scene.world.reader(repo.clone())), scene.without(&hit), "it is still read from");
    scene.world.push(&*repo, &scene.files).unwrap();
    let reader = scene.world.reader(repo);
    assert!(scene.world.read_all(&reader).unwrap().values().all(|files| *files == scene.files));

    // Without a table, nobody knows what was in the pack. Then everything may be lost.
    let scene = Scene::new(None);
    let repo = scene.open();
    let before = repo.open(&OpenRequest::default()).unwrap().now;
    let len = scene.pack().bytes.len();
    scene.damage(len - 2000, 2000);
    assert_eq!(repo.mend(scene.pack().id).unwrap(), Mending::NoParity);
    let opened = repo.open(&OpenRequest { client: None, seen: Some(before) }).unwrap();
    assert_eq!((opened.lost, scene.lacking(&repo).len()), (Lost::Everything, 20));
}

#[test]
fn a_pack_that_is_put_back_or_put_again_is_released_from_quarantine() {
    let scene = Scene::new(Some(Parity::default()));
    let (repo, id) = (scene.open(), scene.pack().id);
    let hurt = || {
        scene.damage(5 * SHARD_LEN, 3 * SHARD_LEN);
        assert!(matches!(repo.mend(id).unwrap(), Mending::Lost(_)));
        assert_eq!(repo.quarantine(None, 10).unwrap().len(), 1);
        assert!(!repo.keep_pack(Lease::default(), id, scene.pack().bytes.len() as u64).unwrap());
    };
    // Put back from a copy of the folder: the next look at the pack finds it whole.
    hurt();
    fs::write(scene.file_of(id), &scene.pack().bytes).unwrap();
    assert!(!scene.lacking(&repo).is_empty(), "the pack is not examined yet");
    assert_eq!(repo.mend(id).unwrap(), Mending::Whole);
    assert_eq!(scene.lacking(&repo), BTreeSet::new());
    // Put again by a client that was interrupted and still has the pack.
    hurt();
    let lease = repo.open(&OpenRequest::default()).unwrap().lease;
    repo.put_pack(lease, scene.pack()).unwrap();
    assert_eq!(scene.lacking(&repo), BTreeSet::new());
    assert!(fs::read(scene.file_of(id)).unwrap() == scene.pack().bytes);
    // Both are still known when the index is rebuilt.
    drop(repo);
    fs::remove_dir_all(scene.index()).unwrap();
    let repo = scene.open();
    assert_eq!(repo.quarantine(None, 10).unwrap(), vec![]);
    assert_eq!(scene.lacking(&repo), BTreeSet::new());
}

#[test]
fn a_request_alone_puts_nothing_into_quarantine() {
    let scene = Scene::new(Some(Parity::default()));
    let repo = scene.open();
    let before = repo.open(&OpenRequest::default()).unwrap().now;
    // A client that may read can ask as often as it likes.
    for _ in 0..3 {
        assert_eq!(repo.mend(scene.pack().id).unwrap(), Mending::Whole);
    }
    assert_eq!((scene.lacking(&repo), repo.open(&OpenRequest::default()).unwrap().now), (BTreeSet::new(), before));
}

#[test]
fn only_the_new_part_of_growing_damage_is_reported() {
    let scene = Scene::new(Some(Parity::default()));
    let repo = scene.open();
    scene.damage(5 * SHARD_LEN, 3 * SHARD_LEN);
    repo.mend(scene.pack().id).unwrap();
    let between = repo.open(&OpenRequest::default()).unwrap().now;
    let first = scene.lacking(&repo);
    scene.damage(20 * SHARD_LEN, SHARD_LEN);
    repo.mend(scene.pack().id).unwrap();
    let opened = repo.open(&OpenRequest { client: None, seen: Some(between) }).unwrap();
    let second = scene.touched(20 * SHARD_LEN, 21 * SHARD_LEN);
    assert_eq!(told(opened.lost), second);
    assert_eq!(scene.lacking(&repo), &first | &second);
    // A chunk that is stored elsewhere, too, is not lost.
    scene.world.push(&*repo, &scene.files).unwrap();
    let now = repo.open(&OpenRequest::default()).unwrap().now;
    scene.damage(10 * SHARD_LEN, SHARD_LEN);
    repo.mend(scene.pack().id).unwrap();
    let opened = repo.open(&OpenRequest { client: None, seen: Some(now) }).unwrap();
    assert_eq!((told(opened.lost), scene.lacking(&repo)), (BTreeSet::new(), BTreeSet::new()));
}

#[test]
fn a_session_under_way_is_told_of_a_missing_pack() {
    let scene = Scene::new(Some(Parity::default()));
    let repo = scene.open();
    let opened = repo.open(&OpenRequest { client: Some(scene.world.push.client_id()), seen: None }).unwrap();
    // Its pack is removed, and another process opens the repository.
    fs::remove_file(scene.file_of(scene.pack().id)).unwrap();
    let other = scene.open();
    assert_eq!(scene.lacking(&other).len(), 20);
    let refused = repo.commit(opened.lease, b"whatever").unwrap_err();
    assert!(matches!(refused, Error::LeaseRefused { .. }), "{refused}");
    let again = repo.open(&OpenRequest { client: None, seen: Some(opened.now) }).unwrap();
    assert_eq!((again.lost, again.now.incarnation), (Lost::Everything, opened.now.incarnation));
}

/// Both heads of a forged parity file say, with valid checksums, that the pack's table begins elsewhere. No hash in the
/// file vouches for that.
#[test]
fn a_forged_parity_file_does_no_harm() {
    let scene = Scene::new(Some(Parity::default()));
    let (repo, id) = (scene.open(), scene.pack().id);
    let path = scene.place().join(format!("parity/{:02x}/{id}", id.0[0]));
    let whole = fs::read(&path).unwrap();
    let trailer = &whole[whole.len() - 16..];
    let head_len = u32::from_le_bytes(trailer[..4].try_into().unwrap()) as usize;
    let forge = |change: &dyn Fn(&mut [u8])| {
        let mut file = whole.clone();
        for at in [0, whole.len() - 16 - head_len] {
            let head = &mut file[at..at + head_len];
            change(head);
            let sum = blake3::hash(&head[..head_len - 32]);
            head[head_len - 32..].copy_from_slice(sum.as_bytes());
        }
        fs::write(&path, &file).unwrap();
    };
    // The footer in the head: the table's offset is 1 more, its length 1 less.
    let footer = |head: &mut [u8]| {
        let offset = u64::from_le_bytes(head[16..24].try_into().unwrap()) + 1;
        let len = u32::from_le_bytes(head[24..28].try_into().unwrap()) - 1;
        head[16..24].copy_from_slice(&offset.to_le_bytes());
        head[24..28].copy_from_slice(&len.to_le_bytes());
    };
    forge(&footer);
    assert_eq!(repo.mend(id).unwrap(), Mending::Whole);
    assert!(fs::read(scene.file_of(id)).unwrap() == scene.pack().bytes, "the pack matches its own hash");
    assert!(fs::read(&path).unwrap() == whole, "and its parity is recreated");
    // More parity shards than any pack gets: no room is reserved for them.
    forge(&|head: &mut [u8]| head[10..12].copy_from_slice(&4096u16.to_le_bytes()));
    assert_eq!(repo.mend(id).unwrap(), Mending::Whole);
    assert!(fs::read(&path).unwrap() == whole);
    // If the pack is damaged as well, nothing wrong is written.
    forge(&footer);
    scene.damage(1_000_000, 10);
    let damaged = fs::read(scene.file_of(id)).unwrap();
    assert_eq!(repo.mend(id).unwrap(), Mending::NoParity);
    assert!(fs::read(scene.file_of(id)).unwrap() == damaged);
    fs::write(&path, &whole).unwrap();
    assert_eq!(repo.mend(id).unwrap(), Mending::Mended(1));
    assert_eq!(scene.lacking(&repo), BTreeSet::new());
}

#[test]
fn a_file_that_is_longer_than_any_pack_is_cut_back_to_its_pack() {
    let scene = Scene::new(Some(Parity::default()));
    let (repo, id) = (scene.open(), scene.pack().id);
    let file = fs::OpenOptions::new().write(true).open(scene.file_of(id)).unwrap();
    file.set_len(1 << 40).unwrap();
    drop(file);
    assert_eq!(repo.mend(id).unwrap(), Mending::Mended(0));
    assert!(fs::read(scene.file_of(id)).unwrap() == scene.pack().bytes);
}

#[test]
fn a_snapshot_with_damaged_trees_is_whole_after_the_next_push() {
    let scene = Scene::new(None);
    let repo = scene.open();
    let trees = &scene.packed.uploads[1].0;
    write_at(&scene.file_of(trees.id), 100, &[0xee; 50]);
    let reader = scene.world.reader(repo.clone());
    let info = reader.snapshots().unwrap().remove(0);
    assert_eq!(read_files(&reader, &info.snapshot.root).unwrap_err().kind(), ErrorKind::Damaged);
    scene.world.push(&*repo, &scene.files).unwrap();
    let reader = scene.world.reader(repo);
    assert!(scene.world.read_all(&reader).unwrap().values().all(|files| *files == scene.files));
}
