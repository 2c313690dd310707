//! Pushes that follow others must store what a push that looks at everything would.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, thread, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::{Case, noise};
use crate::{
    changes::{ChangeSet, Scope},
    push::{Follow, Following, PushReport},
};

/// A series of pushes, with the changes that were reported since the last one.
#[derive(Default)]
pub(super) struct Series {
    pub following: Following,
    pub changes: ChangeSet,
}

impl Series {
    pub fn push(&mut self, case: &mut Case) -> PushReport {
        let follow = Follow { following: &self.following, changes: self.changes.take(), skips_unchanged: false };
        case.push_after(Some(follow), None).unwrap()
    }

    fn named(&mut self, path: &str) {
        self.changes.note(path.as_bytes(), Scope::Named);
    }
}

/// Long enough for the file system's clock to tell two changes apart.
pub(super) fn tick() {
    thread::sleep(Duration::from_millis(8));
}

fn filled() -> Case {
    let case = Case::new();
    for d in 0..5 {
        for f in 0..20 {
            case.write(&format!("d{d}/e/f{f}"), &noise(d * 100 + f, 2000));
        }
    }
    case
}

#[test]
fn only_what_was_reported_is_looked_at() {
    let (mut case, mut series) = (filled(), Series::default());
    assert!(series.push(&mut case).looked_at_everything);
    tick();
    case.write("d3/e/f5", &noise(1000, 2001));
    // Not reported, so not seen.
    case.write("d1/e/f1", &noise(1001, 2001));
    series.named("d3/e/f5");
    let report = series.push(&mut case);
    assert!(!report.looked_at_everything);
    assert_eq!((report.stats.files_changed, report.stats.files_unchanged, report.stats.bytes_read), (1, 99, 2001));
    assert_eq!((report.totals.files, report.totals.dirs), (100, 10));
    // d3/e, d3 and the root were entered, and one file was compared.
    let progress = &case.progress;
    use std::sync::atomic::Ordering::Relaxed;
    assert_eq!((progress.dirs.load(Relaxed), progress.files.load(Relaxed)), (3, 1));
    series.named("d1/e/f1");
    series.push(&mut case);
    assert_eq!(case.root(), case.fresh_root());
}

#[test]
fn a_push_without_changes_enters_only_the_root() {
    let (mut case, mut series) = (filled(), Series::default());
    series.push(&mut case);
    let (root, puts) = (case.root(), case.puts());
    let report = series.push(&mut case);
    assert_eq!((report.stats.files_unchanged, case.root(), case.puts()), (100, root, puts));
    assert_eq!(case.progress.dirs.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn a_push_looks_at_everything_if_another_came_between_or_the_rules_changed() {
    let (mut case, mut series) = (filled(), Series::default());
    series.push(&mut case);
    assert!(!series.push(&mut case).looked_at_everything);
    // Another push of the target, that saw what was not reported here.
    tick();
    case.write("d1/e/f1", &noise(1001, 2001));
    case.push();
    assert!(series.push(&mut case).looked_at_everything);
    assert!(!series.push(&mut case).looked_at_everything);
    case.options.exclude.patterns.push("f7".into());
    assert!(series.push(&mut case).looked_at_everything);
    assert_eq!(case.root(), case.fresh_root());
    case.options.force = true;
    assert!(series.push(&mut case).looked_at_everything);
    case.options.force = false;
    // Something was lost in the repository.
    assert!(!series.push(&mut case).looked_at_everything);
    let lost = case.store.client.ids().data_id(&noise(205, 2000));
    {
        let mut state = case.store.state.lock();
        assert!(state.chunks.remove(&lost).is_some());
        state.lost = vec![lost];
    }
    assert!(series.push(&mut case).looked_at_everything);
    case.store.state.lock().lost.clear();
    assert!(!series.push(&mut case).looked_at_everything);
    assert_eq!(case.root(), case.fresh_root());
}

#[test]
fn all_names_of_an_inode_are_looked_at() {
    let (mut case, mut series) = (filled(), Series::default());
    case.write("x/one", &noise(1, 3000));
    fs::create_dir(case.at("y")).unwrap();
    fs::hard_link(case.at("x/one"), case.at("y/two")).unwrap();
    // A link from outside is explained by the first push.
    let outside = tempfile::tempdir_in(case.source.path().parent().unwrap()).unwrap();
    case.write("z/known", &noise(2, 3000));
    fs::hard_link(case.at("z/known"), outside.path().join("l")).unwrap();
    series.push(&mut case);
    tick();
    case.write("y/two", &noise(3, 3001));
    case.write("z/known", &noise(4, 3001));
    series.named("y/two");
    series.named("z/known");
    assert!(!series.push(&mut case).looked_at_everything);
    assert_eq!(case.root(), case.fresh_root());
    tick();
    fs::remove_file(case.at("x/one")).unwrap();
    series.named("x/one");
    assert!(!series.push(&mut case).looked_at_everything);
    assert_eq!(case.root(), case.fresh_root());
    tick();
    // A second name of a file that had one: the first name is not known.
    fs::hard_link(case.at("d0/e/f0"), case.at("d1/new")).unwrap();
    series.named("d1/new");
    assert!(series.push(&mut case).looked_at_everything);
    assert_eq!(case.root(), case.fresh_root());
    tick();
    // A third name of one whose names are known.
    fs::hard_link(case.at("d0/e/f0"), case.at("d2/new")).unwrap();
    series.named("d2/new");
    assert!(!series.push(&mut case).looked_at_everything);
    assert_eq!(case.root(), case.fresh_root());
}

#[test]
fn a_tag_that_comes_or_goes_decides_about_its_folder() {
    let (mut case, mut series) = (filled(), Series::default());
    case.options.exclude.if_present = vec![b".nobackup".to_vec()];
    series.push(&mut case);
    tick();
    case.write("d2/.nobackup", b"");
    series.named("d2/.nobackup");
    series.push(&mut case);
    assert_eq!(case.root(), case.fresh_root());
    tick();
    case.write("d2/e/f1", &noise(9, 10));
    case.write("d2/new", &noise(9, 10));
    series.named("d2/e/f1");
    series.named("d2/new");
    series.push(&mut case);
    assert_eq!(case.root(), case.fresh_root());
    tick();
    fs::remove_file(case.at("d2/.nobackup")).unwrap();
    series.named("d2/.nobackup");
    assert!(!series.push(&mut case).looked_at_everything);
    assert_eq!(case.root(), case.fresh_root());
}

#[test]
fn a_record_that_was_cut_off_is_not_believed() {
    let (mut case, mut series) = (Case::new(), Series::default());
    for f in 0..2000 {
        case.write(&format!("d/f{f:04}"), &noise(f, 10));
    }
    series.push(&mut case);
    let cache = crate::cache::Cache::open(case.cache.path(), case.store.client.repo, case.store.client.client_id());
    cache.unwrap().cut_off_records();
    tick();
    case.write("d/f0000", &noise(1, 11));
    series.named("d/f0000");
    assert!(series.push(&mut case).looked_at_everything);
    assert_eq!(case.root(), case.fresh_root());
}

/// Something that a program does to the source.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Write(String, u16),
    Append(String),
    Mkdir(String),
    Remove(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String),
    Chmod(String, bool),
    /// A report about a whole folder, as after names were lost.
    Folder(String),
    Push,
}

fn path() -> impl Strategy<Value = String> {
    vec("[a-d]", 1..4).prop_map(|names| names.join("/"))
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (path(), 1..3000u16).prop_map(|(path, len)| Step::Write(path, len)),
        3 => path().prop_map(Step::Append),
        3 => path().prop_map(Step::Mkdir),
        2 => path().prop_map(Step::Remove),
        3 => (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
        3 => (path(), path()).prop_map(|(from, to)| Step::Link(from, to)),
        1 => path().prop_map(Step::Symlink),
        2 => (path(), any::<bool>()).prop_map(|(path, bit)| Step::Chmod(path, bit)),
        1 => path().prop_map(Step::Folder),
        4 => Just(Step::Push),
    ]
}

/// Takes a step, and reports what a watch of the folders would.
pub(super) fn take(case: &Case, series: &mut Series, step: &Step) {
    let is_dir = |path: &str| case.at(path).symlink_metadata().is_ok_and(|meta| meta.is_dir());
    // Folders are reported where they are, whatever link led there.
    let root = case.source.path().canonicalize().unwrap();
    let found = |path: &str| {
        let path = case.at(path);
        let folder = path.parent()?.canonicalize().ok()?.join(path.file_name()?);
        folder.strip_prefix(&root).ok().map(Path::to_path_buf)
    };
    let mut report = |path: &str, scope| {
        if let Some(path) = found(path) {
            series.changes.note(path.as_os_str().as_encoded_bytes(), scope);
        }
    };
    match step {
        Step::Write(path, len) => {
            if fs::write(case.at(path), noise(u64::from(*len), usize::from(*len))).is_ok() {
                report(path, Scope::Named);
            }
        }
        Step::Append(path) => {
            use std::io::Write;
            let file = fs::OpenOptions::new().append(true).open(case.at(path));
            if file.is_ok_and(|mut file| file.write_all(b"more").is_ok()) {
                report(path, Scope::Named);
            }
        }
        Step::Mkdir(path) => {
            if fs::create_dir(case.at(path)).is_ok() {
                report(path, Scope::All);
            }
        }
        Step::Remove(path) if is_dir(path) => {
            if fs::remove_dir_all(case.at(path)).is_ok() {
                report(path, Scope::Named);
            }
        }
        Step::Remove(path) => {
            if fs::remove_file(case.at(path)).is_ok() {
                report(path, Scope::Named);
            }
        }
        Step::Rename(from, to) => {
            let scope = if is_dir(from) { Scope::All } else { Scope::Named };
            // What is renamed may be the link that leads to its new place.
            let places = [(found(from), Scope::Named), (found(to), scope)];
            if fs::rename(case.at(from), case.at(to)).is_ok() {
                for (path, scope) in places.into_iter().filter_map(|(path, scope)| Some((path?, scope))) {
                    series.changes.note(path.as_os_str().as_encoded_bytes(), scope);
                }
            }
        }
        Step::Link(from, to) => {
            if !is_dir(from) && fs::hard_link(case.at(from), case.at(to)).is_ok() {
                report(to, Scope::Named);
            }
        }
        Step::Symlink(path) => {
            if std::os::unix::fs::symlink("a/b", case.at(path)).is_ok() {
                report(path, Scope::Named);
            }
        }
        Step::Chmod(path, bit) => {
            let mode = if *bit { 0o755 } else { 0o700 };
            let is_link = case.at(path).is_symlink();
            if !is_link && fs::set_permissions(case.at(path), fs::Permissions::from_mode(mode)).is_ok() {
                report(path, Scope::Named);
            }
        }
        Step::Folder(path) => {
            if Path::new(path).components().count() < 3 {
                report(path, Scope::Entries);
            }
        }
        Step::Push => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_series_of_pushes_is_as_good_as_a_push(steps in vec(step(), 1..40)) {
        let (mut case, mut series) = (Case::new(), Series::default());
        case.write("a/b/c", b"first");
        case.write("b/d", b"second");
        series.push(&mut case);
        for step in steps.iter().chain([&Step::Push]) {
            tick();
            take(&case, &mut series, step);
            if matches!(step, Step::Push) {
                series.push(&mut case);
                prop_assert_eq!(case.root(), case.fresh_root());
            }
        }
    }
}
