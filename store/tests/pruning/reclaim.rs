//! What an operator frees at once: the grave, and what pushes left that have not ended. A push that still runs loses
//! nothing that it was told was stored.

use std::{collections::BTreeSet, sync::Arc};

use bkfs_store::{
    Error,
    access::Push as _,
    repository::{Reclaimable, Repository},
};

use crate::{CLOCK, DAY, Place, Push, forget, push, verify};

#[test]
fn reclaiming_empties_the_grave_and_says_before_what_is_lost() {
    let (place, repo) = Place::new(14 * DAY);
    let first = push(&*repo, 0..30);
    let second = push(&*repo, 40..50);
    CLOCK.set(CLOCK.get() + DAY as i64);
    repo.operator().purge(&[first.to_string()]).unwrap();
    place.prune(&repo);
    repo.wait_for_parity();
    assert_eq!(place.files("grave"), 2);
    let found = place.open().operator().reclaimable().unwrap();
    assert_eq!((found.grave_packs, found.pushes, found.pinned_packs), (2, 0, 0));
    assert!(found.grave_bytes > 30 * 20_000, "{found:?}");
    assert_eq!(found.grave_until.unwrap().secs, CLOCK.get() + 14 * DAY as i64);
    assert_eq!(place.files("grave"), 2, "looking changes nothing");
    // A server that runs meanwhile is another process.
    let reclaimed = place.open().operator().reclaim().unwrap();
    assert_eq!((reclaimed.grave_packs, reclaimed.grave_bytes), (2, found.grave_bytes));
    assert_eq!((place.files("grave"), place.files("packs")), (0, 2));
    assert_eq!(repo.operator().reclaimable().unwrap(), Reclaimable::default());
    assert_eq!(repo.operator().revive_all().unwrap().packs, 0);
    for repo in [repo, place.open()] {
        verify(&repo, second, &(40..50).collect());
    }
}

/// How a test lets what a push has stored be taken away.
type End = fn(&Place, &Arc<Repository>);

fn by_the_operator(place: &Place, repo: &Arc<Repository>) {
    assert!(repo.operator().reclaim().unwrap().pinned_packs > 0);
    place.prune(repo);
}

fn by_a_prune(place: &Place, repo: &Arc<Repository>) {
    let options = crate::PruneOptions { is_confirmed: true, ends_pushes: true, ..Default::default() };
    let dry = place.prune_with(repo, &crate::PruneOptions { dry_run: true, ..options });
    let report = place.prune_with(repo, &options);
    assert_eq!((dry.stats.dropped, dry.stats.pinned_bytes), (report.stats.dropped, 0));
}

#[test]
fn a_push_that_runs_while_its_packs_are_released_loses_nothing() {
    for (floor, end) in [(0, by_the_operator as End), (14 * DAY, by_the_operator), (0, by_a_prune)] {
        let (place, repo) = Place::new(floor);
        let first = push(&*repo, 0..10);
        let files: BTreeSet<u8> = (10..40).collect();
        let running = Push::begin(&*repo, &files);
        let found = repo.operator().reclaimable().unwrap();
        assert_eq!((found.pushes, found.pinned_packs), (1, 2));
        assert_eq!(found.pinned_until.unwrap().secs, CLOCK.get() + 7 * DAY as i64);
        assert_eq!(place.prune(&repo).stats.dropped, 0, "an ordinary prune leaves the push alone");
        let running = match running.commit(&*repo) {
            // The prune condemned nothing, so the push may still commit; begin another one.
            Ok(id) => {
                forget(&*repo, id, floor == 0);
                Push::begin(&*repo, &(40..70).collect())
            }
            Err(_) => running,
        };
        let files = running.files.clone();
        end(&place, &repo);
        let ids: Vec<_> = running.chunks.iter().map(|(_, id, _)| *id).collect();
        assert!(repo.has(None, &ids).unwrap().contains(&false), "what it had stored is gone");
        assert!(matches!(running.commit(&*repo), Err(Error::LeaseRefused { .. })), "the push is told");
        let second = running.finish(&*repo);
        repo.operator().reclaim().unwrap();
        for repo in [repo.clone(), place.open()] {
            verify(&repo, first, &(0..10).collect());
            verify(&repo, second, &files);
        }
    }
}
