//! Pushes that follow one another with what a real watch reports.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*};

use super::{
    Case,
    following::{Series, Step, step, take, tick},
    noise,
};
use crate::{
    exclude::ExcludeOptions,
    push::{Follow, Following, PushReport},
    watch::Watch,
};

/// The name of an entry whose report shows that everything before it was reported.
const MARKER: &str = "zz-marker";

/// A watch, and the pushes with what it reports.
struct Watched {
    case: Case,
    watch: Watch,
    following: Following,
}

impl Watched {
    fn new(case: Case, whole_file_systems: bool) -> Self {
        let watch = Watch::start(&case.options.exclude, &[case.source.path().join("own")], whole_file_systems).unwrap();
        Self { case, watch, following: Following::default() }
    }

    /// Waits until all changes were reported.
    fn settle(&self) {
        tick();
        fs::write(self.case.at(MARKER), b"").unwrap();
        fs::remove_file(self.case.at(MARKER)).unwrap();
        let begun = Instant::now();
        while !self.watch.has_noted(MARKER.as_bytes()) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the marker was never reported");
            self.watch.wait(Some(Instant::now() + Duration::from_millis(20)));
        }
    }

    fn push(&mut self) -> PushReport {
        let waiting = self.watch.take();
        let follow = Follow { following: &self.following, changes: waiting.changes, skips_unchanged: true };
        self.case.push_after(Some(follow), Some(self.watch.observer())).unwrap()
    }
}

/// Which ways of watching there are here: folder by folder, and whole file systems if that is allowed.
fn ways() -> Vec<bool> {
    let may_mark = Watch::start(&ExcludeOptions::default(), &[], true).unwrap().watches_file_systems();
    if !may_mark {
        println!("skipped for whole file systems: this user may not watch them");
    }
    if may_mark { vec![false, true] } else { vec![false] }
}

#[test]
fn what_changes_is_reported_and_pushed() {
    for way in ways() {
        let case = Case::new();
        for d in 0..4 {
            case.write(&format!("d{d}/e/f"), &noise(d, 3000));
        }
        let mut watched = Watched::new(case, way);
        assert!(watched.push().looked_at_everything);
        assert!(watched.watch.unwatched().is_empty(), "{:?}", watched.watch.unwatched());
        // Each folder, or the file system that holds them, unless it is one that gives no handles, as an overlay.
        let watches = (watched.watch.folders(), watched.watch.file_systems());
        println!("{way}: {watches:?}");
        assert!(watches == (9, 0) || way && watches == (0, 1), "{way}: {watches:?}");
        tick();
        watched.case.write("d1/e/f", &noise(10, 3001));
        // A new folder, with contents from before it could be watched.
        watched.case.write("d2/new/deep/f", &noise(11, 3001));
        fs::rename(watched.case.at("d3"), watched.case.at("d0/e/moved")).unwrap();
        watched.settle();
        let report = watched.push();
        assert!(!report.looked_at_everything, "{way}");
        assert_eq!(watched.case.root(), watched.case.fresh_root(), "{way}");
        // What was new and what was moved is watched, too.
        tick();
        watched.case.write("d2/new/deep/g", &noise(12, 3001));
        watched.case.write("d0/e/moved/e/f", &noise(13, 3001));
        watched.settle();
        assert!(!watched.push().looked_at_everything, "{way}");
        assert_eq!(watched.case.root(), watched.case.fresh_root(), "{way}");
    }
}

#[test]
fn what_is_excluded_is_not_reported() {
    for way in ways() {
        let mut case = Case::new();
        case.options.exclude.patterns = vec!["*.tmp".into(), "/cache/".into()];
        for path in ["cache/f", "own/f", "kept/f"] {
            case.write(path, b"x");
        }
        let mut watched = Watched::new(case, way);
        watched.push();
        watched.settle();
        watched.watch.take();
        watched.case.write("kept/x.tmp", b"x");
        watched.case.write("cache/new/f", b"x");
        watched.case.write("own/new/f", b"x");
        watched.settle();
        let waiting = watched.watch.take();
        let root = waiting.changes.root();
        let names: Vec<&[u8]> = root.names().collect();
        assert!(!waiting.changes.is_all() && names == [MARKER.as_bytes()], "{way}: {names:?}");
        watched.case.write("kept/y", b"x");
        watched.settle();
        assert!(watched.watch.take().changes.root().below(b"kept").is_some(), "{way}");
    }
}

#[test]
fn changes_that_could_not_be_pushed_are_put_back() {
    let case = Case::new();
    case.write("f", b"x");
    let mut watched = Watched::new(case, false);
    watched.push();
    watched.case.write("f", b"yy");
    watched.settle();
    let taken = watched.watch.take();
    assert!(watched.watch.noted().is_none());
    watched.case.write("g", b"zz");
    watched.settle();
    watched.watch.put_back(&taken);
    let (noted, before) = (watched.watch.noted().unwrap(), taken.noted.unwrap());
    assert!(noted.first == before.first && noted.last > before.last);
    assert!(watched.watch.has_noted(b"f") && watched.watch.has_noted(b"g"));
}

#[test]
fn two_hundred_changes_a_second_are_all_pushed() {
    for way in ways() {
        let case = Case::new();
        for d in 0..20 {
            case.write(&format!("d{d}/f"), b"first");
        }
        let mut watched = Watched::new(case, way);
        watched.push();
        let is_done = Arc::new(AtomicBool::new(false));
        let writer = thread::spawn({
            let (is_done, root) = (is_done.clone(), watched.case.source.path().to_path_buf());
            move || {
                for i in 0..600u64 {
                    let path = root.join(format!("d{}/f{}", i % 20, i % 90));
                    match i % 7 {
                        0 => drop(fs::remove_file(path)),
                        1 => drop(fs::rename(&path, root.join(format!("d{}/g{}", i % 13, i % 11)))),
                        _ => fs::write(path, noise(i, 100 + i as usize)).unwrap(),
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                is_done.store(true, Relaxed);
            }
        });
        let mut whole = 0;
        while !is_done.load(Relaxed) {
            thread::sleep(Duration::from_millis(200));
            whole += u32::from(watched.push().looked_at_everything);
        }
        writer.join().unwrap();
        watched.settle();
        watched.push();
        assert_eq!((whole, watched.watch.overflows()), (0, 0), "{way}");
        assert_eq!(watched.case.root(), watched.case.fresh_root(), "{way}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_watched_source_is_pushed_as_it_is(steps in vec(step(), 1..40)) {
        for way in ways() {
            let case = Case::new();
            case.write("a/b/c", b"first");
            case.write("b/d", b"second");
            let mut watched = Watched::new(case, way);
            watched.push();
            for step in steps.iter().filter(|step| !matches!(step, Step::Folder(_))).chain([&Step::Push]) {
                tick();
                take(&watched.case, &mut Series::default(), step);
                if matches!(step, Step::Push) {
                    watched.settle();
                    watched.push();
                    prop_assert_eq!(watched.case.root(), watched.case.fresh_root());
                }
            }
        }
    }
}
