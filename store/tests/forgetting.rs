//! Forgetting: what the store allows, what readers believe, and that the two keep agreeing, whatever happens in
//! between.

#![allow(clippy::unwrap_used)]

mod support;

use std::{cell::Cell, collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use bkfs_store::{
    Error, ErrorKind,
    access::*,
    base::{codec, id::*, time::Time},
    format::{
        fate::Fate,
        keys::FullKey,
        log::{
            Event, LogRecord,
            file::{self as log_file, Position},
        },
        snapshot,
        tombstone::Tombstone,
    },
    owner::{
        check::{CheckOptions, CheckProgress},
        reader::Reader,
    },
    repository::{
        Repository,
        index::{Batch, Index},
    },
};
use proptest::prelude::*;
use support::*;

const DAY: u64 = 86_400;
const FLOOR: u64 = 14 * DAY;

thread_local! {
    static CLOCK: Cell<i64> = const { Cell::new(1_790_000_000) };
}

fn clock() -> Time {
    Time { secs: CLOCK.get(), nanos: 0 }
}

fn advance(secs: u64) {
    CLOCK.set(CLOCK.get() + secs as i64);
}

/// Lets time pass for a store that looks at its clock every day, as a server does.
fn pass(repo: &Repository, secs: u64) {
    let mut left = secs;
    while left > 0 {
        let step = left.min(DAY);
        advance(step);
        repo.forget(&ForgetRequest::default()).unwrap();
        left -= step;
    }
}

/// A repository in a folder.
struct Place {
    folder: tempfile::TempDir,
    floor: u64,
    opened: Cell<u32>,
}

impl Place {
    fn new(floor: u64) -> (Self, Arc<Repository>) {
        let place = Self { folder: tempfile::tempdir().unwrap(), floor, opened: Cell::new(0) };
        let repo = place.open();
        let roster = full_key().sign_roster(&roster());
        repo.init(&InitRequest { config: config(), roster, slots: vec![] }).unwrap();
        (place, repo)
    }

    fn repo(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    /// Opens another handle, whose index is built from nothing.
    fn open(&self) -> Arc<Repository> {
        self.opened.set(self.opened.get() + 1);
        let index = self.folder.path().join(format!("index{}", self.opened.get()));
        Arc::new(Repository::local(&self.repo(), &index).unwrap().with_floor(self.floor).with_clock(clock))
    }

    /// Appends a record that the store could write without being asked.
    fn append(&self, event: Event) {
        let path = self.repo().join("log");
        let mut bytes = fs::read(&path).unwrap();
        let (mut at, mut rest) = (Position::default(), &bytes[..]);
        while let Some((_, next)) = log_file::next_record(at, rest).unwrap() {
            rest = &rest[(next.offset - at.offset) as usize..];
            at = next;
        }
        bytes.extend(log_file::encode(at, &LogRecord { seq: at.len, time: clock(), event }).0);
        fs::write(path, bytes).unwrap();
    }
}

fn reader(repo: &Arc<Repository>) -> Arc<Reader> {
    Reader::new(repo.clone(), full_key(), &config_record(), 1 << 20)
}

fn push(repo: &dyn Access) -> SnapshotId {
    let push = push_key();
    let opened = repo.open(&OpenRequest { client: Some(push.client_id()), seen: None }).unwrap();
    let mut record = snapshot(opened.last.map_or(1, |last| last.sequence + 1), opened.last.map(|last| last.id));
    record.time = clock();
    (record.log_len, record.log_head) = (opened.now.log_len, opened.now.log_head);
    let key = data_key();
    let bytes = snapshot::seal(&record, &push, &push.ids(), &key, &push.seal().unwrap().wrap(push.repo, &key));
    repo.commit(opened.lease, &bytes).unwrap().snapshot
}

fn tombstone_by(full: &FullKey, repo: &dyn Access, snapshot: SnapshotId) -> SignedTombstone {
    let log_len = repo.open(&OpenRequest::default()).unwrap().now.log_len;
    SignedTombstone(Tombstone { repo: full_key().repo, snapshot, log_len, is_broken: false }.sign(full))
}

fn request(repo: &dyn Access, ids: &[SnapshotId], now: bool) -> ForgetRequest {
    let tombstones = ids.iter().map(|id| tombstone_by(&full_key(), repo, *id)).collect();
    ForgetRequest { tombstones, now, empty_trash: false }
}

fn forget(repo: &dyn Access, ids: &[SnapshotId]) -> u64 {
    repo.forget(&request(repo, ids, false)).unwrap().forgotten
}

fn empty_trash(repo: &dyn Access) -> Vec<SnapshotId> {
    repo.forget(&ForgetRequest { empty_trash: true, ..ForgetRequest::default() }).unwrap().expired
}

#[derive(Debug, Default, PartialEq, Eq)]
struct View {
    shown: Vec<SnapshotId>,
    trash: Vec<(SnapshotId, Time)>,
    purged: Vec<SnapshotId>,
    /// With whether each is in the trash.
    broken: Vec<(SnapshotId, bool)>,
    problems: Vec<String>,
}

fn view(reader: &Reader) -> View {
    let show = |list: &bkfs_store::owner::reader::SnapshotList| View {
        shown: list.snapshots.iter().map(|info| info.id).collect(),
        trash: list.trash.iter().map(|trashed| (trashed.info.id, trashed.since)).collect(),
        purged: list.purged.iter().map(|purged| purged.id).collect(),
        broken: list.broken.iter().map(|broken| (broken.id, broken.is_trashed)).collect(),
        problems: list.problems.iter().map(ToString::to_string).collect(),
    };
    reader.with_snapshots(show).unwrap()
}

/// The problems that a check reports, without missing trees: these snapshots have none.
fn checked(repo: &Arc<Repository>) -> Vec<String> {
    let opened = repo.open(&OpenRequest::default()).unwrap();
    let options = CheckOptions::default();
    let report =
        bkfs_store::owner::check::check(&reader(repo), &**repo, &opened, &options, &CheckProgress::default()).unwrap();
    let problems = report.problems.iter().map(|problem| problem.error.to_string());
    problems.filter(|text| !text.contains("is missing from the repository")).collect()
}

#[test]
fn forgotten_snapshots_are_in_the_trash_and_can_be_brought_back() {
    let (_place, repo) = Place::new(0);
    let ids: Vec<_> = (0..3).map(|_| push(&*repo)).collect();
    let seen = reader(&repo);
    assert_eq!(view(&seen).shown, ids);
    assert_eq!(forget(&*repo, &[ids[0], ids[2], ids[0]]), 2);
    assert_eq!(forget(&*repo, &[ids[0]]), 0, "forgetting again is not an error, and does nothing");
    let forgotten = view(&seen);
    assert_eq!(forgotten.shown, [ids[1]]);
    assert_eq!(forgotten.trash, [(ids[0], clock()), (ids[2], clock())]);
    assert_eq!(view(&reader(&repo)), forgotten);
    let opened = repo.open(&OpenRequest::default()).unwrap();
    assert_eq!(opened.snapshots.iter().map(|o| o.id).collect::<Vec<_>>(), [ids[1]]);

    // The client's next push follows its newest snapshot, which is in the trash.
    let next = push(&*repo);
    assert_eq!(view(&seen).problems, [""; 0]);
    repo.unforget(&[ids[2], ids[2]]).unwrap();
    repo.unforget(&[ids[2], ids[1]]).unwrap();
    assert_eq!(view(&seen).shown, [ids[1], ids[2], next]);
    assert_eq!(view(&reader(&repo)), view(&seen));
    assert_eq!(checked(&repo), [""; 0]);
}

#[test]
fn chains_hold_across_snapshots_that_are_gone() {
    let (place, repo) = Place::new(0);
    let ids: Vec<_> = (0..5).map(|_| push(&*repo)).collect();
    repo.forget(&request(&*repo, &[ids[0], ids[2], ids[4]], true)).unwrap();
    assert_eq!(view(&reader(&repo)), View { shown: vec![ids[1], ids[3]], ..View::default() });
    assert!(repo.snapshots(0, 100).unwrap().iter().all(|o| [ids[1], ids[3]].contains(&o.id)), "gone is not returned");
    let next = push(&*repo);
    assert_eq!(view(&reader(&repo)), View { shown: vec![ids[1], ids[3], next], ..View::default() });
    assert_eq!(checked(&repo), [""; 0]);
    let error = repo.unforget(&[ids[0]]).unwrap_err();
    assert!(error.to_string().contains("gone for good"), "{error}");

    // A snapshot whose object is missing, although it was never forgotten, is reported.
    for copies in ["snapshots", "snapshots.2"] {
        fs::remove_file(place.repo().join(format!("{copies}/{}", ids[1]))).unwrap();
    }
    let seen = reader(&repo);
    let want = |broken| View { shown: vec![ids[3], next], broken, ..View::default() };
    assert_eq!(view(&seen), want(vec![(ids[1], false)]));
    assert_eq!(checked(&repo).len(), 1, "{:?}", checked(&repo));
    // It can still be forgotten. Once it is gone, nothing is missing.
    forget(&*repo, &[ids[1]]);
    for reader in [&seen, &reader(&repo)] {
        assert_eq!(view(reader), View { trash: vec![], ..want(vec![(ids[1], true)]) });
    }
    assert_eq!(checked(&repo).len(), 1, "a snapshot in the trash must still be whole");
    repo.forget(&request(&*repo, &[ids[1]], true)).unwrap();
    for reader in [&seen, &reader(&repo)] {
        assert_eq!(view(reader), want(vec![]));
    }
    assert_eq!(checked(&repo), [""; 0]);
}

#[test]
fn the_floor_protects_younger_snapshots() {
    let (_place, repo) = Place::new(FLOOR);
    let old = push(&*repo);
    pass(&repo, 10 * DAY);
    let young = push(&*repo);
    assert_eq!(repo.open(&OpenRequest::default()).unwrap().protect_secs, FLOOR);
    pass(&repo, 5 * DAY);
    let error = repo.forget(&request(&*repo, &[old, young], true)).unwrap_err();
    let until = jiff::Timestamp::from_second(CLOCK.get() + 9 * DAY as i64).unwrap().to_string();
    assert!(matches!(&error, Error::Protected { snapshot, .. } if *snapshot == young), "{error}");
    assert!(error.to_string().contains(&until), "{error} does not name {until}");
    assert_eq!(view(&reader(&repo)).shown, [old, young], "all or nothing");

    assert_eq!(repo.forget(&request(&*repo, &[old], true)).unwrap().expired, [old]);
    forget(&*repo, &[young]);
    assert!(repo.forget(&request(&*repo, &[young], true)).is_err(), "not through the trash either");
    pass(&repo, 9 * DAY);
    assert_eq!(repo.forget(&request(&*repo, &[young], true)).unwrap().expired, [young]);
}

#[test]
fn snapshots_expire_only_after_their_time_in_the_trash() {
    let (_place, repo) = Place::new(FLOOR);
    let (one, two) = (push(&*repo), push(&*repo));
    pass(&repo, 100 * DAY);
    push(&*repo);
    forget(&*repo, &[one]);
    assert_eq!(empty_trash(&*repo), [], "even an old snapshot stays long enough for its owner to notice");
    pass(&repo, 7 * DAY);
    forget(&*repo, &[two]);
    pass(&repo, 7 * DAY);
    assert_eq!(empty_trash(&*repo), [one], "although nothing was pushed since");
    repo.unforget(&[two]).unwrap();
    pass(&repo, 100 * DAY);
    push(&*repo);
    assert_eq!(empty_trash(&*repo), []);
}

#[test]
fn one_jump_of_the_clock_empties_no_trash_and_keeps_nothing_for_years() {
    let (_place, repo) = Place::new(FLOOR);
    let (one, two) = (push(&*repo), push(&*repo));
    pass(&repo, 20 * DAY);
    forget(&*repo, &[one]);
    pass(&repo, DAY);
    // The clock is ten years ahead, and the store is used meanwhile.
    let years = 3650 * DAY;
    advance(years);
    let during = push(&*repo);
    assert_eq!(empty_trash(&*repo), []);
    forget(&*repo, &[two]);
    pass(&repo, DAY);
    assert_eq!(empty_trash(&*repo), [], "a push makes the time no better");
    assert!(repo.forget(&request(&*repo, &[during], true)).is_err());
    // It is set right. What was forgotten under the wrong clock stays for as long as it would from now on.
    CLOCK.set(CLOCK.get() - years as i64);
    assert_eq!(empty_trash(&*repo), []);
    pass(&repo, FLOOR - 2 * DAY);
    assert_eq!(empty_trash(&*repo), [one]);
    pass(&repo, 2 * DAY);
    assert_eq!(empty_trash(&*repo), [two]);
    assert_eq!(repo.forget(&request(&*repo, &[during], true)).unwrap().expired, [during]);
}

#[test]
fn what_is_forgotten_before_the_clock_is_set_stays_for_its_time() {
    let (place, repo) = Place::new(FLOOR);
    let one = push(&*repo);
    pass(&repo, 20 * DAY);
    // The machine is switched off for a month, and begins in 1970 until it has asked for the time.
    let off = CLOCK.get();
    CLOCK.set(100);
    let early = push(&*repo);
    forget(&*repo, &[one]);
    CLOCK.set(off + 30 * DAY as i64);
    assert_eq!(view(&reader(&repo)).trash, [(one, Time { secs: off, nanos: 0 })], "no record is older than the log");
    assert_eq!(empty_trash(&*repo), []);
    assert!(repo.forget(&request(&*repo, &[early], true)).is_err());
    // What the store remembers of its clock is made again from the log if it is lost.
    drop(repo);
    std::fs::remove_file(place.repo().join("clock")).unwrap();
    let repo = place.open();
    pass(&repo, FLOOR - 3 * DAY);
    assert_eq!(empty_trash(&*repo), []);
    assert!(repo.forget(&request(&*repo, &[early], true)).is_err());
    pass(&repo, 3 * DAY);
    assert_eq!(empty_trash(&*repo), [one]);
    assert_eq!(repo.forget(&request(&*repo, &[early], true)).unwrap().expired, [early]);
}

#[test]
fn only_the_admin_key_forgets() {
    let (place, repo) = Place::new(0);
    let (one, two) = (push(&*repo), push(&*repo));
    let foreign = FullKey { admin: FullKey::random(full_key().repo).admin, ..full_key() };
    let other_repo =
        Tombstone { repo: RepoId([9; 16]), snapshot: one, log_len: 99, is_broken: false }.sign(&full_key());
    for bad in [
        tombstone_by(&foreign, &*repo, one),
        SignedTombstone(other_repo),
        SignedTombstone(vec![0; 9000]),
        SignedTombstone(vec![]),
    ] {
        let request =
            ForgetRequest { tombstones: vec![tombstone_by(&full_key(), &*repo, two), bad], ..Default::default() };
        repo.forget(&request).unwrap_err();
    }
    let error = repo.forget(&request(&*repo, &[SnapshotId([7; 32])], false)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(view(&reader(&repo)).shown, [one, two]);

    // A revoked tombstone is useless: the store refuses it, and readers do not believe a store that logs it.
    let taken_back = tombstone_by(&full_key(), &*repo, one);
    let replay = ForgetRequest { tombstones: vec![taken_back.clone()], ..Default::default() };
    repo.forget(&replay).unwrap();
    repo.unforget(&[one]).unwrap();
    assert_eq!(repo.forget(&replay).unwrap_err().kind(), ErrorKind::Locked);
    place.append(Event::Forget { snapshot: one, signed: taken_back.0 });
    let seen = view(&reader(&place.open()));
    assert_eq!(seen.shown, [one, two], "readers do not take the store's word for it");
    assert!(seen.problems[0].contains(&one.to_string()), "{seen:?}");
    place.append(Event::Forget { snapshot: two, signed: vec![] });
    let seen = view(&reader(&place.open()));
    assert_eq!((seen.shown.len(), seen.problems.len()), (2, 2));
    assert_eq!(checked(&place.open()).len(), 2);
}

#[test]
fn an_operator_can_purge_and_the_owner_sees_it() {
    let (_place, repo) = Place::new(FLOOR);
    let ids: Vec<_> = (0..3).map(|_| push(&*repo)).collect();
    let seen = reader(&repo);
    assert_eq!(view(&seen).shown.len(), 3);
    forget(&*repo, &[ids[2]]);
    for bad in ["", "1234567", "zzzzzzzzzz", &"0".repeat(64)] {
        assert!(repo.operator().purge(&[ids[0].to_string(), bad.to_owned()]).is_err(), "{bad}");
    }
    let names = [ids[1].to_string()[..12].to_owned(), ids[2].to_string().to_uppercase(), ids[1].to_string()];
    assert_eq!(repo.operator().purge(&names).unwrap(), [ids[1], ids[2]]);
    assert!(repo.operator().purge(&names).is_err(), "they are already gone");
    let want = View { shown: vec![ids[0]], purged: vec![ids[1]], ..View::default() };
    assert_eq!(view(&seen), want);
    assert_eq!(view(&reader(&repo)), want);
    assert_eq!(checked(&repo).len(), 1, "the check reports it");
    // The owner acknowledges the purge.
    assert_eq!(forget(&*repo, &[ids[1]]), 0);
    assert_eq!(view(&seen), View { shown: vec![ids[0]], ..View::default() });
    assert_eq!(checked(&repo), [""; 0]);
}

#[test]
fn the_log_is_returned_whole_although_a_copy_is_damaged() {
    let (place, repo) = Place::new(0);
    let ids: Vec<_> = (0..6).map(|_| push(&*repo)).collect();
    let whole = repo.log(0, 100).unwrap();
    let path = place.repo().join("log");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - 300;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(repo.log(0, 100).unwrap(), whole);
    assert_eq!(repo.log(2, 3).unwrap(), whole[2..5]);
    assert_eq!(view(&reader(&repo)).shown, ids);
}

#[test]
fn a_slower_follower_does_not_set_the_index_back() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(folder.path()).unwrap();
    let at = |len| Position { len, head: Hash([len as u8; 32]), offset: len * 100 };
    index.log().apply(Position::default(), &Batch::default(), at(3)).unwrap();
    index.log().apply(at(3), &Batch::default(), at(5)).unwrap();
    let late = Batch { starts: vec![(3, 1)], ..Batch::default() };
    index.log().apply(at(3), &late, at(4)).unwrap();
    assert_eq!(index.log().position().unwrap(), at(5));
    assert_eq!(index.log().offset(3).unwrap(), None);
}

/// What can happen, and to which snapshot (modulo their number).
#[derive(Debug, Clone)]
enum Op {
    Push,
    Forget(Vec<usize>),
    Now(usize),
    Unforget(usize),
    EmptyTrash,
    Purge(usize),
    Wait(u64),
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Push),
        3 => prop::collection::vec(0usize..12, 1..4).prop_map(Op::Forget),
        1 => (0usize..12).prop_map(Op::Now),
        2 => (0usize..12).prop_map(Op::Unforget),
        1 => Just(Op::EmptyTrash),
        1 => (0usize..12).prop_map(Op::Purge),
        3 => (0..20 * DAY).prop_map(Op::Wait),
        1 => Just(Op::Rebuild),
    ]
}

/// The reference model: the state of each snapshot, without a log, an index or signatures.
#[derive(Debug, Clone, PartialEq)]
enum Is {
    Shown,
    Trash(Time),
    Gone,
    Purged,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn store_and_readers_agree_with_a_simple_model(ops in prop::collection::vec(op(), 1..40)) {
        let (place, mut repo) = Place::new(FLOOR);
        // One reader follows everything; the others start from nothing.
        let witness = reader(&repo);
        let mut order: Vec<SnapshotId> = Vec::new();
        let mut model: BTreeMap<SnapshotId, (Time, Is)> = BTreeMap::new();
        for op in ops {
            let pick = |at: usize| (!order.is_empty()).then(|| order[at % order.len()]);
            match op {
                Op::Push => {
                    let id = push(&*repo);
                    order.push(id);
                    model.insert(id, (clock(), Is::Shown));
                }
                Op::Forget(at) => {
                    let ids: Vec<_> = at.into_iter().filter_map(pick).collect();
                    repo.forget(&request(&*repo, &ids, false)).unwrap();
                    for id in ids {
                        let is = &mut model.get_mut(&id).unwrap().1;
                        match is {
                            Is::Shown => *is = Is::Trash(clock()),
                            Is::Purged => *is = Is::Gone,
                            _ => {}
                        }
                    }
                }
                Op::Now(at) => if let Some(id) = pick(at) {
                    let (received, is) = model.get_mut(&id).unwrap();
                    let free = clock().secs - received.secs >= FLOOR as i64;
                    let gone = matches!(is, Is::Gone | Is::Purged);
                    let done = repo.forget(&request(&*repo, &[id], true));
                    prop_assert_eq!(done.is_ok(), free || gone, "{:?}", done);
                    if done.is_ok() {
                        *is = Is::Gone;
                    }
                },
                Op::Unforget(at) => if let Some(id) = pick(at) {
                    let is = &mut model.get_mut(&id).unwrap().1;
                    let gone = matches!(is, Is::Gone | Is::Purged);
                    prop_assert_eq!(repo.unforget(&[id]).is_err(), gone);
                    if !gone {
                        *is = Is::Shown;
                    }
                },
                Op::EmptyTrash => {
                    let expired = empty_trash(&*repo);
                    for (id, (_, is)) in &mut model {
                        let due = matches!(is, Is::Trash(since) if clock().secs - since.secs >= FLOOR as i64);
                        prop_assert_eq!(expired.contains(id), due);
                        if due {
                            *is = Is::Gone;
                        }
                    }
                }
                Op::Purge(at) => if let Some(id) = pick(at) {
                    let is = &mut model.get_mut(&id).unwrap().1;
                    let done = repo.operator().purge(&[id.to_string()]);
                    prop_assert_eq!(done.is_err(), matches!(is, Is::Gone | Is::Purged));
                    match is {
                        Is::Shown => *is = Is::Purged,
                        Is::Trash(_) => *is = Is::Gone,
                        _ => {}
                    }
                },
                Op::Wait(secs) => pass(&repo, secs),
                Op::Rebuild => repo = place.open(),
            }
            let opened = repo.open(&OpenRequest { client: Some(push_key().client_id()), seen: None }).unwrap();
            let chosen = |want: fn(&Is) -> bool| {
                order.iter().copied().filter(|id| want(&model[id].1)).collect::<Vec<_>>()
            };
            let shown = chosen(|is| *is == Is::Shown);
            let seen = view(&witness);
            prop_assert_eq!(&seen.shown, &shown);
            let since = |id: &SnapshotId| match model[id].1 { Is::Trash(since) => since, _ => unreachable!() };
            let trash: Vec<_> = chosen(|is| matches!(is, Is::Trash(_))).iter().map(|id| (*id, since(id))).collect();
            prop_assert_eq!(&seen.trash, &trash);
            let mut purged = seen.purged.clone();
            purged.sort();
            let mut want = chosen(|is| *is == Is::Purged);
            want.sort();
            prop_assert_eq!(purged, want);
            prop_assert_eq!((&seen.problems, &seen.broken), (&vec![], &vec![]));
            prop_assert_eq!(&view(&reader(&repo)), &seen, "a new reader sees the same");
            let from = shown.len().saturating_sub(OPENED_SNAPSHOTS_MAX);
            prop_assert_eq!(opened.snapshots.iter().map(|o| o.id).collect::<Vec<_>>(), &shown[from..]);
            prop_assert_eq!(opened.last.map(|last| last.id), order.last().copied());
        }
        let rebuilt = place.open();
        prop_assert_eq!(view(&reader(&rebuilt)), view(&witness));
        // Each opening begins a new session.
        let opened = |repo: &Repository| {
            Opened { lease: Lease::default(), ..repo.open(&OpenRequest::default()).unwrap() }
        };
        prop_assert_eq!(opened(&rebuilt), opened(&repo));
    }

    #[test]
    fn arbitrary_bytes_are_not_a_tombstone(bytes: Vec<u8>, at: prop::sample::Index, bit in 0u32..8) {
        let admin = full_key().admin.verifying_key();
        prop_assert!(Tombstone::verify(&bytes, &admin, full_key().repo).is_err());
        let (repo, snapshot) = (full_key().repo, SnapshotId([4; 32]));
        let tombstone = Tombstone { repo, snapshot, log_len: 9, is_broken: false };
        let mut signed = tombstone.sign(&full_key());
        prop_assert_eq!(Tombstone::verify(&signed, &admin, full_key().repo).unwrap(), tombstone);
        let at = at.index(signed.len());
        signed[at] ^= 1u8 << bit;
        prop_assert!(Tombstone::verify(&signed, &admin, full_key().repo).is_err());
    }
}

#[test]
fn a_fate_survives_encoding() {
    let bytes = codec::encode(&Fate::Trash { since: time(4), is_broken: true });
    assert_eq!(codec::decode::<Fate>("a fate", &bytes).unwrap(), Fate::Trash { since: time(4), is_broken: true });
}
