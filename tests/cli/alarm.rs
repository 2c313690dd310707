//! What happens when many files become unreadable.

use std::fs;

use serde_json::Value;

use super::{expect, noise};
use crate::common::program::Person;

#[test]
fn encrypted_files_raise_an_alarm_and_nothing_is_forgotten_until_a_person_confirms() {
    let person = Person::with_repo();
    let source = person.path("source");
    fs::create_dir(&source).unwrap();
    let line = "what a person wrote, and would like to read again\n";
    for i in 0..60 {
        fs::write(source.join(format!("letter-{i}")), line.repeat(40 + i)).unwrap();
    }
    person.push(&source);
    for i in 0..25 {
        fs::write(source.join(format!("letter-{i}")), noise(i, 4000)).unwrap();
    }
    let push = ["push", "-C", source.to_str().unwrap(), "."];
    expect(&person.output(push), 3, &["ALARM: 25 of 60 files", "bkfs forget --confirm"]);
    let list: Value = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
    assert_eq!(list[1]["tags"][0], "suspicious");
    person.push(&source);
    expect(&person.output(["forget", "--keep-last", "1"]), 3, &[]);
    let held = person.command().args(["forget", "--keep-last", "1", "--json"]).output().unwrap();
    let held: Value = serde_json::from_slice(&held.stdout).unwrap();
    assert!(held["groups"][0]["holds"][0].as_str().unwrap().contains("unreadable"), "{held}");
    let count = |person: &Person| -> usize {
        serde_json::from_str::<Value>(&person.run(["snapshots", "--json"])).unwrap().as_array().unwrap().len()
    };
    assert_eq!(count(&person), 3);
    person.run(["forget", "--keep-last", "1", "--confirm"]);
    assert_eq!(count(&person), 1);
    // Another alarm, for a program.
    for i in 25..60 {
        fs::write(source.join(format!("letter-{i}")), noise(i, 4000)).unwrap();
    }
    let output = person.command().args(push).arg("--json").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["alarm"]["files"] == 35 && report["alarm"]["of"] == 60, "{report}");
    expect(&person.output(["push", "--alarm", "0%", "/etc"]), 1, &["1% to 100%, or off"]);
}
