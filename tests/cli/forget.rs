//! Forgetting: by name and by policy, the trash and back, holds, and what a server allows to which client.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use crate::{
    common::program::{Person, Server, cannot_mount},
    expect, noise, text,
};

/// Pushes the folder's contents. Returns the id of the snapshot.
fn push(person: &Person, extra: &[&str]) -> String {
    let source = person.path("src");
    let output = person.command().args(["push", "--json", "-C"]).arg(&source).args(extra).arg(".").output().unwrap();
    expect(&output, 0, &[]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["snapshot"].as_str().unwrap().to_owned()
}

/// Pushes `count` snapshots, each with one more file. Returns their ids.
fn pushes(person: &Person, count: usize) -> Vec<String> {
    let source = person.path("src");
    fs::create_dir_all(&source).unwrap();
    let before = fs::read_dir(&source).unwrap().count();
    (before..before + count)
        .map(|n| {
            fs::write(source.join(format!("file{n}")), noise(n as u64, 20_000)).unwrap();
            push(person, &[])
        })
        .collect()
}

fn json(person: &Person, args: &[&str]) -> Value {
    serde_json::from_str(&person.run(args.iter().chain(&["--json"]))).unwrap()
}

fn ids(list: &Value) -> Vec<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap_or_else(|| row.as_str().unwrap()).into())
        .collect()
}

fn shown(person: &Person) -> Vec<String> {
    ids(&json(person, &["snapshots"]))
}

fn trash(person: &Person) -> Vec<String> {
    ids(&json(person, &["snapshots", "--trash"]))
}

#[test]
fn what_went_is_said_off_a_terminal_as_well() {
    let person = Person::with_repo();
    let all = pushes(&person, 4);
    let short = |n: usize| all[n][..8].to_owned();
    let said = person.run(["forget", &all[0]]);
    assert_eq!(said.lines().next(), Some(&*format!("{} moved to the trash", short(0))), "{said}");
    let said = person.run(["forget", "--keep-last", "1"]);
    let went = |n| said.contains(&format!("{} moved to the trash\n", short(n)));
    assert!(went(1) && went(2) && said.contains("2 snapshots moved") && said.contains("1 kept"), "{said}");
    // Nothing to forget: nothing to say.
    assert_eq!(person.run(["forget", "--keep-last", "1"]), "");
    let said = person.run(["unforget", &all[1]]);
    assert_eq!(said.lines().next(), Some(&*format!("{} brought back", short(1))), "{said}");
    let said = person.run(["forget", "--now", &all[1]]);
    assert!(said.contains(&format!("{} gone for good", short(1))), "{said}");
    let said = person.run(["forget", "--empty-trash"]);
    assert!(said.contains(&format!("{} gone for good", short(0))), "{said}");
    assert_eq!(person.run(["forget", "--empty-trash"]), "");
    assert_eq!(person.run(["forget", "--quiet", "latest"]), "");
}

#[test]
fn named_snapshots_go_to_the_trash_and_come_back() {
    let person = Person::with_repo();
    let all = pushes(&person, 4);
    let output = person.output(["forget", "-v", &all[1][..10], "latest"]);
    expect(&output, 0, &[]);
    assert!(text(&output.stdout).contains("2 snapshots moved to the trash"), "{}", text(&output.stdout));
    assert_eq!(shown(&person), [all[0].as_str(), &all[2]]);
    assert_eq!(trash(&person), [all[1].as_str(), &all[3]]);
    let rows = json(&person, &["snapshots", "--trash"]);
    assert!(rows[0]["forgotten"].as_str().unwrap().starts_with("20"), "{rows}");
    assert!(rows[0].get("kept_until").is_none(), "a path has no floor: {rows}");
    let list = person.run(["snapshots", "--trash"]);
    assert!(list.contains("FORGOTTEN") && list.contains(&all[1][..8]), "{list}");

    // Other commands no longer see it.
    assert_eq!(person.run(["ls", "latest"]).lines().count(), 3, "the newest snapshot that is not forgotten");
    expect(&person.output(["ls", &all[3]]), 1, &["no snapshot"]);
    expect(&person.output(["forget", "--dry-run", &all[0]]), 0, &[]);
    expect(&person.output(["forget", &all[3]]), 0, &[]);
    person.run(["check"]);
    // The next snapshot of the machine follows the one in the trash.
    let next = pushes(&person, 1);
    expect(&person.output(["snapshots"]), 0, &[]);
    person.run(["check"]);

    person.run(["unforget", &all[3]]);
    assert_eq!(shown(&person), [all[0].as_str(), &all[2], &all[3], &next[0]]);
    person.run(["unforget", "--all"]);
    assert_eq!(shown(&person).len(), 5);
    assert_eq!(person.run(["cat", &format!("{}:file1", all[1])]).len(), text(&noise(1, 20_000)).len());
    expect(&person.output(["unforget", &all[1]]), 1, &["nothing in the trash"]);

    // Delete for good.
    let report = json(&person, &["forget", "--now", &all[0], &all[1]]);
    assert_eq!(ids(&report["gone"]).len(), 2, "{report}");
    assert_eq!((shown(&person).len(), trash(&person).len()), (3, 0));
    person.run(["forget", &all[2]]);
    person.run(["forget", "--now", &all[2]]);
    assert_eq!((shown(&person).len(), trash(&person).len()), (2, 0));
    expect(&person.output(["unforget", "--all"]), 0, &[]);
    assert_eq!(shown(&person), [all[3].as_str(), &next[0]]);
    person.run(["forget", &all[3]]);
    assert_eq!(ids(&json(&person, &["forget", "--empty-trash"])["gone"]), all[3..]);
    assert_eq!((shown(&person), trash(&person).len()), (next, 0));
    person.run(["check", "--read-data"]);
}

#[test]
fn a_policy_reports_what_it_keeps_and_why() {
    let person = Person::with_repo();
    let mut all = pushes(&person, 3);
    all.push(push(&person, &["--tag", "release"]));
    all.extend(pushes(&person, 2));
    let args = ["forget", "--keep-last", "2", "--keep-tag", "release", "--dry-run"];
    let table = person.run(args);
    let line = |id: &str| table.lines().find(|line| line.contains(&id[..8])).unwrap().to_owned();
    assert!(line(&all[5]).contains("keep") && line(&all[5]).contains("last 1 of 2"), "{table}");
    assert!(line(&all[4]).contains("last 2 of 2"), "{table}");
    assert!(line(&all[3]).contains("tags release"), "{table}");
    assert!(line(&all[0]).contains("forget") && table.contains("would forget 3 snapshots and keep 3"), "{table}");
    assert!(table.contains("target"), "the group has a name: {table}");
    assert_eq!(shown(&person).len(), 6, "nothing was changed");
    let report = json(&person, &args);
    assert_eq!(ids(&report["groups"][0]["forget"]), [all[2].as_str(), &all[1], &all[0]]);
    assert_eq!(report["groups"][0]["keep"][0]["reasons"][0], "last 1 of 2");
    assert_eq!(report["dry_run"], true);

    let said = person.run(&args[..5]);
    assert!(all[..3].iter().all(|id| said.contains(&format!("{} moved to the trash\n", &id[..8]))), "{said}");
    assert_eq!(person.run(&args[..5]), "", "where nothing goes, cron sees no output");
    assert_eq!(shown(&person), all[3..]);
    assert_eq!(trash(&person), all[..3]);
    // Snapshots in the trash are not chosen again, and do not count for --keep-last.
    let report = json(&person, &args[..5]);
    assert_eq!((ids(&report["trashed"]).len(), ids(&report["groups"][0]["keep"]).len()), (0, 3), "{report}");
    // Filters limit what the policy sees. Each group is counted separately.
    push(&person, &["--target", "other"]);
    let report = json(&person, &["forget", "--keep-last", "1", "--target", "other", "-n"]);
    assert_eq!((report["groups"].as_array().unwrap().len(), ids(&report["groups"][0]["keep"]).len()), (1, 1));
    let groups = |by: &str| {
        json(&person, &["forget", "--keep-daily", "1", "-n", "--group-by", by])["groups"].as_array().unwrap().len()
    };
    assert_eq!((groups("target"), groups("host"), groups("")), (2, 1, 1));
    let report = json(&person, &["forget", "--keep-within", "1h", "--keep-monthly", "unlimited", "-n"]);
    assert!(report["groups"].as_array().unwrap().iter().all(|group| ids(&group["forget"]).is_empty()), "{report}");
}

#[test]
fn wrong_usage_changes_nothing_and_is_explained() {
    let person = Person::with_repo();
    let all = pushes(&person, 2);
    for (args, words) in [
        (&["forget"][..], &["keeps nothing", "--keep-"][..]),
        (&["forget", "--keep-last", "0"], &["keeps nothing"]),
        (&["forget", "--keep-last", "-1"], &["-1"]),
        (&["forget", "--keep-last", "1.5"], &["whole number"]),
        (&["forget", "--keep-within", "2w"], &["weeks", "7d"]),
        (&["forget", "--keep-last", "1", "--group-by", "color"], &["color", "host"]),
        (&["forget", "--keep-tag", "none"], &["would forget all 2 snapshots", "--keep-last 1"]),
        (&["forget", "--keep-last", "1", &all[0]], &["both snapshots and a policy"]),
        (&["forget", "ffffffff"], &["ffffffff"]),
        (&["forget", "latest:file"], &["is not a snapshot"]),
        (&["forget", &all[0], "ffffffff"], &["ffffffff"]),
        (&["forget", "--empty-trash", "--dry-run"], &["cannot be used with"]),
        (&["unforget"], &["SNAPSHOT"]),
        (&["unforget", &all[0]], &["nothing in the trash"]),
    ] {
        expect(&person.output(args), 1, words);
    }
    assert_eq!((shown(&person), trash(&person).len()), (all, 0));
}

#[test]
fn a_damaged_snapshot_can_be_forgotten() {
    let person = Person::with_repo();
    let all = pushes(&person, 3);
    let copies = ["snapshots", "snapshots.2"].map(|copies| person.path("repo").join(copies).join(&all[1]));
    for copy in &copies {
        fs::write(copy, "rubbish").unwrap();
    }
    expect(&person.output(["snapshots"]), 0, &[&all[1], "damaged"]);
    expect(&person.output(["check"]), 1, &[&all[1]]);
    assert_eq!(shown(&person), [all[0].as_str(), &all[2]]);
    expect(&person.output(["forget", &all[1][..12]]), 0, &[]);
    let output = person.output(["snapshots"]);
    expect(&output, 0, &[]);
    assert!(output.stderr.is_empty(), "the owner knows about it: {}", text(&output.stderr));
    expect(&person.output(["check"]), 1, &[&all[1]]);
    expect(&person.output(["unforget", &all[1]]), 0, &[]);
    expect(&person.output(["snapshots"]), 0, &[&all[1]]);
    // A snapshot that is deleted for good need not be readable.
    expect(&person.output(["forget", "--now", &all[1]]), 0, &[]);
    let output = person.output(["check", "--read-data"]);
    expect(&output, 0, &[]);
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    pushes(&person, 1);
    expect(&person.output(["check"]), 0, &[]);
}

#[test]
fn a_push_key_forgets_nothing() {
    let person = Person::with_repo();
    let all = pushes(&person, 2);
    let without_passphrase = |args: &[&str]| person.command().env_remove("BKFS_PASSWORD").args(args).output().unwrap();
    for args in [&["forget", "--keep-last", "1"][..], &["forget", &all[0]], &["unforget", "--all"]] {
        expect(&without_passphrase(args), 12, &["push key cannot read"]);
    }
    assert_eq!(shown(&person), all);
}

#[test]
fn a_target_that_shrinks_is_held_until_a_person_confirms() {
    let person = Person::with_repo();
    let source = person.path("src");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("big"), noise(7, 1 << 20)).unwrap();
    let mut all = pushes(&person, 3);
    let keep_one = ["forget", "--keep-last", "1"];
    expect(&person.output(keep_one), 0, &[]);
    assert_eq!(shown(&person), all[2..]);
    // As if the disk with the files were not mounted.
    fs::remove_file(source.join("big")).unwrap();
    all.extend(pushes(&person, 2));
    let held = person.output(keep_one);
    expect(&held, 3, &["bytes", "is anything missing?", "--confirm"]);
    let dry = person.output(["forget", "--keep-last", "1", "--dry-run"]);
    expect(&dry, 0, &["is anything missing?"]);
    assert!(text(&dry.stdout).contains("(held)"), "{}", text(&dry.stdout));
    // The hold stays, however often the policy runs and however many small snapshots follow.
    all.extend(pushes(&person, 4));
    expect(&person.output(keep_one), 3, &["is anything missing?"]);
    assert_eq!(shown(&person), all[2..]);
    let output = person.command().args(keep_one).arg("--json").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["groups"][0]["held"], output.status.code()), (&Value::Bool(true), Some(3)));
    // Other groups are not held.
    push(&person, &["--target", "other"]);
    push(&person, &["--target", "other"]);
    expect(&person.output(keep_one), 3, &[]);
    assert_eq!(json(&person, &["snapshots", "--target", "other"]).as_array().unwrap().len(), 1);
    // A snapshot that is named can be forgotten: a person has decided.
    expect(&person.output(["forget", &all[3]]), 0, &[]);
    expect(&person.output(["forget", "--keep-last", "1", "--confirm"]), 0, &[]);
    assert_eq!(shown(&person)[0], all[8]);
    pushes(&person, 2);
    expect(&person.output(keep_one), 0, &[]);
}

#[test]
fn a_clock_that_jumps_holds_forgetting() {
    let person = Person::with_repo();
    let all = pushes(&person, 3);
    expect(&person.output(["forget", "--keep-last", "2"]), 0, &[]);
    // The last run was in the future: the clock was wrong then, or it is wrong now.
    let find = |dir: &Path| fs::read_dir(dir).unwrap().next().unwrap().unwrap().path().join("retention.toml");
    let file = find(&person.path("config/repositories"));
    let runs = fs::read_to_string(&file).unwrap();
    let later: String = runs
        .lines()
        .map(|line| if line.starts_with("at_secs") { "at_secs = 4102444800\n".into() } else { format!("{line}\n") })
        .collect();
    assert_ne!(runs, later);
    fs::write(&file, later).unwrap();
    expect(&person.output(["forget", "--keep-last", "1"]), 3, &["in the future", "clock"]);
    assert_eq!(shown(&person), all[1..]);
    expect(&person.output(["forget", "--keep-last", "1", "--confirm"]), 0, &[]);
    assert_eq!(shown(&person), all[2..]);
    expect(&person.output(["forget", "--keep-last", "1"]), 0, &[]);
    // If the record is lost, only the comparison is lost.
    fs::remove_file(&file).unwrap();
    expect(&person.output(["forget", "--keep-last", "1"]), 0, &[]);
}

#[test]
fn a_server_enforces_its_floor_and_its_operator_can_bypass_it() {
    let operator = Person::new();
    let data = operator.path("server");
    let server = Server::start(&operator, &data);
    let person = server.person("alice");
    let all = pushes(&person, 5);
    // The default floor is 14 days.
    let output = person.output(["forget", "--now", &all[0], &all[1]]);
    expect(&output, 0, &["2 snapshots went to the trash only", "protects"]);
    assert_eq!((shown(&person), trash(&person)), (all[2..].to_vec(), all[..2].to_vec()));
    let rows = json(&person, &["snapshots", "--trash"]);
    assert!(rows[0]["kept_until"].as_str() > rows[0]["forgotten"].as_str(), "{rows}");
    assert_eq!(
        ids(&json(&person, &["forget", "--empty-trash"])["gone"]).len(),
        0,
        "it has not been in the trash for long enough"
    );
    person.run(["unforget", &all[1]]);
    expect(&person.output(["forget", "--keep-last", "3"]), 0, &[]);
    assert_eq!(trash(&person), all[..2]);

    // The operator purges while the server runs.
    let purge = |args: &[&str]| {
        let mut command = operator.command();
        command.args(["server", "purge", "--data", data.to_str().unwrap(), "alice"]).args(args).output().unwrap()
    };
    let list = purge(&[]);
    expect(&list, 0, &[]);
    let listed = text(&list.stdout);
    assert!(
        listed.lines().count() == 6 && listed.contains("in the trash") && listed.contains(&all[4][..16]),
        "{listed}"
    );
    expect(&purge(&[&all[0][..7]]), 1, &["8 digits"]);
    expect(&purge(&["ffffffffffff"]), 1, &["no snapshot ffffffffffff"]);
    expect(&purge(&["--repository", "photos"]), 10, &["photos"]);
    expect(&purge(&[&all[0], &all[2][..12]]), 0, &[]);
    let after = person.output(["snapshots"]);
    expect(&after, 0, &["removed by the server's operator", &all[2]]);
    assert!(!text(&after.stderr).contains(&all[0]), "its owner had forgotten it: {}", text(&after.stderr));
    assert_eq!((shown(&person), trash(&person)), (all[3..].to_vec(), all[1..2].to_vec()));
    expect(&person.output(["check"]), 1, &["removed by the server's operator"]);
    expect(&person.output(["unforget", &all[0]]), 1, &["in the trash"]);
    let more = pushes(&person, 1);
    // The operator purges while the server does not run.
    drop(server);
    expect(&purge(&[&all[3]]), 0, &[]);
    let _server = Server::run(&operator, &data, person.repo.trim_start_matches("bkfs://").trim_end_matches("/alice"));
    assert_eq!(shown(&person), [all[4].as_str(), &more[0]]);
    // The owner takes note, and there are no more warnings.
    expect(&person.output(["forget", &all[2], &all[3][..12]]), 0, &[]);
    let output = person.output(["check", "--read-data"]);
    expect(&output, 0, &[]);
    assert!(!text(&output.stderr).contains("operator"), "{}", text(&output.stderr));
}

#[test]
fn a_server_without_a_floor_deletes_immediately() {
    let operator = Person::new();
    let server = Server::start_protecting(&operator, &operator.path("server"), "0d");
    let person = server.person("alice");
    let all = pushes(&person, 2);
    let report = json(&person, &["forget", "--now", &all[0]]);
    assert_eq!(ids(&report["gone"]), all[..1]);
    assert_eq!((shown(&person), trash(&person).len()), (all[1..].to_vec(), 0));
}

#[test]
fn permissions_at_a_server_are_enforced() {
    let operator = Person::new();
    let server = Server::start_protecting(&operator, &operator.path("server"), "0d");
    let person = server.person("alice");
    let all = pushes(&person, 3);
    // Another machine of the same person, with the passphrase and the permissions of its invitation.
    let machine = |name: &'static str, can: &str| {
        let token = server.invite(&operator, "alice", can);
        let person = &person;
        let run = move |args: &[&str]| {
            let mut command = person.command();
            command.env("BKFS_CONFIG_DIR", person.path(&format!("config-{name}")));
            command.env("BKFS_CACHE_DIR", person.path(&format!("cache-{name}")));
            command.args(args).output().unwrap()
        };
        expect(&run(&["join", &token]), 0, &[]);
        run
    };
    let reader = machine("reader", "push,read");
    expect(&reader(&["forget", &all[0]]), 1, &["permission", "forget"]);
    expect(&reader(&["forget", "--keep-last", "1"]), 1, &["permission", "forget"]);
    let forgetter = machine("forgetter", "read,forget");
    expect(&forgetter(&["forget", "--now", &all[0]]), 1, &["permission", "prune"]);
    expect(&forgetter(&["forget", "--empty-trash"]), 1, &["permission", "prune"]);
    assert_eq!(shown(&person), all);
    expect(&forgetter(&["forget", "--keep-last", "2"]), 0, &[]);
    expect(&reader(&["unforget", "--all"]), 1, &["permission", "trash"]);
    assert_eq!(trash(&person), all[..1]);
    expect(&forgetter(&["unforget", "--all"]), 0, &[]);
    assert_eq!(shown(&person), all);
    expect(&machine("pruner", "read,forget,prune")(&["forget", "--now", &all[0]]), 0, &[]);
    assert_eq!(shown(&person), all[1..]);
}

#[test]
fn a_mount_hides_forgotten_snapshots() {
    if let Some(reason) = cannot_mount() {
        crate::skip!("{reason}");
    }
    let person = Person::with_repo();
    let all = pushes(&person, 3);
    let mount = person.mount(&[]);
    let ids = || {
        let mut names: Vec<String> = fs::read_dir(mount.point.join("ids"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let newest = || fs::read_dir(mount.latest()).unwrap().count();
    assert_eq!((ids().len(), newest()), (3, 3));
    person.run(["forget", &all[2]]);
    let eventually = |what: &dyn Fn() -> bool| {
        let begin = std::time::Instant::now();
        while !what() {
            assert!(begin.elapsed() < Duration::from_secs(30), "the mount shows {:?}", ids());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    eventually(&|| ids().len() == 2 && newest() == 2);
    assert!(!ids().iter().any(|id| all[2].starts_with(id.as_str())));
    person.run(["unforget", &all[2]]);
    eventually(&|| ids().len() == 3 && newest() == 3);
}
