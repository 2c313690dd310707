//! Emptying the trash as part of a prune: its snapshots count as gone from the beginning, they expire only when it is
//! certain that the prune goes on, and snapshots that are brought back in the meantime stay.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bkfs_store::{access::Manage, owner::prune::*};

use super::{Arc, DAY, ForgetRequest, Fuse, Place, forget, pass, prune, push, verify};

fn options() -> PruneOptions {
    PruneOptions { empty_trash: true, ..PruneOptions::default() }
}

#[test]
fn a_refused_prune_leaves_the_trash_alone() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..50);
    let second = push(&*repo, 0..5);
    forget(&*repo, first, false);
    let dry = place.prune_with(&repo, &PruneOptions { dry_run: true, ..options() });
    assert!(dry.expired == 1 && dry.stats.is_most() && !dry.is_unconfirmed);
    let refused = place.prune_with(&repo, &options());
    assert!(refused.is_unconfirmed && refused.expired == 0 && refused.stats == dry.stats);
    repo.unforget(&[first]).unwrap();
    verify(&repo, first, &(0..50).collect());
    forget(&*repo, first, false);
    let done = place.prune_with(&repo, &PruneOptions { is_confirmed: true, ..options() });
    assert_eq!((done.expired, done.stats), (1, dry.stats));
    repo.unforget(&[first]).unwrap_err();
    verify(&repo, second, &(0..5).collect());
    verify(&place.open(), second, &(0..5).collect());
}

#[test]
fn a_small_prune_with_the_trash_needs_no_confirmation() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..10);
    let second = push(&*repo, 10..60);
    forget(&*repo, first, false);
    let done = place.prune_with(&repo, &options());
    assert!(done.expired == 1 && done.stats.dropped == 2 && !done.is_unconfirmed, "{done:?}");
    verify(&place.open(), second, &(10..60).collect());
}

#[test]
fn snapshots_that_are_not_due_are_kept() {
    let (place, repo) = Place::new(14 * DAY);
    let first = push(&*repo, 0..10);
    push(&*repo, 10..60);
    forget(&*repo, first, false);
    let options = PruneOptions { is_confirmed: true, ..options() };
    assert_eq!((place.prune_with(&repo, &options).expired, place.files("grave")), (0, 0));
    repo.unforget(&[first]).unwrap();
    forget(&*repo, first, false);
    pass(&repo, 15);
    let third = push(&*repo, 10..61);
    assert_eq!((place.prune_with(&repo, &options).expired, place.files("grave")), (1, 2));
    verify(&repo, third, &(10..61).collect());
}

#[test]
fn a_snapshot_brought_back_while_the_trash_is_emptied_stays() {
    for is_confirmed in [false, true] {
        let (place, repo) = Place::new(0);
        let first = push(&*repo, 0..10);
        let second = push(&*repo, 5..15);
        let third = push(&*repo, 15..80);
        forget(&*repo, first, false);
        forget(&*repo, second, false);
        let (other, is_back) = (place.open(), Arc::new(AtomicBool::new(false)));
        let came = is_back.clone();
        let fuse = Fuse::new(repo.clone(), |_| true).watched(move |name| {
            if name == "forget" && !came.swap(true, SeqCst) {
                other.unforget(&[first]).unwrap();
            }
        });
        let options = PruneOptions { is_confirmed, ..options() };
        let done = prune(Arc::new(fuse), place.folder.path(), &options).unwrap();
        assert!(is_back.load(SeqCst));
        assert_eq!(done.expired, 1);
        for repo in [Arc::clone(&repo), place.open()] {
            verify(&repo, first, &(0..10).collect());
            verify(&repo, third, &(15..80).collect());
        }
        assert!(
            repo.forget(&ForgetRequest { empty_trash: true, ..ForgetRequest::default() }).unwrap().expired.is_empty()
        );
    }
}

#[test]
fn due_snapshots_may_be_between_kept_ones() {
    let (place, repo) = Place::new(0);
    let all: Vec<_> = (0..7).map(|n| push(&*repo, n * 5..n * 5 + 5)).collect();
    for due in [1, 2, 4] {
        forget(&*repo, all[due], false);
    }
    let done = place.prune_with(&repo, &PruneOptions { is_confirmed: true, ..options() });
    assert_eq!((done.expired, done.stats.dropped), (3, 6));
    for kept in [0, 3, 5, 6] {
        verify(&repo, all[kept], &(kept as u8 * 5..kept as u8 * 5 + 5).collect());
    }
}
