//! Tests of pushes during which the seal key is rotated.

use bkfs_store::crypto::SealNumber;

use super::*;

/// The seal key that the newest snapshot is sealed to.
fn seal_key(case: &Case) -> SealNumber {
    let state = case.store.state.lock();
    bkfs_store::format::snapshot::wrap_of(&state.snapshots.last().unwrap().1).unwrap().seal_key
}

#[test]
fn a_push_goes_on_with_the_new_seal_key() {
    for moment in ["put", "commit"] {
        let mut case = Case::new();
        for i in 0..20 {
            case.write(&format!("d{}/f{i}", i % 3), &noise(i, 2000));
        }
        case.push();
        assert_eq!(seal_key(&case).0, 1);
        case.write("new", &noise(99, 2000));
        case.store.state.lock().rotates_before = Some(moment);
        let puts = case.puts();
        let report = case.push();
        assert!(case.store.state.lock().rotated.is_some(), "{moment}");
        assert_eq!((seal_key(&case).0, report.stats.files_new, report.problems.len()), (2, 1, 0), "{moment}");
        assert_eq!(case.root(), case.fresh_root(), "{moment}");
        // What was refused was sent again, and what was stored stays of use: a chunk that is sent twice fails the test.
        match moment {
            "put" => assert!(case.puts() - puts > 2),
            _ => assert_eq!(case.puts() - puts, 2),
        }
        case.write("newer", b"more");
        case.push();
        assert_eq!(seal_key(&case).0, 2);
    }
}

#[test]
fn a_list_of_seal_keys_without_ones_own_is_refused() {
    let case = Case::new();
    case.write("f", &noise(1, 2000));
    let rotated = SealKeys::verify(&[], &case.store.config).unwrap().rotate(&case.store.full).unwrap();
    let (client, config) = (&case.store.client, &case.store.config);
    let key = SealKeys::verify(&rotated.signed, config).unwrap().renew(client).unwrap();
    let access: Arc<dyn access::Push> = case.store.clone();
    let opened = access.open(&OpenRequest { client: Some(client.client_id()), seen: None }).unwrap();
    let repository = OpenedRepository { access: access.clone(), opened: &opened, config, key: &key };
    let pushed = Push::new(repository, case.cache.path(), &case.options).run();
    assert!(matches!(pushed, Err(Error::SealKeyMissing { shown: 1 })), "{pushed:?}");
    assert_eq!(case.puts(), 0);
}
