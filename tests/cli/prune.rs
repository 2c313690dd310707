//! Pruning with the real program: it frees space and loses nothing that is needed; limits and refusals work; and
//! pushes, mounts and the operator's revival work while it runs.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    common::program::{Person, Server, cannot_mount},
    expect, noise, text,
};

const MIB: usize = 1 << 20;
/// How long a program may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a file that does not compress to the folder that is pushed.
pub fn write(person: &Person, name: &str, seed: u64, len: usize) {
    fs::create_dir_all(person.path("src")).unwrap();
    fs::write(person.path("src").join(name), noise(seed, len)).unwrap();
}

pub fn remove(person: &Person, name: &str) {
    fs::remove_file(person.path("src").join(name)).unwrap();
}

fn push(person: &Person) -> Value {
    let output = person.command().args(["push", "--json", "-C"]).arg(person.path("src")).arg(".").output().unwrap();
    expect(&output, 0, &[]);
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn pushed(person: &Person) -> String {
    push(person)["snapshot"].as_str().unwrap().to_owned()
}

pub fn json(person: &Person, args: &[&str]) -> Value {
    serde_json::from_str(&person.run(args.iter().chain(&["--json"]))).unwrap()
}

pub fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"))
}

/// Returns all files below a folder, with their lengths.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            match meta.is_dir() {
                true => todo.push(entry.path()),
                false => drop(found.insert(entry.path(), meta.len())),
            }
        }
    }
    found
}

pub fn bytes(folder: &Path) -> usize {
    files(folder).values().sum::<u64>() as usize
}

/// Asserts that the newest snapshot restores to what was pushed, and that a full check finds no problem.
fn expect_intact(person: &Person) {
    let out = person.path("out");
    let _ = fs::remove_dir_all(&out);
    person.run(["restore", "latest", out.to_str().unwrap()]);
    let compare = Command::new("diff").arg("-r").args([&person.path("src"), &out]).output().unwrap();
    assert!(compare.status.success(), "{}", text(&compare.stdout));
    person.run(["check", "--read-data"]);
}

/// Pushes two snapshots. About a fifth of the data is needed only by the first, and shares a pack with data that the
/// second needs, too.
pub fn fill(person: &Person) -> [String; 2] {
    write(person, "going", 1, MIB);
    write(person, "staying", 2, 3 * MIB);
    let first = pushed(person);
    remove(person, "going");
    write(person, "coming", 3, MIB);
    [first, pushed(person)]
}

fn pruning_frees_space(person: &Person, repo: &Path) {
    let [first, second] = fill(person);
    person.run(["forget", "--now", &first]);
    let before = files(repo);
    let dry = json(person, &["prune", "--dry-run"]);
    assert!(number(&dry, "bytes_freed") as usize > MIB - 1000 && dry["dry_run"] == true, "{dry}");
    let dry_run = person.output(["prune", "-n", "-v"]);
    let printed = text(&dry_run.stdout);
    assert!(printed.contains("would free") && printed.contains("rewritten"), "{dry_run:?}");
    let packs = |files: &BTreeMap<PathBuf, u64>| {
        let of_index = |path: &PathBuf| path.strip_prefix(repo).unwrap().starts_with("index");
        files.iter().filter(|(path, _)| !of_index(path)).map(|(path, len)| (path.clone(), *len)).collect::<Vec<_>>()
    };
    assert_eq!(packs(&files(repo)), packs(&before), "a dry run changes nothing");

    let (before, report) = (bytes(&repo.join("packs")), json(person, &["prune"]));
    let after = bytes(&repo.join("packs"));
    assert!(before - after > MIB - 1000 && before - after < MIB + MIB / 4, "{before} to {after}");
    assert_eq!(number(&report, "packs_repacked"), 1, "{report}");
    assert!(number(&report, "bytes_copied") as usize >= 3 * MIB, "{report}");
    assert!(number(&report, "bytes_sent") < 4000 && number(&report, "tree_pages") >= 1, "{report}");
    assert_eq!((number(&report, "packs_damaged"), number(&report, "snapshots_expired")), (0, 0), "{report}");
    expect_intact(person);
    assert_eq!(bytes(&repo.join("grave")), 0);

    let again = json(person, &["prune"]);
    assert_eq!((number(&again, "bytes_freed"), number(&again, "packs_dropped")), (0, 0), "{again}");
    // Pruned data can be pushed again. A prune empties the trash unless --keep-trash is given.
    write(person, "going", 1, MIB);
    assert!(number(&push(person), "bytes_stored") as usize >= MIB);
    expect_intact(person);
    person.run(["forget", &second]);
    assert_eq!(number(&json(person, &["prune", "--keep-trash"]), "snapshots_expired"), 0);
    assert_eq!(number(&json(person, &["prune"]), "snapshots_expired"), 1);
    expect_intact(person);
}

#[test]
fn pruning_frees_space_at_a_path() {
    let person = Person::with_repo();
    pruning_frees_space(&person, &person.path("repo"));
}

#[test]
fn pruning_frees_space_on_a_server() {
    let operator = Person::new();
    let server = Server::start_protecting(&operator, &operator.path("server"), "0d");
    let person = server.person("alice");
    pruning_frees_space(&person, &operator.path("server/accounts/alice/main"));
}

/// Pushes many small files that share a few frames, and removes most of them.
fn pruning_frees_the_space_of_small_files(person: &Person, repo: &Path) {
    let name = |n: u64| format!("small{n:03}");
    for n in 0..600 {
        write(person, &name(n), n, 5000);
    }
    let first = pushed(person);
    (0..600).filter(|n| n % 10 != 7).for_each(|n| remove(person, &name(n)));
    pushed(person);
    person.run(["forget", "--now", &first]);
    let packs = repo.join("packs");
    let without = json(person, &["prune", "--yes", "--max-reframe-size", "0"]);
    assert!(number(&without, "bytes_mixed") as usize > 2 * MIB && bytes(&packs) > 3_000_000, "{without}");
    let dry = json(person, &["prune", "--dry-run"]);
    assert!(number(&dry, "bytes_reframed") as usize > 2 * MIB && number(&dry, "frames_reframed") == 0, "{dry}");
    assert!(bytes(&packs) > 3_000_000);
    let report = json(person, &["prune"]);
    assert_eq!(number(&report, "bytes_reframed"), number(&dry, "bytes_reframed"));
    assert!(number(&report, "frames_reframed") >= 4 && number(&report, "bytes_mixed") == 0, "{report}");
    assert!(bytes(&packs) < 400_000, "{} bytes: {report}", bytes(&packs));
    assert!(number(&report, "bytes_freed") as usize > 2_500_000, "{report}");
    expect_intact(person);
    let again = json(person, &["prune"]);
    assert_eq!((number(&again, "bytes_freed"), number(&again, "bytes_reframed")), (0, 0), "{again}");
}

#[test]
fn pruning_frees_the_space_of_small_files_at_a_path() {
    let person = Person::with_repo();
    pruning_frees_the_space_of_small_files(&person, &person.path("repo"));
}

#[test]
fn pruning_frees_the_space_of_small_files_on_a_server() {
    let operator = Person::new();
    let server = Server::start_protecting(&operator, &operator.path("server"), "0d");
    let person = server.person("alice");
    pruning_frees_the_space_of_small_files(&person, &operator.path("server/accounts/alice/main"));
}

#[test]
fn limits_are_respected_and_invalid_limits_are_refused() {
    let person = Person::with_repo();
    let [first, _] = fill(&person);
    person.run(["forget", "--now", &first]);
    let plan = |args: &[&str]| {
        let report = json(&person, &[&["prune", "--dry-run"], args].concat());
        (number(&report, "packs_repacked"), number(&report, "bytes_unused") as usize)
    };
    let (_, unused) = plan(&["--max-unused", "unlimited"]);
    assert!(unused > MIB && unused < MIB + 100_000, "{unused}");
    for args in [&["--max-unused", "2G"][..], &["--max-unused", "90%"], &["--max-repack-size", "2M"]] {
        assert_eq!(plan(args), (0, unused), "{args:?}");
    }
    for args in [&["--max-unused", "0"][..], &[], &["--max-unused", "0.5%", "--max-repack-size", "1G"]] {
        assert_eq!(plan(args), (1, 0), "{args:?}");
    }
    for (args, word) in [
        (["--max-unused", "much"], "much"),
        (["--max-unused=-5%", "--json"], "not a percentage"),
        (["--max-unused", "NaN%"], "not a percentage"),
        (["--max-unused", "5%%"], "not a percentage"),
        (["--max-repack-size", "5%"], "5%"),
    ] {
        expect(&person.output(["prune"].iter().chain(&args)), 1, &[word]);
    }
    let before = bytes(&person.path("repo/packs"));
    let left = json(&person, &["prune", "--max-unused", "unlimited"]);
    assert_eq!((number(&left, "packs_repacked"), number(&left, "bytes_unused") as usize), (0, unused));
    assert!(before - bytes(&person.path("repo/packs")) < MIB);
    assert_eq!(number(&json(&person, &["prune", "--max-unused", "0"]), "packs_repacked"), 1);
    expect_intact(&person);
}

#[test]
fn more_than_half_is_removed_only_with_yes() {
    let person = Person::with_repo();
    write(&person, "big", 1, 2 * MIB);
    let first = pushed(&person);
    remove(&person, "big");
    write(&person, "small", 2, 100_000);
    pushed(&person);
    person.run(["forget", "--now", &first]);
    let before = files(&person.path("repo"));
    for args in [&["prune"][..], &["prune", "--json"], &["prune", "--quiet"]] {
        let refused = person.output(args);
        expect(&refused, 1, &["more than half", "nothing was done", "--yes"]);
        assert!(refused.stdout.is_empty());
        assert_eq!(files(&person.path("repo")), before);
    }
    person.run(["prune", "--yes"]);
    assert!(bytes(&person.path("repo/packs")) < 150_000);
    expect_intact(&person);
    // Snapshots in the trash count as removed, but are not removed before a person has confirmed.
    person.run(["forget", "latest"]);
    let before = files(&person.path("repo"));
    expect(&person.output(["prune"]), 1, &["more than half", "nothing was done"]);
    assert_eq!(files(&person.path("repo")), before);
    let dry = json(&person, &["prune", "--dry-run"]);
    assert!(number(&dry, "snapshots_expired") == 1 && number(&dry, "bytes_freed") >= 100_000, "{dry}");
    let dry = json(&person, &["prune", "--dry-run", "--keep-trash"]);
    assert_eq!((number(&dry, "snapshots_expired"), number(&dry, "bytes_freed")), (0, 0), "{dry}");
    person.run(["unforget", "--all"]);
    person.run(["forget", "latest"]);
    assert_eq!(number(&json(&person, &["prune", "--yes"]), "snapshots_expired"), 1);
    assert_eq!(bytes(&person.path("repo/packs")), 0);
}

#[test]
fn a_client_that_may_not_prune_gets_the_reason() {
    let person = Person::with_repo();
    let [first, _] = fill(&person);
    person.run(["forget", "--now", &first]);
    let before = files(&person.path("repo/packs"));
    for args in [&["prune"][..], &["prune", "--dry-run"]] {
        let refused = person.command().env_remove("BKFS_PASSWORD").args(args).output().unwrap();
        expect(&refused, 12, &["push key cannot read"]);
    }
    assert_eq!(files(&person.path("repo/packs")), before);

    let operator = Person::new();
    let server = Server::start_protecting(&operator, &operator.path("server"), "0d");
    let person = server.person("alice");
    let [first, _] = fill(&person);
    person.run(["forget", "--now", &first]);
    let packs = operator.path("server/accounts/alice/main/packs");
    let before = files(&packs);
    let token = server.invite(&operator, "alice", "push,read,forget");
    let other = |args: &[&str]| {
        let mut command = person.command();
        command.env("BKFS_CONFIG_DIR", person.path("config2")).env("BKFS_CACHE_DIR", person.path("cache2"));
        command.args(args).output().unwrap()
    };
    expect(&other(&["join", &token]), 0, &[]);
    for args in [&["prune"][..], &["prune", "--keep-trash"], &["prune", "--dry-run"]] {
        expect(&other(args), 1, &["permission", "prune"]);
    }
    assert_eq!(files(&packs), before);
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

#[track_caller]
fn eventually(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < PATIENCE, "it does not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn a_push_survives_a_prune(person: &Person, packs: &Path) {
    // The push relies on data that only a forgotten snapshot needs, and is long enough to be stopped in the middle.
    write(person, "0 shared", 1, 3 * MIB);
    let first = pushed(person);
    remove(person, "0 shared");
    write(person, "1 kept", 2, MIB);
    pushed(person);
    person.run(["forget", "--now", &first]);
    write(person, "0 shared", 1, 3 * MIB);
    for n in 2..8 {
        write(person, &format!("{n} new"), 10 + n, 16 * MIB);
    }
    let count = files(packs).len();
    let mut command = person.command();
    command.args(["push", "--json", "-C"]).arg(person.path("src")).arg(".");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(|| files(packs).len() > count);
    signal(child.id(), Signal::STOP);
    assert!(child.try_wait().unwrap().is_none(), "it was stopped in the middle");
    let report = json(person, &["prune", "--yes"]);
    signal(child.id(), Signal::CONT);
    assert!(number(&report, "bytes_freed") as usize > 3 * MIB - 1000, "{report}");
    let output = child.wait_with_output().unwrap();
    expect(&output, 0, &[]);
    expect_intact(person);
    // Nothing that the push stored was taken for unused.
    assert_eq!(number(&json(person, &["prune"]), "packs_dropped"), 0);
}

#[test]
fn a_push_survives_a_prune_at_a_path() {
    let person = Person::with_repo();
    a_push_survives_a_prune(&person, &person.path("repo/packs"));
}

#[test]
fn a_push_survives_a_prune_on_a_server() {
    let operator = Person::new();
    let server = Server::start_protecting(&operator, &operator.path("server"), "0d");
    let person = server.person("alice");
    a_push_survives_a_prune(&person, &operator.path("server/accounts/alice/main/packs"));
}

#[test]
fn a_mount_keeps_reading_while_its_packs_are_rewritten() {
    if let Some(reason) = cannot_mount() {
        crate::skip!("{reason}");
    }
    let operator = Person::new();
    let server = Server::start_protecting(&operator, &operator.path("server"), "0d");
    let person = server.person("alice");
    let [first, second] = fill(&person);
    let mount = person.mount(&[]);
    // Found by its id, not its time: two snapshots of one second change their names if one of them is removed.
    let mut ids = fs::read_dir(mount.point.join("ids")).unwrap().map(|entry| entry.unwrap());
    let root = ids.find(|entry| second.starts_with(entry.file_name().to_str().unwrap())).unwrap().path();
    let mut open = fs::File::open(root.join("staying")).unwrap();
    let mut begin = vec![0; 200_000];
    open.read_exact(&mut begin).unwrap();
    person.run(["forget", "--now", &first]);
    assert_eq!(number(&json(&person, &["prune"]), "packs_repacked"), 1);
    open.read_to_end(&mut begin).unwrap();
    assert!(begin == noise(2, 3 * MIB), "an open file can still be read");
    assert!(fs::read(root.join("coming")).unwrap() == noise(3, MIB), "a file that was not open can be read, too");
}

#[test]
fn the_next_prune_finishes_one_that_was_killed() {
    let person = Person::with_repo();
    let mut killed = 0;
    for round in 0..10u64 {
        // Packs with needed and unneeded data each time, so that there is something to copy.
        for n in 0..4 {
            write(&person, &format!("going{n}"), 100 * round + n, 700_000);
            write(&person, &format!("staying{round}-{n}"), 100 * round + 50 + n, 200_000);
        }
        let snapshot = pushed(&person);
        for n in 0..4 {
            remove(&person, &format!("going{n}"));
        }
        pushed(&person);
        person.run(["forget", "--now", &snapshot]);
        let log = person.path("repo/log");
        let before = fs::metadata(&log).unwrap().len();
        let mut command = person.command();
        // A killed prune may leave what it has resent twice, up to its budget. Another test covers that.
        let args = ["prune", "--yes", "--max-unused", "0", "--max-reframe-size", "0"];
        let mut child = command.args(args).stdout(Stdio::null()).spawn().unwrap();
        if round % 2 == 0 {
            // Kill it after it has condemned, a little later each time.
            let begin = Instant::now();
            while fs::metadata(&log).unwrap().len() == before && child.try_wait().unwrap().is_none() {
                assert!(begin.elapsed() < PATIENCE, "it neither condemns nor ends");
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(Duration::from_millis(round * 3));
        } else {
            std::thread::sleep(Duration::from_millis(60 * round));
        }
        let _ = child.kill();
        killed += u32::from(!child.wait().unwrap().success());
        if round % 3 == 2 {
            expect_intact(&person);
        }
    }
    assert!(killed > 2, "{killed} prunes were killed");
    person.run(["prune", "--yes", "--max-unused", "0"]);
    expect_intact(&person);
    let live = bytes(&person.path("src"));
    let stored = stored(&person);
    assert!(stored < live + live / 20, "{stored} bytes for {live}");
}

/// Returns the bytes of all packs. A temporary file of a killed prune is not a pack: it is removed when it is certain
/// that nothing writes to it any more.
fn stored(person: &Person) -> usize {
    let is_pack = |path: &Path| !path.file_name().unwrap().to_str().unwrap().starts_with(".tmp-");
    let packs = files(&person.path("repo/packs"));
    packs.iter().filter(|(path, _)| is_pack(path)).map(|(_, len)| *len as usize).sum()
}

#[test]
fn a_prune_killed_while_it_resends_frames_leaves_at_most_its_budget() {
    const BUDGET: usize = 1 << 20;
    let (person, mut snapshots) = (Person::with_repo(), Vec::new());
    // Each push stores a megabyte. Half of it is removed later.
    for push in 0..12 {
        for n in 0..32 {
            write(&person, &format!("{push:02}-{n:02}-going"), push * 64 + 2 * n, 16_000);
            write(&person, &format!("{push:02}-{n:02}-staying"), push * 64 + 2 * n + 1, 16_000);
        }
        snapshots.push(pushed(&person));
    }
    (0..12 * 32).for_each(|n| remove(&person, &format!("{:02}-{:02}-going", n / 32, n % 32)));
    pushed(&person);
    person.run(["forget", "--now"].into_iter().chain(snapshots.iter().map(String::as_str)));
    let log = || fs::metadata(person.path("repo/log")).unwrap().len();
    // Counts names only: temporary files can disappear at any moment.
    let packs = || {
        let folders = fs::read_dir(person.path("repo/packs")).unwrap().map(Result::unwrap);
        let names =
            folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap()).map(|entry| entry.unwrap().file_name());
        names.filter(|name| !name.to_str().unwrap().starts_with(".tmp-")).count()
    };
    let mut left = 0;
    for _ in 0..8 {
        if left == 2 {
            break;
        }
        let before = (packs(), log());
        let mut command = person.command();
        let args = ["prune", "--yes", "--max-unused", "0", "--max-reframe-size", "1M"];
        let mut child = command.args(args).stdout(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        // The prune stores what it resends before it condemns anything.
        while packs() == before.0 && child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < PATIENCE, "it neither sends anything nor ends");
            std::thread::sleep(Duration::from_micros(200));
        }
        let _ = child.kill();
        left += usize::from(!child.wait().unwrap().success() && log() == before.1);
    }
    assert!(left > 0, "no prune was killed in time");
    person.run(["prune", "--yes", "--max-unused", "0"]);
    expect_intact(&person);
    let (live, stored) = (bytes(&person.path("src")), stored(&person));
    assert!(stored < live + live / 20 + left * BUDGET, "{stored} bytes for {live}");
    assert!(live > 5 * BUDGET, "the budget is only a part of what is resent");
}

#[test]
fn under_a_floor_the_operator_can_bring_everything_back() {
    let operator = Person::new();
    let data = operator.path("server");
    let server = Server::start(&operator, &data);
    let person = server.person("alice");
    let repo = data.join("accounts/alice/main");
    let revive = |args: &[&str]| {
        let mut command = operator.command();
        command.args(["server", "revive", "--data", data.to_str().unwrap()]).args(args).output().unwrap()
    };
    let [first, _] = fill(&person);
    let nothing = revive(&["alice"]);
    expect(&nothing, 0, &[]);
    assert!(text(&nothing.stdout).contains("nothing to bring back"), "{nothing:?}");
    person.run(["forget", &first]);
    assert_eq!(number(&json(&person, &["prune"]), "bytes_freed"), 0, "it stays in the trash for 14 days");
    operator.run(["server", "purge", "--data", data.to_str().unwrap(), "alice", &first]);

    let total = bytes(&repo.join("packs"));
    let report = json(&person, &["prune"]);
    assert!(number(&report, "bytes_to_grave") as usize > MIB - 1000, "{report}");
    let packs = bytes(&repo.join("packs"));
    assert!(total - packs > MIB - 1000 && bytes(&repo.join("grave")) > 4 * MIB, "{total} to {packs}");
    expect(&person.output(["prune"]), 0, &[]);
    assert!(bytes(&repo.join("grave")) > 4 * MIB, "it stays in the grave");
    expect_intact(&person);

    // Revive while the server runs: pruned data is known again and need not be sent.
    let revived = revive(&["alice", "--json"]);
    expect(&revived, 0, &[]);
    let revived: Value = serde_json::from_slice(&revived.stdout).unwrap();
    assert!(number(&revived, "packs") >= 1 && number(&revived, "bytes") as usize > 4 * MIB, "{revived}");
    assert_eq!(bytes(&repo.join("grave")), 0);
    write(&person, "going", 1, MIB);
    let sent = number(&push(&person), "bytes_stored");
    assert!(sent < 10_000, "{sent} bytes were sent");
    expect_intact(&person);

    // Revive while the server does not run.
    remove(&person, "going");
    let last = pushed(&person);
    let rows = json(&person, &["snapshots"]);
    for id in rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).filter(|id| **id != last) {
        operator.run(["server", "purge", "--data", data.to_str().unwrap(), "alice", id]);
    }
    person.run(["prune", "--yes", "--max-unused", "0"]);
    drop(server);
    let address = person.repo.trim_start_matches("bkfs://").trim_end_matches("/alice").to_owned();
    let revived = revive(&["alice", "main"]);
    expect(&revived, 0, &[]);
    assert!(text(&revived.stdout).contains("brought back"), "{revived:?}");
    expect(&revive(&["alice", "photos"]), 10, &["photos"]);
    expect(&revive(&["nobody"]), 10, &["nobody"]);
    let _server = Server::run(&operator, &data, &address);
    expect_intact_except_purged(&person);
}

#[test]
fn a_server_deletes_by_itself_what_is_due() {
    let operator = Person::new();
    let data = operator.path("server");
    let server = Server::start_protecting(&operator, &data, "3s");
    let (person, address) = (server.person("alice"), server.address.clone());
    let [first, _] = fill(&person);
    person.run(["forget", &first]);
    drop(server);
    // A scrub that never ends must not delay it.
    let slowly = ["--tidy-every", "1s", "--scrub-every", "1s", "--scrub-rate", "10K"];
    let _server = Server::run_with(&operator, &data, &address, &slowly);
    let trash = || json(&person, &["snapshots", "--trash"]).as_array().unwrap().len();
    // The clock alone deletes nothing: the log needs a later entry.
    let later = || {
        std::thread::sleep(Duration::from_secs(4));
        pushed(&person);
    };
    later();
    eventually(|| trash() == 0);
    let grave = data.join("accounts/alice/main/grave");
    assert!(number(&json(&person, &["prune", "--keep-trash"]), "bytes_to_grave") as usize > MIB - 1000);
    assert!(bytes(&grave) > MIB, "it stays in the grave for three seconds");
    later();
    eventually(|| bytes(&grave) == 0);
    expect_intact(&person);
}

/// Asserts that everything is intact. `check` reports the operator's purges until the owner takes note.
fn expect_intact_except_purged(person: &Person) {
    let out = person.path("out");
    let _ = fs::remove_dir_all(&out);
    person.run(["restore", "latest", out.to_str().unwrap()]);
    let compare = Command::new("diff").arg("-r").args([&person.path("src"), &out]).output().unwrap();
    assert!(compare.status.success(), "{}", text(&compare.stdout));
    expect(&person.output(["check", "--read-data"]), 1, &["removed by the server's operator"]);
}
