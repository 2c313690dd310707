//! A repository's store from outside: what goes in comes out again, on every backend, after reopening, rebuilding and
//! damage.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, sync::Arc, time::Duration};

use bkfs_store::{
    Error, ErrorKind,
    access::{
        Access, IDS_MAX, InitRequest, Lease, Maintain, Manage, Open, OpenRequest, Opened, Push, Read, ReadRequest,
    },
    base::{
        id::{ChunkId, DomainId, SlotId},
        time::Time,
    },
    crypto::DataKey,
    format::{
        config::{ChunkerParams, Config, verify_config},
        content::ContentBuilder,
        frame::{ChunkKind, FrameBuilder},
        keys::{self, FullKey, PushKey, Slot},
        pack::{PackUpload, PackWriter},
        roster::Roster,
        snapshot::{self, PathBytes, PushStats, Snapshot},
        tree::{Content, Extent, Node, NodeKind, TreeBuilder},
    },
    owner::reader::Reader,
    repository::Repository,
};

struct World {
    full: FullKey,
    push: PushKey,
    config: Config,
    request: InitRequest,
}

fn world() -> World {
    let full = FullKey::random(bkfs_store::base::id::RepoId(bkfs_store::crypto::random()));
    let now = Time { secs: 1_000_000_000, nanos: 0 };
    let config = full.config(now, ChunkerParams::default());
    let (push, client) = full.new_client("host", None, DomainId::OWNER, now);
    let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: vec![client] });
    let slots =
        vec![keys::slot::seal_slot(&full, b"secret", keys::slot::SlotParams::LEAST, &Default::default()).unwrap()];
    let request = InitRequest { config: config.clone(), roster, slots };
    World { config: verify_config(&config).unwrap(), full, push, request }
}

fn node(name: &str, kind: NodeKind) -> Node {
    Node { mode: 0o644, uid: 1, gid: 2, mtime: Time { secs: 5, nanos: 7 }, ..Node::new(name.as_bytes(), kind) }
}

/// Pushes one directory of files with one chunk each. Returns the snapshot's bytes.
fn push(repo: &dyn Access, world: &World, files: &[(String, Vec<u8>)], extra: &[u8]) -> Vec<u8> {
    let ids = world.push.ids();
    let key = DataKey::random();
    let wrap = world.push.seal().unwrap().wrap(world.push.repo, &key);
    let mut data = PackWriter::new(ChunkKind::Data, world.push.repo, &world.push.signing);
    let mut trees = PackWriter::new(ChunkKind::Tree, world.push.repo, &world.push.signing);
    data.add_wrap(&wrap);
    trees.add_wrap(&wrap);
    let put = |writer: &mut PackWriter, kind, id: ChunkId, bytes: &[u8]| {
        let mut frame = FrameBuilder::new();
        frame.push(bytes);
        writer.add(&frame.seal(world.push.repo, kind, &key, 1), &[id]);
    };
    let mut pages = Vec::new();
    let mut tree = TreeBuilder::new(&ids);
    for (name, bytes) in files {
        let mut file = node(name, NodeKind::File);
        file.size = bytes.len() as u64;
        let mut content = ContentBuilder::new(&ids);
        let mut out = |id, page| pages.push((id, page));
        // One chunk with the bytes. For a large file also holes and many small chunks, to get a content tree.
        let id = ids.data_id(bytes);
        put(&mut data, ChunkKind::Data, id, bytes);
        content.add(Extent::Data { id, len: bytes.len() as u32 }, &mut out).unwrap();
        if name.starts_with("large") {
            for i in 0..5000u32 {
                let small = i.to_le_bytes();
                let id = ids.data_id(&small);
                if i < 10 {
                    put(&mut data, ChunkKind::Data, id, &small);
                }
                content.add(Extent::Hole { len: 10 }, &mut out).unwrap();
                content.add(Extent::Data { id, len: 4 }, &mut out).unwrap();
            }
            file.size += 5000 * 14;
        }
        file.content = Some(content.finish(&mut out).unwrap());
        tree.add(&file, &mut out).unwrap();
    }
    let subtree = tree.finish(&mut |id, page| pages.push((id, page))).unwrap();
    for (id, page) in &pages {
        put(&mut trees, ChunkKind::Tree, *id, page);
    }
    for writer in [data, trees] {
        if !writer.is_empty() {
            repo.put_pack(Lease::default(), &writer.finish()).unwrap();
        }
    }
    let mut root = node("", NodeKind::Directory);
    root.subtree = Some(subtree);
    let opened = repo.open(&OpenRequest { client: Some(world.push.client_id()), seen: None }).unwrap();
    let snapshot = Snapshot {
        time: Time { secs: 9, nanos: 0 },
        host: "host".into(),
        user: "user".into(),
        target: "home".into(),
        paths: vec![PathBytes(extra.to_vec())],
        tags: vec![],
        root,
        stats: PushStats::default(),
        program: "test".into(),
        sequence: opened.last.map_or(1, |last| last.sequence + 1),
        previous: opened.last.map(|last| last.id),
        log_len: opened.now.log_len,
        log_head: opened.now.log_head,
    };
    let bytes = snapshot::seal(&snapshot, &world.push, &ids, &key, &wrap);
    repo.commit(opened.lease, &bytes).unwrap();
    bytes
}

fn files(count: usize) -> Vec<(String, Vec<u8>)> {
    (0..count)
        .map(|i| (format!("file{i:05}"), format!("contents of file {i} ").repeat(1 + i % 30).into_bytes()))
        .collect()
}

fn check(repo: Arc<dyn Access>, world: &World, files: &[(String, Vec<u8>)], snapshots: usize) {
    let reader = Reader::new(repo, world.full.clone(), &world.config, 8 << 20);
    let list = reader.snapshots().unwrap();
    assert_eq!(list.len(), snapshots);
    assert!(reader.with_snapshots(|list| list.errors().next().is_none()).unwrap());
    let root = &list.last().unwrap().snapshot.root;
    let dir = reader.dir(root.subtree.as_ref().unwrap());
    assert_eq!(dir.len(), files.len() as u64);
    let listed = dir.read_from(0, usize::MAX).unwrap();
    assert!(listed.iter().map(|n| &n.name[..]).eq(files.iter().map(|(name, _)| name.as_bytes())));
    for (i, (name, bytes)) in files.iter().enumerate().step_by(7) {
        let (at, node) = dir.find(name.as_bytes()).unwrap().unwrap();
        assert_eq!(at, i as u64);
        assert_eq!(reader.file(&node).read_at(0, bytes.len()).unwrap(), bytes);
        assert_eq!(reader.file(&node).read_at(3, 5).unwrap(), bytes[3..8]);
    }
    assert_eq!(dir.lookup(b"absent").unwrap(), None);
    assert_eq!(dir.get(files.len() as u64).unwrap(), None);
}

#[test]
fn pushed_files_can_be_read_in_memory_and_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let local = Repository::local(&folder.path().join("repo"), &folder.path().join("index")).unwrap();
    for repo in [Arc::new(local), Arc::new(Repository::memory().unwrap())] {
        let world = world();
        assert!(matches!(repo.open(&OpenRequest::default()), Err(Error::NoRepository { .. })));
        repo.init(&world.request).unwrap();
        assert!(matches!(repo.init(&world.request), Err(Error::RepositoryExists { .. })));
        let files = files(700);
        push(&*repo, &world, &files, b"a");
        push(&*repo, &world, &files, b"b");
        check(repo.clone(), &world, &files, 2);
        // Each chunk has its own frame, in this order. The second push stores a copy in its own packs.
        let ids: Vec<_> = files.iter().map(|(_, bytes)| world.push.ids().data_id(bytes)).collect();
        let places = repo.places(&ids).unwrap();
        assert!(places.is_sorted_by(|a, b| a < b));
        assert_eq!(repo.places(&[ids[3], ChunkId([1; 32]), ids[3]]).unwrap(), [places[3], 0, places[3]]);
        assert!(matches!(repo.places(&vec![ids[0]; IDS_MAX + 1]), Err(Error::TooLarge { .. })));
    }
}

/// The pusher chooses how long snapshots are. A reply holds a limited number of bytes of them; the rest has to be
/// requested.
#[test]
fn long_snapshots_are_returned_a_few_at_a_time() {
    let repo = Arc::new(Repository::memory().unwrap());
    let (world, files) = (world(), files(3));
    repo.init(&world.request).unwrap();
    let made: Vec<_> = (0..7).map(|_| push(&*repo, &world, &files, &vec![b'x'; 3 << 20])).collect();
    let some = repo.snapshots(0, 1000).unwrap();
    assert_eq!(some.iter().map(|object| object.bytes.clone()).collect::<Vec<_>>(), made[..3]);
    let newest = repo.open(&OpenRequest::default()).unwrap().snapshots;
    assert_eq!(newest.iter().map(|object| object.bytes.clone()).collect::<Vec<_>>(), made[4..]);
    check(repo, &world, &files, 7);
}

#[test]
fn a_lost_or_damaged_index_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let (place, index) = (folder.path().join("repo"), folder.path().join("index"));
    let (world, files) = (world(), files(300));
    let repo = Repository::local(&place, &index).unwrap();
    repo.init(&world.request).unwrap();
    push(&repo, &world, &files, b"a");
    let before = repo.open(&OpenRequest::default()).unwrap();
    drop(repo);
    let damage: [&dyn Fn(&Path); 4] = [
        &|index| fs::remove_dir_all(index).unwrap(),
        &|index| fs::write(index.join("data.mdb"), b"rubbish").unwrap(),
        &|index| fs::OpenOptions::new().write(true).open(index.join("data.mdb")).unwrap().set_len(9000).unwrap(),
        &|index| {
            let bytes = vec![0u8; fs::metadata(index.join("data.mdb")).unwrap().len() as usize];
            fs::write(index.join("data.mdb"), bytes).unwrap();
        },
    ];
    // Whichever page is zeroed, nothing is noticed of it.
    let whole = fs::read(index.join("data.mdb")).unwrap();
    let ids: Vec<_> = files.iter().map(|(_, bytes)| world.push.ids().data_id(bytes)).collect();
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        fs::write(index.join("data.mdb"), &bytes).unwrap();
        if page % 2 == 1 {
            // As after a crash.
            let _ = fs::remove_file(index.join("sealed"));
        }
        let repo = Repository::local(&place, &index).unwrap();
        let now = repo.open(&OpenRequest::default()).unwrap();
        assert!(Opened { lease: before.lease, time: before.time, ..now } == before, "page {page}");
        assert!(repo.has(None, &ids).unwrap().iter().all(|has| *has), "page {page}");
        repo.read(&ReadRequest { ids: ids[..1].to_vec(), neighbour_bytes: 0, avoid: vec![] }).unwrap();
    }
    for damage in damage {
        damage(&index);
        let repo = Arc::new(Repository::local(&place, &index).unwrap());
        // Each opening begins a new session.
        let now = repo.open(&OpenRequest::default()).unwrap();
        assert_eq!(Opened { lease: before.lease, time: before.time, ..now }, before);
        check(repo, &world, &files, 1);
    }
}

#[test]
fn an_older_index_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    let (place, index, old) = (folder.path().join("repo"), folder.path().join("index"), folder.path().join("old"));
    let (world, files) = (world(), files(50));
    let open = || Arc::new(Repository::local(&place, &index).unwrap());
    open().init(&world.request).unwrap();
    fs::create_dir(&old).unwrap();
    fs::copy(index.join("data.mdb"), old.join("data.mdb")).unwrap();
    push(&*open(), &world, &files, b"a");
    fs::remove_file(index.join("lock.mdb")).unwrap();
    fs::copy(old.join("data.mdb"), index.join("data.mdb")).unwrap();
    check(open(), &world, &files, 1);
}

#[test]
fn two_handles_see_each_others_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (world, files) = (world(), files(20));
    let place = folder.path().join("repo");
    let one = Arc::new(Repository::local(&place, &folder.path().join("index1")).unwrap());
    one.init(&world.request).unwrap();
    let two = Arc::new(Repository::local(&place, &folder.path().join("index2")).unwrap());
    let len = two.open(&OpenRequest::default()).unwrap().now.log_len;
    push(&*one, &world, &files, b"a");
    assert_eq!(two.wait_log(len, Duration::from_secs(10)).unwrap(), len + 1);
    two.open(&OpenRequest::default()).unwrap();
    check(two.clone(), &world, &files, 1);
    push(&*two, &world, &files, b"b");
    check(one, &world, &files, 2);
}

#[test]
fn a_torn_log_record_is_cut_and_damage_inside_the_log_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (place, index) = (folder.path().join("repo"), folder.path().join("index"));
    let (world, files) = (world(), files(5));
    let open = || Repository::local(&place, &index);
    open().unwrap().init(&world.request).unwrap();
    push(&open().unwrap(), &world, &files, b"a");
    let log = place.join("log");
    let whole = fs::read(&log).unwrap();
    fs::write(&log, [&whole[..], &[200, 0, 0, 0, 1, 2, 3]].concat()).unwrap();
    push(&open().unwrap(), &world, &files, b"b");
    check(Arc::new(open().unwrap()), &world, &files, 2);

    // One copy of the log is enough. The next opening or write makes the other one whole.
    let (second, whole) = (place.join("log.2"), fs::read(&log).unwrap());
    assert_eq!(fs::read(&second).unwrap(), whole);
    let mut bytes = whole.clone();
    bytes[50] ^= 1;
    for copy in [&log, &second] {
        fs::write(copy, &bytes).unwrap();
        fs::remove_dir_all(&index).unwrap();
        check(Arc::new(open().unwrap()), &world, &files, 2);
        fs::remove_file(copy).unwrap();
        check(Arc::new(open().unwrap()), &world, &files, 2);
        assert_eq!(fs::read(copy).unwrap(), whole);
    }

    fs::write(&log, &bytes).unwrap();
    fs::write(&second, &bytes).unwrap();
    fs::remove_dir_all(&index).unwrap();
    let error = open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("the log, record"), "{error}");
}

#[test]
fn damaged_packs_and_snapshots_are_named_and_the_rest_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (place, index) = (folder.path().join("repo"), folder.path().join("index"));
    let (world, files) = (world(), files(40));
    // Without error correction, which would mend the damage to the packs.
    let repo = Arc::new(Repository::local(&place, &index).unwrap().with_parity(None));
    repo.init(&world.request).unwrap();
    let stored = push(&*repo, &world, &files, b"a");
    let id = snapshot::snapshot_id(&stored);

    // One copy of the snapshot is enough.
    fs::write(place.join(format!("snapshots/{id}")), b"rubbish").unwrap();
    check(repo.clone(), &world, &files, 1);
    fs::remove_file(place.join(format!("snapshots.2/{id}"))).unwrap();
    let reader = Reader::new(repo.clone(), world.full.clone(), &world.config, 1 << 20);
    assert!(reader.snapshots().unwrap().is_empty());
    assert!(reader.with_snapshots(|l| l.broken[0].error.to_string().contains(&id.to_string())).unwrap());
    fs::write(place.join(format!("snapshots/{id}")), &stored).unwrap();

    // A flipped bit in a frame damages that frame, and no other.
    let ids = world.push.ids();
    let packs = repo.packs(None, 10).unwrap();
    let info = packs.iter().find(|p| repo.read_pack(p.id).unwrap()[8..].contains(&2)).copied();
    let wanted = ids.data_id(&files[3].1);
    let reply = repo.read(&ReadRequest { ids: vec![wanted], neighbour_bytes: 0, avoid: vec![] }).unwrap();
    let pack = reply.frames[0].pack;
    let path = place.join(format!("packs/{:02x}/{pack}", pack.0[0]));
    let mut bytes = fs::read(&path).unwrap();
    let frame = &reply.frames[0].bytes;
    let at = bytes.windows(frame.len()).position(|w| w == &frame[..]).unwrap();
    bytes[at + 60] ^= 4;
    fs::write(&path, &bytes).unwrap();
    let reader = Reader::new(repo.clone(), world.full.clone(), &world.config, 1 << 20);
    let error = reader.data(wanted).unwrap_err();
    assert!(matches!(error, Error::FrameDamaged { pack: p, .. } if p == pack), "{error}");
    assert_eq!(reader.data(ids.data_id(&files[4].1)).unwrap(), files[4].1);
    assert!(info.is_some() || !packs.is_empty());

    // A pack that is cut off or gone is named, and causes no panic.
    fs::write(&path, &bytes[..at]).unwrap();
    let reader = Reader::new(repo.clone(), world.full.clone(), &world.config, 1 << 20);
    assert_eq!(reader.data(ids.data_id(&files[39].1)).unwrap_err().kind(), ErrorKind::Damaged);
    fs::remove_file(&path).unwrap();
    let reader = Reader::new(repo, world.full.clone(), &world.config, 1 << 20);
    assert_eq!(reader.data(wanted).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn hostile_uploads_are_refused() {
    let (ours, theirs) = (world(), world());
    let repo = Repository::memory().unwrap();
    repo.init(&ours.request).unwrap();
    let pack = |world: &World| {
        let mut writer = PackWriter::new(ChunkKind::Data, world.push.repo, &world.push.signing);
        let key = DataKey::random();
        writer.add_wrap(&world.push.seal().unwrap().wrap(world.push.repo, &key));
        let mut frame = FrameBuilder::new();
        frame.push(b"hello");
        writer.add(&frame.seal(world.push.repo, ChunkKind::Data, &key, 1), &[world.push.ids().data_id(b"hello")]);
        writer.finish()
    };
    assert!(repo.put_pack(Lease::default(), &pack(&theirs)).is_err());
    let good = pack(&ours);
    for at in [0, 20, good.bytes.len() / 2, good.bytes.len() - 70, good.bytes.len() - 10] {
        let mut bytes = good.bytes.to_vec();
        bytes[at] ^= 1;
        assert!(
            repo.put_pack(Lease::default(), &PackUpload { id: good.id, bytes: bytes.into() }).is_err(),
            "byte {at}"
        );
    }
    let mut stranger = world();
    stranger.push.repo = ours.push.repo;
    stranger.push.seal_public = ours.push.seal_public.clone();
    let error = repo.put_pack(Lease::default(), &pack(&stranger)).unwrap_err();
    assert!(matches!(error, Error::NotOnRoster { .. }), "{error}");
    repo.put_pack(Lease::default(), &good).unwrap();
    repo.put_pack(Lease::default(), &good).unwrap();
    assert_eq!(repo.has(None, &[ours.push.ids().data_id(b"hello"), ChunkId([9; 32])]).unwrap(), [true, false]);
    assert!(repo.remove_slot(SlotId([1; 16])).is_err());
    let only = repo.open(&OpenRequest::default()).unwrap().slots[0].id;
    assert!(repo.remove_slot(only).is_err());
    assert!(repo.put_slot(&Slot { id: SlotId([1; 16]), bytes: vec![0; 1 << 20] }).is_err());
}

#[test]
fn commits_are_in_order_and_repeatable() {
    let world = world();
    let repo = Repository::memory().unwrap();
    repo.init(&world.request).unwrap();
    let stored = push(&repo, &world, &files(3), b"a");
    let opened = repo.open(&OpenRequest { client: Some(world.push.client_id()), seen: None }).unwrap();
    let again = repo.commit(opened.lease, &stored).unwrap();
    assert_eq!(again.snapshot, snapshot::snapshot_id(&stored));
    assert_eq!(opened.last.unwrap().sequence, 1);
    assert_eq!(repo.open(&OpenRequest::default()).unwrap().now, opened.now);
    assert_eq!(repo.log(0, 100).unwrap().len() as u64, opened.now.log_len);
    let mut other = stored.clone();
    *other.last_mut().unwrap() ^= 1;
    let lease = Lease { generation: 7, ..opened.lease };
    assert!(matches!(repo.commit(lease, &other), Err(Error::LeaseRefused { .. })));
    let seen = OpenRequest { client: None, seen: Some(opened.now) };
    assert_eq!(repo.open(&seen).unwrap().head_at_seen, Some(opened.now.log_head));
}

#[test]
fn holes_and_content_trees_read_back() {
    let world = world();
    let repo = Arc::new(Repository::memory().unwrap());
    repo.init(&world.request).unwrap();
    push(&*repo, &world, &[("large".into(), b"0123456789".to_vec())], b"a");
    let reader = Reader::new(repo, world.full.clone(), &world.config, 8 << 20);
    let root = reader.snapshots().unwrap()[0].snapshot.root.clone();
    let node = reader.resolve(&root, b"/large").unwrap();
    assert!(matches!(node.content, Some(Content::Tree(_))));
    let file = reader.file(&node);
    let mut want = b"0123456789".to_vec();
    for i in 0..10u32 {
        want.extend([0; 10]);
        want.extend(i.to_le_bytes());
    }
    assert_eq!(file.read_at(0, want.len()).unwrap(), want);
    for (offset, len) in [(5, 20), (9, 1), (10, 10), (23, 30), (100, 50)] {
        assert_eq!(file.read_at(offset as u64, len).unwrap(), want[offset..(offset + len).min(want.len())]);
    }
    assert_eq!(file.next_hole(0).unwrap(), Some(10));
    assert_eq!(file.next_data(11).unwrap(), Some(20));
    assert_eq!(file.next_hole(node.size - 2).unwrap(), Some(node.size));
    assert_eq!(file.next_data(node.size).unwrap(), None);
    assert_eq!(file.extents(0, u64::MAX).unwrap().len(), 10_001);
}
