//! `bkfs key rotate`: what is asked and said, who can read what after it, and what outdated keys are told.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use crate::{
    common::program::{Person, Server, cannot_mount},
    expect, make_source, text,
};

const FIRST: &str = "correct horse battery staple";

/// An owner with a second passphrase, an old full key file and an old recovery sheet, and a laptop that can only push.
struct Scene {
    owner: Person,
    _server: Option<(Person, Server)>,
    old_key: PathBuf,
    old_sheet: PathBuf,
}

impl Scene {
    fn new(on_a_server: bool) -> Self {
        let server = on_a_server.then(|| {
            let operator = Person::new();
            let server = Server::start(&operator, &operator.path("server"));
            (operator, server)
        });
        let owner = match &server {
            Some((_, server)) => server.person("alice"),
            None => Person::with_repo(),
        };
        make_source(&owner.path("src"));
        owner.push(&owner.path("src"));
        let (old_key, old_sheet, laptop) = (owner.path("old.key"), owner.path("old-sheet"), owner.path("laptop.key"));
        owner.run(["key", "export-full", old_key.to_str().unwrap()]);
        fs::write(&old_sheet, owner.run(["key", "recovery"])).unwrap();
        owner.run(["key", "export-push", laptop.to_str().unwrap()]);
        let mut add = owner.command();
        let add = add.env("BKFS_NEW_PASSWORD", "second").args(["key", "add", "--label", "the safe"]);
        expect(&add.output().unwrap(), 0, &[]);
        let scene = Self { owner, _server: server, old_key, old_sheet };
        let key = laptop.to_str().unwrap();
        match &scene._server {
            Some((operator, server)) => {
                let token = server.invite(operator, "alice", "push");
                expect(&scene.laptop(&["join", &token, "--push-key", key]), 0, &[]);
            }
            None => expect(&scene.laptop(&["key", "enrol", "--push-key", key]), 0, &[]),
        }
        scene.laptop_pushes("one");
        scene
    }

    fn laptop(&self, args: &[&str]) -> Output {
        let mut command = self.owner.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_CONFIG_DIR", self.owner.path("laptop-config"));
        command.env("BKFS_CACHE_DIR", self.owner.path("laptop-cache")).args(args).output().unwrap()
    }

    /// The laptop pushes a folder with a file of this name.
    fn laptop_pushes(&self, name: &str) {
        let source = self.owner.path("laptop-src");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join(name), format!("{name}\n")).unwrap();
        expect(&self.laptop(&["push", "-C", source.to_str().unwrap(), "."]), 0, &[]);
    }

    /// The owner pushes a file of this name, without a passphrase.
    fn owner_pushes(&self, name: &str) -> String {
        fs::write(self.owner.path("src").join(name), format!("{name}\n")).unwrap();
        let source = self.owner.path("src");
        let mut command = self.owner.command();
        command.env_remove("BKFS_PASSWORD").args(["push", "-C", source.to_str().unwrap(), "."]);
        expect(&command.output().unwrap(), 0, &[]);
        self.owner.newest()
    }

    /// Another machine of the owner, with a key file and without a passphrase. It has joined the server.
    fn with_key(&self, key: &Path, args: &[&str]) -> Output {
        let mut command = self.owner.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_KEY_FILE", key);
        command.env("BKFS_CACHE_DIR", self.owner.path("other-cache")).args(args).output().unwrap()
    }

    fn snapshots(&self) -> Vec<String> {
        let list: Value = serde_json::from_str(&self.owner.run(["snapshots", "--json"])).unwrap();
        list.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    fn keys(&self) -> Value {
        serde_json::from_str(&self.owner.run(["key", "list", "--json"])).unwrap()
    }
}

fn rotation_works(on_a_server: bool) {
    let scene = Scene::new(on_a_server);
    let owner = &scene.owner;
    let before = scene.keys();
    assert_eq!((&before["seal_key"], before["slots"].as_array().unwrap().len()), (&1.into(), 2));
    // It is asked about, and says which passphrase goes.
    expect(&owner.output(["key", "rotate"]), 1, &["seal key 2", "the safe", "key add", "recovery sheets", "--yes"]);
    assert_eq!(scene.keys(), before, "nothing was changed");

    let early = scene.snapshots();
    let report: Value = serde_json::from_str(&owner.run(["key", "rotate", "--yes", "--json"])).unwrap();
    assert_eq!((&report["seal_key"], &report["finished"]), (&2.into(), &false.into()));
    assert_eq!((report["removed"].as_array().unwrap().len(), &report["removed"][0]["label"]), (1, &"the safe".into()));
    let after = scene.keys();
    assert_eq!((&after["seal_key"], after["slots"].as_array().unwrap().len()), (&2.into(), 1));
    assert_eq!((&after["slots"][0]["id"], &after["slots"][0]["seal_key"]), (&report["slot"], &2.into()));
    assert_eq!((&after["slots"][0]["label"], &after["slots"][0]["in_use"]), (&"first".into(), &true.into()));
    assert_eq!(after["clients"], before["clients"], "labels of clients are still readable");

    // The owner's machine and the laptop push as before.
    let late = scene.owner_pushes("late");
    scene.laptop_pushes("two");
    let all = scene.snapshots();
    assert_eq!((early.len(), all.len()), (2, 4));
    let check = owner.output(["check", "--read-data"]);
    expect(&check, 0, &[]);
    for (at, id) in all.iter().enumerate() {
        let out = owner.path(&format!("restored-{at}"));
        owner.run(["restore", id, out.to_str().unwrap()]);
    }
    let read = |at: usize, name: &str| fs::read_to_string(owner.path(&format!("restored-{at}")).join(name)).unwrap();
    assert_eq!(
        (read(0, "hello"), read(1, "one"), read(2, "late")),
        ("hello\n".into(), "one\n".into(), "late\n".into())
    );
    assert_eq!((read(3, "one"), read(3, "two")), ("one\n".into(), "two\n".into()));

    // Keys from before open what is older, and say what is the matter with the rest.
    for key in [&scene.old_key, &scene.old_sheet] {
        let old = scene.with_key(key, &["cat", &format!("{}:hello", early[0])]);
        expect(&old, 0, &["from before the seal key was rotated", "seal key 1", "the newest is 2", "key recovery"]);
        assert_eq!(text(&old.stdout), "hello\n");
        let new = scene.with_key(key, &["cat", &format!("{late}:late")]);
        expect(&new, 12, &[&late[..8], "this needs seal key 2", "after the rotation", "key export-full"]);
        expect(&scene.with_key(key, &["cat", "latest:hello"]), 12, &["latest snapshot is not known", "by its id"]);
        let list = scene.with_key(key, &["snapshots", "--json"]);
        assert_eq!(text(&list.stdout).matches("\"host\"").count(), 2);
        for args in [
            &["check", "--read-data"][..],
            &["prune"],
            &["forget", "--keep-last", "1"],
            &["forget", "--broken", "--confirm"],
            &["repair", "packs"],
            &["key", "list"],
            &["key", "recovery"],
            &["key", "export-push", "/dev/null/x"],
        ] {
            expect(&scene.with_key(key, args), 12, &["from before the seal key was rotated", "seal key 2"]);
        }
    }
    assert_eq!(scene.snapshots(), all, "nothing was forgotten");
    // Without a label or a slot, the other passphrase is simply wrong. `key add` makes it again.
    let with = |passphrase: &str, args: &[&str]| owner.command().env("BKFS_PASSWORD", passphrase).args(args).output();
    expect(&with("second", &["snapshots"]).unwrap(), 12, &["wrong passphrase"]);
    let add = owner.command().env("BKFS_NEW_PASSWORD", "second").args(["key", "add"]).output().unwrap();
    expect(&add, 0, &[]);
    expect(&with("second", &["cat", &format!("{late}:late")]).unwrap(), 0, &[]);

    // What is exported now opens everything, and a push key that is made now pushes.
    let (new_key, new_push) = (owner.path("new.key"), owner.path("new-push.key"));
    owner.run(["key", "export-full", new_key.to_str().unwrap()]);
    owner.run(["key", "export-push", new_push.to_str().unwrap()]);
    for id in [&early[0], &late] {
        let read = scene.with_key(&new_key, &["cat", &format!("{id}:hello")]);
        expect(&read, 0, &[]);
        assert!(read.stderr.is_empty(), "{}", text(&read.stderr));
    }
    let source = owner.path("src");
    expect(&scene.with_key(&new_push, &["push", "-C", source.to_str().unwrap(), "."]), 0, &[]);
    // An old full key file pushes, too: it needs nothing but the newest public key.
    expect(&scene.with_key(&scene.old_key, &["push", "-C", source.to_str().unwrap(), "."]), 0, &[]);

    // Once more.
    owner.run(["key", "rotate", "--yes"]);
    assert_eq!(scene.keys()["seal_key"], 3);
    scene.laptop_pushes("three");
    let last = scene.owner_pushes("last");
    expect(&owner.output(["check", "--read-data"]), 0, &[]);
    for id in [&early[0], &late, &last] {
        assert_eq!(owner.run(["cat", &format!("{id}:hello")]), "hello\n");
    }
    let read = scene.with_key(&new_key, &["cat", &format!("{late}:hello")]);
    expect(&read, 0, &["it has seal key 2, and the newest is 3"]);
}

#[test]
fn after_a_rotation_only_newer_keys_read_what_is_pushed() {
    rotation_works(false);
}

#[test]
fn after_a_rotation_over_a_server_only_newer_keys_read_what_is_pushed() {
    rotation_works(true);
}

#[test]
fn a_rotation_needs_a_passphrase() {
    let scene = Scene::new(false);
    let refused = scene.with_key(&scene.old_key, &["key", "rotate", "--yes"]);
    expect(&refused, 12, &["needs a passphrase", "BKFS_PASSWORD"]);
    let mut wrong = scene.owner.command();
    expect(&wrong.env("BKFS_PASSWORD", "wrong").args(["key", "rotate", "--yes"]).output().unwrap(), 12, &["wrong"]);
    assert_eq!(scene.keys()["seal_key"], 1);
    // The other passphrase can do it as well. Then the first one is gone.
    let mut second = scene.owner.command();
    let done = second.env("BKFS_PASSWORD", "second").args(["key", "rotate", "--yes"]).output().unwrap();
    expect(&done, 0, &[]);
    for words in ["seal key 2 is the newest", "replaces", "removed passphrase slot", "key recovery", "key export-full"]
    {
        assert!(text(&done.stdout).contains(words), "{words:?} is missing: {}", text(&done.stdout));
    }
    expect(&scene.owner.output(["snapshots"]), 12, &["wrong passphrase"]);
}

#[test]
fn an_account_without_admin_cannot_rotate() {
    let scene = Scene::new(true);
    let (operator, server) = scene._server.as_ref().unwrap();
    let mut reader = Person::new();
    reader.repo = reader.run(["join", &server.invite(operator, "alice", "push,read")]).trim().to_owned();
    expect(&reader.output(["key", "rotate", "--yes"]), 1, &["no permission"]);
    assert_eq!((&scene.keys()["seal_key"], scene.keys()["slots"].as_array().unwrap().len()), (&1.into(), 2));
}

/// Copies a folder as `cp -a` does.
fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_rotation_that_was_interrupted_is_finished() {
    let scene = Scene::new(false);
    let owner = &scene.owner;
    // Before a rotation removes slots, it has stored a slot and a list: a copy of the slots is put back.
    let (slots, kept) = (owner.path("repo/slots"), owner.path("kept"));
    copy(&slots, &kept);
    owner.run(["key", "rotate", "--yes"]);
    for entry in fs::read_dir(&kept).unwrap().map(Result::unwrap) {
        for folder in ["repo/slots", "repo/slots.2"] {
            fs::copy(entry.path(), owner.path(folder).join(entry.file_name())).unwrap();
        }
    }
    let list = scene.keys();
    let outdated = |list: &Value| list["slots"].as_array().unwrap().iter().filter(|slot| slot["seal_key"] == 1).count();
    assert_eq!((list["slots"].as_array().unwrap().len(), outdated(&list)), (3, 2));
    let shown = owner.run(["key", "list"]);
    assert_eq!(shown.matches("1 (outdated)").count(), 2, "{shown}");
    // The passphrase opens the newest of its slots. The other passphrase has only an old one.
    let late = scene.owner_pushes("late");
    assert_eq!(owner.run(["cat", "latest:late"]), "late\n");
    let mut second = owner.command();
    let second = second.env("BKFS_PASSWORD", "second").args(["cat", &format!("{late}:late")]).output().unwrap();
    expect(&second, 12, &["this needs seal key 2"]);

    expect(&owner.output(["key", "rotate"]), 1, &["was interrupted", "the safe", "--yes"]);
    let report: Value = serde_json::from_str(&owner.run(["key", "rotate", "--yes", "--json"])).unwrap();
    assert_eq!((&report["seal_key"], &report["finished"]), (&2.into(), &true.into()));
    assert_eq!(report["removed"].as_array().unwrap().len(), 2);
    let list = scene.keys();
    assert_eq!((list["slots"].as_array().unwrap().len(), outdated(&list), &list["seal_key"]), (1, 0, &2.into()));
}

#[test]
fn a_repository_from_before_a_rotation_is_not_pushed_to() {
    let scene = Scene::new(false);
    let (owner, source) = (&scene.owner, scene.owner.path("laptop-src"));
    copy(&owner.path("repo"), &owner.path("before"));
    owner.run(["key", "rotate", "--yes"]);
    scene.laptop_pushes("two");
    // Somebody puts the older state back.
    fs::rename(owner.path("repo"), owner.path("after")).unwrap();
    copy(&owner.path("before"), &owner.path("repo"));
    let push = scene.laptop(&["push", "-C", source.to_str().unwrap(), "."]);
    expect(&push, 13, &["newest seal key is number 1", "has seen number 2", "--accept-rollback"]);
    // It can be read, with a passphrase from then.
    expect(&owner.output(["cat", "latest:hello"]), 13, &["newest seal key is number 1"]);
    expect(&owner.output(["key", "rotate", "--yes"]), 13, &["newest seal key is number 1"]);
    owner.output(["check", "--accept-rollback"]);
    scene.owner_pushes("after-all");
    // The newer state is back: it was seen by the laptop, and not by a machine that accepted the older one.
    fs::remove_dir_all(owner.path("repo")).unwrap();
    fs::rename(owner.path("after"), owner.path("repo")).unwrap();
    scene.laptop_pushes("three");
}

#[test]
fn a_key_that_is_newer_than_the_repository_is_told_so() {
    let scene = Scene::new(false);
    let owner = &scene.owner;
    copy(&owner.path("repo"), &owner.path("before"));
    owner.run(["key", "rotate", "--yes"]);
    let (full, push) = (owner.path("new-full.key"), owner.path("new-push.key"));
    owner.run(["key", "export-full", full.to_str().unwrap()]);
    owner.run(["key", "export-push", push.to_str().unwrap()]);
    // A machine that has seen nothing else yet.
    let fresh = |key: &Path, args: &[&str]| {
        let mut command = owner.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_KEY_FILE", key).env("BKFS_CONFIG_DIR", owner.path("fresh"));
        command.env("BKFS_CACHE_DIR", owner.path("fresh-cache")).env("BKFS_REPOSITORY", owner.path("before"));
        command.args(args).output().unwrap()
    };
    for key in [&full, &push] {
        expect(&fresh(key, &["push", "/etc/hostname"]), 13, &["shows no seal key after 1", "hides a rotation"]);
    }
    expect(&fresh(&full, &["snapshots"]), 13, &["shows no seal key after 1"]);
}

#[test]
fn a_mount_goes_on_with_what_its_key_opens() {
    if let Some(reason) = cannot_mount() {
        eprintln!("skipped: {reason}");
        return;
    }
    let scene = Scene::new(false);
    let mount = scene.owner.mount(&[]);
    let early = scene.snapshots().len();
    let listed = || fs::read_dir(mount.point.join("ids")).unwrap().count();
    assert_eq!(listed(), early);
    scene.owner.run(["key", "rotate", "--yes"]);
    let late = scene.owner_pushes("late");
    assert_eq!(listed(), early, "the new snapshot is not opened");
    assert!(!mount.point.join("ids").join(&late).exists());
    let old = fs::read_dir(mount.point.join("ids"))
        .unwrap()
        .map(Result::unwrap)
        .find_map(|snapshot| fs::read_to_string(snapshot.path().join("hello")).ok());
    assert_eq!(old.as_deref(), Some("hello\n"));
}

#[test]
fn a_key_in_the_kernels_keyring_gives_way_to_the_passphrase() {
    let scene = Scene::new(false);
    let owner = &scene.owner;
    copy(&owner.path("repo"), &owner.path("before"));
    owner.run(["key", "rotate", "--yes"]);
    let late = scene.owner_pushes("late");
    // The keyring knows the repository by its id, and a copy from before the rotation has the same.
    let unlock = owner
        .command()
        .env("BKFS_CONFIG_DIR", owner.path("elsewhere"))
        .env("BKFS_REPOSITORY", owner.path("before"))
        .args(["key", "unlock"])
        .output()
        .unwrap();
    if !unlock.status.success() {
        eprintln!("skipped: this kernel or container has no keyrings");
        return;
    }
    let read = |passphrase: Option<&str>, snapshot: &str, name: &str| {
        let mut command = owner.command();
        command.env_remove("BKFS_PASSWORD").args(["cat", &format!("{snapshot}:{name}")]);
        command.envs(passphrase.map(|passphrase| ("BKFS_PASSWORD", passphrase))).output().unwrap()
    };
    expect(&read(Some(FIRST), &late, "late"), 0, &[]);
    // Without a passphrase it is still good for what is older.
    let early = scene.snapshots()[0].clone();
    expect(&read(None, &early, "hello"), 0, &["seal key 1", "key unlock"]);
    expect(&read(None, &late, "late"), 12, &["this needs seal key 2"]);
    owner.run(["key", "unlock"]);
    expect(&read(None, &late, "late"), 0, &[]);
    owner.run(["key", "lock"]);
}
