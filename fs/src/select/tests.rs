//! Tests of choosing snapshots.

use std::{collections::BTreeMap, sync::Arc};

use bkfs_store::{
    base::{
        id::{ClientId, Hash, SnapshotId},
        time::Time,
    },
    format::{
        snapshot::{PathBytes, Snapshot, SnapshotOrder},
        tree::NodeKind,
    },
    owner::retention::{self, Count, Grouping, Policy, SnapshotRow},
};
use proptest::prelude::*;

use super::*;
use crate::vfs::{
    latest::LatestShapes,
    names::Names,
    testing,
    top::{TopDir, TopItem},
};

/// A snapshot for a test; its place is its position in the list.
struct Pushed {
    client: u8,
    record: Snapshot,
}

fn pushed(client: u8, host: &str, target: &str, paths: &[&str]) -> Pushed {
    let root = testing::node(b"", NodeKind::Directory);
    let paths = paths.iter().map(|path| PathBytes(path.as_bytes().to_vec())).collect();
    Pushed { client, record: Snapshot { paths, ..testing::snapshot(0, target, host, &[], root) } }
}

fn candidates(all: &[Pushed]) -> Vec<Candidate<'_>> {
    let of = |(pushed, n): (&'_ Pushed, u64)| (SnapshotId(Hash::of(&[&n.to_le_bytes()]).0), n, pushed.client);
    (all.iter().zip(1..))
        .map(|(pushed, n)| {
            let (id, n, client) = of((pushed, n));
            let client = ClientId([client; 16]);
            Candidate { id, order: SnapshotOrder::received(n), client, snapshot: &pushed.record }
        })
        .collect()
}

/// Chooses on machine `alpha`, which is client 1.
fn choose(all: &[Pushed], filter: &SnapshotFilter, path: Option<&str>) -> Result<usize, NoLatest> {
    choose_in(all, filter, path, None)
}

fn choose_in(
    all: &[Pushed],
    filter: &SnapshotFilter,
    path: Option<&str>,
    working_folder: Option<&str>,
) -> Result<usize, NoLatest> {
    let here =
        Here { client: Some(ClientId([1; 16])), host: "alpha", working_folder: working_folder.map(str::as_bytes) };
    let wanted =
        path.map(|path| WantedPath { path: path.trim_matches('/').as_bytes(), is_absolute: path.starts_with('/') });
    latest(&candidates(all), filter, wanted, here)
}

fn all_pass() -> SnapshotFilter {
    SnapshotFilter::default()
}

#[test]
fn another_job_does_not_change_what_a_path_means() {
    let all = [
        pushed(1, "alpha", "alpha:/home/alice", &["/home/alice"]),
        pushed(1, "alpha", "alpha:/home/alice", &["/home/alice"]),
        pushed(1, "alpha", "alpha:/etc", &["/etc"]),
        pushed(1, "alpha", "site", &["."]),
    ];
    assert_eq!(choose(&all, &all_pass(), Some("/home/alice/letters")), Ok(1));
    assert_eq!(choose(&all, &all_pass(), Some("/home/alice")), Ok(1));
    assert_eq!(choose(&all, &all_pass(), Some("/etc/fstab")), Ok(2));
    assert_eq!(choose(&all, &all_pass(), Some("index.html")), Ok(3), "relative to a base folder");
    assert_eq!(choose(&all, &all_pass(), Some("/index.html")), Ok(3), "no absolute source holds it");
    assert_eq!(choose(&all, &all_pass(), Some("/home")), Ok(1), "the only one with something below it");
    assert_eq!(choose(&all[..3], &all_pass(), Some("/home/alicex")), Err(not_held(&[1, 2], &[])));
}

fn not_held(candidates: &[usize], elsewhere: &[usize]) -> NoLatest {
    NoLatest::NotHeld { candidates: candidates.to_vec(), elsewhere: elsewhere.to_vec() }
}

fn several(candidates: &[usize]) -> Result<usize, NoLatest> {
    Err(NoLatest::Several { candidates: candidates.to_vec() })
}

#[test]
fn only_the_newest_of_a_series_counts() {
    // A folder that the target no longer includes is not taken from an older snapshot of it.
    let all = [
        pushed(1, "alpha", "t", &["/home", "/srv"]),
        pushed(1, "alpha", "t", &["/home"]),
        pushed(1, "alpha", "u", &["/opt"]),
    ];
    assert_eq!(choose(&all, &all_pass(), Some("/srv/x")), Err(not_held(&[1, 2], &[])));
    // The filter comes first: of what passes, the newest.
    let mut tagged = all;
    tagged[0].record.tags = vec!["keep".into()];
    let filter = SnapshotFilter { tags: vec!["keep".into()], ..all_pass() };
    assert_eq!(choose(&tagged, &filter, Some("/srv/x")), Ok(0));
}

#[test]
fn other_machines_count_only_if_named_or_alone() {
    let all = [
        pushed(1, "alpha", "alpha:/home", &["/home"]),
        pushed(2, "beta", "beta:/home", &["/home"]),
        pushed(2, "beta", "beta:/etc", &["/etc"]),
    ];
    assert_eq!(choose(&all, &all_pass(), Some("/home/x")), Ok(0), "though beta pushed later");
    assert_eq!(choose(&all, &all_pass(), None), Ok(0));
    assert_eq!(choose(&all, &all_pass(), Some("/etc/fstab")), Err(not_held(&[0], &[2])), "no file of beta unasked");
    let beta = SnapshotFilter { host: Some("beta".into()), ..all_pass() };
    assert_eq!(choose(&all, &beta, Some("/etc/fstab")), Ok(2));
    let target = SnapshotFilter { target: Some("beta:/etc".into()), ..all_pass() };
    assert_eq!(choose(&all, &target, Some("/etc/fstab")), Ok(2));
    assert_eq!(choose(&all[1..], &all_pass(), Some("/etc/fstab")), Ok(1), "there are no others");
    assert_eq!(choose(&all[1..], &all_pass(), None), several(&[0, 1]));
    // After a new installation the machine is another client with the same name, and its old snapshots are its own.
    let all = [pushed(7, "alpha", "alpha:/home", &["/home"]), pushed(2, "beta", "beta:/home", &["/home"])];
    assert_eq!(choose(&all, &all_pass(), Some("/home/x")), Ok(0));
}

#[test]
fn a_client_that_takes_anothers_names_does_not_become_latest() {
    // Client 9 gives its machine and its targets the names of client 1, and pushes last.
    let honest = || pushed(1, "alpha", "alpha:/home", &["/home"]);
    let thief = || pushed(9, "alpha", "alpha:/home", &["/home"]);
    let all = [honest(), thief()];
    for path in [None, Some("/home/x")] {
        assert_eq!(choose(&all, &all_pass(), path), Ok(0), "this machine's own client");
        // A machine that is no client, or another one.
        let on = |client: Option<u8>, host, filter: &SnapshotFilter| {
            let here = Here { client: client.map(|id| ClientId([id; 16])), host, working_folder: Some(b"/home") };
            let wanted = path.map(|_| WantedPath { path: b"home/x", is_absolute: true });
            latest(&candidates(&all), filter, wanted, here)
        };
        assert_eq!(on(None, "alpha", &all_pass()), several(&[0, 1]));
        assert_eq!(on(Some(3), "gamma", &all_pass()), several(&[0, 1]));
        let named = SnapshotFilter { host: Some("alpha".into()), target: Some("alpha:/home".into()), ..all_pass() };
        assert_eq!(on(Some(1), "alpha", &named), several(&[0, 1]), "names do not tell them apart");
        let client = SnapshotFilter { clients: Some(vec![ClientId([1; 16])]), ..named };
        assert_eq!(on(None, "gamma", &client), Ok(0));
    }
    // Nor is it taken for what this client's own snapshots lack.
    let all = [honest(), pushed(9, "alpha", "t", &["/"])];
    assert_eq!(choose(&all, &all_pass(), Some("/etc/shadow")), Err(not_held(&[0], &[1])));
}

#[test]
fn without_a_path_only_the_working_folder_decides_between_series() {
    let all = [
        pushed(1, "alpha", "alpha:/home/alice", &["/home/alice"]),
        pushed(1, "alpha", "alpha:/etc", &["/etc"]),
        pushed(1, "alpha", "site", &["."]),
        pushed(2, "beta", "beta:/home/alice", &["/home/alice"]),
    ];
    for path in [None, Some(""), Some("/")] {
        assert_eq!(choose(&all, &all_pass(), path), several(&[0, 1, 2]));
        assert_eq!(choose_in(&all, &all_pass(), path, Some("/home/alice/letters")), Ok(0));
        assert_eq!(choose_in(&all, &all_pass(), path, Some("/home")), several(&[0, 1, 2]), "only a part of it");
        assert_eq!(choose_in(&all, &all_pass(), path, Some("/var")), several(&[0, 1, 2]));
    }
    let beta = SnapshotFilter { host: Some("beta".into()), ..all_pass() };
    assert_eq!(choose(&all, &beta, None), Ok(3));
    let none = SnapshotFilter { host: Some("gamma".into()), ..all_pass() };
    assert_eq!(choose(&all, &none, None), Err(NoLatest::NoSnapshot));
    assert_eq!(choose(&[], &all_pass(), Some("x")), Err(NoLatest::NoSnapshot));
}

#[test]
fn coverage_is_by_whole_components() {
    let of = |paths: &[&str], path: &str| coverage(&pushed(1, "h", "t", paths).record, path.as_bytes(), false);
    assert_eq!(of(&["/a/b"], "a/b"), Coverage::Whole);
    assert_eq!(of(&["/a/b"], "a/b/c"), Coverage::Whole);
    assert_eq!(of(&["/a/b"], "a"), Coverage::Part);
    assert_eq!(of(&["/a/b"], ""), Coverage::Part);
    assert_eq!(of(&["/a/b"], "a/bc"), Coverage::Nothing);
    assert_eq!(of(&["/"], "x"), Coverage::Whole);
    assert_eq!(of(&["."], "x"), Coverage::Whole);
    assert_eq!(of(&["x", "/a"], "a/z"), Coverage::Whole);
    assert_eq!(coverage(&pushed(1, "h", "t", &["."]).record, b"x", true), Coverage::Nothing);
}

proptest! {
    /// Whatever the clocks of the clients say, the shell, the mount and a policy agree on which snapshot is the newest:
    /// the one that the store received last.
    #[test]
    fn the_shell_the_mount_and_forget_agree_on_the_newest(
        times in prop::collection::vec(prop_oneof![0..50_i64, 2_000_000_000..2_100_000_000_i64], 1..12),
        shuffle in any::<u64>(),
    ) {
        let all: Vec<Pushed> = times
            .iter()
            .map(|secs| {
                let mut pushed = pushed(1, "alpha", "t", &["."]);
                pushed.record.time = Time { secs: *secs, nanos: 0 };
                pushed
            })
            .collect();
        let newest = all.len() - 1;
        let candidates = candidates(&all);
        prop_assert_eq!(latest(&candidates, &all_pass(), None, Here::default()), Ok(newest));

        let mut shown: Vec<_> = (candidates.iter().zip(1..))
            .map(|(candidate, n)| Arc::new(testing::shown(candidate.id, n, candidate.snapshot.clone())))
            .collect();
        let len = shown.len();
        shown.rotate_left((shuffle % len as u64) as usize);
        let names = Names::new(&shown, &all_pass(), &mut LatestShapes::default());
        let Some(TopItem::Latest { log_seq, .. }) = names.find(&TopDir::Root, b"latest") else { panic!("no latest") };
        prop_assert_eq!(log_seq, len as u64);

        let rows: Vec<SnapshotRow> = shown
            .iter()
            .map(|shown| SnapshotRow {
                // The store's own clock need not be right, either.
                received: Time { secs: 1_000 - shown.log_seq as i64 % 3, nanos: 0 },
                log_seq: shown.log_seq,
                id: shown.id,
                client: shown.client,
                host: "alpha".into(),
                target: "t".into(),
                paths: vec![],
                tags: vec![],
                bytes: 1,
                files: 1,
            })
            .collect();
        let policy = Policy { keep_last: Some(Count::Number(1)), ..Policy::default() };
        let now = Time { secs: 2_000, nanos: 0 };
        let zone = &jiff::tz::TimeZone::UTC;
        let plan = retention::plan(&rows, &policy, Grouping::default(), zone, now, &BTreeMap::new()).unwrap();
        let kept: Vec<_> = plan.groups[0].decisions.iter().filter(|d| d.keeps()).map(|d| d.snapshot.id).collect();
        prop_assert_eq!(kept, [candidates[newest].id]);
    }
}
