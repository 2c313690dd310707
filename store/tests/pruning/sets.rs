//! How long the store remembers what a prune condemned, and that no client relies on a set that the store has dropped.

use bkfs_store::{access::*, format::loss::Lost, repository::Repository};

use super::{DAY, Place, forget, pass, push, push_key, verify};
use crate::grave::condemn_all;

fn lost(repo: &Repository, seen: Seen) -> Lost {
    repo.open(&OpenRequest { client: Some(push_key().client_id()), seen: Some(seen) }).unwrap().lost
}

#[test]
fn condemned_sets_are_kept_for_ninety_days() {
    for floor in [0, DAY] {
        let (place, repo) = Place::new(floor);
        let first = push(&*repo, 0..30);
        let seen = repo.open(&OpenRequest::default()).unwrap().now;
        let second = push(&*repo, 40..80);
        pass(&repo, 2);
        forget(&*repo, first, true);
        place.prune(&repo);
        assert_eq!((place.files("prunes"), place.files("prunes.2")), (1, 1));
        pass(&repo, 89);
        push(&*repo, 40..81);
        assert_eq!(repo.operator().tidy().unwrap().sets, 0);
        assert!(matches!(lost(&repo, seen), Lost::Ids(ids) if ids.len() > 30));
        pass(&repo, 2);
        let third = push(&*repo, 40..82);
        match floor {
            0 => assert_eq!(place.prune(&repo).swept.packs, 0),
            _ => assert_eq!(place.open().operator().tidy().unwrap().sets, 1),
        }
        assert_eq!((place.files("prunes"), place.files("prunes.2")), (0, 0));
        for repo in [&repo, &place.open()] {
            assert_eq!(lost(repo, seen), Lost::Everything);
            verify(repo, second, &(40..80).collect());
            verify(repo, third, &(40..82).collect());
        }
        // What was pruned can be pushed again.
        verify(&repo, push(&*repo, 0..30), &(0..30).collect());
    }
}

#[test]
fn a_set_that_is_not_swept_yet_is_kept() {
    let (place, repo) = Place::new(0);
    push(&*repo, 0..30);
    condemn_all(&repo);
    pass(&repo, 100);
    push(&*repo, 40..50);
    assert_eq!(repo.operator().tidy().unwrap().sets, 0);
    assert_eq!((place.files("prunes"), place.files("prunes.2")), (1, 1));
    // Swept by another process. This one learns of it from the log.
    let PruneReply::Swept(swept) = place.open().prune(&PruneRequest::Sweep).unwrap() else { panic!("swept") };
    assert_eq!((swept.packs, swept.left), (2, 0));
    assert_eq!(repo.operator().tidy().unwrap().sets, 1);
}

#[test]
fn a_set_that_a_crash_left_before_the_log_named_it_is_removed() {
    let (place, repo) = Place::new(DAY);
    push(&*repo, 0..3);
    let folder = place.folder.path().join("repo/prunes");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("ab".repeat(32)), b"left").unwrap();
    assert_eq!((repo.operator().tidy().unwrap().sets, place.files("prunes")), (1, 0));
}
