//! Copies of one repository, made with `cp -a`, that all go on: at two places, and in turn at one place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use crate::{common::program::Person, expect, make_source, text};

/// A person whose repository was copied, and then pushed to.
struct Owner {
    person: Person,
    source: PathBuf,
}

impl Owner {
    fn new() -> Self {
        let person = Person::with_repo();
        let source = person.path("src");
        make_source(&source);
        person.push(&source);
        copy(&person.path("repo"), &person.path("second"));
        Self { person, source }
    }

    /// Changes the source, and pushes it.
    fn push(&self, to: &str, change: &str) -> Output {
        fs::write(self.source.join("changing"), format!("{change}\n").repeat(3000)).unwrap();
        let (to, source) = (self.person.path(to), self.source.to_str().unwrap());
        self.person.output(["push", "-r", to.to_str().unwrap(), "-C", source, "."])
    }

    fn run(&self, repo: &str, args: &[&str]) -> Output {
        let repo = self.person.path(repo);
        self.person.output(args.iter().chain(&["-r", repo.to_str().unwrap()]))
    }

    /// Asserts that a repository is whole and shows this change.
    #[track_caller]
    fn expect_whole(&self, repo: &str, change: &str) {
        expect(&self.run(repo, &["check", "--read-data"]), 0, &[]);
        let shown = self.run(repo, &["cat", "latest:changing"]);
        assert_eq!(text(&shown.stdout), format!("{change}\n").repeat(3000));
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Whether the file system says when a file was made.
fn tells_copies_apart(owner: &Owner) -> bool {
    let made = |name: &str| fs::metadata(owner.person.path(name).join("config")).and_then(|meta| meta.created());
    let tells = matches!((made("repo"), made("second")), (Ok(one), Ok(two)) if one != two);
    if !tells {
        println!("skipped: this file system does not say when files were made");
    }
    tells
}

#[test]
fn two_copies_at_two_places_both_go_on() {
    let owner = Owner::new();
    expect(&owner.push("repo", "one"), 0, &[]);
    // The push into the copy is stored, and a person is asked what the copy is.
    expect(&owner.push("second", "two"), 13, &["another copy", "--accept-copy", "--accept-rollback"]);
    expect(&owner.run("second", &["check", "--accept-copy"]), 0, &[]);
    for round in 0..3 {
        for repo in ["repo", "second"] {
            let change = format!("{repo} {round}");
            let output = owner.push(repo, &change);
            expect(&output, 0, &[]);
            assert_eq!(text(&output.stderr), "");
            owner.expect_whole(repo, &change);
        }
    }
    // What was pushed into one is stored in the other as well, if it is pushed there.
    expect(&owner.push("repo", "the same"), 0, &[]);
    expect(&owner.push("second", "the same"), 0, &[]);
    owner.expect_whole("second", "the same");
}

#[test]
fn two_copies_in_turn_at_one_place_both_go_on() {
    let owner = Owner::new();
    if !tells_copies_apart(&owner) {
        return;
    }
    let change_disks = || {
        let (here, away, other) = (owner.person.path("repo"), owner.person.path("away"), owner.person.path("second"));
        fs::rename(&here, &away).unwrap();
        fs::rename(&other, &here).unwrap();
        fs::rename(&away, &other).unwrap();
    };
    expect(&owner.push("repo", "first disk"), 0, &[]);
    change_disks();
    expect(&owner.push("repo", "second disk"), 13, &["another copy", "--accept-copy"]);
    expect(&owner.run("repo", &["check", "--accept-copy"]), 0, &[]);
    for round in 0..4 {
        change_disks();
        expect(&owner.push("repo", &format!("round {round}")), 0, &[]);
        owner.expect_whole("repo", &format!("round {round}"));
    }
}

#[test]
fn a_copy_that_is_rolled_back_is_found() {
    let owner = Owner::new();
    if !tells_copies_apart(&owner) {
        return;
    }
    expect(&owner.push("repo", "one"), 0, &[]);
    expect(&owner.run("second", &["check", "--accept-copy"]), 0, &[]);
    let (second, saved) = (owner.person.path("second"), owner.person.path("saved"));
    copy(&second, &saved);
    expect(&owner.push("second", "two"), 0, &[]);
    // An older state is put back into the copy, whose configuration stays.
    for entry in fs::read_dir(&second).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.file_name() != Some("config".as_ref()) {
            let _ = fs::remove_file(&entry).or_else(|_| fs::remove_dir_all(&entry));
        }
    }
    for entry in fs::read_dir(&saved).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.file_name() != Some("config".as_ref()) {
            copy(&entry, &second.join(entry.file_name().unwrap()));
        }
    }
    for _ in 0..2 {
        expect(&owner.run("second", &["check"]), 13, &["was rolled back or replaced by an older copy"]);
        // Only a copy that is new to this machine can be accepted as a copy.
        expect(&owner.run("second", &["check", "--accept-copy"]), 13, &["was rolled back"]);
    }
    // If all of it is replaced, it is another copy, and is compared with the newest state of any.
    fs::remove_dir_all(&second).unwrap();
    copy(&saved, &second);
    expect(&owner.run("second", &["check"]), 13, &["was rolled back, or is another copy", "--accept-copy"]);
    expect(&owner.run("repo", &["check"]), 0, &[]);
}

#[test]
fn a_repository_that_moves_is_the_same() {
    let owner = Owner::new();
    expect(&owner.push("repo", "one"), 0, &[]);
    fs::rename(owner.person.path("repo"), owner.person.path("moved")).unwrap();
    let output = owner.push("moved", "two");
    expect(&output, 0, &[]);
    assert_eq!(text(&output.stderr), "");
    owner.expect_whole("moved", "two");
    // Its older state is not accepted at a third place either.
    fs::rename(owner.person.path("second"), owner.person.path("third")).unwrap();
    expect(&owner.run("third", &["snapshots"]), 13, &["warning", "rolled back"]);
    expect(&owner.run("third", &["check"]), 13, &["rolled back"]);
}
