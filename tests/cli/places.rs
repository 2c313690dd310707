//! The place of a repository: a typo, or the address of another program, becomes no folder.

use crate::{common::program::Person, expect};

#[test]
fn no_command_takes_an_address_for_a_folder() {
    let person = Person::new();
    let folder = person.path("here");
    std::fs::create_dir(&folder).unwrap();
    let places = ["me@nas:/backup", "sftp:me@nas:/b", "bkfs//nas:7443/alice", "s3:x/y", "~/repo", "repo ", "file:///r"];
    let commands: [&[&str]; 16] = [
        &["init"],
        &["push", "/etc/hostname"],
        &["snapshots"],
        &["ls", "latest"],
        &["cat", "latest:x"],
        &["restore", "latest", "out"],
        &["mount", "."],
        &["forget", "latest"],
        &["unforget", "latest"],
        &["check"],
        &["scrub"],
        &["prune"],
        &["repair", "index"],
        &["repair", "snapshots"],
        &["key", "list"],
        &["key", "unlock"],
    ];
    for place in places {
        for command in commands {
            if command[0] == "mount" && crate::common::program::cannot_mount().is_some() {
                continue;
            }
            let mut by_option = person.command();
            let by_option = by_option.current_dir(&folder).args(command).args(["-r", place]).output().unwrap();
            let mut by_variable = person.command();
            let by_variable = by_variable.current_dir(&folder).args(command).env("BKFS_REPOSITORY", place);
            for output in [by_option, by_variable.output().unwrap()] {
                expect(&output, 1, &[place, "write"][..usize::from(!place.starts_with("s")) + 1]);
            }
        }
        let output = person.command().current_dir(&folder).args(["server", "init", "--data", place]).output().unwrap();
        expect(&output, 1, &[place]);
    }
    for empty in ["", " "] {
        expect(&person.command().args(["init", "-r", empty]).output().unwrap(), 1, &["is empty", "bkfs://"]);
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing was created");
    // As a path, any name can be used.
    let run = |args: &[&str]| person.command().current_dir(&folder).args(args).output().unwrap();
    expect(&run(&["init", "-r", "./me@nas:b"]), 0, &[]);
    expect(&run(&["snapshots", "-r", "./me@nas:b"]), 0, &["no snapshots yet"]);
    assert!(folder.join("me@nas:b/config").exists());
}
