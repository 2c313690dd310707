//! Checks and scrubs beside other processes: what another process prunes, mends or enrols in the meantime is not
//! damage, and puts nothing into quarantine.

use std::{
    cell::Cell,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bkfs_store::{
    access::*,
    base::id::{DomainId, PackId},
    crypto::{DataKey, Secret, SigningKey},
    format::{
        frame::{ChunkKind, FrameBuilder},
        pack::{Pack, PackWriter},
        roster::{Roster, RosterClient},
    },
    owner::{
        check::{CheckOptions, CheckProgress, CheckReport, ReadData, check},
        reader::Reader,
    },
    repository::{
        Repository,
        scrub::{ScrubOptions, ScrubProgress, ScrubReport},
    },
};

use crate::{
    Place, forget, push,
    support::{config, config_record, endorsement, full_key, fuse::Fuse, roster, time},
    verify,
};

fn scrub(repo: &Repository) -> ScrubReport {
    repo.scrub(&ScrubOptions::default(), &ScrubProgress::default()).unwrap()
}

/// Checks all that is stored. Before the store gets a call, `meanwhile` gets the call's name and how often it came
/// before.
fn check_beside(
    repo: &Arc<Repository>,
    meanwhile: impl Fn(&'static str, usize) + Send + Sync + 'static,
) -> CheckReport {
    let (mends, reads, lists) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let watch = move |call: &'static str| match call {
        "mend" => meanwhile(call, mends.fetch_add(1, SeqCst)),
        "read_pack" => meanwhile(call, reads.fetch_add(1, SeqCst)),
        "packs" => meanwhile(call, lists.fetch_add(1, SeqCst)),
        _ => {}
    };
    let store = Arc::new(Fuse::new(repo.clone(), |_| true).watched(watch));
    let opened = store.open(&OpenRequest::default()).unwrap();
    let reader = Reader::new(store.clone(), full_key(), &config_record(), 1 << 20);
    let options = CheckOptions { read_data: ReadData::All, threads: 1 };
    check(&reader, &*store, &opened, &options, &CheckProgress::default()).unwrap()
}

fn file(place: &Place, id: PackId) -> PathBuf {
    place.folder.path().join(format!("repo/packs/{:02x}/{id}", id.0[0]))
}

fn flip(place: &Place, id: PackId) {
    let mut bytes = fs::read(file(place, id)).unwrap();
    bytes[1000] ^= 4;
    fs::write(file(place, id), bytes).unwrap();
}

/// The pack with the files of a push.
fn data(repo: &Repository) -> PackId {
    let mut packs = repo.packs(None, 10).unwrap().into_iter().map(|info| info.id);
    packs.find(|id| Pack::parse(&repo.read_pack(*id).unwrap()).unwrap().table.kind == ChunkKind::Data).unwrap()
}

fn nothing_is_wrong(repo: &Repository, report: &CheckReport) {
    assert_eq!(report.problems_total, 0, "{:?}", report.problems);
    assert!(repo.quarantine(None, 1).unwrap().is_empty());
}

#[test]
fn a_pack_that_another_process_mends_during_a_check_is_not_damaged() {
    let (place, repo) = Place::new(0);
    let snapshot = push(&*repo, 0..12);
    repo.wait_for_parity();
    let (id, other) = (data(&repo), place.open());
    flip(&place, id);
    let report = check_beside(&repo, move |call, before| {
        if (call, before) == ("mend", 0) {
            assert!(matches!(other.mend(id).unwrap(), Mending::Mended(_)));
        }
    });
    nothing_is_wrong(&repo, &report);
    verify(&repo, snapshot, &(0..12).collect());
}

#[test]
fn a_pack_that_another_process_prunes_during_a_check_is_not_damaged() {
    for (floor, at) in [(0, "read_pack"), (0, "mend"), (3600, "read_pack"), (3600, "mend")] {
        let (place, repo) = Place::new(floor);
        crate::CLOCK.set(crate::CLOCK.get() + 7200);
        let first = push(&*repo, 0..12);
        repo.wait_for_parity();
        crate::CLOCK.set(crate::CLOCK.get() + 7200);
        let id = data(&repo);
        let (other, place) = (place.open(), Arc::new(place.folder));
        let path = place.path().join(format!("repo/packs/{:02x}/{id}", id.0[0]));
        if at == "mend" {
            let mut bytes = fs::read(&path).unwrap();
            bytes[1000] ^= 4;
            fs::write(&path, bytes).unwrap();
        }
        let (now, scratch) = (crate::CLOCK.get(), place.clone());
        let report = check_beside(&repo, move |call, before| {
            if (call, before) == (at, 0) {
                crate::CLOCK.set(now);
                forget(&*other, first, true);
                let options = crate::PruneOptions { is_confirmed: true, ..Default::default() };
                let pruned = crate::prune(other.clone(), scratch.path(), &options);
                assert_eq!(pruned.unwrap().swept.packs, 2);
            }
        });
        assert!(!path.exists());
        nothing_is_wrong(&repo, &report);
    }
}

/// A client that is not on the roster that was read first is on the one that counts.
#[test]
fn a_pack_of_a_client_that_is_enrolled_during_a_check_is_not_damaged() {
    let (_place, repo) = Place::new(0);
    push(&*repo, 0..12);
    let other = repo.clone();
    let report = check_beside(&repo, move |call, before| {
        if (call, before) == ("packs", 0) {
            enrol(&other);
        }
    });
    assert_eq!(report.packs_total, 3, "the check has met that pack");
    nothing_is_wrong(&repo, &report);
}

/// Puts a client on the roster, and a pack of this client into the store.
fn enrol(repo: &Repository) {
    let push = full_key().push_key(SigningKey::from_seed(Secret::new([0x77; 32])), "beta", None);
    let client = RosterClient {
        id: push.client_id(),
        public: push.signing.verifying_key().0.to_vec(),
        since: time(1_700_000_000),
        until: None,
        domain: DomainId::OWNER,
        label: vec![0x66; 72],
        endorsement: endorsement(&push),
    };
    let before = roster();
    let clients = before.clients.iter().cloned().chain([client]).collect();
    repo.put_roster(&full_key().sign_roster(&Roster { repo: before.repo, number: 2, clients })).unwrap();
    let key = DataKey::random();
    let mut pack = PackWriter::new(ChunkKind::Data, push.repo, &push.signing);
    pack.add_wrap(&push.seal().unwrap().wrap(push.repo, &key));
    let mut frame = FrameBuilder::new();
    frame.push(b"of the new client");
    pack.add(&frame.seal(push.repo, ChunkKind::Data, &key, 1), &[push.ids().data_id(b"of the new client")]);
    repo.put_pack(Lease::default(), &pack.finish()).unwrap();
}

/// A server may have opened a repository that a client initialises only later, and may have had no request for it
/// since.
#[test]
fn a_scrub_knows_what_others_did_since_the_repository_was_opened() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { folder, floor: 3600, opened: Cell::new(0) };
    let (early, repo) = (place.open(), place.open());
    let roster = full_key().sign_roster(&roster());
    repo.init(&InitRequest { config: config(), roster, slots: vec![] }).unwrap();
    push(&*repo, 0..12);
    let report = scrub(&early);
    assert_eq!((report.packs, report.problems), (2, vec![]));

    enrol(&repo);
    let report = scrub(&early);
    assert_eq!((report.packs, report.problems), (3, vec![]));
}

/// The log revives a pack before the pack's file moves. A process may die in between.
#[test]
fn a_pack_that_was_revived_halfway_is_not_lost() {
    let (place, repo) = Place::new(3600);
    let first = push(&*repo, 0..12);
    repo.wait_for_parity();
    crate::CLOCK.set(crate::CLOCK.get() + 7200);
    forget(&*repo, first, true);
    assert_eq!(place.prune(&repo).swept.packs, 2);
    assert_eq!(repo.operator().revive_all().unwrap().packs, 2);
    let packs: Vec<_> = repo.packs(None, 10).unwrap().into_iter().map(|info| info.id).collect();
    let grave = |id: &PackId| place.folder.path().join(format!("repo/grave/{id}"));
    packs.iter().for_each(|id| fs::rename(file(&place, *id), grave(id)).unwrap());

    let repo = place.open();
    let report = scrub(&repo);
    assert_eq!((report.packs, report.problems), (2, vec![]));
    assert!(repo.quarantine(None, 1).unwrap().is_empty());
    assert_eq!(repo.packs(None, 10).unwrap().len(), 2, "the packs are known again");
    assert!(packs.iter().all(|id| file(&place, *id).exists() && !grave(id).exists()));
}
