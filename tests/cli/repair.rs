//! Damage that cannot be mended, from its discovery until a push or `bkfs repair` heals it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    common::program::{Person, Server},
    damage, expect, make_source, network, packs, text,
};

/// More damage than parity can mend, in the middle of `sub/big`. `hello` and `sub/small` are elsewhere in the pack.
const HOLE: std::ops::Range<usize> = 300_000..700_000;

fn restored_exactly(person: &Person, snapshot: &str, name: &str) {
    let out = person.path(name);
    person.run(["restore", snapshot, out.to_str().unwrap(), "--verify"]);
    for file in ["hello", "sub/big", "sub/small"] {
        assert!(fs::read(out.join(file)).unwrap() == fs::read(person.path("src").join(file)).unwrap(), "{file}");
    }
}

fn first_snapshot(person: &Person) -> String {
    let list: serde_json::Value = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
    list[0]["id"].as_str().unwrap().to_owned()
}

/// Damages a repository that has one push. Returns the damaged pack and the snapshot.
fn damage_repository(repo: &Path, person: &Person) -> (PathBuf, String) {
    let pack = packs(repo)[0].clone();
    damage(&pack, HOLE);
    (pack, first_snapshot(person))
}

#[test]
fn a_push_heals_what_a_check_found() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let (pack, first) = damage_repository(&person.path("repo"), &person);
    let name = pack.file_name().unwrap().to_str().unwrap();
    // The damage is not known yet, so a push finds nothing to do.
    person.push(&person.path("src"));
    expect(&person.output(["check", "--read-data"]), 1, &[name, "sub/big"]);
    // Now the damage is known, even without reading any data.
    expect(&person.output(["check"]), 1, &["sub/big"]);
    assert_eq!(person.run(["cat", "latest:hello"]), "hello\n");
    person.push(&person.path("src"));
    expect(&person.output(["check"]), 0, &[]);
    restored_exactly(&person, &first, "out");
    restored_exactly(&person, "latest", "out-2");
}

#[test]
fn a_restore_finds_damage_and_restores_the_rest() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let (_, first) = damage_repository(&person.path("repo"), &person);
    let out = person.path("out");
    expect(&person.output(["restore", "latest", out.to_str().unwrap()]), 1, &["sub/big"]);
    assert!(fs::read(out.join("sub/small")).unwrap() == fs::read(person.path("src/sub/small")).unwrap());
    person.push(&person.path("src"));
    // Restores what was missing.
    person.run(["restore", "latest", out.to_str().unwrap()]);
    assert!(fs::read(out.join("sub/big")).unwrap() == fs::read(person.path("src/sub/big")).unwrap());
    restored_exactly(&person, &first, "out-2");
}

#[test]
fn a_push_to_a_server_heals_what_its_scrub_found() {
    let (operator, _server, person) = network::pushed();
    let data = operator.path("server");
    let (pack, first) = damage_repository(&data, &person);
    // Another process scrubs while the server runs.
    let scrub = operator.output(["server", "scrub", "--data", data.to_str().unwrap()]);
    expect(&scrub, 1, &[pack.file_name().unwrap().to_str().unwrap(), "bytes are lost"]);
    let output = person.output(["check"]);
    expect(&output, 1, &["sub/big"]);
    assert!(!text(&output.stderr).contains("hello"), "{}", text(&output.stderr));
    person.push(&person.path("src"));
    expect(&person.output(["check"]), 0, &[]);
    restored_exactly(&person, &first, "out");
}

#[test]
fn checks_of_shares_read_all_data_in_turn() {
    let person = Person::with_repo();
    let source = person.path("src");
    fs::create_dir_all(&source).unwrap();
    for i in 0..5 {
        fs::write(source.join(format!("f{i}")), crate::noise(i, 300_000)).unwrap();
        person.push(&source);
    }
    let packs = packs(&person.path("repo"));
    assert_eq!(packs.len(), 10);
    for pack in &packs[..5] {
        damage(pack, 1000..299_000);
    }
    let read = |part: &str| {
        let output = person.output(["check", "--read-data-subset", part, "--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["packs_total"], 10);
        (report["packs"].as_u64().unwrap(), text(&output.stdout))
    };
    // Damage that was found before is reported by the files that it affects.
    let count = |printed: &str| printed.matches("the hash of its bytes is not its id").count();
    // By part: each pack is in exactly one part.
    let parts: Vec<_> = (1..=7).map(|n| read(&format!("{n}/7"))).collect();
    assert_eq!(parts.iter().map(|(packs, _)| packs).sum::<u64>(), 10);
    assert_eq!(parts.iter().map(|(_, printed)| count(printed)).sum::<usize>(), 5);
    // By share: repeat until everything was read.
    let (mut found, mut rounds) = (0, 0);
    let mut packs_read = 0;
    while packs_read < 10 {
        let (packs, printed) = read("30%");
        assert!((1..10).contains(&packs), "{packs}");
        (packs_read, found, rounds) = (packs_read + packs, found + count(&printed), rounds + 1);
    }
    assert!(found >= 5 && (3..=5).contains(&rounds), "{found} in {rounds}");
    expect(&person.output(["check", "--read-data-subset", "0%"]), 1, &["5%, 2G, or 3/7"]);
    expect(&person.output(["check", "--read-data-subset", "5%", "--read-data"]), 1, &["cannot be used"]);
}

/// A machine that can only push also learns about damage, and heals what others read.
#[test]
fn a_push_only_machine_heals_what_it_cannot_read() {
    let (operator, server, person) = network::pushed();
    let key = person.path("laptop.key");
    // In the group of the owner: in a group of its own, the machine would have stored all of it a second time.
    person.run(["key", "export-push", "--group", "owner", key.to_str().unwrap()]);
    let token = server.invite(&operator, "alice", "push");
    let laptop = |args: &[&str]| {
        let mut command = person.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_CONFIG_DIR", person.path("config-laptop"));
        command.env("BKFS_CACHE_DIR", person.path("cache-laptop")).args(args).output().unwrap()
    };
    expect(&laptop(&["join", &token, "--push-key", key.to_str().unwrap()]), 0, &[]);
    let source = person.path("src");
    let push = ["push", "-C", source.to_str().unwrap(), "."];
    expect(&laptop(&push), 0, &[]);
    let (_, first) = damage_repository(&operator.path("server"), &person);
    expect(&person.output(["cat", "latest:sub/big"]), 1, &[]);
    expect(&laptop(&push), 0, &[]);
    expect(&person.output(["check"]), 0, &[]);
    restored_exactly(&person, &first, "out");
}

/// A pack's file disappears while the server has the repository open, and a client believes that the pack is stored.
#[test]
fn a_pack_that_vanishes_under_a_running_server_is_sent_again() {
    let (operator, _server, person) = network::pushed();
    let pack = packs(&operator.path("server"))[0].clone();
    fs::remove_file(&pack).unwrap();
    // The server may not have created the parity yet.
    let _ = fs::remove_file(pack.to_str().unwrap().replace("/packs/", "/parity/"));
    let output = person.output(["cat", "latest:sub/big"]);
    expect(&output, 1, &[]);
    person.push(&person.path("src"));
    let output = person.output(["cat", "latest:hello"]);
    assert_eq!(text(&output.stdout), "hello\n");
    expect(&person.output(["check", "--read-data"]), 0, &[]);
    restored_exactly(&person, "latest", "out");
}

fn json(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)))
}

/// From damage to a repository without problems, with and without parity.
#[test]
fn packs_are_repaired_at_a_path() {
    for parity in ["5%", "off"] {
        let person = Person::new();
        person.run(["init", "--parity", parity]);
        make_source(&person.path("src"));
        person.push(&person.path("src"));
        expect(&person.output(["repair", "packs"]), 0, &[]);
        let (pack, first) = damage_repository(&person.path("repo"), &person);
        let name = pack.file_name().unwrap().to_str().unwrap();
        let damaged = fs::read(&pack).unwrap();
        let output = person.output(["repair", "packs", "--dry-run"]);
        expect(&output, 0, &[]);
        assert!(text(&output.stdout).contains(&format!("pack {name}: would be dropped")), "{}", text(&output.stdout));
        assert!(fs::read(&pack).unwrap() == damaged);
        expect(&person.output(["check"]), 0, &[]);

        let output = person.output(["repair", "packs", "--json"]);
        expect(&output, 1, &[]);
        let report = json(&output);
        assert_eq!((&report["damaged"][0]["pack"], &report["damaged"][0]["dropped"]), (&name.into(), &true.into()));
        assert!(report["damaged"][0]["frames_kept"].as_u64() > Some(0), "{report}");
        assert_eq!(report["snapshots_hurt"], serde_json::json!([first]));
        assert!(report["problems"][0].as_str().unwrap().contains("sub/big"), "{report}");
        assert!(!pack.exists());
        // Intact files are restored, and damaged files are named.
        let out = person.path("out");
        expect(&person.output(["restore", "latest", out.to_str().unwrap()]), 1, &["sub/big"]);
        assert!(fs::read(out.join("sub/small")).unwrap() == fs::read(person.path("src/sub/small")).unwrap());
        expect(&person.output(["repair", "packs"]), 1, &["sub/big", "1 snapshot", "next push"]);
        person.push(&person.path("src"));
        expect(&person.output(["check", "--read-data"]), 0, &[]);
        restored_exactly(&person, &first, "out-2");
        let output = person.output(["repair", "packs", "--read-data"]);
        expect(&output, 0, &[]);
        assert!(text(&output.stdout).contains("nothing to repair"), "{}", text(&output.stdout));
    }
}

#[test]
fn packs_on_a_server_are_repaired_by_a_client_with_permission() {
    let (operator, server, person) = network::pushed();
    let data = operator.path("server");
    let (pack, first) = damage_repository(&data, &person);
    // A client that may only read: the damage is found and reported, but nothing is dropped.
    let token = server.invite(&operator, "alice", "read");
    let reader = |args: &[&str]| {
        let mut command = person.command();
        command.env("BKFS_CONFIG_DIR", person.path("config-reader"));
        command.env("BKFS_CACHE_DIR", person.path("cache-reader")).args(args).output().unwrap()
    };
    expect(&reader(&["join", &token]), 0, &[]);
    expect(&reader(&["repair", "packs"]), 1, &["permission", "prune"]);
    assert!(pack.exists());
    let output = person.output(["repair", "packs"]);
    expect(&output, 1, &["sub/big"]);
    assert!(text(&output.stdout).contains("1 damaged pack dropped"), "{}", text(&output.stdout));
    assert!(!pack.exists());
    let grave = data.join("accounts/alice/main/grave").join(pack.file_name().unwrap());
    assert!(grave.exists(), "the floor keeps it");
    person.push(&person.path("src"));
    expect(&person.output(["check", "--read-data"]), 0, &[]);
    restored_exactly(&person, &first, "out");
}

#[test]
fn an_index_is_rebuilt_without_keys() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let stranger = |args: &[&str]| {
        let mut command = person.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_CONFIG_DIR", person.path("nobody")).args(args).output().unwrap()
    };
    let output = stranger(&["repair", "index"]);
    expect(&output, 0, &[]);
    assert!(text(&output.stdout).contains("rebuilt: 4 log records, 1 snapshot, 2 packs"), "{}", text(&output.stdout));
    person.run(["check", "--read-data"]);
    // An index that is so damaged that opening it would crash the process is never opened.
    let index = fs::read_dir(person.path("cache/index")).unwrap().next().unwrap().unwrap().path().join("data.mdb");
    let mut bytes = fs::read(&index).unwrap();
    let len = bytes.len();
    bytes[8192..len].fill(0x5a);
    fs::write(&index, bytes).unwrap();
    expect(&stranger(&["repair", "index", "--json"]), 0, &[]);
    person.run(["check", "--read-data"]);

    let trees = packs(&person.path("repo"))[1].clone();
    fs::remove_dir_all(person.path("repo/parity")).unwrap();
    let len = trees.metadata().unwrap().len() as usize;
    damage(&trees, len - 60..len);
    let name = trees.file_name().unwrap().to_str().unwrap();
    let output = stranger(&["repair", "index", "--dry-run"]);
    expect(&output, 1, &[name]);
    assert!(text(&output.stdout).contains("1 pack cannot be indexed"), "{}", text(&output.stdout));
    assert_eq!(fs::read_dir(person.path("cache/index")).unwrap().count(), 1, "no temporary index is left");
    expect(&stranger(&["repair", "index", "-r", "bkfs://localhost:1/alice"]), 1, &["bkfs server repair index"]);
    expect(&stranger(&["repair", "index", "-r", "/nonexistent"]), 10, &["no repository"]);
    // The owner of the key drops the pack, and the next push heals the damage.
    expect(&person.output(["repair", "packs"]), 1, &[]);
    person.push(&person.path("src"));
    expect(&person.output(["check", "--read-data"]), 0, &[]);
}

#[test]
fn the_indexes_of_a_server_are_rebuilt() {
    let (operator, server, person) = network::pushed();
    let (data, address) = (operator.path("server"), server.address.clone());
    drop(server);
    let repair = |extra: &[&str]| {
        operator.output([&["server", "repair", "index", "--data", data.to_str().unwrap()], extra].concat())
    };
    fs::write(data.join("accounts/alice/main/index/data.mdb"), b"rubbish").unwrap();
    let output = repair(&["--json", "alice"]);
    expect(&output, 0, &[]);
    let report = json(&output);
    assert_eq!((&report[0]["account"], &report[0]["packs"]), (&"alice".into(), &2.into()), "{report}");
    expect(&repair(&["bob"]), 1, &["no such repository"]);
    let _server = Server::run(&operator, &data, &address);
    person.push(&person.path("src"));
    person.run(["check", "--read-data"]);
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Damages both copies of a log at the same place, in the record of the newest commit.
fn damage_log(repo: &Path) {
    let at = repo.join("log").metadata().unwrap().len() as usize - 60;
    flip(&repo.join("log"), at);
    flip(&repo.join("log.2"), at);
}

#[test]
fn a_log_that_is_damaged_twice_is_repaired_at_a_path() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    fs::write(person.path("src/later"), "later\n").unwrap();
    person.push(&person.path("src"));
    assert!(person.run(["repair", "snapshots"]).contains("the log is intact"));
    damage_log(&person.path("repo"));
    fs::remove_dir_all(person.path("cache")).unwrap();
    expect(&person.output(["snapshots"]), 1, &["log", "damaged"]);
    // The end of the log is damaged, so it is unknown whether there were more records.
    let output = person.output(["repair", "snapshots", "--dry-run"]);
    expect(&output, 1, &["no record is left"]);
    let printed = text(&output.stdout);
    assert!(printed.contains("would be rewritten") && printed.contains("1 snapshot recovered"), "{printed}");
    expect(&person.output(["snapshots"]), 1, &["log", "damaged"]);
    let output = person.output(["repair", "snapshots"]);
    expect(&output, 1, &["no record is left"]);
    let printed = text(&output.stdout);
    assert!(printed.contains("was rewritten") && printed.contains("all snapshots can be read"), "{printed}");
    assert!(person.path("repo/log.damaged").exists());
    assert_eq!(person.run(["cat", "latest:later"]), "later\n");
    person.run(["check", "--read-data"]);
    person.push(&person.path("src"));
    person.run(["check"]);
    assert!(person.run(["repair", "snapshots"]).contains("the log is intact"));
}

#[test]
fn a_log_that_is_damaged_twice_is_repaired_on_a_server() {
    let (operator, _server, person) = network::pushed();
    let data = operator.path("server");
    let repair = |args: &[&str]| {
        operator.output([&["server", "repair", "log", "--data", data.to_str().unwrap()], args].concat())
    };
    expect(&repair(&["bob"]), 10, &["no repository"]);
    damage_log(&data.join("accounts/alice/main"));
    let output = repair(&["alice", "--json"]);
    expect(&output, 1, &[]);
    let report = json(&output);
    assert_eq!((&report["rewritten"], &report["records_lost"]), (&true.into(), &serde_json::json!([])), "{report}");
    // This machine has seen another history, and its owner takes note.
    expect(&person.output(["check"]), 13, &["rolled back"]);
    person.run(["check", "--accept-rollback"]);
    assert_eq!(person.run(["cat", "latest:hello"]), "hello\n");
    person.push(&person.path("src"));
    person.run(["check", "--read-data"]);
}

#[test]
fn an_unreadable_snapshot_is_forgotten() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let lost = first_snapshot(&person);
    fs::write(person.path("src/later"), "later\n").unwrap();
    person.push(&person.path("src"));
    for folder in ["snapshots", "snapshots.2"] {
        flip(&person.path("repo").join(folder).join(&lost), 100);
    }
    expect(&person.output(["check"]), 1, &[&lost]);
    // This machine remembers what the snapshot needs, so a prune keeps that. Another one cannot know.
    person.run(["prune", "--yes"]);
    fs::remove_dir_all(person.path("cache")).unwrap();
    expect(&person.output(["prune", "--yes"]), 1, &[&lost[..8]]);
    let output = person.output(["repair", "snapshots", "--dry-run", "--json"]);
    expect(&output, 1, &[]);
    assert_eq!(json(&output)["snapshots_lost"], serde_json::json!([lost]));
    expect(&person.output(["repair", "snapshots"]), 1, &[]);
    expect(&person.output(["repair", "snapshots"]), 0, &[]);
    // In the trash it no longer prevents a prune: the next prune removes its data.
    person.run(["prune", "--yes"]);
    person.run(["check", "--read-data"]);
    assert_eq!(person.run(["cat", "latest:later"]), "later\n");
    person.push(&person.path("src"));
}
