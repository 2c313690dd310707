//! The damage matrix of `docs/SEMANTICS.md`: {delete, truncate, zero, flip a bit, swap two} x {every kind of stored
//! object} x {first, middle, last}, with the index present and with the index to be rebuilt. One table, [`ROWS`],
//! states what each may cost. Whatever it costs, the next push works and can be read.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use bkfs_store::{
    Error, ErrorKind,
    access::{Manage, Open, OpenRequest, Push},
    base::id::{PackId, SnapshotId},
    format::{
        keys::slot::{self, SlotParams},
        log::{file as log_file, file::Position},
        loss::Lost,
        pack::{FOOTER_LEN, Footer},
    },
    repository::Repository,
};

use support::world::{Files, World, problems, read_files};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Delete,
    Truncate,
    Zero,
    Flip,
    Swap,
}

const HARMS: [Harm; 5] = [Harm::Delete, Harm::Truncate, Harm::Zero, Harm::Flip, Harm::Swap];

#[derive(Debug, Clone, Copy)]
enum Place {
    First,
    Middle,
    Last,
}

const PLACES: [Place; 3] = [Place::First, Place::Middle, Place::Last];

/// What damage may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// Nothing: everything can be read, a check finds no problem, and after the next push there are two copies again.
    Nothing,
    /// At most the files in one pack, or in both packs that were swapped. A check names what is damaged.
    Packs,
    /// The snapshot, or both that were swapped. A check names them.
    Snapshots,
    /// The key slot, or both that were swapped. Other slots open.
    Slots,
    /// The repository is refused with an error that names the object, and is not changed. Once the object is put back,
    /// it is whole.
    Refused,
    /// The repository is refused as above, or it shows an older state. A client that saw the newer state notices.
    RefusedOrOlder,
}

/// The table: what is damaged (see [`Scene::targets`]), and what that may cost.
const ROWS: &[(&str, Cost)] = &[
    ("a pack's header", Cost::Packs),
    ("a pack's frames", Cost::Packs),
    ("a pack's table", Cost::Packs),
    ("a pack's footer", Cost::Packs),
    ("a pack's parity", Cost::Nothing),
    ("one copy of a snapshot", Cost::Nothing),
    ("the other copy of a snapshot", Cost::Nothing),
    ("both copies of a snapshot", Cost::Snapshots),
    ("one copy of a key slot", Cost::Nothing),
    ("the other copy of a key slot", Cost::Nothing),
    ("both copies of a key slot", Cost::Slots),
    ("one copy of the configuration", Cost::Nothing),
    ("the other copy of the configuration", Cost::Nothing),
    ("both copies of the configuration", Cost::Refused),
    ("one copy of the log", Cost::Nothing),
    ("the other copy of the log", Cost::Nothing),
    ("both copies of the log", Cost::RefusedOrOlder),
    ("the index", Cost::Nothing),
];

/// A file, the part of it to damage, and what it can be swapped with.
struct Target {
    path: PathBuf,
    part: Range<usize>,
    /// Another file of the kind. If none, two stretches of the part change places.
    other: Option<PathBuf>,
}

/// A sound repository, with three snapshots and two key slots.
struct Scene {
    folder: tempfile::TempDir,
    world: World,
    snapshots: BTreeMap<SnapshotId, Files>,
    /// The second snapshot, and the pack that holds its files.
    hurt: (SnapshotId, PackId),
    next: (SnapshotId, PackId),
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new();
    let repo = Arc::new(Repository::local(&folder.path().join("repo"), &folder.path().join("index")).unwrap());
    repo.init(&world.request).unwrap();
    repo.put_slot(&slot::seal_slot(&world.full, b"second", SlotParams::LEAST, &Default::default()).unwrap()).unwrap();
    let mut snapshots = BTreeMap::new();
    let mut made = Vec::new();
    for seed in 1..=3 {
        let files = World::files(seed);
        let packs = world.packs(&files);
        let pack = packs.uploads[0].0.id;
        let id = world.push_packs(&*repo, &packs).unwrap().snapshot;
        snapshots.insert(id, files);
        made.push((id, pack));
    }
    let reader = world.reader(repo.clone());
    assert_eq!(world.read_all(&reader).unwrap(), snapshots);
    drop((reader, repo));
    Scene { folder, world, snapshots, hurt: made[1], next: made[2] }
});

impl Scene {
    fn targets(&self, what: &str, base: &Path) -> Vec<Target> {
        let repo = base.join("repo");
        let whole = |path: PathBuf, other: Option<PathBuf>| {
            let len = fs::metadata(&path).unwrap().len() as usize;
            Target { path, part: 0..len, other }
        };
        let pack = |id: PackId| repo.join(format!("packs/{:02x}/{id}", id.0[0]));
        let snapshot = |folder: &str, id: SnapshotId| repo.join(folder).join(id.to_string());
        let slot = |folder: &str| {
            let mut slots: Vec<_> =
                fs::read_dir(repo.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
            slots.sort();
            whole(slots[0].clone(), Some(slots[1].clone()))
        };
        let both = |one, two| [self.targets(one, base), self.targets(two, base)].into_iter().flatten().collect();
        match what {
            "a pack's header" | "a pack's frames" | "a pack's table" | "a pack's footer" => {
                let (path, other) = (pack(self.hurt.1), Some(pack(self.next.1)));
                let bytes = fs::read(&path).unwrap();
                let footer = bytes.len() - FOOTER_LEN;
                let table = Footer::parse_tail(&bytes[footer..], bytes.len() as u64).unwrap().table_offset as usize;
                let part = match what {
                    "a pack's header" => 0..16,
                    "a pack's frames" => 16..table,
                    "a pack's table" => table..footer,
                    _ => footer..bytes.len(),
                };
                vec![Target { path, part, other }]
            }
            "a pack's parity" => {
                let parity = |id: PackId| repo.join(format!("parity/{:02x}/{id}", id.0[0]));
                vec![whole(parity(self.hurt.1), Some(parity(self.next.1)))]
            }
            "one copy of a snapshot" => {
                vec![whole(snapshot("snapshots", self.hurt.0), Some(snapshot("snapshots", self.next.0)))]
            }
            "the other copy of a snapshot" => {
                vec![whole(snapshot("snapshots.2", self.hurt.0), Some(snapshot("snapshots.2", self.next.0)))]
            }
            "both copies of a snapshot" => both("one copy of a snapshot", "the other copy of a snapshot"),
            "one copy of a key slot" => vec![slot("slots")],
            "the other copy of a key slot" => vec![slot("slots.2")],
            "both copies of a key slot" => both("one copy of a key slot", "the other copy of a key slot"),
            "one copy of the configuration" => vec![whole(repo.join("config"), None)],
            "the other copy of the configuration" => vec![whole(repo.join("config.2"), None)],
            "both copies of the configuration" => {
                both("one copy of the configuration", "the other copy of the configuration")
            }
            "one copy of the log" => vec![whole(repo.join("log"), None)],
            "the other copy of the log" => vec![whole(repo.join("log.2"), None)],
            "both copies of the log" => both("one copy of the log", "the other copy of the log"),
            "the index" => vec![whole(base.join("index/data.mdb"), None)],
            other => panic!("there is no row {other}"),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// Does the damage. Returns whether it changed anything.
fn harm(target: &Target, harm: Harm, place: Place) -> bool {
    let Target { path, part, other } = target;
    let before = fs::read(path).unwrap();
    let mut bytes = before.clone();
    let at = match place {
        Place::First => part.start,
        Place::Middle => (part.start + part.end) / 2,
        Place::Last => part.end - 1,
    };
    match harm {
        Harm::Delete => {
            fs::remove_file(path).unwrap();
            return true;
        }
        Harm::Truncate => bytes.truncate(at),
        Harm::Zero => {
            // A third of the part, from `at` if there is room for that.
            let len = (part.len() / 3).max(1);
            let from = at.min(part.end - len);
            bytes[from..from + len].fill(0);
        }
        Harm::Flip => bytes[at] ^= 0x10,
        Harm::Swap => match other {
            Some(other) => {
                let theirs = fs::read(other).unwrap();
                fs::write(other, &before).unwrap();
                bytes = theirs;
            }
            None => {
                // Two stretches of the part. Their length depends on the place.
                let len = (part.len() / 2).min([1, 8, part.len() / 2][place as usize]).max(1);
                for i in 0..len {
                    bytes.swap(part.start + i, part.end - len + i);
                }
            }
        },
    }
    fs::write(path, &bytes).unwrap();
    bytes != before
}

/// The variable that names the folder of a damaged index to the process that uses it.
const DAMAGED: &str = "BKFS_TEST_DAMAGED";
/// Runs in a process of its own, which a signal might end.
#[test]
#[ignore = "run by the test of the index, in a process of its own"]
fn a_damaged_index_is_used() {
    let folder = PathBuf::from(std::env::var_os(DAMAGED).expect("a folder"));
    let world = World::new();
    let open = || -> Result<Arc<Repository>, Error> {
        let repo = Arc::new(Repository::local(&folder.join("repo"), &folder.join("index"))?);
        repo.open(&OpenRequest::default())?;
        Ok(repo)
    };
    let found = open().and_then(|repo| problems(&world.reader(repo.clone()), &*repo, true));
    assert_eq!(found.unwrap_or_else(|error| panic!("a check: {error}")), Vec::<String>::new());
    world.push(&*open().unwrap(), &World::files(49)).unwrap_or_else(|error| panic!("a push: {error}"));
}

/// One cell of the matrix.
fn cell(what: &str, cost: Cost, how: Harm, place: Place, with_index: bool) {
    let scene = &*SCENE;
    let name = format!("{what}: {how:?} {place:?}, index {}", if with_index { "there" } else { "gone" });
    let folder = tempfile::tempdir().unwrap();
    copy(scene.folder.path(), folder.path());
    let targets = scene.targets(what, folder.path());
    let changed = targets.iter().filter(|target| harm(target, how, place)).count();
    if changed == 0 {
        return;
    }
    if !with_index {
        let _ = fs::remove_dir_all(folder.path().join("index"));
    }
    let (root, index) = (folder.path().join("repo"), folder.path().join("index"));
    let open = || -> Result<Arc<Repository>, Error> {
        let repo = Arc::new(Repository::local(&root, &index)?);
        repo.open(&OpenRequest::default())?;
        Ok(repo)
    };
    if what == "the index" && with_index && !matches!(how, Harm::Delete | Harm::Truncate) {
        // It is found when the index is opened, and the index is rebuilt, without a word to the caller. Without the
        // seal, LMDB's pages are looked at; every second cell goes that way.
        if matches!(place, Place::Middle) {
            let _ = fs::remove_file(index.join("sealed"));
        }
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_damaged_index_is_used", "--ignored", "--nocapture"]).env(DAMAGED, folder.path());
        let output = child.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {}: {told}", output.status);
        fs::remove_dir_all(&index).unwrap();
    }
    let repo = match open() {
        Ok(repo) => repo,
        Err(error) => {
            assert!(matches!(cost, Cost::Refused | Cost::RefusedOrOlder), "{name}: {error}");
            refused(scene, folder.path(), &name, &error);
            return;
        }
    };
    assert_ne!(cost, Cost::Refused, "{name}: the damage was not noticed");
    // What can be read.
    let reader = scene.world.reader(repo.clone());
    let mut lost = Vec::new();
    let listed = match reader.snapshots() {
        // The index is past the damage, but readers look at the whole log.
        Err(error) if cost == Cost::RefusedOrOlder => {
            drop((reader, repo));
            refused(scene, folder.path(), &name, &error);
            return;
        }
        listed => listed.unwrap_or_else(|error| panic!("{name}: {error}")),
    };
    for (id, files) in &scene.snapshots {
        let found = listed.iter().find(|info| info.id == *id).map(|info| read_files(&reader, &info.snapshot.root));
        match found {
            Some(Ok(found)) => assert_eq!(&found, files, "{name}"),
            Some(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{name}: {error}");
                lost.push(*id);
            }
            None => lost.push(*id),
        }
    }
    let found = problems(&reader, &*repo, true).unwrap_or_else(|error| panic!("{name}: the check ended with {error}"));
    let may_lose = [scene.hurt.0, scene.next.0];
    let allowed = if how == Harm::Swap { &may_lose[..] } else { &may_lose[..1] };
    match cost {
        Cost::Nothing => assert!(lost.is_empty() && found.is_empty(), "{name}: {lost:?} {found:?}"),
        Cost::Packs | Cost::Snapshots => {
            assert!(lost.iter().all(|id| allowed.contains(id)), "{name}: {lost:?}");
            if found.is_empty() && !lost.is_empty() {
                // The first read met the damage, and the pack has been mended since.
                assert_eq!(scene.world.read_all(&scene.world.reader(repo.clone())).unwrap(), scene.snapshots, "{name}");
            }
            if cost == Cost::Snapshots {
                assert!(
                    lost.iter().all(|id| found.iter().any(|text| text.contains(&id.to_string()))),
                    "{name}: {found:?}"
                );
            }
        }
        Cost::Slots => assert!(lost.is_empty() && found.is_empty(), "{name}"),
        Cost::RefusedOrOlder => assert!(!found.is_empty() || listed.len() < 3 || lost.is_empty(), "{name}"),
        Cost::Refused => {}
    }
    if what.contains("slot") {
        slots_open(scene, &repo, cost, how, &name);
    }
    // The next push works and can be read. What is kept twice has two copies again.
    let files = World::files(50);
    let receipt = scene.world.push(&*repo, &files).unwrap_or_else(|error| panic!("{name}: the next push: {error}"));
    drop((reader, repo));
    let repo = open().unwrap_or_else(|error| panic!("{name}: after the next push: {error}"));
    let reader = scene.world.reader(repo.clone());
    let info = reader.snapshots().unwrap().into_iter().find(|info| info.id == receipt.snapshot);
    let info = info.unwrap_or_else(|| panic!("{name}: the next snapshot is not shown"));
    assert_eq!(read_files(&reader, &info.snapshot.root).unwrap(), files, "{name}");
    for file in ["log", "config"] {
        let (one, two) = (fs::read(root.join(file)).unwrap(), fs::read(root.join(format!("{file}.2"))).unwrap());
        assert!(one == two, "{name}: {file} and {file}.2 are not the same");
    }
}

/// Every passphrase still opens the full key, except those whose slots may be lost.
fn slots_open(scene: &Scene, repo: &Repository, cost: Cost, how: Harm, name: &str) {
    let slots = repo.open(&OpenRequest::default()).unwrap().slots;
    let opens = |word: &&&[u8]| {
        slot::open_any(&slots, word, &support::seal_keys()).is_ok_and(|(_, full)| full.repo == scene.world.full.repo)
    };
    let opening = [&b"first"[..], b"second"].iter().filter(opens).count();
    let least = match (cost, how) {
        (Cost::Slots, Harm::Swap) => 0,
        (Cost::Slots, _) => 1,
        _ => 2,
    };
    assert!(opening >= least, "{name}: {opening} of 2 passphrases open");
}

/// The error says what is wrong. No source of truth has changed, no new repository can be made in its place, and the
/// repository is whole again when what was damaged is put back.
fn refused(scene: &Scene, folder: &Path, name: &str, error: &Error) {
    let text = error.to_string();
    assert!(["log", "configuration", "repository"].iter().any(|word| text.contains(word)), "{name}: {text}");
    let repo = Repository::local(&folder.join("repo"), &folder.join("index-of-init"));
    if let Ok(repo) = repo {
        assert!(repo.init(&scene.world.request).is_err(), "{name}: a repository was made over the remains of one");
    }
    for file in ["config", "config.2", "log", "log.2"] {
        fs::copy(scene.folder.path().join("repo").join(file), folder.join("repo").join(file)).unwrap();
    }
    let repo = Arc::new(Repository::local(&folder.join("repo"), &folder.join("index")).unwrap());
    let reader = scene.world.reader(repo.clone());
    assert_eq!(scene.world.read_all(&reader).unwrap(), scene.snapshots, "{name}: put back");
}

fn row(what: &str) {
    let (_, cost) = ROWS.iter().find(|(name, _)| *name == what).expect("a row of the table");
    for harm in HARMS {
        for place in PLACES {
            for with_index in [true, false] {
                cell(what, *cost, harm, place, with_index);
            }
        }
    }
}

/// One test for each row, so that they run in parallel and have names.
macro_rules! rows {
    ($($test:ident: $what:literal,)*) => {
        $(#[test] fn $test() { row($what); })*

        #[test]
        fn every_row_is_tested() {
            let tested = [$($what),*];
            assert_eq!(ROWS.iter().map(|(what, _)| *what).collect::<Vec<_>>(), tested);
        }
    };
}

rows! {
    a_packs_header: "a pack's header",
    a_packs_frames: "a pack's frames",
    a_packs_table: "a pack's table",
    a_packs_footer: "a pack's footer",
    a_packs_parity: "a pack's parity",
    one_copy_of_a_snapshot: "one copy of a snapshot",
    the_other_copy_of_a_snapshot: "the other copy of a snapshot",
    both_copies_of_a_snapshot: "both copies of a snapshot",
    one_copy_of_a_slot: "one copy of a key slot",
    the_other_copy_of_a_slot: "the other copy of a key slot",
    both_copies_of_a_slot: "both copies of a key slot",
    one_copy_of_the_configuration: "one copy of the configuration",
    the_other_copy_of_the_configuration: "the other copy of the configuration",
    both_copies_of_the_configuration: "both copies of the configuration",
    one_copy_of_the_log: "one copy of the log",
    the_other_copy_of_the_log: "the other copy of the log",
    both_copies_of_the_log: "both copies of the log",
    the_index: "the index",
}

/// A missing pack file is noticed when the repository is opened: the pack's chunks no longer count as stored, and
/// clients are told to ask again. The next push of the same files heals the old snapshot, too.
#[test]
fn a_missing_pack_is_stored_again() {
    let scene = &*SCENE;
    let folder = tempfile::tempdir().unwrap();
    copy(scene.folder.path(), folder.path());
    let open = || Arc::new(Repository::local(&folder.path().join("repo"), &folder.path().join("index")).unwrap());
    let seen = open().open(&OpenRequest::default()).unwrap().now;
    assert_eq!(open().open(&OpenRequest { client: None, seen: Some(seen) }).unwrap().lost, Lost::Ids(vec![]));
    let pack = &scene.targets("a pack's frames", folder.path())[0].path;
    let ids: Vec<_> = World::files(2).values().map(|bytes| scene.world.push.ids().data_id(bytes)).collect();
    fs::remove_file(pack).unwrap();
    let repo = open();
    assert!(repo.has(None, &ids).unwrap().iter().all(|has| !has));
    let opened = repo.open(&OpenRequest { client: None, seen: Some(seen) }).unwrap();
    assert_eq!(opened.lost, Lost::Everything);
    assert_eq!(opened.head_at_seen, Some(seen.log_head), "this is not a rollback");
    // It is recorded once.
    drop(repo);
    let repo = open();
    assert_eq!(repo.open(&OpenRequest::default()).unwrap().now, opened.now);
    scene.world.push(&*repo, &World::files(2)).unwrap();
    let reader = scene.world.reader(repo.clone());
    assert_eq!(scene.world.read_all(&reader).unwrap().get(&scene.hurt.0), scene.snapshots.get(&scene.hurt.0));
    assert_eq!(problems(&reader, &*repo, true).unwrap(), Vec::<String>::new());
}

/// A damaged pack is examined again until it is whole, however that came about.
#[test]
fn a_pack_that_is_put_back_counts_again() {
    let scene = &*SCENE;
    let folder = tempfile::tempdir().unwrap();
    copy(scene.folder.path(), folder.path());
    let target = &scene.targets("a pack's footer", folder.path())[0];
    let whole = fs::read(&target.path).unwrap();
    harm(target, Harm::Flip, Place::First);
    fs::remove_dir_all(folder.path().join("index")).unwrap();
    let open = || Arc::new(Repository::local(&folder.path().join("repo"), &folder.path().join("index")).unwrap());
    drop(open());
    fs::write(&target.path, whole).unwrap();
    let reader = scene.world.reader(open());
    assert_eq!(scene.world.read_all(&reader).unwrap(), scene.snapshots);
}

/// One record of the log, damaged in both files at once. The hash chain detects each of them.
#[test]
fn damage_to_each_record_of_the_log_is_detected() {
    let scene = &*SCENE;
    let log = fs::read(scene.folder.path().join("repo/log")).unwrap();
    let (mut at, mut records) = (Position::default(), 0);
    while let Some((_, next)) = log_file::next_record(at, &log[at.offset as usize..]).unwrap() {
        let folder = tempfile::tempdir().unwrap();
        copy(scene.folder.path(), folder.path());
        fs::remove_dir_all(folder.path().join("index")).unwrap();
        let mut bytes = log.clone();
        bytes[at.offset as usize + 10] ^= 1;
        for file in ["log", "log.2"] {
            fs::write(folder.path().join("repo").join(file), &bytes).unwrap();
        }
        let error = Repository::local(&folder.path().join("repo"), &folder.path().join("index")).unwrap_err();
        assert!(error.to_string().contains(&format!("record {}", at.len)), "{error}");
        refused(scene, folder.path(), &format!("record {} of the log", at.len), &error);
        at = next;
        records += 1;
    }
    assert_eq!(records, 6, "init, incarnation, roster and three commits");
}
