//! Tests of what `latest` is in a mount.

use std::sync::Arc;

use bkfs_store::{
    base::id::{Hash, SnapshotId},
    format::tree::NodeKind,
};

use super::*;
use crate::{
    select::SnapshotFilter,
    vfs::{
        names::Names,
        testing,
        top::{GroupBy, TopDir, TopItem},
    },
};

fn snapshot(log_seq: u64, target: &str, host: &str, client: u8) -> Arc<ShownSnapshot> {
    let root = testing::node(b"", NodeKind::Directory);
    let id = SnapshotId(Hash::of(&[&log_seq.to_le_bytes()]).0);
    let shown = testing::shown(id, log_seq, testing::snapshot(log_seq as i64, target, host, &["x"], root));
    Arc::new(ShownSnapshot { client: ClientId([client; 16]), ..shown })
}

/// A mount that is alive while snapshots come.
#[derive(Default)]
struct Mounted {
    snapshots: Vec<Arc<ShownSnapshot>>,
    shapes: LatestShapes,
}

impl Mounted {
    fn showing(snapshots: impl Into<Vec<Arc<ShownSnapshot>>>) -> Self {
        Self { snapshots: snapshots.into(), ..Self::default() }
    }

    fn push(&mut self, target: &str, host: &str, client: u8) -> Names {
        let log_seq = self.snapshots.len() as u64;
        self.snapshots.push(snapshot(log_seq, target, host, client));
        self.names()
    }

    fn names(&mut self) -> Names {
        Names::new(&self.snapshots, &SnapshotFilter::default(), &mut self.shapes)
    }
}

/// What `latest` is: `-> TARGET`, or `NAME -> TARGET, ...`.
fn shown(names: &Names, dir: &TopDir) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match names.find(dir, b"latest") {
        None => "none".into(),
        Some(TopItem::Latest { target, .. }) => format!("-> {}", text(&target)),
        Some(TopItem::Dir(folder)) => {
            let mut links: Vec<String> = (names.list(&folder, 0, usize::MAX).iter())
                .map(|entry| {
                    assert_eq!(names.find(&folder, &entry.name), Some(entry.item.clone()));
                    let TopItem::Latest { target, log_seq } = &entry.item else { panic!("{entry:?}") };
                    assert_eq!(names.link_target(&folder, |seq| seq == *log_seq).as_ref(), Some(target));
                    format!("{} -> {}", text(&entry.name), text(target))
                })
                .collect();
            links.sort();
            links.join(", ")
        }
        other => panic!("{other:?}"),
    }
}

const TIME: &str = "1970-01-01T0000";

#[test]
fn one_series_stays_latest_when_others_appear() {
    let mut mounted = Mounted::default();
    assert_eq!(shown(&mounted.names(), &TopDir::Root), "none");
    mounted.push("home", "alpha", 1);
    let names = mounted.push("home", "alpha", 1);
    assert_eq!(shown(&names, &TopDir::Root), format!("-> snapshots/{TIME}01Z"));
    let names = mounted.push("etc", "alpha", 1);
    assert_eq!(shown(&names, &TopDir::Root), format!("-> snapshots/{TIME}01Z"), "another job ran");
    assert_eq!(shown(&names, &TopDir::Group(GroupBy::Hosts, b"alpha".as_slice().into())), format!("-> {TIME}01Z"));
    assert_eq!(shown(&names, &TopDir::Group(GroupBy::Tags, b"x".as_slice().into())), format!("-> {TIME}01Z"));
    assert_eq!(shown(&names, &TopDir::Group(GroupBy::Targets, b"etc".as_slice().into())), format!("-> {TIME}02Z"));
    let names = mounted.push("home", "alpha", 1);
    assert_eq!(shown(&names, &TopDir::Root), format!("-> snapshots/{TIME}03Z"));
    mounted.snapshots.retain(|snapshot| snapshot.record.target == "etc");
    assert_eq!(shown(&mounted.names(), &TopDir::Root), "none", "it does not become another series");
}

#[test]
fn several_series_have_a_link_each() {
    let mut mounted = Mounted::showing([
        snapshot(0, "a:/home", "alpha", 1),
        snapshot(1, "a:/etc", "alpha", 1),
        snapshot(2, "db", "beta", 2),
        snapshot(3, "db", "gamma", 3),
        snapshot(4, "a:/home", "alpha", 1),
    ]);
    let expected = format!(
        "a:%2Fetc -> ../snapshots/{TIME}01Z, a:%2Fhome -> ../snapshots/{TIME}04Z, \
         db@beta -> ../snapshots/{TIME}02Z, db@gamma -> ../snapshots/{TIME}03Z"
    );
    let names = mounted.names();
    assert_eq!(shown(&names, &TopDir::Root), expected);
    let alpha = TopDir::Group(GroupBy::Hosts, b"alpha".as_slice().into());
    assert_eq!(shown(&names, &alpha), format!("a:%2Fetc -> ../{TIME}01Z, a:%2Fhome -> ../{TIME}04Z"));
    // What is named keeps its name; what comes later gets one of its own.
    mounted.snapshots.push(snapshot(5, "a:/etc", "delta", 4));
    mounted.snapshots.push(snapshot(6, "db", "gamma", 9));
    let new = format!(
        "a:%2Fetc -> ../snapshots/{TIME}01Z, a:%2Fetc@delta -> ../snapshots/{TIME}05Z, \
         a:%2Fhome -> ../snapshots/{TIME}04Z, db -> ../snapshots/{TIME}06Z, \
         db@beta -> ../snapshots/{TIME}02Z, db@gamma -> ../snapshots/{TIME}03Z"
    );
    assert_eq!(shown(&mounted.names(), &TopDir::Root), new);
    // Of equal hosts too, each has a name.
    let same = [snapshot(0, "t", "h", 1), snapshot(1, "t", "h", 2), snapshot(2, "t@h", "h", 2)];
    let mut mounted = Mounted::showing(same);
    let names = mounted.names();
    assert_eq!(shown(&names, &TopDir::Root).matches(" -> ").count(), 3, "{}", shown(&names, &TopDir::Root));
}

#[test]
fn a_filter_hides_snapshots_and_changes_no_name() {
    let snapshots = [snapshot(0, "a", "h", 1), snapshot(0, "b", "h", 1), snapshot(0, "b", "h", 1)];
    let numbered: Vec<_> = (snapshots.iter().zip(1..))
        .map(|(snapshot, log_seq)| {
            let id = SnapshotId(Hash::of(&[b"n", &u64::to_le_bytes(log_seq)]).0);
            Arc::new(testing::shown(id, log_seq, snapshot.record.clone()))
        })
        .collect();
    let filter = SnapshotFilter { target: Some("b".into()), ..SnapshotFilter::default() };
    let names = Names::new(&numbered, &filter, &mut LatestShapes::default());
    let list = |dir: &TopDir| {
        let all = names.list(dir, 0, usize::MAX).into_iter();
        all.map(|entry| String::from_utf8(entry.name).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(list(&TopDir::Snapshots), [format!("{TIME}00Z-2"), format!("{TIME}00Z-3")]);
    assert_eq!(list(&TopDir::Groups(GroupBy::Targets)), ["b"]);
    assert_eq!(names.len(), 2);
    assert!(names.find(&TopDir::Ids, numbered[0].id.to_string().as_bytes()).is_none());
    assert_eq!(shown(&names, &TopDir::Root), format!("-> snapshots/{TIME}00Z-3"), "one series is in view");
}
