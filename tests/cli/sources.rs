//! Sources that are not there, or have lost all their files: a disk that is not mounted, a path with a typo.

use std::fs;

use crate::{common::program::Person, expect, make_source, text};

fn snapshots(person: &Person) -> usize {
    let list: serde_json::Value = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
    list.as_array().unwrap().len()
}

#[test]
fn a_source_that_lost_all_its_files_is_reported_until_someone_confirms() {
    let person = Person::with_repo();
    let disk = person.path("media/usb");
    make_source(&disk);
    let path = disk.to_str().unwrap();
    person.run(["push", path]);
    // The mount point of a disk that is not mounted is an empty folder; some have folders and no files.
    fs::remove_dir_all(&disk).unwrap();
    fs::create_dir_all(disk.join("empty")).unwrap();
    for _ in 0..2 {
        let output = person.output(["push", path]);
        expect(&output, 3, &[path, "has no files now, and had 3 files", "is a disk not mounted", "--allow-empty"]);
    }
    expect(&person.output(["push", "--dry-run", path]), 3, &["has no files now"]);
    let report: serde_json::Value = serde_json::from_slice(&person.output(["push", "--json", path]).stdout).unwrap();
    assert_eq!(report["emptied"], serde_json::json!([path]));
    assert_eq!(snapshots(&person), 4, "each push made a snapshot");
    // The old files are there.
    let first = person.run(["snapshots"]).lines().nth(1).unwrap()[..8].to_owned();
    assert_eq!(person.run(["cat", &format!("{first}:{path}/hello")]), "hello\n");
    // Without its caches, the machine still knows.
    fs::remove_dir_all(person.path("cache")).unwrap();
    expect(&person.output(["push", path]), 3, &["had 3 files"]);
    // It is mounted again.
    make_source(&disk);
    expect(&person.output(["push", path]), 0, &[]);
    // It is meant to be empty.
    fs::remove_dir_all(&disk).unwrap();
    fs::create_dir(&disk).unwrap();
    expect(&person.output(["push", path]), 3, &[]);
    expect(&person.output(["push", "--allow-empty", path]), 0, &[]);
    expect(&person.output(["push", path]), 0, &[]);
}

#[test]
fn only_the_empty_one_of_several_sources_is_reported() {
    let person = Person::with_repo();
    let (a, b) = (person.path("a"), person.path("b"));
    make_source(&a);
    make_source(&b);
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    person.run(["push", "--target", "both", a, b]);
    fs::remove_dir_all(b).unwrap();
    fs::create_dir(b).unwrap();
    let output = person.output(["push", "--target", "both", a, b]);
    expect(&output, 3, &[&format!("{b} has no files now")]);
    assert!(!text(&output.stderr).contains(&format!("{a} has")), "{}", text(&output.stderr));
    // A new target has nothing to compare with, and neither has a folder that never had files.
    expect(&person.output(["push", "--target", "other", a, b]), 0, &[]);
    let relative = |target: &str| person.output(["push", "--target", target, "-C", a, "."]);
    expect(&relative("root"), 0, &[]);
    fs::remove_dir_all(a).unwrap();
    fs::create_dir(a).unwrap();
    expect(&relative("root"), 3, &["has no files now"]);
}

#[test]
fn a_missing_path_begins_no_series() {
    let person = Person::with_repo();
    make_source(&person.path("home"));
    let (home, typo) = (person.path("home"), person.path("hmoe"));
    let (home, typo) = (home.to_str().unwrap(), typo.to_str().unwrap());
    for args in [&["push", home, typo][..], &["push", typo, home], &["push", "--target", "new", "-n", home, typo]] {
        expect(&person.output(args), 1, &[typo, "No such file", "nothing was pushed", "target"]);
    }
    assert_eq!(snapshots(&person), 0);
    // Where the series exists, it goes on without the path that is gone.
    person.run(["push", "--target", "mine", home]);
    expect(&person.output(["push", "--target", "mine", home, typo]), 3, &[typo]);
    assert_eq!(snapshots(&person), 2);
    expect(&person.output(["push", home, typo]), 1, &["hmoe"]);
    // A machine that has no push key yet is not enrolled for nothing.
    let mut other = person.command();
    let other = other.env("BKFS_CONFIG_DIR", person.path("other")).args(["push", home, typo]).output().unwrap();
    expect(&other, 1, &[typo, "nothing was pushed"]);
    let keys: serde_json::Value = serde_json::from_str(&person.run(["key", "list", "--json"])).unwrap();
    assert_eq!(keys["clients"].as_array().unwrap().len(), 1, "{keys}");
}
