//! A store that shows less than it has acknowledged.

use std::path::Path;

use crate::{common::program::Person, expect, make_source};

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
fn reading_warns_and_continues() {
    let person = rolled_back();
    expect(&person.output(["snapshots"]), 0, &["warning", "rolled back", person.repo.as_str()]);
    expect(&person.output(["cat", "latest:hello"]), 0, &["rolled back"]);
    expect(&person.output(["cat", "latest:hello"]), 0, &["rolled back"]);
    expect(&person.output(["check"]), 13, &["rolled back", "--accept-rollback"]);
}

#[test]
fn a_push_completes_and_reports_the_rollback() {
    let person = rolled_back();
    let source = person.path("src");
    expect(&person.output(["push", "-C", source.to_str().unwrap(), "."]), 13, &["rolled back"]);
    expect(&person.output(["cat", "latest:later"]), 0, &["rolled back"]);
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
    let ids = || person.run(["snapshots", "--json"]).matches("\"id\"").count();
    for args in [&["forget", "--keep-last", "1"][..], &["forget", "latest"], &["forget", "--empty-trash"]] {
        expect(&person.output(args), 13, &["rolled back", "--accept-rollback"]);
    }
    expect(&person.output(["forget", "--keep-last", "1", "--dry-run"]), 0, &["warning", "rolled back"]);
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
    let output = person.output(["cat", "latest:hello"]);
    expect(&output, 0, &[]);
    assert!(output.stderr.is_empty());
    person.push(&person.path("src"));
    person.run(["check", "--read-data"]);
}
