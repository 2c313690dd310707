//! Root in the folders of another user, as with `sudo`: nothing is left there that the user cannot read.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use crate::{common::program::Person, expect, make_source, noise, packs, source::as_nobody, text};

const NOBODY: u32 = 65534;

/// A user's repository, with their configuration and cache.
fn of_nobody() -> Option<Person> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let person = Person::new();
    as_nobody(&person)?;
    for name in ["repo", "config", "cache"] {
        fs::create_dir(person.path(name)).unwrap();
        give(&person.path(name), NOBODY);
    }
    make_source(&person.path("src"));
    expect(&as_nobody(&person).unwrap().arg("init").output().unwrap(), 0, &[]);
    push(as_nobody(&person).unwrap(), &person);
    Some(person)
}

macro_rules! of_nobody {
    () => {
        match of_nobody() {
            Some(person) => person,
            None => crate::skip!("only root can become another user"),
        }
    };
}

fn give(path: &Path, user: u32) {
    let status = Command::new("chown").arg("-R").arg(user.to_string()).arg(path).status();
    assert!(status.unwrap().success());
}

fn push(mut command: Command, person: &Person) {
    expect(&command.args(["push", "-C"]).arg(person.path("src")).arg(".").output().unwrap(), 0, &[]);
}

/// Returns the program as root, with root's own configuration and cache.
fn as_root(person: &Person) -> Command {
    let mut command = person.command();
    command.env("BKFS_CONFIG_DIR", person.path("root-config")).env("BKFS_CACHE_DIR", person.path("root-cache"));
    command
}

/// Returns what below a folder belongs to another user.
fn foreign(folder: &Path) -> Vec<String> {
    let output = Command::new("find").arg(folder).args(["!", "-uid", "65534"]).output().unwrap();
    text(&output.stdout).lines().map(ToOwned::to_owned).collect()
}

#[test]
fn root_in_a_users_repository_keeps_its_owner() {
    let person = of_nobody!();
    let repo = person.path("repo");
    fs::write(person.path("src/new"), noise(9, 3_000_000)).unwrap();
    push(as_root(&person), &person);
    let listed = as_root(&person).args(["snapshots", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let newest = listed.as_array().unwrap().last().unwrap()["id"].as_str().unwrap();
    for args in [
        &["forget", "--now", newest][..],
        &["prune", "--yes", "--max-unused", "0"],
        &["key", "add"],
        &["scrub"],
        &["repair", "index"],
        &["check", "--read-data"],
    ] {
        let output = as_root(&person).env("BKFS_NEW_PASSWORD", "another").args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        assert_eq!(foreign(&repo), [""; 0], "{args:?}");
    }
    expect(&as_nobody(&person).unwrap().args(["check", "--read-data"]).output().unwrap(), 0, &[]);
    push(as_nobody(&person).unwrap(), &person);
    expect(&as_nobody(&person).unwrap().args(["cat", "latest:hello"]).output().unwrap(), 0, &[]);
    // A repository that root itself makes, in the user's folder, is root's.
    let own = person.path("src/of-root");
    give(&person.path("src"), NOBODY);
    expect(&as_root(&person).arg("init").arg("-r").arg(&own).output().unwrap(), 0, &[]);
    assert_eq!(fs::metadata(&own).unwrap().uid(), 0);
}

#[test]
fn root_with_a_users_folders_is_refused() {
    let person = of_nobody!();
    let before = [fs::read_dir(person.path("config")).unwrap().count(), foreign(&person.path("cache")).len()];
    for args in [&["snapshots"][..], &["init"], &["key", "list"], &["ls", "latest"]] {
        let output = person.output(args);
        expect(&output, 1, &["configuration folder", "belongs to", "sudo -H"]);
    }
    let mut command = as_root(&person);
    let output = command.env("BKFS_CACHE_DIR", person.path("cache")).arg("snapshots").output().unwrap();
    expect(&output, 1, &["cache folder", "belongs to", "sudo -H"]);
    let after = [fs::read_dir(person.path("config")).unwrap().count(), foreign(&person.path("cache")).len()];
    assert_eq!(before, after);
    // Neither does root make such folders in a user's home.
    let home = person.path("home");
    fs::create_dir(&home).unwrap();
    give(&home, NOBODY);
    let mut command = person.command();
    command.env("HOME", &home).env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME");
    command.env_remove("BKFS_CONFIG_DIR").env_remove("BKFS_CACHE_DIR");
    let output = command.args(["init", "-r"]).arg(person.path("another")).output().unwrap();
    expect(&output, 1, &["would be in a folder of", "sudo -H"]);
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
    assert!(!person.path("another").exists());
}

#[test]
fn root_in_a_servers_folder_is_refused() {
    let person = of_nobody!();
    let data = person.path("server");
    fs::create_dir(&data).unwrap();
    give(&data, NOBODY);
    let init = ["server", "init", "--data", data.to_str().unwrap()];
    expect(&person.output(init), 1, &["belongs to", "sudo -u"]);
    expect(&as_nobody(&person).unwrap().args(init).output().unwrap(), 0, &[]);
    for args in [
        &["run", "--listen", "127.0.0.1:0"][..],
        &["invite", "alice"],
        &["purge", "alice"],
        &["revive", "alice"],
        &["reclaim", "alice"],
        &["scrub"],
    ] {
        let output = person.command().arg("server").args(args).arg("--data").arg(&data).output().unwrap();
        expect(&output, 1, &["belongs to", "sudo -u"]);
    }
    assert_eq!(foreign(&data), [""; 0]);
}

#[test]
fn a_denied_file_is_named_with_its_owner_and_what_to_do() {
    let person = of_nobody!();
    let says = |args: &[&str], words: &[&str]| {
        let output = as_nobody(&person).unwrap().args(args).output().unwrap();
        expect(&output, 1, words);
    };
    let pack = packs(&person.path("repo"))[0].clone();
    give(&pack, 0);
    says(&["check", "--read-data"], &[pack.to_str().unwrap(), "Permission denied", "belongs to user 0"]);
    give(&pack, NOBODY);
    for path in ["repo", "cache/index", "config/places.toml", "config"] {
        let path = person.path(path);
        let mode = fs::metadata(&path).unwrap().mode();
        give(&path, 0);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o700)).unwrap();
        says(&["snapshots"], &["Permission denied", "belongs to root", "sudo chown -R"]);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        give(&path, NOBODY);
    }
    expect(&as_nobody(&person).unwrap().arg("snapshots").output().unwrap(), 0, &[]);
}
