//! The grave and the floor: what a prune took can be revived until its time is over, whoever pruned, and is removed
//! when that time is over.

use bkfs_store::{
    Error,
    access::*,
    repository::{Repository, Tidied},
};

use crate::{CLOCK, DAY, Place, forget, pass, push, verify};

#[test]
fn with_a_floor_pruned_packs_can_be_revived_until_their_time_is_over() {
    let (place, repo) = Place::new(14 * DAY);
    let first = push(&*repo, 0..30);
    condemn_all(&repo);
    repo.prune(&PruneRequest::Sweep).unwrap();
    assert_eq!((place.files("packs"), place.files("grave")), (0, 2));
    pass(&repo, 13);
    repo.prune(&PruneRequest::Sweep).unwrap();
    assert_eq!(repo.operator().revive_all().unwrap().packs, 2);
    for repo in [repo.clone(), place.open()] {
        verify(&repo, first, &(0..30).collect());
    }
    // If the operator does not revive it, it is gone in the end.
    pass(&repo, 15);
    forget(&*repo, first, true);
    place.prune(&repo);
    assert_eq!((place.files("packs"), place.files("grave")), (0, 2));
    // A clock that jumps ahead removes nothing, whatever is pushed.
    let before = CLOCK.get();
    CLOCK.set(before + 3650 * DAY as i64);
    push(&*repo, []);
    place.prune(&repo);
    assert_eq!(place.files("grave"), 2);
    CLOCK.set(before);
    pass(&repo, 15);
    assert_eq!(place.files("parity"), 3, "packs in the grave keep their parity");
    place.prune(&repo);
    assert_eq!((place.files("packs"), place.files("grave"), place.files("parity")), (1, 0, 1));
}

#[test]
fn what_is_due_is_removed_without_a_prune() {
    let (place, repo) = Place::new(14 * DAY);
    let (first, second) = (push(&*repo, 0..30), push(&*repo, 40..80));
    forget(&*repo, first, false);
    condemn_all(&repo);
    repo.prune(&PruneRequest::Sweep).unwrap();
    assert_eq!((place.files("packs"), place.files("grave")), (0, 4));
    assert_eq!(repo.operator().tidy().unwrap(), Tidied::default());
    pass(&repo, 13);
    push(&*repo, []);
    assert_eq!(repo.operator().tidy().unwrap(), Tidied::default());
    // Nothing needs to be pushed meanwhile.
    pass(&repo, 2);
    let tidied = place.open().operator().tidy().unwrap();
    assert_eq!((tidied.expired, tidied.packs), (1, 4));
    assert!(tidied.bytes > 70 * 20_000 && place.files("grave") == 0);
    assert!(matches!(repo.unforget(&[first]), Err(Error::SnapshotNotFound(_))));
    repo.unforget(&[second]).unwrap();

    // Without a floor, the trash is emptied only on request.
    let (_place, repo) = Place::new(0);
    let first = push(&*repo, 0..30);
    forget(&*repo, first, false);
    assert_eq!(repo.operator().tidy().unwrap(), Tidied::default());
    repo.unforget(&[first]).unwrap();
}

#[test]
fn the_floor_holds_after_a_crash_between_the_log_and_the_move() {
    let (place, repo) = Place::new(14 * DAY);
    let first = push(&*repo, 0..30);
    let condemned = condemn_all(&repo);
    assert_eq!(condemned.dropped, 2);
    repo.prune(&PruneRequest::Sweep).unwrap();
    let put_back = || {
        for entry in std::fs::read_dir(place.folder.path().join("repo/grave")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let to = place.folder.path().join("repo/packs").join(&name[..2]).join(&name);
            std::fs::rename(entry.path(), to).unwrap();
        }
    };
    put_back();
    drop(repo);
    let repo = place.open();
    repo.open(&OpenRequest::default()).unwrap();
    assert_eq!((place.files("packs"), place.files("grave"), place.files("parity")), (0, 2, 2));
    put_back();
    let repo = place.open();
    assert_eq!(repo.operator().revive_all().unwrap().packs, 2);
    verify(&repo, first, &(0..30).collect());
    assert_eq!((place.files("packs"), place.files("grave")), (2, 0));
}

#[test]
fn an_operator_can_spare_what_is_condemned_and_not_yet_swept() {
    let (place, repo) = Place::new(14 * DAY);
    let first = push(&*repo, 0..30);
    condemn_all(&repo);
    // The operator uses another process while the server runs.
    let revived = place.open().operator().revive_all().unwrap();
    assert_eq!((revived.packs, revived.spared), (0, 2));
    repo.prune(&PruneRequest::Sweep).unwrap();
    assert_eq!((place.files("packs"), place.files("grave")), (2, 0));
    verify(&repo, first, &(0..30).collect());
}

/// Begins a prune step by step: its number, and the length of the log up to which it must mark.
pub fn begin(repo: &dyn Maintain) -> (u64, u64) {
    match repo.prune(&PruneRequest::Begin { dry_run: false, ends_pushes: false }).unwrap() {
        PruneReply::Begun { prune, log_len } => (prune, log_len),
        other => panic!("{other:?}"),
    }
}

/// What a stolen key can do: claim that nothing is live.
pub fn condemn_all(repo: &Repository) -> PruneStats {
    let (prune, log_len) = begin(repo);
    for first in 0..=255 {
        repo.prune(&PruneRequest::Live { prune, filters: vec![Filter { first, bytes: vec![64] }] }).unwrap();
    }
    let limits = PruneLimits::default();
    let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run: false, is_confirmed: true, hold: false };
    let PruneReply::Condemned(stats) = repo.prune(&condemn).unwrap() else { panic!("condemned") };
    stats
}
