//! A store that shows less than it has acknowledged.

use std::path::Path;

use crate::{
    common::program::{Person, cannot_mount},
    expect, make_source, skip,
};

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Returns a person whose repository was replaced by an older copy of itself.
fn rolled_back() -> Person {
    let person = Person::with_repo();
    let source = person.path("src");
    make_source(&source);
    person.push(&source);
    copy(&person.path("repo"), &person.path("copy"));
    std::fs::write(source.join("later"), "later\n").unwrap();
    person.push(&source);
    std::fs::remove_dir_all(person.path("repo")).unwrap();
    std::fs::rename(person.path("copy"), person.path("repo")).unwrap();
    person
}

#[test]
fn reading_warns_continues_and_ends_with_the_exit_code_of_a_rollback() {
    let person = rolled_back();
    expect(&person.output(["snapshots"]), 13, &["warning", "rolled back", person.repo.as_str()]);
    let read = person.output(["cat", "latest:hello"]);
    expect(&read, 13, &["rolled back"]);
    assert_eq!(read.stdout, b"hello\n");
    expect(&person.output(["ls", "latest"]), 13, &["rolled back"]);
    let out = person.path("out");
    expect(&person.output(["restore", "latest", out.to_str().unwrap()]), 13, &["rolled back"]);
    assert_eq!(std::fs::read(out.join("hello")).unwrap(), b"hello\n");
    expect(&person.output(["key", "list"]), 13, &["rolled back"]);
    let json = person.output(["snapshots", "--json"]);
    expect(&json, 13, &["rolled back"]);
    assert!(json.stdout.starts_with(b"["), "the list is printed all the same");
    expect(&person.output(["check"]), 13, &["rolled back", "--accept-rollback"]);
    // A command that fails ends as it always does.
    expect(&person.output(["cat", "latest:no-such-file"]), 1, &["rolled back"]);
    expect(&person.output(["check", "--accept-rollback"]), 0, &[]);
    expect(&person.output(["cat", "latest:hello"]), 0, &[]);
}

#[test]
fn a_mount_of_an_older_copy_shows_it_and_ends_with_the_exit_code_of_a_rollback() {
    if let Some(reason) = cannot_mount() {
        skip!("{reason}");
    }
    let person = rolled_back();
    let mut mount = person.mount(&[]);
    assert_eq!(std::fs::read(mount.latest().join("hello")).unwrap(), b"hello\n");
    let pid = rustix::process::Pid::from_raw(mount.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(mount.wait().code(), Some(13));
    // In the background, the command that made the mount says it.
    let point = person.path("mount");
    expect(&person.output(["mount", "--background", point.to_str().unwrap()]), 13, &["rolled back"]);
    assert_eq!(std::fs::read(point.join("latest/hello")).unwrap(), b"hello\n");
    let unmounted = std::process::Command::new("umount").arg(&point).status().unwrap();
    assert!(unmounted.success());
}

#[test]
fn a_push_completes_and_reports_the_rollback() {
    let person = rolled_back();
    let source = person.path("src");
    expect(&person.output(["push", "-C", source.to_str().unwrap(), "."]), 13, &["rolled back"]);
    expect(&person.output(["cat", "latest:later"]), 13, &["rolled back"]);
    // It keeps reporting that until a person has looked.
    expect(&person.output(["push", "-C", source.to_str().unwrap(), "."]), 13, &["rolled back"]);
    expect(&person.output(["check", "--read-data", "--accept-rollback"]), 0, &[]);
    let output = person.output(["push", "-C", source.to_str().unwrap(), "."]);
    expect(&output, 0, &[]);
    assert!(output.stderr.is_empty());
    let out = person.path("out");
    person.run(["restore", "latest", out.to_str().unwrap()]);
    assert_eq!(std::fs::read(out.join("sub/big")).unwrap(), std::fs::read(source.join("sub/big")).unwrap());
}

#[test]
fn nothing_is_forgotten_in_an_older_copy() {
    let person = rolled_back();
    let ids = || {
        let list = String::from_utf8(person.output(["snapshots", "--json"]).stdout).unwrap();
        list.matches("\"id\"").count()
    };
    for args in [&["forget", "--keep-last", "1"][..], &["forget", "latest"], &["forget", "--empty-trash"]] {
        expect(&person.output(args), 13, &["rolled back", "--accept-rollback"]);
    }
    expect(&person.output(["forget", "--keep-last", "1", "--dry-run"]), 13, &["warning", "rolled back"]);
    assert_eq!(ids(), 1);
    expect(&person.output(["check", "--accept-rollback"]), 0, &[]);
    expect(&person.output(["forget", "latest"]), 0, &[]);
    assert_eq!(ids(), 0);
}

#[test]
fn another_repository_at_the_place_is_refused() {
    let person = Person::with_repo();
    let other = Person::with_repo();
    std::fs::remove_dir_all(person.path("repo")).unwrap();
    copy(&other.path("repo"), &person.path("repo"));
    expect(&person.output(["snapshots"]), 12, &["another repository than before", "places.toml"]);
    expect(&person.output(["push", "/etc/hostname"]), 12, &["another repository than before"]);
}

#[test]
fn a_lost_index_is_rebuilt_without_a_warning() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    std::fs::remove_dir_all(person.path("cache")).unwrap();
    let output = person.output(["--quiet", "cat", "latest:hello"]);
    expect(&output, 0, &[]);
    assert!(output.stderr.is_empty());
    person.push(&person.path("src"));
    person.run(["check", "--read-data"]);
}
