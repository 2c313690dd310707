//! How long commands take in a repository with very many snapshots, each of one tiny file, of a few series.
//!
//! ```text
//! TMPDIR=/dev/shm cargo bench --bench snapshots -- --snapshots 50000 --series 4
//! ```
//!
//! The snapshots are committed directly to the store; everything that is measured is the real program, with a key file
//! in place of a passphrase. `--program FILE` measures another build of it. *Bare* is without anything that is
//! remembered of snapshots. `--forgotten PERCENT` of them are gone for good. Nothing here asserts a time.

#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bkfs_store::{
    access::{ForgetRequest, Manage, Open, OpenRequest, Push, SignedTombstone},
    base::id::SnapshotId,
    crypto::DataKey,
    format::{
        config::verify_config,
        keys::{FullKey, KeyFile, PushKey},
        snapshot::{Snapshot, seal},
        tombstone::Tombstone,
    },
    owner::reader::Reader,
    repository::Repository,
};
use common::program::{Person, cannot_mount};

/// What is asked for on the command line.
struct Wanted {
    snapshots: usize,
    series: usize,
    forgotten: usize,
    program: Option<PathBuf>,
}

impl Wanted {
    fn parse() -> Self {
        let args: Vec<String> = std::env::args().collect();
        let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
        let number =
            |name: &str, otherwise: usize| value(name).map_or(otherwise, |value| value.parse().expect("a number"));
        Self {
            snapshots: number("--snapshots", 4000),
            series: number("--series", 4).max(1),
            forgotten: number("--forgotten", 0),
            program: value("--program").map(PathBuf::from),
        }
    }
}

fn main() {
    let wanted = Wanted::parse();
    let person = Person::with_repo();
    let key = person.path("full.key");
    person.run(["key".as_ref(), "export-full".as_ref(), key.as_os_str()]);
    let source = person.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), b"tiny").unwrap();
    person.run(["push".as_ref(), "--target".as_ref(), "series-0".as_ref(), source.as_os_str()]);
    let begun = Instant::now();
    fill(&person, &key, &wanted);
    println!("{} snapshots in {} series made in {:.1?}", wanted.snapshots, wanted.series, begun.elapsed());

    let scene = Scene { person: &person, key, program: wanted.program };
    scene.run(&["snapshots", "--json"]);
    let latest = ["ls", "latest", "--target", "series-0"];
    scene.forget_memory();
    scene.measure("ls latest, bare", 1, || scene.run(&latest));
    scene.measure("ls latest, bare before", 3, || scene.run(&latest));
    scene.measure("mount and ls, few remembered", 1, || scene.mount());
    scene.forget_memory();
    scene.measure("mount and ls, bare", 1, || scene.mount());
    scene.forget_memory();
    scene.measure("snapshots --json, bare", 1, || scene.run(&["snapshots", "--json"]));
    scene.measure("snapshots --json", 3, || scene.run(&["snapshots", "--json"]));
    scene.measure("ls latest", 5, || scene.run(&latest));
    scene.measure("mount and ls", 3, || scene.mount());
    scene.measure("check", 1, || scene.run(&["check"]));
    scene.measure("prune, first", 1, || scene.run(&["prune"]));
    scene.measure("prune", 1, || scene.run(&["prune"]));
    println!("remembered: {} bytes", scene.memory().iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>());
}

/// Commits snapshots until there are as many as wanted.
fn fill(person: &Person, key: &Path, wanted: &Wanted) {
    let KeyFile::Full { full, .. } = KeyFile::decode(&fs::read(key).unwrap()).unwrap() else { panic!("a full key") };
    let push = machine_key(person);
    // The program's own index, so that it need not read the log that is written here.
    let index = fs::read_dir(person.path("cache/index")).unwrap().next().unwrap().unwrap().path();
    let repo = std::sync::Arc::new(Repository::local(Path::new(&person.repo), &index).unwrap());
    let opened = repo.open(&OpenRequest { client: Some(push.client_id()), seen: None }).unwrap();
    let config = verify_config(&opened.config).unwrap();
    let first = Reader::new(repo.clone(), full.clone(), &config, 1 << 20).snapshots().unwrap().pop().unwrap();
    let (mut previous, mut now) = (first.id, opened.now);
    let (ids, seal_key) = (push.ids(), push.seal().unwrap());
    let mut all = vec![first.id];
    for n in 1..wanted.snapshots {
        let mut snapshot = Snapshot { sequence: n as u64 + 1, previous: Some(previous), ..first.snapshot.clone() };
        (snapshot.log_len, snapshot.log_head) = (now.log_len, now.log_head);
        snapshot.target = format!("series-{}", n % wanted.series);
        snapshot.time.secs += n as i64;
        let data = DataKey::random();
        let bytes = seal(&snapshot, &push, &ids, &data, &seal_key.wrap(push.repo, &data));
        let receipt = repo.commit(opened.lease, &bytes).unwrap();
        (previous, now) = (receipt.snapshot, receipt.now);
        all.push(previous);
    }
    let gone = &all[..all.len() * wanted.forgotten / 100];
    for part in gone.chunks(1000) {
        forget(&repo, &full, part);
    }
}

/// The push key that `init` left on this machine.
fn machine_key(person: &Person) -> PushKey {
    let mut folders = vec![person.path("config")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(KeyFile::Push(push)) = KeyFile::decode(&fs::read(path).unwrap()) {
                return push;
            }
        }
    }
    panic!("this machine has no push key");
}

fn forget(repo: &Repository, full: &FullKey, ids: &[SnapshotId]) {
    let log_len = repo.open(&OpenRequest::default()).unwrap().now.log_len;
    let sign = |id: &SnapshotId| {
        SignedTombstone(Tombstone { repo: full.repo, snapshot: *id, log_len, is_broken: false }.sign(full))
    };
    let tombstones = ids.iter().map(sign).collect();
    repo.forget(&ForgetRequest { tombstones, now: true, empty_trash: false }).unwrap();
}

/// A repository, and who measures it.
struct Scene<'a> {
    person: &'a Person,
    key: PathBuf,
    program: Option<PathBuf>,
}

impl Scene<'_> {
    fn command(&self) -> Command {
        let ours = self.person.command();
        let program = self.program.as_deref().map_or(ours.get_program(), Path::as_os_str);
        let mut command = Command::new(program);
        for (name, value) in ours.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("BKFS_KEY_FILE", &self.key).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) {
        let output = self.command().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Mounts, lists the newest snapshot, and unmounts.
    fn mount(&self) {
        if cannot_mount().is_some() {
            return;
        }
        let point = self.person.path("mount");
        fs::create_dir_all(&point).unwrap();
        let mut child = self.command().args(["mount", "--target", "series-0"]).arg(&point).spawn().unwrap();
        while fs::read_dir(point.join("latest")).map_or(0, Iterator::count) == 0 {
            assert!(child.try_wait().unwrap().is_none(), "the mount ended");
            std::thread::sleep(Duration::from_millis(2));
        }
        let umount = Command::new("umount").arg(&point).status().unwrap();
        assert!(umount.success());
        child.wait().unwrap();
    }

    /// The files in which snapshots are remembered.
    fn memory(&self) -> Vec<PathBuf> {
        let folders =
            fs::read_dir(self.person.path("cache")).unwrap().map(|entry| entry.unwrap().path().join("snapshots"));
        let files = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        files.map(|file| file.unwrap().path()).collect()
    }

    fn forget_memory(&self) {
        self.memory().iter().for_each(|path| fs::remove_file(path).unwrap());
    }

    /// Prints the shortest of several times.
    fn measure(&self, name: &str, times: usize, run: impl Fn()) {
        let time = || {
            let begun = Instant::now();
            run();
            begun.elapsed()
        };
        let shortest = (0..times).map(|_| time()).min().unwrap_or_default();
        println!("{name:32} {:8.3} s", shortest.as_secs_f64());
    }
}
