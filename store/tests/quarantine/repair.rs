//! `repair packs`: whole frames are kept, lost ones are dropped, damaged files are named, and a push heals the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bkfs_store::{
    Error,
    access::{Dropped, Keep, Lease, Maintain, Mending, Open, OpenRequest, Push, Read, RepairReply, RepairRequest},
    base::id::PackId,
    crypto::DataKey,
    format::{
        erasure::{Parity, SHARD_LEN},
        frame::{ChunkKind, FrameBuilder},
        loss::Lost,
        pack::PackWriter,
    },
    owner::{
        check::CheckProgress,
        repair::{RepairOptions, RepairReport, repair_packs},
    },
    repository::Repository,
};

use super::{
    Scene, problems,
    support::{fuse::Fuse, world::World},
    told, write_at,
};

fn repair(world: &World, repo: &Arc<Repository>, read_data: bool, dry_run: bool) -> RepairReport {
    let reader = world.reader(repo.clone());
    let opened = repo.open(&OpenRequest::default()).unwrap();
    let options = RepairOptions { read_data, dry_run, threads: 2 };
    repair_packs(&reader, &**repo, &opened, &options, &CheckProgress::default()).unwrap()
}

fn packs(scene: &Scene) -> BTreeSet<PackId> {
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(scene.place().join("packs")).unwrap() {
        let names = fs::read_dir(folder.unwrap().path()).unwrap().map(|e| e.unwrap().file_name());
        found.extend(names.filter_map(|name| name.to_str().unwrap().parse::<PackId>().ok()));
    }
    found
}

#[test]
fn whole_frames_are_kept_and_a_push_heals_the_rest() {
    for parity in [Some(Parity::default()), None] {
        let scene = Scene::new(parity);
        let repo = scene.open();
        let (id, before) = (scene.pack().id, packs(&scene));
        scene.damage(5 * SHARD_LEN + 100, 2 * SHARD_LEN);
        let expected = match parity {
            Some(_) => scene.touched(5 * SHARD_LEN, 8 * SHARD_LEN),
            None => scene.touched(5 * SHARD_LEN + 100, 7 * SHARD_LEN + 100),
        };
        let dropped = Dropped { is_gone: true, kept: 20 - expected.len() as u32, lost: expected.len() as u32 };

        // A dry run reports the same and changes nothing.
        let now = repo.open(&OpenRequest::default()).unwrap().now;
        let damaged = fs::read(scene.file_of(id)).unwrap();
        let report = repair(&scene.world, &repo, false, true);
        assert_eq!(report.damaged.get(&id), Some(&dropped), "{parity:?}");
        assert_eq!((repo.open(&OpenRequest::default()).unwrap().now, packs(&scene)), (now, before.clone()));
        assert!(fs::read(scene.file_of(id)).unwrap() == damaged);

        let report = repair(&scene.world, &repo, false, false);
        assert_eq!((report.packs, report.mended, report.failed.len()), (2, 0, 0));
        assert_eq!(report.damaged.get(&id), Some(&dropped));
        assert_eq!(
            (report.problems_total, report.snapshots.len()),
            (expected.len() as u64, 1),
            "{:?}",
            report.problems
        );
        let after = packs(&scene);
        assert!(!after.contains(&id) && after.len() == 2, "the damaged pack is gone, and a new one is there");
        assert_eq!(repo.quarantine(None, 10).unwrap(), vec![]);
        assert_eq!(scene.lacking(&repo), expected, "lost chunks are not stored, all others are");
        assert_eq!(scene.readable(&scene.world.reader(repo.clone())), scene.without(&expected));
        let lost = told(repo.open(&OpenRequest { client: None, seen: Some(now) }).unwrap().lost);
        assert!(lost.is_superset(&expected));

        // A second repair has nothing to do but to name the damaged files.
        let report = repair(&scene.world, &repo, true, false);
        assert_eq!((report.packs, report.damaged.len(), report.problems_total), (2, 0, expected.len() as u64));
        // The same with a new index.
        drop(repo);
        fs::remove_dir_all(scene.index()).unwrap();
        let repo = scene.open();
        assert_eq!(scene.lacking(&repo), expected);
        scene.world.push(&*repo, &scene.files).unwrap();
        let reader = scene.world.reader(repo.clone());
        assert!(scene.world.read_all(&reader).unwrap().values().all(|files| *files == scene.files));
        assert_eq!(problems(&reader, &*repo, true).unwrap(), Vec::<String>::new());
        assert_eq!(repair(&scene.world, &repo, true, false).snapshots.len(), 0);
    }
}

#[test]
fn damage_that_parity_mends_is_mended_and_nothing_is_dropped() {
    let scene = Scene::new(Some(Parity::default()));
    let repo = scene.open();
    scene.damage(1_000_000, 10);
    let report = repair(&scene.world, &repo, true, true);
    assert_eq!((report.mended, report.damaged.len()), (1, 0));
    assert!(fs::read(scene.file_of(scene.pack().id)).unwrap() != scene.pack().bytes);
    let report = repair(&scene.world, &repo, false, false);
    assert_eq!((report.mended, report.damaged.len(), report.problems_total), (1, 0, 0));
    assert!(fs::read(scene.file_of(scene.pack().id)).unwrap() == scene.pack().bytes);
    // Nobody can have a whole pack removed by calling it damaged.
    let keep = Keep::Whole;
    let dropped = repo.repair(&RepairRequest::Drop { pack: scene.pack().id, keep }).unwrap();
    assert_eq!(dropped, RepairReply::Dropped(Dropped { is_gone: false, kept: 20, lost: 0 }));
    assert_eq!(scene.lacking(&repo), BTreeSet::new());
}

/// Parity can recreate what the key holder could not read, so the pack is not dropped on the key holder's word.
#[test]
fn a_pack_damaged_after_the_store_looked_at_it_is_mended_and_not_dropped() {
    let scene = Scene::new(Some(Parity::default()));
    let (repo, id, reads) = (scene.open(), scene.pack().id, AtomicUsize::new(0));
    let path = scene.file_of(id);
    // Packs are read in this order.
    let place = repo.packs(None, 10).unwrap().iter().position(|info| info.id == id).unwrap();
    let watch = move |call: &'static str| {
        if call == "read_pack" && reads.fetch_add(1, SeqCst) == place {
            let mut bytes = fs::read(&path).unwrap();
            bytes[1_000_000] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    };
    let store = Arc::new(Fuse::new(repo.clone(), |_| true).watched(watch));
    let options = RepairOptions { read_data: true, dry_run: false, threads: 1 };
    let opened = repo.open(&OpenRequest::default()).unwrap();
    let report =
        repair_packs(&scene.world.reader(store.clone()), &*store, &opened, &options, &CheckProgress::default())
            .unwrap();
    assert_eq!((report.damaged.len(), report.failed.len(), report.problems_total), (0, 0, 0), "{report:?}");
    assert!(fs::read(scene.file_of(id)).unwrap() == scene.pack().bytes);
    assert_eq!((scene.lacking(&repo), repo.quarantine(None, 1).unwrap()), (BTreeSet::new(), vec![]));
}

#[test]
fn a_pack_without_a_table_is_dropped_as_a_whole() {
    let scene = Scene::new(None);
    let len = scene.pack().bytes.len();
    scene.damage(len - 2000, 2000);
    // With an index that knows the pack, and with one that does not.
    for with_index in [true, false] {
        if !with_index {
            fs::remove_dir_all(scene.index()).unwrap();
        }
        let repo = scene.open();
        let report = repair(&scene.world, &repo, false, true);
        assert_eq!(report.damaged.len(), 1, "index {with_index}");
    }
    let repo = scene.open();
    let report = repair(&scene.world, &repo, false, false);
    assert_eq!(report.damaged.get(&scene.pack().id), Some(&Dropped { is_gone: true, kept: 0, lost: 0 }));
    assert_eq!((report.problems_total, packs(&scene).len()), (20, 1));
    scene.world.push(&*repo, &scene.files).unwrap();
    assert_eq!(problems(&scene.world.reader(repo.clone()), &*repo, true).unwrap(), Vec::<String>::new());
}

/// A pack that is as it was put, but one of its frames holds other bytes than its table says. Only a key holder can
/// tell.
#[test]
fn a_mislabelled_frame_is_dropped_on_a_key_holders_word() {
    let scene = Scene::new(Some(Parity::default()));
    let repo = scene.open();
    let (push, key) = (&scene.world.push, DataKey::random());
    let mut writer = PackWriter::new(ChunkKind::Data, push.repo, &push.signing);
    writer.add_wrap(&push.seal().unwrap().wrap(push.repo, &key));
    let (honest, promised) = (push.ids().data_id(b"honest"), push.ids().data_id(b"promised"));
    for (id, bytes) in [(honest, &b"honest"[..]), (promised, b"something else")] {
        let mut frame = FrameBuilder::new();
        frame.push(bytes);
        writer.add(&frame.seal(push.repo, ChunkKind::Data, &key, 1), &[id]);
    }
    let upload = writer.finish();
    repo.put_pack(Lease::default(), &upload).unwrap();
    assert_eq!(repo.mend(upload.id).unwrap(), Mending::Whole);
    assert_eq!(
        repo.has(None, &[honest, promised]).unwrap(),
        [true, true],
        "the store does not take a client's word for it"
    );
    let found = problems(&scene.world.reader(repo.clone()), &*repo, true).unwrap();
    assert!(found.len() == 1 && found[0].contains(&upload.id.to_string()), "{found:?}");
    assert_eq!(repo.has(None, &[honest, promised]).unwrap(), [true, false], "a key holder has signed it");
    assert!(repair(&scene.world, &repo, false, false).damaged.is_empty(), "and the store finds nothing wrong");
    let before = repo.open(&OpenRequest::default()).unwrap();
    let report = repair(&scene.world, &repo, true, false);
    assert_eq!(report.damaged.get(&upload.id), Some(&Dropped { is_gone: true, kept: 1, lost: 1 }));
    assert_eq!(repo.has(None, &[honest, promised]).unwrap(), [true, false]);
    let opened = repo.open(&OpenRequest { client: None, seen: Some(before.now) }).unwrap();
    assert_eq!(told(opened.lost), BTreeSet::from([promised]));
    assert!(matches!(repo.commit(before.lease, b"x").unwrap_err(), Error::LeaseRefused { .. }));
    assert_eq!(scene.lacking(&repo), BTreeSet::new());
}

#[test]
fn with_a_floor_a_dropped_pack_waits_in_the_grave() {
    let scene = Scene::new(Some(Parity::default()));
    let repo = Arc::new(scene.closed().with_floor(3600));
    scene.damage(5 * SHARD_LEN, 3 * SHARD_LEN);
    repair(&scene.world, &repo, false, false);
    let lost = scene.lacking(&repo);
    assert!(!lost.is_empty() && !scene.file_of(scene.pack().id).exists());
    // Once revived, the pack is as damaged as before, and is known to be.
    assert_eq!(repo.operator().revive_all().unwrap().packs, 1);
    assert!(scene.file_of(scene.pack().id).exists());
    assert_eq!(scene.lacking(&repo), lost);
    // With a good copy in its place, it is whole.
    write_at(&scene.file_of(scene.pack().id), 0, &scene.pack().bytes);
    assert_eq!(repo.mend(scene.pack().id).unwrap(), Mending::Whole);
    assert_eq!(scene.lacking(&repo), BTreeSet::new());
}

/// Regression: a pack that came back from the grave, as damaged as before, replaced the whole one that a client had put
/// again.
#[test]
fn a_pack_that_was_put_again_is_not_replaced_by_one_from_the_grave() {
    for before in [true, false] {
        let scene = Scene::new(Some(Parity::default()));
        let repo = Arc::new(scene.closed().with_floor(3600));
        scene.damage(5 * SHARD_LEN, 3 * SHARD_LEN);
        repair(&scene.world, &repo, false, false);
        if before {
            repo.operator().revive_all().unwrap();
        }
        let lease = repo.open(&OpenRequest::default()).unwrap().lease;
        repo.put_pack(lease, scene.pack()).unwrap();
        repo.operator().revive_all().unwrap();
        assert!(fs::read(scene.file_of(scene.pack().id)).unwrap() == scene.pack().bytes, "before: {before}");
        assert_eq!(repo.mend(scene.pack().id).unwrap(), Mending::Whole);
        assert_eq!(scene.lacking(&repo), BTreeSet::new());
        assert_eq!(scene.readable(&scene.world.reader(repo)).len(), 20);
    }
}

/// Regression: every repair named the packs in the grave again, as damaged and not to be dropped.
#[test]
fn packs_in_the_grave_need_no_repair() {
    let scene = Scene::new(Some(Parity::default()));
    let repo = Arc::new(scene.closed().with_floor(3600));
    scene.damage(5 * SHARD_LEN, 3 * SHARD_LEN);
    assert_eq!(repair(&scene.world, &repo, false, false).damaged.len(), 1);
    for dry_run in [true, false] {
        assert_eq!(repair(&scene.world, &repo, false, dry_run).damaged, BTreeMap::new(), "dry: {dry_run}");
    }
    // Once revived, the pack is as damaged as before.
    repo.operator().revive_all().unwrap();
    assert_eq!(repair(&scene.world, &repo, false, false).damaged.len(), 1);
}

/// Regression: a pack whose file is gone was released from quarantine, and its chunks counted as stored until the loss
/// was noticed.
#[test]
fn a_missing_pack_is_not_released_from_quarantine_as_if_it_were_there() {
    for parity in [Some(Parity::default()), None] {
        let scene = Scene::new(parity);
        let repo = scene.open();
        let before = repo.open(&OpenRequest::default()).unwrap().now;
        fs::remove_file(scene.file_of(scene.pack().id)).unwrap();
        assert!(!matches!(repo.mend(scene.pack().id).unwrap(), Mending::Whole));
        assert_eq!(scene.lacking(&repo).len(), 20);
        let drop = RepairRequest::Drop { pack: scene.pack().id, keep: Keep::Whole };
        assert_eq!(repo.repair(&drop).unwrap(), RepairReply::Dropped(Dropped::default()));
        assert_eq!(scene.lacking(&repo).len(), 20, "{parity:?}");
        assert_eq!(repo.quarantine(None, 10).unwrap(), vec![]);
        let opened = repo.open(&OpenRequest { client: None, seen: Some(before) }).unwrap();
        assert!(opened.lost == Lost::Everything || told(opened.lost).len() == 20);
        scene.world.push(&*repo, &scene.files).unwrap();
        assert_eq!(problems(&scene.world.reader(repo.clone()), &*repo, true).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn damaged_trees_affect_only_the_snapshots_that_have_them() {
    let scene = Scene::new(None);
    let repo = scene.open();
    let mut others = scene.files.clone();
    others.insert("other".into(), vec![7; 1000]);
    let second = scene.world.push(&*repo, &others).unwrap().snapshot;
    let first = scene.world.reader(repo.clone()).snapshots().unwrap()[0].id;
    let trees = scene.packed.uploads[1].0.id;
    write_at(&scene.file_of(trees), 100, &[0xee; 50]);
    let report = repair(&scene.world, &repo, false, false);
    assert_eq!(report.snapshots, BTreeSet::from([first]), "and not {second}");
    assert_eq!(report.damaged.get(&trees).map(|dropped| dropped.lost), Some(1));
}
