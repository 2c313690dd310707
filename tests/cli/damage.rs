//! Stored objects that have changed: truncated, flipped, missing, of a newer version, or written by an unknown client.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bkfs_store::{
    base::{
        id::{ChunkId, Hash},
        time::Time,
    },
    crypto::{DataKey, Secret, SigningKey, VerifyingKey, signed::Signed},
    format::{
        config::{Config, verify_config},
        keys::PushKey,
        log::{Event, LogRecord, file as log_file, file::Position},
        snapshot::{self, PathBytes, PushStats, Snapshot},
        tree::{Node, NodeKind, Subtree, Totals},
    },
};

use crate::{common::program::Person, expect, make_source, text};

fn pushed() -> Person {
    push_into(Person::with_repo())
}

/// Pushes into a repository without parity, which can mend nothing.
fn pushed_without_parity() -> Person {
    let person = Person::new();
    person.run(["init", "--parity", "off"]);
    push_into(person)
}

fn push_into(person: Person) -> Person {
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    person
}

/// Returns the files below a folder of the repository, largest first.
fn files(person: &Person, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![person.path("repo").join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    let len = path.metadata().unwrap().len();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len / 2).unwrap();
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Returns the pack with the data, which is the largest.
fn data_pack(person: &Person) -> PathBuf {
    files(person, "packs")[0].clone()
}

#[test]
fn a_flipped_bit_in_a_pack_damages_only_the_files_it_hits() {
    let person = pushed_without_parity();
    let pack = data_pack(&person);
    flip(&pack, 500_000);
    let output = person.output(["check", "--read-data"]);
    expect(&output, 1, &[&name(&pack), "damaged", "sub/big"]);
    let out = person.path("out");
    let output = person.output(["restore", "latest", out.to_str().unwrap()]);
    expect(&output, 1, &["sub/big", &name(&pack)]);
    assert_eq!(fs::read_to_string(out.join("hello")).unwrap(), "hello\n", "the rest is restored");
    expect(&person.output(["cat", "latest:sub/small"]), 0, &[]);
}

#[test]
fn a_truncated_pack_is_named() {
    let person = pushed_without_parity();
    let pack = data_pack(&person);
    truncate(&pack);
    expect(&person.output(["check", "--read-data"]), 1, &[&name(&pack), "sub/big"]);
    expect(&person.output(["cat", "latest:sub/big"]), 1, &[]);
    expect(&person.output(["cat", "latest:hello"]), 0, &[]);
    expect(&person.output(["snapshots"]), 0, &[]);
}

#[test]
fn a_missing_pack_is_noticed() {
    let person = pushed_without_parity();
    let pack = data_pack(&person);
    fs::remove_file(&pack).unwrap();
    expect(&person.output(["check", "--read-data"]), 1, &["sub/big"]);
    expect(&person.output(["cat", "latest:sub/big"]), 1, &[]);
    expect(&person.output(["cat", "latest:hello"]), 0, &[]);
    // The source has not changed, but a push stores again what was lost. That also heals the old snapshot.
    person.push(&person.path("src"));
    expect(&person.output(["cat", "latest:sub/big"]), 0, &[]);
    expect(&person.output(["check", "--read-data"]), 0, &[]);
}

#[test]
fn reading_a_damaged_pack_mends_it() {
    let person = pushed();
    assert_eq!(files(&person, "parity").len(), files(&person, "packs").len(), "each pack has its parity");
    let pack = data_pack(&person);
    let whole = fs::read(&pack).unwrap();
    let parity = person.path("repo/parity").join(&name(&pack)[..2]).join(name(&pack));
    let share = parity.metadata().unwrap().len() * 100 / whole.len() as u64;
    assert!((4..20).contains(&share), "{share} %");
    flip(&pack, 500_000);
    expect(&person.output(["cat", "latest:sub/big"]), 0, &["mended"]);
    assert!(fs::read(&pack).unwrap() == whole);
    let end = whole.len() - 20;
    fs::write(&pack, &whole[..end]).unwrap();
    let output = person.output(["check", "--read-data"]);
    expect(&output, 0, &[]);
    let printed = text(&output.stdout);
    assert!(printed.contains("no problems") && printed.contains("mended 1 damaged pack from parity"), "{printed}");
    assert!(fs::read(&pack).unwrap() == whole);
    let output = person.output(["check", "--read-data", "--json"]);
    assert!(text(&output.stdout).contains("\"packs_mended\": 0"));
}

#[test]
fn parity_is_chosen_when_a_repository_is_made() {
    let person = pushed_without_parity();
    assert!(!person.path("repo/parity").exists());
    let person = Person::new();
    person.run(["init", "--parity=50%"]);
    let person = push_into(person);
    let sum = |folder| files(&person, folder).iter().map(|path| path.metadata().unwrap().len()).sum::<u64>();
    let share = sum("parity") * 100 / sum("packs");
    assert!((50..60).contains(&share), "{share} %");
    expect(&Person::new().output(["init", "--parity", "0"]), 1, &["percentage from 1% to 100%, or off"]);
}

#[test]
fn a_damaged_index_is_rebuilt() {
    let person = pushed();
    let index = person.path("cache/index");
    let data: Vec<PathBuf> =
        fs::read_dir(&index).unwrap().map(|entry| entry.unwrap().path().join("data.mdb")).collect();
    for harm in [flip_pages as fn(&Path), truncate, empty] {
        data.iter().for_each(|path| harm(path));
        let output = person.output(["cat", "latest:hello"]);
        expect(&output, 0, &[]);
        assert_eq!(text(&output.stdout), "hello\n");
        expect(&person.output(["check", "--read-data"]), 0, &[]);
        person.push(&person.path("src"));
    }
}

/// Damages LMDB's two meta pages, on which everything else depends.
fn flip_pages(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[..8192].fill(0xff);
    fs::write(path, bytes).unwrap();
}

fn empty(path: &Path) {
    fs::write(path, b"").unwrap();
}

#[test]
fn a_snapshot_has_two_copies() {
    let person = pushed();
    let first = files(&person, "snapshots")[0].clone();
    flip(&first, 200);
    expect(&person.output(["cat", "latest:hello"]), 0, &[]);
    // If both copies are damaged, the snapshot is named and the others stay readable.
    let id = name(&first);
    person.push(&person.path("src"));
    truncate(&person.path("repo/snapshots.2").join(&id));
    // This machine has opened it before: a check has the store show it again.
    expect(&person.output(["check"]), 1, &[&id, "damaged"]);
    fs::remove_dir_all(person.path("cache")).unwrap();
    expect(&person.output(["cat", "latest:hello"]), 0, &[&id, "damaged"]);
    expect(&person.output(["check"]), 1, &[&id, "damaged"]);
}

#[test]
fn a_log_has_two_copies() {
    let person = pushed();
    let (log, second) = (person.path("repo/log"), person.path("repo/log.2"));
    let middle = log.metadata().unwrap().len() as usize / 2;
    flip(&log, middle);
    fs::remove_dir_all(person.path("cache")).unwrap();
    expect(&person.output(["snapshots"]), 0, &[]);
    person.push(&person.path("src"));
    expect(&person.output(["check"]), 0, &[]);
    assert_eq!(fs::read(&log).unwrap(), fs::read(&second).unwrap(), "the damaged copy was repaired");
    // Damage to both copies at the same place is detected.
    flip(&log, middle);
    flip(&second, middle);
    fs::remove_dir_all(person.path("cache")).unwrap();
    expect(&person.output(["snapshots"]), 1, &["log", "damaged"]);
    expect(&person.output(["push", "/etc/hostname"]), 1, &["log", "damaged"]);
}

#[test]
fn a_newer_repository_is_left_alone() {
    let person = pushed();
    let config = fs::read(person.path("repo/config")).unwrap();
    let mut payload = Signed::decode("x", &config).unwrap().payload;
    payload[8..10].copy_from_slice(&9u16.to_le_bytes());
    let newer = Signed::new(&Config::HEADER.magic, payload, &SigningKey::random()).encode();
    for copy in ["config", "config.2"] {
        fs::write(person.path("repo").join(copy), &newer).unwrap();
    }
    for args in [&["snapshots"][..], &["push", "/etc/hostname"], &["check"]] {
        expect(&person.output(args), 1, &["version 9", "newer bkfs"]);
    }
}

/// Puts a snapshot into the store that was signed by a client on no roster, as an attacker on the server could.
fn plant_foreign_snapshot(person: &Person) -> (String, String) {
    let repo = person.path("repo");
    let config = verify_config(&fs::read(repo.join("config")).unwrap()).unwrap();
    let key = PushKey {
        repo: config.repo,
        id_key: Secret::random(),
        seal_public: config.seal_public.clone(),
        seal_number: Default::default(),
        admin_public: VerifyingKey::from_slice(&config.admin_public).unwrap(),
        signing: SigningKey::random(),
        label: "mallory".into(),
        url: None,
    };
    let snapshot = Snapshot {
        time: Time { secs: 1_795_165_200, nanos: 0 },
        host: "mallory".into(),
        user: "root".into(),
        target: "home".into(),
        paths: vec![PathBytes(b"/home".to_vec())],
        tags: vec![],
        root: Node {
            mode: 0o755,
            subtree: Some(Subtree { id: ChunkId([1; 32]), entries: 0, totals: Totals::default() }),
            ..Node::new(b"", NodeKind::Directory)
        },
        stats: PushStats::default(),
        program: "mallory".into(),
        sequence: 1,
        previous: None,
        log_len: 0,
        log_head: Hash::default(),
    };
    let data_key = DataKey::random();
    let wrap = key.seal().unwrap().wrap(key.repo, &data_key);
    let ids = key.ids();
    let bytes = snapshot::seal(&snapshot, &key, &ids, &data_key, &wrap);
    let id = snapshot::snapshot_id(&bytes);
    for folder in ["snapshots", "snapshots.2"] {
        fs::write(repo.join(folder).join(id.to_string()), &bytes).unwrap();
    }
    let mut log = fs::read(repo.join("log")).unwrap();
    let mut at = Position::default();
    while let Some((_, next)) = log_file::next_record(at, &log[at.offset as usize..]).unwrap() {
        at = next;
    }
    let (client, target) = (key.client_id(), ids.target_tag("home"));
    let event = Event::Commit { snapshot: id, client, target, sequence: 1, sender: None };
    let record = LogRecord { seq: at.len, time: Time { secs: 1_795_165_300, nanos: 0 }, event };
    log.extend(log_file::encode(at, &record).0);
    fs::write(repo.join("log"), log).unwrap();
    (id.to_string(), client.to_string())
}

#[test]
fn a_snapshot_of_an_unknown_client_is_hidden() {
    let person = pushed();
    let (id, client) = plant_foreign_snapshot(&person);
    let output = person.output(["snapshots", "--json"]);
    expect(&output, 0, &["warning", &id, &client, "roster"]);
    assert!(!text(&output.stdout).contains(&id));
    expect(&person.output(["ls", &id]), 1, &[&id]);
    expect(&person.output(["cat", "latest:hello"]), 0, &[&client]);
    expect(&person.output(["check"]), 1, &[&client, "roster"]);
}
