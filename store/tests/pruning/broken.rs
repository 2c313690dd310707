//! Snapshots that nobody can read: they stop prunes only until a key holder has signed that they are broken. Neither
//! commits without a break nor forged copies keep a prune from ending.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bkfs_store::{
    Error,
    access::*,
    base::id::{ChunkId, DomainId, SnapshotId},
    crypto::DataKey,
    format::{
        frame::{ChunkKind, FrameBuilder},
        keys::PushKey,
        pack::{Pack, PackTable, PackWriter},
        roster::RosterView,
        snapshot,
        tombstone::Tombstone,
        tree::{Node, NodeKind, Subtree, Totals},
    },
    owner::prune::{BlockingSnapshot, BrokenPart, PruneOptions, PruneProgress, find_blocking},
    repository::Repository,
};

use crate::{
    CLOCK, DAY, Place, forget, prune, push, reader,
    support::{fuse::Fuse, world::World, *},
    verify,
};

/// Puts another client on the roster, one that only pushes. Returns its key.
fn stranger(repo: &Repository) -> PushKey {
    let full = full_key();
    let (key, entry) = full.new_client("stranger", None, DomainId([7; 16]), time(1_700_000_000));
    let view = RosterView::new(&full.sign_roster(&roster()), full.admin.verifying_key(), full.repo).unwrap();
    repo.put_roster(&full.sign_roster(&view.with_client(entry))).unwrap();
    key
}

/// Commits a snapshot with this root. Its seal is right, or rubbish.
fn commit(repo: &dyn Access, push: &PushKey, root: Node, is_sealed: bool) -> Result<SnapshotId, Error> {
    let opened = repo.open(&OpenRequest { client: Some(push.client_id()), seen: None })?;
    let (last, key) = (opened.last, DataKey::random());
    let record =
        snapshot::Snapshot { root, ..snapshot(last.map_or(1, |last| last.sequence + 1), last.map(|last| last.id)) };
    let mut wrap = push.seal().unwrap().wrap(push.repo, &key);
    if !is_sealed {
        wrap.sealed.reverse();
    }
    let bytes = snapshot::seal(&record, push, &push.ids(), &key, &wrap);
    Ok(repo.commit(opened.lease, &bytes)?.snapshot)
}

/// A root whose only page is not stored.
fn rootless(n: u8) -> Node {
    let subtree = Subtree { id: ChunkId([n; 32]), entries: 1, totals: Totals::default() };
    Node { subtree: Some(subtree), ..node(b"", NodeKind::Directory) }
}

fn forget_broken(repo: &dyn Access, ids: &[SnapshotId], now: bool) -> Result<ForgetReply, Error> {
    let log_len = repo.open(&OpenRequest::default()).unwrap().now.log_len;
    let sign = |id: &SnapshotId| Tombstone { repo: full_key().repo, snapshot: *id, log_len, is_broken: true };
    let tombstones = ids.iter().map(|id| SignedTombstone(sign(id).sign(&full_key()))).collect();
    repo.forget(&ForgetRequest { tombstones, now, empty_trash: false })
}

fn blocking(place: &Place, repo: &Arc<Repository>) -> Vec<BlockingSnapshot> {
    let found = find_blocking(&reader(repo), place.folder.path(), &PruneProgress::default()).unwrap();
    let report = prune(repo.clone(), place.folder.path(), &PruneOptions::default()).unwrap();
    let ids = |list: &[BlockingSnapshot]| list.iter().map(|snapshot| snapshot.id).collect::<BTreeSet<_>>();
    assert_eq!(ids(&found), ids(&report.blocking), "what would stop a prune, and what did");
    found
}

#[test]
fn junk_stops_prunes_only_until_a_key_holder_signs_that_it_is_broken() {
    let (place, repo) = Place::new(0);
    let stranger = stranger(&repo);
    let dead = push(&*repo, 0..30);
    let live = push(&*repo, 40..50);
    forget(&*repo, dead, true);
    let rubbish = commit(&*repo, &stranger, rootless(1), false).unwrap();
    let rootless = commit(&*repo, &stranger, rootless(2), true).unwrap();

    let found = blocking(&place, &repo);
    assert_eq!(found.iter().map(|s| s.id).collect::<Vec<_>>(), [rubbish, rootless]);
    assert!(found.iter().all(|snapshot| snapshot.client == stranger.client_id() && !snapshot.is_trashed));
    assert!(matches!(&found[0].problem, BrokenPart::Record(_)), "{found:?}");
    let BrokenPart::Page { id, lost_at: None, .. } = &found[1].problem else { panic!("{found:?}") };
    assert_eq!(*id, ChunkId([2; 32]));
    assert_eq!(place.files("packs"), 4, "nothing was condemned");

    // Forgetting them without a statement keeps what they may need: in the trash, they still stop a prune.
    forget(&*repo, rubbish, false);
    assert_eq!(blocking(&place, &repo).iter().map(|s| s.is_trashed).collect::<Vec<_>>(), [true, false]);

    forget_broken(&*repo, &[rubbish, rootless], false).unwrap();
    let len = repo.open(&OpenRequest::default()).unwrap().now.log_len;
    forget_broken(&*repo, &[rubbish, rootless], false).unwrap();
    assert_eq!(repo.open(&OpenRequest::default()).unwrap().now.log_len, len, "said once, it is not recorded again");
    assert_eq!(find_blocking(&reader(&repo), place.folder.path(), &PruneProgress::default()).unwrap(), []);
    let report = place.prune_with(&repo, &PruneOptions { is_confirmed: true, ..PruneOptions::default() });
    assert_eq!((report.blocking.len(), report.stats.dropped), (0, 2));
    verify(&repo, live, &(40..50).collect());

    let (trash, broken) = reader(&repo)
        .with_snapshots(|list| {
            let trash: Vec<_> = list.trash.iter().map(|trashed| (trashed.info.id, trashed.is_broken)).collect();
            let broken: Vec<_> =
                list.broken.iter().map(|broken| (broken.id, broken.client, broken.is_signed)).collect();
            (trash, broken)
        })
        .unwrap();
    assert_eq!(trash, [(rootless, true)]);
    assert_eq!(broken, [(rubbish, stranger.client_id(), true)]);

    // Bringing one back takes the statement back.
    repo.unforget(&[rubbish, rootless]).unwrap();
    assert_eq!(blocking(&place, &repo).len(), 2);
}

#[test]
fn a_broken_snapshot_younger_than_the_floor_goes_to_the_trash_only() {
    let (place, repo) = Place::new(14 * DAY);
    CLOCK.set(1_790_000_000);
    let stranger = stranger(&repo);
    let junk = commit(&*repo, &stranger, rootless(1), false).unwrap();
    let refused = forget_broken(&*repo, &[junk], true);
    assert!(matches!(refused, Err(Error::Protected { .. })), "{refused:?}");
    assert_eq!(blocking(&place, &repo).len(), 1, "nothing was changed");
    forget_broken(&*repo, &[junk], false).unwrap();
    let report = place.prune(&repo);
    assert_eq!((report.blocking.len(), report.expired), (0, 0));
    assert!(reader(&repo).with_snapshots(|list| list.broken.iter().any(|broken| broken.id == junk)).unwrap());
}

#[test]
fn what_can_be_read_of_a_broken_snapshot_is_kept() {
    let (place, repo) = Place::new(0);
    let all = crate::Push::begin(&*repo, &(0..16).collect());
    // The second of two folders is lost: its page is not among the chunks of a push that sends only the rest.
    let lost = {
        let reader = reader(&repo);
        let Some(subtree) = reader.resolve(&all.root, b"folder01").unwrap().subtree else { panic!("a folder") };
        subtree.id
    };
    let whole = all.finish(&*repo);
    let other = Place::new(0);
    let mut part = crate::Push::begin(&*repo, &(0..16).collect());
    part.opened = other.1.open(&OpenRequest { client: Some(push_key().client_id()), seen: None }).unwrap();
    part.chunks.retain(|(_, id, _)| *id != lost);
    part.store(&*other.1);
    let broken = part.commit(&*other.1).unwrap();
    let (place, repo) = {
        drop((place, repo, whole));
        other
    };

    let found = blocking(&place, &repo);
    assert!(
        matches!(&found[..], [BlockingSnapshot { id, problem: BrokenPart::Page { id: page, .. }, .. }]
        if *id == broken && *page == lost),
        "{found:?}"
    );
    forget_broken(&*repo, &[broken], false).unwrap();
    let options = PruneOptions {
        limits: PruneLimits { unused: Unused::Bytes(0), repack_bytes: None },
        is_confirmed: true,
        ..PruneOptions::default()
    };
    place.prune_with(&repo, &options);
    repo.unforget(&[broken]).unwrap();
    let reader = reader(&repo);
    for n in 0..8 {
        let file = reader.resolve(&part.root, format!("{}/{}", crate::folder(n), crate::name(n)).as_bytes()).unwrap();
        assert!(reader.file(&file).read_at(0, 1 << 20).unwrap() == crate::contents(n), "file {n}");
    }
}

#[test]
fn commits_without_a_break_do_not_keep_a_prune_from_ending() {
    let (place, repo) = Place::new(0);
    let stranger = stranger(&repo);
    let dead = push(&*repo, 0..30);
    let live = crate::Push::begin(&*repo, &(40..50).collect());
    let root = live.root.clone();
    live.finish(&*repo);
    forget(&*repo, dead, true);
    let (commits, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (spammed, counts) = (repo.clone(), (commits.clone(), held.clone()));
    // Before each request of the prune, a snapshot is committed, or refused.
    let store = Fuse::new(repo.clone(), move |_| {
        match commit(&*spammed, &stranger, root.clone(), true) {
            Ok(_) => counts.0.fetch_add(1, SeqCst),
            Err(Error::CommitsHeld { millis: 1.. }) => counts.1.fetch_add(1, SeqCst),
            // The prune has condemned something since this client opened the repository.
            Err(Error::LeaseRefused { .. }) => 0,
            Err(error) => panic!("{error}"),
        };
        true
    });
    let options = PruneOptions { is_confirmed: true, ..PruneOptions::default() };
    let report = prune(Arc::new(store), place.folder.path(), &options).unwrap();
    assert_eq!((report.stats.dropped, report.blocking.len()), (2, 0));
    let (commits, held) = (commits.load(SeqCst), held.load(SeqCst));
    assert!(commits > 0 && held > 0 && commits < 100, "{commits} committed, {held} refused");
}

#[test]
fn a_prune_that_finds_forged_pages_goes_on() {
    let (place, repo) = Place::new(0);
    let full = full_key();
    let mut view = RosterView::new(&full.sign_roster(&roster()), full.admin.verifying_key(), full.repo).unwrap();
    let [honest, thief] = [7, 8].map(|domain| {
        let (key, entry) = full.new_client("stranger", None, DomainId([domain; 16]), time(1_700_000_000));
        let next = full.sign_roster(&view.with_client(entry));
        repo.put_roster(&next).unwrap();
        view.advance(&next).unwrap();
        key
    });
    let world = World { push: honest, ..World::new() };
    let dead = world.push(&*repo, &World::files(1)).unwrap().snapshot;
    let live = world.push(&*repo, &World::files(2)).unwrap().snapshot;
    forget(&*repo, dead, true);

    let tables = repo.packs(None, 10).unwrap().into_iter().map(|info| repo.read_pack(info.id).unwrap());
    let tables: Vec<PackTable> = tables.map(|bytes| Pack::parse(&bytes).unwrap().table).collect();
    for table in tables.iter().filter(|table| table.kind == ChunkKind::Tree) {
        let ids: Vec<ChunkId> = table.frames.iter().flat_map(|frame| frame.ids.clone()).collect();
        // Of copies that nobody has verified, the one in the pack with the least id is read.
        let forged = loop {
            let key = DataKey::random();
            let mut pack = PackWriter::new(ChunkKind::Tree, thief.repo, &thief.signing);
            pack.add_wrap(&thief.seal().unwrap().wrap(thief.repo, &key));
            for id in &ids {
                let mut frame = FrameBuilder::new();
                frame.push(b"rubbish");
                pack.add(&frame.seal(thief.repo, ChunkKind::Tree, &key, 1), &[*id]);
            }
            let forged = pack.finish();
            if forged.id < table.id {
                break forged;
            }
        };
        repo.put_pack(Lease::default(), &forged).unwrap();
    }

    let report = place.prune(&repo);
    assert!(report.stats.dropped > 0 && report.blocking.is_empty(), "{report:?}");
    let read = world.read_all(&world.reader(repo.clone())).unwrap();
    assert_eq!(read, [(live, World::files(2))].into());
}
