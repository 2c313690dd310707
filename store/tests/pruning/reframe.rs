//! Mostly dead frames, rewritten by a key holder: their space becomes free, within a budget, and nothing that counts is
//! lost, wherever the prune ends and whatever is committed in the meantime.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use bkfs_store::{
    access::*,
    format::loss::{FrameBits, Lost},
    owner::prune::*,
    repository::Repository,
};

use super::{
    BTreeSet, Fuse, Place, SnapshotId, contents, forget, full_key, prune, prune_as, push_key, push_sharing, verify,
};

/// One file of each frame of ten.
const FEW: [u8; 4] = [3, 14, 25, 36];

fn few() -> BTreeSet<u8> {
    FEW.into()
}

fn options() -> PruneOptions {
    PruneOptions { is_confirmed: true, reframe_bytes: 1 << 30, ..PruneOptions::default() }
}

/// A repository with frames of ten files. The only snapshot needs one file of each frame.
fn mixed() -> (Place, Arc<Repository>, SnapshotId) {
    let (place, repo) = Place::new(0);
    let first = push_sharing(&*repo, 0..40, 10);
    let second = push_sharing(&*repo, FEW, 10);
    forget(&*repo, first, true);
    (place, repo, second)
}

#[test]
fn mostly_dead_frames_are_rewritten_and_their_space_is_freed() {
    let (place, repo, second) = mixed();
    let without = place.prune_with(&repo, &PruneOptions { reframe_bytes: 0, ..options() });
    assert_eq!((without.stats.repacked, without.reframed), (0, 0));
    assert!((600_000..800_000).contains(&without.stats.mixed_bytes), "{without:?}");
    assert!(pack_bytes(&repo) > 800_000);

    let dry = place.prune_with(&repo, &PruneOptions { dry_run: true, ..options() });
    let done = place.prune(&repo);
    assert_eq!((done.reframed, dry.reframed_read_bytes), (4, done.reframed_read_bytes));
    assert!(done.reframed_read_bytes > 800_000 && done.reframed_written_bytes < 90_000, "{done:?}");
    assert!(pack_bytes(&repo) < 100_000, "{}", pack_bytes(&repo));
    assert_eq!(done.stats.mixed_bytes, 0);
    for repo in [&repo, &place.open()] {
        verify(repo, second, &few());
    }
    let again = place.prune(&repo);
    assert_eq!((again.reframed, again.stats.freed_bytes, again.swept.packs), (0, 0, 0));
    // What was removed can be pushed again.
    let third = push_sharing(&*repo, 0..40, 10);
    verify(&place.open(), third, &(0..40).collect());
}

#[test]
fn a_push_that_relied_on_moved_chunks_can_commit() {
    let (place, repo, _) = mixed();
    let running = super::Push::begin_sharing(&*repo, &few(), 10);
    let seen = Some(running.opened.now);
    place.prune(&repo);
    let Lost::Ids(lost) = repo.open(&OpenRequest { client: None, seen }).unwrap().lost else { panic!("not named") };
    let id = |n: u8| push_key().ids().data_id(&contents(n));
    assert!(lost.contains(&id(4)) && FEW.iter().all(|n| !lost.contains(&id(*n))));
    verify(&repo, running.finish(&*repo), &few());
}

#[test]
fn rewriting_keeps_to_its_budget() {
    let (place, repo, second) = mixed();
    let frame = 200_000;
    let some = place.prune_with(&repo, &PruneOptions { reframe_bytes: frame * 2, ..options() });
    // All four are in one pack, which is rewritten as a whole or not at all.
    assert_eq!((some.reframed, some.reframed_read_bytes), (0, 0));
    let limits = PruneLimits { unused: Unused::Bytes(u64::MAX), repack_bytes: None };
    assert_eq!(place.prune_with(&repo, &PruneOptions { limits, ..options() }).reframed, 0);
    let all = place.prune_with(&repo, &PruneOptions { reframe_bytes: frame * 5, ..options() });
    assert_eq!(all.reframed, 4);
    verify(&place.open(), second, &few());
}

#[test]
fn without_permission_to_push_everything_but_rewriting_is_done() {
    let (place, repo, second) = mixed();
    let dead = push_sharing(&*repo, 50..60, 1);
    forget(&*repo, dead, true);
    let stranger = full_key().push_key(bkfs_store::crypto::SigningKey::random(), "stranger", None);
    let done = prune_as(repo.clone(), Some(&stranger), place.folder.path(), &options()).unwrap();
    assert!(done.reframed == 0 && done.stats.dropped > 0, "{done:?}");
    verify(&place.open(), second, &few());
}

#[test]
fn a_prune_may_end_anywhere_and_be_run_again() {
    let mut ended = 0;
    for steps in 0.. {
        let (place, repo, second) = mixed();
        let left = Arc::new(AtomicUsize::new(steps));
        let (requests, packs) = (left.clone(), left.clone());
        let take = |left: &AtomicUsize| left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        let fuse = Fuse::new(repo.clone(), move |_| take(&requests)).watched(move |name| {
            if name == "put_pack" {
                take(&packs);
            }
        });
        let done = prune_as(Arc::new(fuse), Some(&push_key()), place.folder.path(), &options());
        verify(&place.open(), second, &few());
        // Another machine continues, with an empty cache.
        let cache = tempfile::tempdir().unwrap();
        let repo = place.open();
        prune_as(repo.clone(), Some(&push_key()), cache.path(), &options()).unwrap();
        verify(&repo, second, &few());
        verify(&place.open(), second, &few());
        // At worst, what was rewritten is stored twice.
        assert!(pack_bytes(&repo) < 200_000, "after {steps}: {}", pack_bytes(&repo));
        if done.is_ok() {
            break;
        }
        ended += 1;
    }
    assert!(ended > 6, "{ended}");
}

#[test]
fn a_snapshot_committed_after_frames_moved_keeps_what_it_needs() {
    let (place, repo, second) = mixed();
    let (other, came) = (place.open(), Arc::new(AtomicBool::new(false)));
    let late = Arc::new(parking_lot::Mutex::new(None));
    let (is_there, id) = (came.clone(), late.clone());
    let fuse = Fuse::new(repo.clone(), move |request| {
        if matches!(request, PruneRequest::Condemn { dry_run: false, .. }) && !is_there.swap(true, SeqCst) {
            // This push stores only trees. All data that it needs is live, in frames that have moved without that data.
            *id.lock() = Some(push_sharing(&*other, [5, 14, 37], 10));
        }
        true
    });
    let done = prune_as(Arc::new(fuse), Some(&push_key()), place.folder.path(), &options()).unwrap();
    assert!(came.load(SeqCst) && done.reframed == 4);
    let late = late.lock().unwrap();
    for repo in [&repo, &place.open()] {
        verify(repo, second, &few());
        verify(repo, late, &[5, 14, 37].into());
    }
    // Two of the frames were needed as they were. The next prune takes them.
    place.prune(&repo);
    verify(&place.open(), late, &[5, 14, 37].into());
    verify(&place.open(), second, &few());
}

#[test]
fn chunks_that_are_said_to_have_moved_but_have_not_stay() {
    let (place, repo, second) = mixed();
    let fuse = Fuse::new(repo.clone(), |_| true);
    let access: Arc<dyn Access> = Arc::new(fuse);
    // A real mark marks all that is live, and stops where it would condemn.
    let stop = Arc::new(Fuse::new(repo.clone(), |request| !matches!(request, PruneRequest::Condemn { .. })));
    let begun = Arc::new(parking_lot::Mutex::new(0));
    let number = begun.clone();
    let spy = Fuse::new(stop, move |request| {
        if let PruneRequest::Live { prune, .. } = request {
            *number.lock() = *prune;
        }
        true
    });
    let options = PruneOptions { reframe_bytes: 0, ..options() };
    prune(Arc::new(spy), place.folder.path(), &options).unwrap_err();
    let prune = *begun.lock();
    let limits = PruneLimits::default();
    let PruneReply::Mixed(frames) = access.prune(&PruneRequest::Mixed { prune, limits, bytes: 1 << 30 }).unwrap()
    else {
        panic!("mixed")
    };
    assert_eq!(frames.len(), 4);
    let say = |chunks: &dyn Fn(usize) -> FrameBits| {
        let moved =
            |frame: &MixedFrame| MovedFrame { pack: frame.pack, frame: frame.frame, chunks: chunks(frame.ids.len()) };
        let frames = frames.iter().map(moved).collect();
        access.prune(&PruneRequest::Moved { prune, frames }).unwrap();
        let log_len = access.open(&OpenRequest::default()).unwrap().now.log_len;
        let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run: true, is_confirmed: true, hold: false };
        let PruneReply::Condemned(stats) = access.prune(&condemn).unwrap() else { panic!("condemned") };
        // Only the trees of the forgotten snapshot.
        assert_eq!((stats.dropped, stats.repacked), (1, 0), "{stats:?}");
    };
    let all = |count: usize| {
        let mut bits = FrameBits::none(count);
        (0..count as u32).for_each(|n| bits.set(n));
        bits
    };
    say(&all);
    say(&FrameBits::none);
    say(&|_| FrameBits::none(0));
    let pack = bkfs_store::base::id::PackId([9; 32]);
    let strange = vec![MovedFrame { pack, frame: 0, chunks: all(3) }];
    access.prune(&PruneRequest::Moved { prune, frames: strange }).unwrap_err();
    verify(&repo, second, &few());
}

#[test]
fn an_unreadable_frame_is_left_alone() {
    let (place, repo, second) = mixed();
    std::fs::remove_dir_all(place.folder.path().join("repo/parity")).unwrap();
    let id = push_key().ids().data_id(&contents(14));
    let frame = &repo.read(&ReadRequest { ids: vec![id], neighbour_bytes: 0, avoid: vec![] }).unwrap().frames[0];
    let path = place.folder.path().join(format!("repo/packs/{:02x}/{}", frame.pack.0[0], frame.pack));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(64).position(|window| window == &frame.bytes[..64]).unwrap();
    bytes[at + 1000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let done = place.prune(&repo);
    assert_eq!((done.reframed, done.swept.damaged), (3, 1), "{done:?}");
    // The pack is damaged, so it is left as it is, and can be put back.
    bytes[at + 1000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    verify(&place.open(), second, &few());
}

/// Bytes of all packs.
pub(super) fn pack_bytes(repo: &Repository) -> u64 {
    repo.packs(None, u32::MAX).unwrap().iter().map(|pack| pack.len).sum()
}
