//! Programs that are killed again and again while they work, and disks that are nearly full. Everything acknowledged
//! must still be there, nothing may be damaged, no rollback may be reported, and nothing left over may break the next
//! push.
//!
//! Each loop runs for 12 seconds. `BKFS_KILL_SECONDS` sets another time.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    common::program::{Person, Server},
    expect,
    network::kill,
    noise,
    source::SmallDisk,
    text,
};

/// How long a push may take on a busy machine, including the wait for a server.
const PATIENCE: Duration = Duration::from_secs(90);

fn seconds() -> Duration {
    Duration::from_secs(std::env::var("BKFS_KILL_SECONDS").map_or(12, |text| text.parse().expect("a number")))
}

/// Random numbers that differ from run to run. A seed would not help: the moments of the kills are not repeatable
/// anyway.
struct Chance(u64);

impl Chance {
    fn new(salt: u64) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self(now.as_nanos() as u64 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Pushes a changing folder until `stop` is set, each time with a new tag, and kills some of the pushes. Returns the
/// tags of those that were acknowledged.
fn push_and_kill(person: &Person, target: &str, stop: &AtomicBool, kills: u64) -> BTreeSet<String> {
    let mut chance = Chance::new(target.len() as u64 + u64::from(target.as_bytes()[0]));
    let (source, mut acknowledged) = (person.path(target), BTreeSet::new());
    fs::create_dir_all(&source).unwrap();
    for number in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        for file in 0..1 + chance.below(6) {
            let len = 1usize << chance.below(21);
            fs::write(source.join(format!("file{file}")), noise(chance.below(1 << 40), len)).unwrap();
        }
        let tag = format!("{target}{number}");
        fs::write(source.join("tag"), &tag).unwrap();
        let mut command = person.command();
        command.args(["push", "--quiet", "--target", target, "--tag", &tag, "-C", source.to_str().unwrap(), "."]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        if chance.below(100) < kills {
            std::thread::sleep(Duration::from_millis(chance.below(500)));
            let _ = child.kill();
        }
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < PATIENCE, "a push does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => drop(acknowledged.insert(tag)),
            // The server was killed at a bad moment.
            Some(1) => assert!(!text(&output.stderr).contains("damaged"), "{}", text(&output.stderr)),
            Some(code) => panic!("a push ended with {code}: {}", text(&output.stderr)),
            None => {
                use std::os::unix::process::ExitStatusExt;
                assert_eq!(output.status.signal(), Some(9), "{}", text(&output.stderr));
            }
        }
    }
    acknowledged
}

/// Asserts that a repository works and has everything that was acknowledged.
fn expect_sound(person: &Person, target: &str, acknowledged: &BTreeSet<String>) {
    let source = person.path(target);
    person.run(["push", "--target", target, "-C", source.to_str().unwrap(), "."]);
    let listed: Vec<Value> = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
    let ids = |tag: &str| {
        let has = |row: &&Value| row["tags"].as_array().unwrap().iter().any(|t| t.as_str() == Some(tag));
        listed.iter().filter(has).map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for tag in acknowledged {
        let ids = ids(tag);
        assert!(!ids.is_empty(), "snapshot {tag} was acknowledged, but is gone");
        assert_eq!(&person.run(["cat", &format!("{}:tag", ids[0])]), tag);
    }
    person.run(["check", "--read-data"]);
    let out = person.path(&format!("out-{target}"));
    person.run(["restore", "--target", target, "latest", out.to_str().unwrap()]);
    let compare = Command::new("diff").arg("-r").args([&source, &out]).output().unwrap();
    assert!(compare.status.success(), "{}", text(&compare.stdout));
}

#[test]
fn a_server_and_its_clients_are_killed_again_and_again() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let (alice, bob) = (server.person("alice"), server.person("bob"));
    let address = server.address.clone();
    let (stop, begin, mut chance, mut kills) = (AtomicBool::new(false), Instant::now(), Chance::new(0), 0);
    let (_server, acknowledged) = std::thread::scope(|scope| {
        let mut server = server;
        let pushes = [(&alice, "home"), (&alice, "etc"), (&bob, "srv")].map(|(person, target)| {
            let stop = &stop;
            (person, target, scope.spawn(move || push_and_kill(person, target, stop, 30)))
        });
        while begin.elapsed() < seconds() {
            std::thread::sleep(Duration::from_millis(200 + chance.below(1500)));
            kill(&server);
            drop(server);
            server = Server::run(&operator, &operator.path("server"), &address);
            kills += 1;
        }
        stop.store(true, Relaxed);
        (server, pushes.map(|(person, target, thread)| (person, target, thread.join().unwrap())))
    });
    for (person, target, acknowledged) in acknowledged {
        println!("{target}: {} pushes acknowledged, server killed {kills} times", acknowledged.len());
        expect_sound(person, target, &acknowledged);
    }
}

#[test]
fn pushes_to_a_folder_are_killed_again_and_again() {
    let person = Person::with_repo();
    let (stop, begin) = (AtomicBool::new(false), Instant::now());
    let acknowledged = std::thread::scope(|scope| {
        let pushes = ["home", "etc"].map(|target| {
            let (person, stop) = (&person, &stop);
            (target, scope.spawn(move || push_and_kill(person, target, stop, 70)))
        });
        while begin.elapsed() < seconds() {
            std::thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Relaxed);
        pushes.map(|(target, thread)| (target, thread.join().unwrap()))
    });
    for (target, acknowledged) in acknowledged {
        println!("{target}: {} pushes acknowledged", acknowledged.len());
        expect_sound(&person, target, &acknowledged);
    }
}

/// Fills a disk until `room` bytes are free.
fn fill(disk: &Path, room: u64) {
    use std::io::Write;
    let path = disk.join("ballast");
    let mut file = fs::File::create(&path).unwrap();
    let mut len = 0;
    while let Ok(written) = file.write(&[7; 4096]) {
        len += written as u64;
    }
    file.set_len(len.saturating_sub(room)).unwrap();
}

#[test]
fn a_nearly_full_disk_causes_errors_but_no_loss() {
    if !rustix::process::geteuid().is_root() {
        crate::skip!("only root can mount a small disk");
    }
    let person = Person::new();
    let Some(disk) = SmallDisk::new(&person.path("disk")) else { crate::skip!("nothing can be mounted") };
    let (repo, cache, config) = (disk.path.join("repo"), disk.path.join("cache"), disk.path.join("config"));
    let run = |args: &[&str]| {
        let mut command = person.command();
        command.env("BKFS_REPOSITORY", &repo).env("BKFS_CACHE_DIR", &cache).env("BKFS_CONFIG_DIR", &config);
        command.args(args).output().unwrap()
    };
    expect(&run(&["init"]), 0, &[]);
    let source = person.path("src");
    crate::make_source(&source);
    let push = ["push", "-C", source.to_str().unwrap(), "."];
    expect(&run(&push), 0, &[]);
    let (mut snapshots, mut refused) = (1, 0);
    for (round, pages) in [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40, 48, 64, 96].into_iter().enumerate() {
        if round % 2 == 0 {
            // The index and the file cache must be rebuilt, too.
            fs::remove_dir_all(&cache).unwrap();
        }
        fs::write(source.join("new"), noise(round as u64, 20_000)).unwrap();
        fill(&disk.path, pages * 4096);
        for args in [&["snapshots"][..], &push] {
            let output = run(args);
            let error = text(&output.stderr);
            match output.status.code() {
                Some(0) => snapshots += usize::from(args == push),
                Some(1) => {
                    assert!(error.contains("no space left"), "{pages} pages of room: {error}");
                    refused += 1;
                }
                code => panic!("{pages} pages of room: {code:?} {error}"),
            }
        }
        fs::remove_file(disk.path.join("ballast")).unwrap();
        expect(&run(&["check", "--read-data"]), 0, &[]);
        expect(&run(&push), 0, &[]);
        snapshots += 1;
    }
    assert!(refused > 5, "there was always enough room");
    let listed: Vec<Value> = serde_json::from_slice(&run(&["snapshots", "--json"]).stdout).unwrap();
    // A push that ended with an error may have been committed all the same.
    assert!(listed.len() >= snapshots, "only {} of {snapshots} snapshots are left", listed.len());
}

#[test]
fn a_prune_on_a_nearly_full_server_works_or_loses_nothing() {
    if !rustix::process::geteuid().is_root() {
        crate::skip!("only root can mount a small disk");
    }
    let operator = Person::new();
    let Some(disk) = SmallDisk::new(&operator.path("disk")) else { crate::skip!("nothing can be mounted") };
    let server = Server::start_protecting(&operator, &disk.path.join("server"), "0d");
    let person = server.person("alice");
    let source = person.path("src");
    crate::make_source(&source);
    person.push(&source);
    let (mut refused, mut pruned) = (0, 0);
    for (round, pages) in [0, 2, 5, 13, 34, 60].into_iter().enumerate() {
        // Half of this pack will soon be unused.
        fs::write(source.join("going"), noise(1000 + round as u64, 60_000)).unwrap();
        fs::write(source.join(format!("staying{round}")), noise(2000 + round as u64, 40_000)).unwrap();
        person.push(&source);
        fs::remove_file(source.join("going")).unwrap();
        person.push(&source);
        let listed: Vec<Value> = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
        let old = listed[listed.len() - 2]["id"].as_str().unwrap().to_owned();
        person.run(["forget", "--now", &old]);
        fill(&disk.path, pages * 4096);
        let output = person.output(["prune", "--yes", "--max-unused", "0"]);
        match output.status.code() {
            Some(0) => pruned += 1,
            Some(1) => {
                expect(&output, 1, &["no space left"]);
                refused += 1;
            }
            code => panic!("{pages} pages of room: {code:?} {}", text(&output.stderr)),
        }
        // Whatever was left unfinished, the repository can be read, and a push either succeeds or fails with a clear
        // error.
        assert_eq!(person.run(["cat", "latest:hello"]), "hello\n", "{pages} pages of room");
        fs::write(source.join("more"), noise(3000 + round as u64, 30_000)).unwrap();
        let output = person.output(["push", "-C", source.to_str().unwrap(), "."]);
        if output.status.code() != Some(0) {
            expect(&output, 1, &["no space left"]);
        }
        fs::remove_file(disk.path.join("ballast")).unwrap();
        expect(&person.output(["prune", "--yes", "--max-unused", "0"]), 0, &[]);
        person.run(["check", "--read-data"]);
    }
    // The reserve is enough for almost all.
    assert!(pruned > refused, "{refused} prunes had no room, {pruned} had enough");
    person.push(&source);
    let out = person.path("out");
    person.run(["restore", "latest", out.to_str().unwrap()]);
    let compare = Command::new("diff").arg("-r").args([&source, &out]).output().unwrap();
    assert!(compare.status.success(), "{}", text(&compare.stdout));
}
