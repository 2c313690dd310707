//! What two threads or processes can do to each other. `many.rs` found these cases; each is a test of its own here.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use bkfs_store::{
    Error,
    access::*,
    base::id::ChunkId,
    crypto::DataKey,
    format::{
        frame::{ChunkKind, FrameBuilder},
        pack::{PackUpload, PackWriter},
    },
    owner::prune::PruneOptions,
    repository::{
        Repository,
        backend::{Backend, Disk, Files, LocalBackend},
    },
};
use parking_lot::Mutex;

use crate::{
    Place, forget,
    grave::begin,
    prune, push,
    support::{fuse::Fuse, push_key},
    verify,
};

/// How long something may take on a busy machine before it counts as a deadlock.
const PATIENCE: Duration = Duration::from_secs(20);

fn confirmed() -> PruneOptions {
    PruneOptions { is_confirmed: true, ..PruneOptions::default() }
}

#[test]
fn a_prune_that_begins_while_another_condemns_does_not_deadlock() {
    let (place, repo) = Place::new(0);
    push(&*repo, 0..3);
    let other = LocalBackend::new(&place.folder.path().join("repo"));
    for _ in 0..20 {
        let (prune, log_len) = begin(&*repo);
        for first in 0..=255 {
            repo.prune(&PruneRequest::Live { prune, filters: vec![Filter { first, bytes: vec![64] }] }).unwrap();
        }
        // Both requests arrive while another process appends to the log.
        let lock = other.lock().unwrap();
        let (done, ended) = mpsc::channel();
        let limits = PruneLimits::default();
        let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run: true, is_confirmed: false, hold: false };
        for request in [PruneRequest::Begin { dry_run: false, ends_pushes: false }, condemn] {
            let (repo, done) = (repo.clone(), done.clone());
            std::thread::spawn(move || {
                let _ = repo.prune(&request);
                done.send(()).unwrap();
            });
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(lock);
        (0..2).for_each(|_| ended.recv_timeout(PATIENCE).expect("both requests end"));
    }
}

#[test]
fn a_prune_that_another_one_overtakes_is_refused_and_reports_no_damage() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..30);
    let second = push(&*repo, 40..50);
    // What this prune has to walk is removed as soon as it has learned of it, before it reads the first page.
    let (other, scratch, options) = (place.open(), tempfile::tempdir().unwrap(), confirmed());
    let overtaken = AtomicBool::new(false);
    let overtake = move |call: &'static str| {
        if call == "read" && !overtaken.swap(true, SeqCst) {
            forget(&*other, first, true);
            let report = prune(other.clone(), scratch.path(), &options).unwrap();
            assert_eq!(report.swept.packs, 2);
        }
    };
    let slow = Arc::new(Fuse::new(repo.clone(), |_| true).watched(overtake));
    let refused = prune(slow, place.folder.path(), &options);
    assert!(matches!(refused, Err(Error::LeaseRefused { .. })), "{refused:?}");
    verify(&repo, second, &(40..50).collect());
}

#[test]
fn what_another_process_stores_and_moves_can_be_read_without_reopening() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..20);
    // With its own index, as in another user's mount.
    let mount = place.open();
    verify(&mount, first, &(0..20).collect());
    // All that follows reads without opening again. Only the log tells of changes.
    let read = |n: u8| {
        let ids = vec![push_key().ids().data_id(&crate::contents(n))];
        let reply = mount.read(&ReadRequest { ids, neighbour_bytes: 0, avoid: vec![] }).unwrap();
        assert_eq!(reply.missing, [], "file {n}");
        assert!(reply.frames[0].bytes.len() > 20_000, "file {n}");
    };
    let second = push(&*repo, 10..40);
    read(35);
    forget(&*repo, first, true);
    push(&*repo, [11, 35]);
    forget(&*repo, second, true);
    let report = place.prune(&repo);
    assert!(report.stats.repacked > 0, "{report:?}");
    read(11);
    mount.log(0, 100).unwrap();
    read(35);
}

/// A pack as a client uploads it, with one chunk that no other pack has.
fn one_pack(n: u64) -> (PackUpload, ChunkId) {
    let (key, data_key, bytes) = (push_key(), DataKey::random(), format!("contents {n}").into_bytes());
    let mut pack = PackWriter::new(ChunkKind::Data, key.repo, &key.signing);
    pack.add_wrap(&key.seal().unwrap().wrap(key.repo, &data_key));
    let mut frame = FrameBuilder::new();
    frame.push(&bytes);
    let id = key.ids().data_id(&bytes);
    pack.add(&frame.seal(key.repo, ChunkKind::Data, &data_key, 1), &[id]);
    (pack.finish(), id)
}

/// A client has lost the reply to a put, and another process has found the pack in the meantime. The pack is pinned
/// nevertheless.
#[test]
fn a_pack_is_pinned_whichever_process_saw_it_first() {
    let (place, repo) = Place::new(0);
    let (one, two) = (one_pack(1), one_pack(2));
    repo.put_pack(Lease::default(), &one.0).unwrap();
    let again = |lease| repo.put_pack(lease, &one.0).unwrap();
    // The first session is over. The second one has put the pack again.
    let second = repo.open(&OpenRequest::default()).unwrap().lease;
    again(second);
    let third = place.open();
    third.put_pack(second, &two.0).unwrap();
    repo.open(&OpenRequest::default()).unwrap();
    repo.put_pack(second, &two.0).unwrap();
    let freed = place.prune(&repo).stats;
    assert_eq!((freed.freed_bytes, freed.pinned_bytes > 0), (0, true), "{freed:?}");
    assert_eq!(repo.has(None, &[one.1, two.1]).unwrap(), [true, true]);
}

#[test]
fn a_mark_is_valid_only_in_the_index_that_it_was_made_in() {
    let (place, repo) = Place::new(0);
    let snapshots: Vec<_> = (0..6).map(|n| push(&*repo, n * 10..n * 10 + 10)).collect();
    for snapshot in &snapshots[..3] {
        forget(&*repo, *snapshot, true);
    }
    forget(&*repo, snapshots[5], false);
    let logs = ["log", "log.2"].map(|name| place.folder.path().join("repo").join(name));
    let before = std::fs::read(&logs[0]).unwrap();
    repo.unforget(&snapshots[5..]).unwrap();
    // The log is rolled back under a running store. Packs are numbered in another order then.
    let store = repo.clone();
    let put_back = move |request: &PruneRequest| {
        if matches!(request, PruneRequest::Condemn { .. }) {
            logs.iter().for_each(|log| std::fs::write(log, &before).unwrap());
            store.open(&OpenRequest::default()).unwrap();
        }
        true
    };
    let fuse = Arc::new(Fuse::new(repo.clone(), put_back));
    let refused = prune(fuse, place.folder.path(), &confirmed());
    assert!(matches!(refused, Err(Error::LeaseRefused { .. })), "{refused:?}");
    for (n, snapshot) in snapshots.iter().enumerate().skip(3).take(2) {
        verify(&repo, *snapshot, &(n as u8 * 10..n as u8 * 10 + 10).collect());
    }
    assert_eq!(place.prune(&repo).stats.dropped, 6);
}

/// Runs a hook when the first pack has got its name.
#[derive(Clone)]
struct Hooked(Arc<Mutex<Option<Hook>>>);

type Hook = Box<dyn FnOnce() + Send>;

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

impl Files for Hooked {
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        Disk.rename(from, to)?;
        let is_pack = to.parent().and_then(Path::parent).is_some_and(|folder| folder.ends_with("packs"));
        if let Some(hook) = is_pack.then(|| self.0.lock().take()).flatten() {
            hook();
        }
        Ok(())
    }
}

#[test]
fn a_pack_that_another_process_prunes_before_it_is_acknowledged_is_still_stored() {
    let (place, repo) = Place::new(0);
    push(&*repo, 0..3);
    let (upload, id) = one_pack(1);
    let (folder, index) = (place.folder.path().join("repo"), place.folder.path().join("shared index"));
    let same = place.open_at(index.clone());
    let (other, scratch) = (place.open(), tempfile::tempdir().unwrap());
    let hook = move || {
        other.open(&OpenRequest::default()).unwrap();
        let report = prune(other.clone(), scratch.path(), &confirmed()).unwrap();
        assert_eq!(report.swept.packs, 1, "that process does not know that the pack is pinned");
        same.log(0, 100).unwrap();
    };
    let hooked = Hooked(Arc::new(Mutex::new(Some(Box::new(hook)))));
    let slow = Repository::with_backend(Box::new(LocalBackend::with_files(&folder, hooked)), &index).unwrap();
    let before = slow.open(&OpenRequest::default()).unwrap().now.incarnation;
    slow.put_pack(Lease::default(), &upload).unwrap();
    for repo in [Arc::new(slow), place.open(), repo] {
        assert_eq!(repo.open(&OpenRequest::default()).unwrap().now.incarnation, before, "nothing was lost");
        assert_eq!(repo.has(None, &[id]).unwrap(), [true]);
        assert_eq!(
            repo.read(&ReadRequest { ids: vec![id], neighbour_bytes: 0, avoid: vec![] }).unwrap().frames.len(),
            1
        );
    }
}

/// A sweep does not copy what another pack has. While it still copies other frames, the next prune may condemn that
/// pack, and the pack may go. The sweep then removes nothing on the basis of what it knew.
#[test]
fn a_sweep_that_another_prune_overtakes_removes_nothing_more() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..12);
    let second = push(&*repo, [3, 7]);
    forget(&*repo, first, true);
    let (folder, index) = (place.folder.path().join("repo"), place.folder.path().join("slow index"));
    let (other, scratch) = (place.open(), tempfile::tempdir().unwrap());
    let condemn = move |repo: &Arc<Repository>| {
        let is_condemned = AtomicBool::new(false);
        let allows = move |request: &PruneRequest| {
            let is_over = is_condemned.load(SeqCst);
            is_condemned.fetch_or(matches!(request, PruneRequest::Condemn { .. }), SeqCst);
            !is_over
        };
        let fuse = Arc::new(Fuse::new(repo.clone(), allows));
        let cut = prune(fuse, scratch.path(), &confirmed());
        assert!(matches!(cut, Err(Error::Interrupted)), "{cut:?}");
    };
    condemn(&repo);
    // The same packs and the same frames, but condemned by another prune.
    let hook = move || {
        other.prune(&PruneRequest::Abort).unwrap();
        condemn(&other);
    };
    let hooked = Hooked(Arc::new(Mutex::new(Some(Box::new(hook)))));
    let slow = Repository::with_backend(Box::new(LocalBackend::with_files(&folder, hooked)), &index).unwrap();
    let PruneReply::Swept(swept) = slow.prune(&PruneRequest::Sweep).unwrap() else { panic!() };
    assert!(swept.written_bytes > 0 && swept.left > 0, "{swept:?}");
    assert_eq!(swept.packs, 1, "what was wholly dead went before anything was copied: {swept:?}");
    let PruneReply::Swept(again) = slow.prune(&PruneRequest::Sweep).unwrap() else { panic!() };
    assert_eq!((again.packs, again.left), (swept.left, 0), "{again:?}");
    for repo in [Arc::new(slow), place.open(), repo] {
        verify(&repo, second, &[3, 7].into());
    }
}
