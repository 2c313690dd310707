//! Tests of the names above the snapshots.

use std::collections::HashSet;

use proptest::prelude::*;

use bkfs_store::base::time::Time;

use super::*;
use crate::vfs::{component::NAME_MAX, testing};

fn snapshot(secs: i64, log_seq: u64, target: &str, host: &str, tags: &[&str]) -> Arc<ShownSnapshot> {
    let root = testing::node(b"", bkfs_store::format::tree::NodeKind::Directory);
    let id = SnapshotId(Hash::of(&[&log_seq.to_le_bytes()]).0);
    Arc::new(testing::shown(id, log_seq, testing::snapshot(secs, target, host, tags, root)))
}

fn new_names(snapshots: &[Arc<ShownSnapshot>]) -> Names {
    Names::new(snapshots, &SnapshotFilter::default(), &mut LatestShapes::default())
}

fn listed(names: &Names, dir: &TopDir) -> Vec<String> {
    let all = names.list(dir, 0, usize::MAX);
    all.iter().map(|listed| String::from_utf8_lossy(&listed.name).into_owned()).collect()
}

#[test]
fn times_are_named_in_utc() {
    let name = |secs| time_name(Time { secs, nanos: 999_999_999 });
    assert_eq!(name(0), "1970-01-01T000000Z");
    assert_eq!(name(1_795_165_200), "2026-11-20T090000Z");
    assert_eq!(name(951_782_399), "2000-02-28T235959Z");
    assert_eq!(name(951_782_400), "2000-02-29T000000Z");
    assert_eq!(name(-1), "1969-12-31T235959Z");
    assert_eq!(name(4_107_542_400), "2100-03-01T000000Z");
    assert_eq!(name(-62_135_596_800), "0001-01-01T000000Z");
    // Any time has a name; none panics.
    assert!(name(i64::MAX).ends_with('Z') && name(i64::MIN).ends_with('Z'));
}

#[test]
fn all_paths_to_a_snapshot_are_shown() {
    let names = new_names(&[
        snapshot(1_795_165_200, 3, "home", "alpha", &["keep"]),
        snapshot(1_795_165_260, 5, "etc", "alpha", &[]),
        snapshot(1_795_165_200, 7, "home", "beta", &["keep", "release/1"]),
    ]);
    assert_eq!(listed(&names, &TopDir::Root), ["latest", "snapshots", "ids", "targets", "hosts", "tags"]);
    assert_eq!(
        listed(&names, &TopDir::Snapshots),
        ["2026-11-20T090000Z", "2026-11-20T090100Z", "2026-11-20T090000Z-2"]
    );
    let Some(TopItem::Dir(folder)) = names.find(&TopDir::Root, b"latest") else { panic!("several series are shown") };
    let mut series = listed(&names, &folder);
    series.sort();
    assert_eq!(series, ["etc", "home@alpha", "home@beta"]);
    let home = TopDir::Group(GroupBy::Targets, b"home".as_slice().into());
    assert_eq!(listed(&names, &home), ["latest", "2026-11-20T090000Z", "2026-11-20T090000Z-2"]);
    let Some(TopItem::Dir(folder)) = names.find(&home, b"latest") else { panic!("two clients use the target") };
    let mut series = listed(&names, &folder);
    series.sort();
    assert_eq!(series, ["home@alpha", "home@beta"]);
    let mut tags = listed(&names, &TopDir::Groups(GroupBy::Tags));
    tags.sort();
    assert_eq!(tags, ["keep", "release%2F1"]);
    assert!(names.find(&home, b"2026-11-20T090100Z").is_none(), "of another target");
    let id = names.snapshots().next().unwrap().id.to_string();
    for length in [PREFIX_MIN, 9, 64] {
        assert!(
            matches!(names.find(&TopDir::Ids, &id.as_bytes()[..length]), Some(TopItem::Snapshot(v)) if v.log_seq == 3)
        );
    }
    for wrong in ["", "abc", &id[..3], &id.to_uppercase(), &format!("{id}0")] {
        assert!(names.find(&TopDir::Ids, wrong.as_bytes()).is_none(), "{wrong}");
    }
}

#[test]
fn an_ambiguous_prefix_names_nothing() {
    let with_id = |byte: u8, log_seq| {
        let plain = snapshot(0, log_seq, "t", "h", &[]);
        let mut id = SnapshotId([0xab; 32]);
        id.0[31] = byte;
        Arc::new(testing::shown(id, log_seq, plain.record.clone()))
    };
    let names = new_names(&[with_id(1, 1), with_id(2, 2)]);
    assert!(names.find(&TopDir::Ids, &b"ab".repeat(31)).is_none());
    let full = format!("{}02", "ab".repeat(31));
    assert!(matches!(names.find(&TopDir::Ids, full.as_bytes()), Some(TopItem::Snapshot(v)) if v.log_seq == 2));
}

#[test]
fn an_empty_repository_has_its_folders() {
    let names = new_names(&[]);
    assert_eq!(listed(&names, &TopDir::Root), ["snapshots", "ids", "targets", "hosts", "tags"]);
    assert!(listed(&names, &TopDir::Snapshots).is_empty() && listed(&names, &TopDir::Groups(GroupBy::Tags)).is_empty());
}

#[test]
fn components_are_one_name_each() {
    for (text, name) in [
        ("a", "a"),
        ("a/b", "a%2Fb"),
        ("", "%"),
        (".", "%2E"),
        ("..", "%2E."),
        ("50%", "50%25"),
        ("\x1b[2J\n", "%1B[2J%0A"),
    ] {
        assert_eq!(String::from_utf8(component(text.as_bytes())).unwrap(), name);
    }
    assert_eq!(component(&[b'x'; 255]).len(), 255);
    assert!(component(&[b'x'; 256]).len() <= 255 && component(&[b'/'; 300]).len() <= 255);
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c./%]{0,3}", "[a/%]{250,300}", any::<String>()]
}

prop_compose! {
    fn any_snapshots()(
        all in prop::collection::vec((0..5i64, any_text(), any_text(), prop::collection::vec(any_text(), 0..3)), 0..12)
    ) -> Vec<Arc<ShownSnapshot>> {
        (all.iter().zip(1..))
            .map(|((secs, target, host, tags), seq)| {
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                snapshot(*secs, seq * 3, target, host, &tags)
            })
            .collect()
    }
}

fn top_dirs(names: &Names) -> Vec<TopDir> {
    let mut dirs = vec![TopDir::Root, TopDir::Snapshots, TopDir::Ids];
    for by in GroupBy::ALL {
        dirs.push(TopDir::Groups(by));
        dirs.extend(names.list(&TopDir::Groups(by), 0, usize::MAX).into_iter().map(|listed| match listed.item {
            TopItem::Dir(dir) => dir,
            other => panic!("{other:?}"),
        }));
    }
    dirs
}

proptest! {
    #[test]
    fn different_texts_have_different_names(a in any_text(), b in any_text()) {
        let (one, other) = (component(a.as_bytes()), component(b.as_bytes()));
        prop_assert_eq!(a == b, one == other);
        for name in [one, other] {
            prop_assert!((1..=NAME_MAX).contains(&name.len()));
            prop_assert!(!name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b"..");
        }
    }

    #[test]
    fn listings_and_lookups_agree(snapshots in any_snapshots(), step in 1usize..5) {
        let names = new_names(&snapshots);
        for dir in top_dirs(&names) {
            let all = names.list(&dir, 0, usize::MAX);
            prop_assert!(all.windows(2).all(|pair| pair[0].cookie < pair[1].cookie));
            let distinct: HashSet<_> = all.iter().map(|listed| &listed.name).collect();
            prop_assert_eq!(distinct.len(), all.len());
            for listed in &all {
                prop_assert_eq!(names.find(&dir, &listed.name), Some(listed.item.clone()));
            }
            // Listed in pieces, the result is the same.
            let (mut pieces, mut after) = (Vec::new(), 0);
            loop {
                let piece = names.list(&dir, after, step);
                let Some(last) = piece.last() else { break };
                after = last.cookie;
                pieces.extend(piece);
            }
            prop_assert_eq!(&pieces, &all);
        }
        prop_assert_eq!(names.list(&TopDir::Snapshots, 0, usize::MAX).len(), snapshots.len());
    }

    #[test]
    fn a_new_snapshot_renames_none_and_moves_no_cookie(snapshots in any_snapshots()) {
        let Some((_, before)) = snapshots.split_last() else { return Ok(()) };
        let (old, new) = (new_names(before), new_names(&snapshots));
        for dir in top_dirs(&old) {
            let after = new.list(&dir, 0, usize::MAX);
            for listed in old.list(&dir, 0, usize::MAX) {
                if !matches!(listed.item, TopItem::Latest { .. }) {
                    prop_assert!(after.contains(&listed));
                }
            }
        }
    }
}
