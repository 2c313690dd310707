//! `bkfs restore` as people use it: again after it was killed, onto existing files, and as an unprivileged user.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use common::{
    compare,
    odd_tree::{self, Size, noise},
    program::Person,
};

#[test]
fn a_killed_restore_can_be_run_again() {
    let person = Person::with_repo();
    let source = person.path("source");
    for folder in 0..20 {
        let folder_path = source.join(format!("folder {folder}"));
        fs::create_dir_all(&folder_path).unwrap();
        for file in 0..100u64 {
            fs::write(folder_path.join(format!("{file}")), noise(30_000, folder * 1000 + file)).unwrap();
        }
        fs::write(folder_path.join("large"), noise(3_000_000, folder)).unwrap();
        fs::hard_link(folder_path.join("large"), source.join(format!("link to {folder}"))).unwrap();
    }
    person.push(&source);
    let dest = person.path("restored");
    for round in 1..=3 {
        let mut child = person.command().args(["restore", "latest"]).arg(&dest).spawn().unwrap();
        // Kill it while it is running. On a fast machine it may be done already; then the next one finds nothing to do.
        while child.try_wait().unwrap().is_none() {
            if fs::read_dir(&dest).is_ok_and(|entries| entries.count() > round * 5) {
                break;
            }
        }
        let _ = child.kill();
        child.wait().unwrap();
    }
    person.run(["restore".as_ref(), "latest".as_ref(), dest.as_os_str()]);
    let differences = compare::walk(&source, &dest);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn restoring_onto_existing_files() {
    let person = Person::with_repo();
    let source = person.path("source");
    fs::create_dir_all(source.join("folder")).unwrap();
    fs::write(source.join("folder/file"), "stored").unwrap();
    fs::write(source.join("same"), "stored").unwrap();
    person.push(&source);
    let dest = person.path("dest");
    let restore =
        |extra: &[&str], what: &str| person.command().arg("restore").args(extra).arg(what).arg(&dest).output().unwrap();
    assert_eq!(restore(&[], "latest").status.code(), Some(0));
    assert_eq!(restore(&[], "latest").status.code(), Some(0), "everything exists already");
    fs::write(dest.join("folder/file"), "mine, edited").unwrap();
    let output = restore(&[], "latest");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("folder/file") && stderr.contains("--overwrite"), "{stderr}");
    assert_eq!(fs::read(dest.join("folder/file")).unwrap(), b"mine, edited");
    assert_eq!(restore(&["--overwrite"], "latest").status.code(), Some(0));
    let differences = compare::walk(&source, &dest);
    assert!(differences.is_empty(), "{}", differences.join("\n"));

    // With a path, the contents of the folder, or the file, appear in DEST.
    let dest = person.path("part");
    person.run(["restore".as_ref(), "latest:/folder".as_ref(), dest.as_os_str()]);
    assert_eq!(fs::read(dest.join("file")).unwrap(), b"stored");
    // A single file gets the name that cp would give it.
    let one = person.path("one");
    person.run(["restore".as_ref(), "latest:same".as_ref(), one.as_os_str()]);
    assert_eq!(fs::read(&one).unwrap(), b"stored");
    person.run(["restore", "latest:same", person.path("two/").to_str().unwrap()]);
    assert_eq!(fs::read(person.path("two/same")).unwrap(), b"stored");
    person.run(["restore".as_ref(), "latest:same".as_ref(), dest.as_os_str()]);
    assert_eq!(fs::read(dest.join("same")).unwrap(), b"stored");
    fs::write(&one, "mine, edited").unwrap();
    let differs = person.output(["restore".as_ref(), "latest:same".as_ref(), one.as_os_str()]);
    assert_eq!(differs.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&differs.stderr).contains("one: exists and differs"));
    assert_eq!(fs::read(&one).unwrap(), b"mine, edited");
    let missing = person.output(["restore".as_ref(), "latest:no/such".as_ref(), dest.as_os_str()]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no"));
    let climbing = person.output(["restore".as_ref(), "latest:../..".as_ref(), dest.as_os_str()]);
    assert_eq!(climbing.status.code(), Some(1));
}

fn give_to_nobody(path: &Path) {
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(path).status().unwrap().success());
}

/// Gives the repository and a new folder, which is returned, to a user without privileges. Every user may run the
/// program.
fn nobodys_home(person: &Person) -> PathBuf {
    let home = person.path("home");
    fs::create_dir(&home).unwrap();
    give_to_nobody(&home);
    give_to_nobody(&person.path("repo"));
    fs::set_permissions(person.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // The program itself may be in a folder that other users cannot enter.
    person.copied_program();
    home
}

/// Returns the command that runs the program as this user.
fn as_nobody(person: &Person) -> Command {
    let home = person.path("home");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(person.path("bkfs"));
    command.env("BKFS_REPOSITORY", &person.repo).env("BKFS_PASSWORD", "correct horse battery staple");
    command.env("BKFS_CONFIG_DIR", home.join("config")).env("BKFS_CACHE_DIR", home.join("cache"));
    command
}

#[test]
fn restoring_as_an_unprivileged_user() {
    if !rustix::process::geteuid().is_root() {
        skip!("only root can become another user");
    }
    let person = Person::with_repo();
    let source = person.path("source");
    fs::create_dir(&source).unwrap();
    odd_tree::make(&source, Size { folder_entries: 10, ..Size::SMALL });
    person.push(&source);
    let home = nobodys_home(&person);
    let restore = || as_nobody(&person).args(["restore", "latest"]).arg(home.join("restored")).output();
    let Ok(output) = restore() else { skip!("setpriv is not installed") };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "devices are reported: {stderr}");
    assert!(stderr.contains("specials/null") && stderr.contains("only by root"), "{stderr}");
    let meta = |name: &str| fs::symlink_metadata(home.join("restored").join(name)).unwrap();
    assert_eq!(meta("modes/file 4755").uid(), 65534);
    assert_eq!(meta("modes/file 4755").mode() & 0o7777, 0o755, "another owner: no set-id bit");
    assert_eq!(meta("modes/folder 0000").mode() & 0o7777, 0);
    assert_eq!(meta("times/before 1970").mtime(), -1_500_000_000);
    // Everything except the devices is restored, so a second run reports nothing else.
    let again = restore().unwrap();
    let stderr_again = String::from_utf8_lossy(&again.stderr);
    assert_eq!(stderr_again.matches("only by root").count(), stderr.matches("only by root").count(), "{stderr_again}");
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn overwriting_as_an_unprivileged_user_sets_only_what_differs() {
    if !rustix::process::geteuid().is_root() {
        skip!("only root can become another user");
    }
    let person = Person::with_repo();
    let source = person.path("source");
    fs::create_dir(&source).unwrap();
    for (name, mode) in [("read-only", 0o400), ("closed", 0)] {
        fs::write(source.join(name), name).unwrap();
        if xattr::set(source.join(name), "user.note", b"kept").is_err() {
            skip!("no extended attributes here");
        }
        fs::set_permissions(source.join(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    give_to_nobody(&source);
    person.push(&source);
    let home = nobodys_home(&person);
    let restore = || as_nobody(&person).args(["restore", "--overwrite", "latest"]).arg(home.join("restored")).output();
    let restored = |name: &str| home.join("restored").join(name);
    for round in 0..3 {
        let Ok(output) = restore() else { skip!("setpriv is not installed") };
        assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        for (name, mode) in [("read-only", 0o400), ("closed", 0)] {
            assert_eq!(xattr::get(restored(name), "user.note").unwrap().unwrap(), b"kept");
            assert_eq!(fs::metadata(restored(name)).unwrap().mode() & 0o7777, mode);
        }
        // One that differs is set, although the file may not be written to.
        xattr::set(restored("read-only"), "user.note", b"changed").unwrap();
    }
}

#[test]
fn restoring_with_few_open_files() {
    let person = Person::with_repo();
    let source = person.path("source");
    for folder in 0..30u64 {
        let path = source.join(format!("{folder}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..20 {
            fs::write(path.join(format!("{file}")), noise(3_000_000, folder % 3)).unwrap();
        }
    }
    let mut at = source.clone();
    for _ in 0..100 {
        at.push("deeper");
        fs::create_dir(&at).unwrap();
        fs::write(at.join("file"), "x").unwrap();
    }
    person.push(&source);
    let dest = person.path("restored");
    for extra in [&[][..], &["--verify"]] {
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -n 64; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_bkfs"), "restore"]);
        for (name, value) in person.command().get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        let output = limited.args(extra).arg("latest").arg(&dest).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let differences = compare::walk(&source, &dest);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
