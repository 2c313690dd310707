//! Packs that claim the ids of others' chunks and hold rubbish. No push outside the thief's own trust domain relies on
//! them, no reader is stopped by them, and a check finds them and names the client whose key made them.

use std::{fs, path::Path};

use bkfs_store::format::frame::ChunkKind;

use crate::{
    common::program::{Person, Server},
    peer::{Rubbish, Thief, known_prefixes},
};

/// Contents that are one chunk, that nothing else contains.
fn contents(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Ten files, each of one chunk.
fn make_source(folder: &Path, seed: u64) -> Vec<Vec<u8>> {
    fs::create_dir_all(folder).unwrap();
    let files: Vec<_> = (0..10).map(|n| contents(seed + n, 3000)).collect();
    files.iter().enumerate().for_each(|(n, bytes)| fs::write(folder.join(format!("f{n}")), bytes).unwrap());
    files
}

/// Asserts that a restore of the newest snapshot gives these files.
#[track_caller]
fn expect_restored(person: &Person, name: &str, files: &[Vec<u8>]) -> String {
    let out = person.path(name);
    let output = person.output(["restore", "latest", out.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    for (n, bytes) in files.iter().enumerate() {
        assert!(fs::read(out.join(format!("f{n}"))).unwrap() == *bytes, "file {n} is wrong");
    }
    said
}

fn json(person: &Person, args: &[&str]) -> serde_json::Value {
    let output = person.output(args.iter().chain(&["--json"]));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Exports a push key with a label.
fn export(person: &Person, label: &str, extra: &[&str]) -> std::path::PathBuf {
    let file = person.path(&format!("{label}.key"));
    person.run(["key", "export-push", "--label", label, file.to_str().unwrap()].iter().chain(extra));
    file
}

#[test]
fn a_later_push_does_not_rely_on_rubbish() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let person = server.person("alice");
    let key = export(&person, "web1", &[]);
    let thief = Thief::at_server(&server.invite(&operator, "alice", "push"), &key);
    let files = make_source(&person.path("src"), 100);
    let ids: Vec<_> = files.iter().map(|bytes| thief.id_of(bytes)).collect();
    for rubbish in [Rubbish::Sealed, Rubbish::Noise] {
        thief.forge(ChunkKind::Data, &ids, rubbish);
    }
    person.push(&person.path("src"));
    expect_restored(&person, "out", &files);
    // The check compares the copies, says whose are wrong, and from then on nobody uses them.
    let report = json(&person, &["check"]);
    let problems = report["problems"].to_string();
    assert_eq!(report["problems_total"], 2, "{report}");
    assert!(problems.contains("(web1) made it"), "{problems}");
    assert_eq!(report["packs_refused"], 2);
    let report = json(&person, &["check", "--read-data"]);
    assert_eq!((&report["problems_total"], &report["packs_refused"]), (&0.into(), &2.into()), "{report}");
    expect_restored(&person, "out-2", &files);
}

#[test]
fn a_pruned_and_rebuilt_repository_reads_the_good_copies() {
    let person = Person::with_repo();
    let key = export(&person, "web1", &[]);
    let source = person.path("src");
    make_source(&source, 200);
    fs::write(source.join("large"), contents(1, 4 << 20)).unwrap();
    person.push(&source);
    fs::remove_file(source.join("large")).unwrap();
    let files = make_source(&source, 200);
    person.push(&source);
    let repo = Path::new(&person.repo).to_owned();
    let thief = Thief::at_folder(&person, &key);
    for kind in [ChunkKind::Data, ChunkKind::Tree] {
        let known = known_prefixes(&repo, kind);
        assert!(!known.is_empty());
        // Rubbish with many ids of packs: some come before the good packs wherever packs are listed.
        for _ in 0..8 {
            thief.forge(kind, &known, Rubbish::Sealed);
        }
    }
    drop(thief);
    // The good packs are written again, and get later numbers than the rubbish.
    person.run(["forget", "--keep-last", "1", "--now", "--confirm"]);
    person.run(["prune", "--max-unused", "0", "--max-reframe-size", "0", "--yes"]);
    expect_restored(&person, "pruned", &files);
    // The packs are numbered in the order in which they are listed.
    person.run(["repair", "index"]);
    expect_restored(&person, "rebuilt", &files);
    // The prune has merged the small packs of rubbish: the copies are still the thief's.
    let report = json(&person, &["check", "--read-data"]);
    assert_eq!((&report["problems_total"], &report["packs_refused"]), (&2.into(), &2.into()), "{report}");
    assert!(report["problems"].to_string().contains("(web1) made it"), "{report}");
    person.run(["prune", "--max-unused", "0", "--yes"]);
    let report = json(&person, &["check", "--read-data"]);
    assert_eq!((&report["problems_total"], &report["packs_refused"]), (&0.into(), &0.into()), "{report}");
    expect_restored(&person, "after", &files);
}

/// Two machines that may only push are strangers to each other and to the owner, so neither copy is preferred.
#[test]
fn a_reader_asks_for_another_copy_and_names_the_uploader() {
    let person = Person::with_repo();
    let (victim, key) = (export(&person, "db", &[]), export(&person, "web1", &[]));
    let source = person.path("src");
    let files = make_source(&source, 300);
    person.run(["push", "--key-file", victim.to_str().unwrap(), "-C", source.to_str().unwrap(), "."]);
    let thief = Thief::at_folder(&person, &key);
    let ids: Vec<_> = files.iter().map(|bytes| thief.id_of(bytes)).collect();
    for _ in 0..12 {
        thief.forge(ChunkKind::Data, &ids, Rubbish::Sealed);
    }
    drop(thief);
    let said = expect_restored(&person, "out", &files);
    assert!(said.contains("(web1)") && said.contains("another copy"), "{said}");
    // What was read was refused.
    let refused = json(&person, &["check"])["packs_refused"].as_u64().unwrap();
    assert_eq!(refused, 12);
    expect_restored(&person, "out-2", &files);
}

/// Bytes of all packs of a repository.
fn stored(person: &Person) -> u64 {
    let mut bytes = 0;
    for folder in fs::read_dir(Path::new(&person.repo).join("packs")).into_iter().flatten() {
        let files = fs::read_dir(folder.unwrap().path()).unwrap();
        bytes += files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
    }
    bytes
}

/// Runs a command as another machine, which has its own configuration and caches.
fn elsewhere(person: &Person, name: &str, args: &[&str]) {
    let mut command = person.command();
    command.env("BKFS_CONFIG_DIR", person.path(&format!("config-{name}")));
    command.env("BKFS_CACHE_DIR", person.path(&format!("cache-{name}")));
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_groups_share_and_when() {
    let person = Person::with_repo();
    let (web, db) = (export(&person, "web", &[]), export(&person, "db", &[]));
    let (web, db) = (web.to_str().unwrap(), db.to_str().unwrap());
    let grouped = [export(&person, "a", &["--group", "lab"]), export(&person, "b", &["--group", "lab"])];
    let source = person.path("src");
    fs::create_dir(&source).unwrap();
    for n in 0..20 {
        fs::write(source.join(format!("f{n}")), contents(400 + n, 100_000)).unwrap();
    }
    let path = source.to_str().unwrap();
    let push = |name: &str, key: Option<&str>| {
        let mut args = vec!["push", "--host", name, "-C", path, "."];
        args.extend(key.iter().flat_map(|key| ["--key-file", key]));
        let before = stored(&person);
        elsewhere(&person, name, &args);
        stored(&person) - before
    };
    let all = 2_000_000;
    let first = push("laptop-1", None);
    let second = push("laptop-2", None);
    assert!(first > all && second < all / 20, "the owner's machines share: {first}, {second}");
    let web_alone = push("web", Some(web));
    assert!(web_alone > all, "a machine that may only push is alone: {web_alone}");
    let group = grouped.each_ref().map(|key| push("lab", Some(key.to_str().unwrap())));
    assert!(group[0] > all && group[1] < all / 20, "a named group shares: {group:?}");
    // A key holder opens everything: then everybody shares, and a prune drops what is there twice.
    person.run(["check", "--read-data"]);
    let db_after = push("db", Some(db));
    assert!(db_after < all / 20, "checked data is for all: {db_after}");
    let before = stored(&person);
    person.run(["prune", "--max-unused", "0", "--yes"]);
    let after = stored(&person);
    println!("stored: laptop {first}, second laptop {second}, push-only {web_alone}, group {group:?}");
    println!("after the check: another push-only {db_after}; {before} before the prune, {after} after it");
    assert!(after < all + all / 10, "{before} -> {after}");
    person.run(["check", "--read-data"]);
    // The copies of verified frames are verified as well.
    assert!(push("web-2", Some(web)) < all / 20);
}
