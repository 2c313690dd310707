//! A disk that is full to the last byte: forgetting, pruning and the operator's commands make room on it, and a push
//! works again. The disk is a small one of its own.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Output,
};

use serde_json::Value;

use crate::{
    common::program::{Person, Server},
    expect, noise,
    source::SmallDisk,
    text,
};

const MIB: usize = 1 << 20;

/// A full disk, and whose data is on it.
struct Scene {
    person: Person,
    disk: SmallDisk,
    cache: PathBuf,
    ids: Vec<String>,
}

fn free(disk: &SmallDisk) -> usize {
    let found = rustix::fs::statvfs(&disk.path).unwrap();
    (found.f_bavail * found.f_frsize) as usize
}

/// Fills a disk, except for some bytes.
fn fill(disk: &SmallDisk, room: usize) {
    let mut file = File::create(disk.path.join("ballast")).unwrap();
    while free(disk) > room {
        let len = (free(disk) - room).min(MIB);
        if file.write_all(&vec![7; len]).is_err() {
            break;
        }
    }
    if room == 0 {
        assert_eq!(free(disk), 0);
    }
}

/// Mounts a disk, or prints that the test is skipped.
fn disk(person: &Person, mib: usize) -> Option<SmallDisk> {
    let disk = match rustix::process::geteuid().is_root() {
        true => SmallDisk::with_size(&person.path("disk"), mib),
        false => None,
    };
    if disk.is_none() {
        println!("skipped: only root can mount a small disk");
    }
    disk
}

impl Scene {
    /// A repository in a folder of the disk. The index is on the same disk.
    fn local() -> Option<Self> {
        let mut scene = Self::empty(64)?;
        scene.push_until_full();
        Some(scene)
    }

    fn empty(mib: usize) -> Option<Self> {
        let mut person = Person::new();
        let disk = disk(&person, mib)?;
        person.repo = disk.path.join("repo").to_str().unwrap().to_owned();
        let cache = disk.path.join("cache");
        let scene = Self { person, disk, cache, ids: Vec::new() };
        expect(&scene.run(&["init"]), 0, &[]);
        Some(scene)
    }

    fn run(&self, args: &[&str]) -> Output {
        self.person.command().env("BKFS_CACHE_DIR", &self.cache).args(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        expect(&output, 0, &[]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Pushes a file that has nothing in common with the one before.
    fn push(&self, seed: u64, len: usize) -> Output {
        let source = self.person.path("src");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("file"), noise(seed, len)).unwrap();
        self.run(&["push", "-C", source.to_str().unwrap(), ".", "--json"])
    }

    fn push_until_full(&mut self) {
        for seed in 1..=4 {
            let output = self.push(seed, 7 * MIB);
            expect(&output, 0, &[]);
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            self.ids.push(report["snapshot"].as_str().unwrap().to_owned());
        }
        // There is room for the first pack of this push.
        expect(&self.push(5, 40 * MIB), 1, &["no space left", "nothing was lost", "bkfs forget"]);
        assert_eq!(self.listed(), self.ids, "what was acknowledged is there");
    }

    fn listed(&self) -> Vec<String> {
        let list = self.json(&["snapshots"]);
        list.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Asserts that a push works again, and that nothing is damaged.
    #[track_caller]
    fn expect_room(&self) {
        fs::remove_file(self.disk.path.join("ballast")).unwrap();
        expect(&self.push(99, 5 * MIB), 0, &[]);
        expect(&self.run(&["check", "--read-data"]), 0, &[]);
        assert!(self.reserve() > 2_000_000, "the reserve is there again");
    }

    fn repo(&self) -> PathBuf {
        self.person.repo.clone().into()
    }

    fn reserve(&self) -> u64 {
        self.repo().join("reserve").metadata().map_or(0, |meta| meta.len())
    }
}

#[test]
fn a_full_disk_is_freed_by_forgetting_and_pruning() {
    for room in [0, 3 * MIB] {
        let Some(scene) = Scene::local() else { return };
        assert!(scene.reserve() > MIB as u64, "{}", scene.reserve());
        fill(&scene.disk, room);
        expect(&scene.run(&["snapshots"]), 0, &[]);
        expect(&scene.run(&["forget", "--now", &scene.ids[0], &scene.ids[1]]), 0, &[]);
        let report = scene.json(&["prune", "--yes"]);
        assert!(report["bytes_freed"].as_i64().unwrap() > 14 * MIB as i64, "{report}");
        assert!(free(&scene.disk) > 13 * MIB, "{} of {room}", free(&scene.disk));
        assert_eq!(scene.listed(), scene.ids[2..]);
        scene.expect_room();
    }
}

/// The trash is emptied by the prune, and a mistake can be taken back until then.
#[test]
fn the_trash_works_on_a_full_disk() {
    let Some(scene) = Scene::local() else { return };
    fill(&scene.disk, 0);
    expect(&scene.run(&["forget", &scene.ids[0]]), 0, &[]);
    expect(&scene.run(&["unforget", &scene.ids[0]]), 0, &[]);
    assert_eq!(scene.listed(), scene.ids);
    expect(&scene.run(&["forget", &scene.ids[0]]), 0, &[]);
    expect(&scene.run(&["prune", "--yes"]), 0, &[]);
    assert!(free(&scene.disk) > 6 * MIB, "{}", free(&scene.disk));
    scene.expect_room();
}

/// Packs of which something is needed are copied one at a time, those with the least first.
#[test]
fn half_needed_packs_are_rewritten_on_a_full_disk() {
    let Some(scene) = Scene::local() else { return };
    let source = scene.person.path("src");
    let push = || scene.run(&["push", "-C", source.to_str().unwrap(), "."]);
    expect(
        &scene.run(&[&["forget", "--now"], &scene.ids.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat()),
        0,
        &[],
    );
    expect(&scene.run(&["prune", "--yes", "--end-pushes"]), 0, &[]);
    fs::write(source.join("kept"), noise(50, MIB)).unwrap();
    fs::write(source.join("file"), noise(51, 9 * MIB)).unwrap();
    expect(&push(), 0, &[]);
    let first = scene.listed().pop().unwrap();
    fs::remove_file(source.join("file")).unwrap();
    expect(&push(), 0, &[]);
    fill(&scene.disk, 0);
    expect(&scene.run(&["forget", "--now", &first]), 0, &[]);
    expect(&scene.run(&["prune", "--yes"]), 0, &[]);
    assert!(free(&scene.disk) > 7 * MIB, "{}", free(&scene.disk));
    scene.expect_room();
}

/// The rows of many small chunks are on more pages of the index than the reserve has room for. They are removed a few
/// at a time.
#[test]
fn many_small_chunks_are_pruned_on_a_full_disk() {
    let Some(scene) = Scene::empty(8) else { return };
    let source = scene.person.path("src");
    fs::create_dir_all(&source).unwrap();
    for n in 0..6000 {
        fs::write(source.join(n.to_string()), noise(n, 300)).unwrap();
    }
    let push = || scene.run(&["push", "-C", source.to_str().unwrap(), "."]);
    expect(&push(), 0, &[]);
    let first = scene.listed().pop().unwrap();
    fs::remove_dir_all(&source).unwrap();
    fs::create_dir(&source).unwrap();
    fs::write(source.join("kept"), noise(1, 10_000)).unwrap();
    expect(&push(), 0, &[]);
    assert_eq!(scene.reserve(), 256 << 10);
    fill(&scene.disk, 0);
    expect(&scene.run(&["forget", "--now", &first]), 0, &[]);
    expect(&scene.run(&["prune", "--yes"]), 0, &[]);
    assert!(free(&scene.disk) > MIB, "{}", free(&scene.disk));
    fs::remove_file(scene.disk.path.join("ballast")).unwrap();
    expect(&push(), 0, &[]);
    expect(&scene.run(&["check", "--read-data"]), 0, &[]);
}

/// What a push has sent that failed is kept for a week, unless it is to go.
#[test]
fn what_failed_pushes_left_can_be_removed_at_once() {
    let Some(scene) = Scene::local() else { return };
    let left = |report: &Value| report["bytes_pinned"].as_u64().unwrap() as usize;
    fill(&scene.disk, 0);
    let report = scene.json(&["prune"]);
    assert!(left(&report) > 15 * MIB, "{report}");
    let dry = scene.json(&["prune", "--dry-run", "--end-pushes"]);
    assert_eq!(left(&dry), 0, "{dry}");
    let report = scene.json(&["prune", "--end-pushes"]);
    assert_eq!(left(&report), 0, "{report}");
    assert!(free(&scene.disk) > 15 * MIB, "{report}");
    assert_eq!(scene.listed(), scene.ids);
    expect(&scene.run(&["forget", "--now", &scene.ids[0]]), 0, &[]);
    expect(&scene.run(&["prune"]), 0, &[]);
    scene.expect_room();
}

#[test]
fn without_a_reserve_a_full_disk_is_explained() {
    let Some(scene) = Scene::local() else { return };
    fs::remove_file(scene.repo().join("reserve")).unwrap();
    fill(&scene.disk, 0);
    let words = ["no space left", "not even to free some", "nothing was lost", "bkfs server reclaim"];
    // A record fits into what is left of the log's last page. A condemned set does not.
    expect(&scene.run(&["forget", "--now", &scene.ids[0]]), 0, &[]);
    expect(&scene.run(&["prune", "--yes", "--end-pushes"]), 1, &words);
    fs::remove_file(scene.disk.path.join("ballast")).unwrap();
    assert_eq!(scene.listed(), scene.ids[1..]);
    expect(&scene.run(&["prune", "--yes", "--end-pushes"]), 0, &[]);
    fill(&scene.disk, 12 * MIB);
    scene.expect_room();
}

#[test]
fn the_operator_frees_a_full_server() {
    let operator = Person::new();
    let Some(disk) = disk(&operator, 64) else { return };
    let data = disk.path.join("server");
    let server = Server::start(&operator, &data);
    let person = server.person("alice");
    let cache = person.path("cache");
    let mut scene = Scene { person, disk, cache, ids: Vec::new() };
    scene.push_until_full();
    fill(&scene.disk, 0);
    let operate = |args: &[&str]| {
        let (command, rest) = args.split_first().unwrap();
        let args = [&["server", command, "--data", data.to_str().unwrap()], rest].concat();
        operator.command().args(args).output().unwrap()
    };
    expect(&scene.run(&["prune", "--end-pushes"]), 1, &["only the server's operator", "bkfs server reclaim"]);
    // No client frees anything here: the server keeps all of it for two weeks.
    expect(&scene.run(&["forget", &scene.ids[2]]), 0, &[]);
    expect(&operate(&["purge", "alice", &scene.ids[0], &scene.ids[1]]), 0, &[]);
    expect(&scene.run(&["prune", "--yes"]), 0, &[]);
    assert!(free(&scene.disk) < MIB, "it is in the grave");
    let dry = operate(&["reclaim", "alice", "--dry-run"]);
    expect(&dry, 0, &[]);
    for words in ["in the grave are freed, and lost for good", "`bkfs server revive` could bring back until", "1 push "]
    {
        assert!(text(&dry.stdout).contains(words), "{words:?} in {}", text(&dry.stdout));
    }
    expect(&operate(&["reclaim", "alice"]), 1, &["lost for good", "--yes"]);
    assert!(free(&scene.disk) < MIB, "nothing was changed");
    let output = operate(&["reclaim", "alice/main", "--yes", "--json"]);
    expect(&output, 0, &[]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["version"], &report["packs_grave"]), (&1.into(), &4.into()), "{report}");
    assert!(report["bytes_grave"].as_u64().unwrap() as usize > 14 * MIB, "{report}");
    assert!(free(&scene.disk) > 14 * MIB, "{report}");
    // What the failed push left is not kept any more.
    let freed = free(&scene.disk);
    let pruned = scene.json(&["prune", "--yes"]);
    assert_eq!(pruned["bytes_pinned"], 0, "{pruned}");
    expect(&operate(&["reclaim", "alice", "--yes"]), 0, &[]);
    assert!(free(&scene.disk) > freed + 15 * MIB, "{freed} and {}", free(&scene.disk));
    expect(&operate(&["reclaim", "alice", "--yes"]), 0, &[]);
    // What is in the trash was not lost.
    expect(&scene.run(&["unforget", &scene.ids[2]]), 0, &[]);
    // The owner acknowledges what the operator purged.
    expect(&scene.run(&["forget", &scene.ids[0], &scene.ids[1]]), 0, &[]);
    expect(&scene.run(&["check", "--read-data"]), 0, &[]);
    expect(&scene.push(99, 5 * MIB), 0, &[]);
    expect(&scene.run(&["check", "--read-data"]), 0, &[]);
}
