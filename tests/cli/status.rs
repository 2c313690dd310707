//! `bkfs status`, with what real runs and watches wrote down.

use std::fs;

use serde_json::Value;

use super::{expect, text};
use crate::common::program::Person;

/// A person with a profile `home` of one small source.
fn with_profile(more: &str) -> Person {
    let person = Person::with_repo();
    fs::create_dir(person.path("source")).unwrap();
    fs::write(person.path("source/file"), "content\n").unwrap();
    let source = person.path("source");
    let text = format!("[profile.home]\nrepositories = {:?}\nsources = {source:?}\n{more}", person.repo);
    fs::write(person.path("config/home.toml"), text).unwrap();
    person
}

fn row(person: &Person) -> Value {
    let output = person.command().args(["status", "--json"]).output().unwrap();
    let value: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    assert_eq!(value["healthy"] == true, output.status.success());
    value["status"][0].clone()
}

#[test]
fn a_profile_is_fine_after_a_run_and_fails_when_its_repository_is_gone() {
    let person = with_profile("schedule = \"hourly\"\n");
    let never = row(&person);
    assert!(never["health"] == "never" && never["unprotected_seconds"].is_null(), "{never}");
    person.run(["run"]);
    person.run(["status", "--json"]);
    let fine = row(&person);
    assert!(fine["health"] == "fine" && fine["files"] == 1 && fine["profile"] == "home", "{fine}");
    assert!(fine["next_run"].is_string() && fine["unprotected_seconds"].as_u64().unwrap() < 60, "{fine}");
    let shown = person.run(["status"]);
    for word in ["home", "fine", "1 file", "up to"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let metrics = person.run(["status", "--metrics"]);
    assert!(metrics.contains("bkfs_unprotected_seconds{profile=\"home\",repository="), "{metrics}");
    assert!(metrics.contains("bkfs_healthy{profile=\"home\""), "{metrics}");
    fs::rename(&person.repo, person.path("moved")).unwrap();
    assert!(!person.output(["run"]).status.success());
    let failed = row(&person);
    assert!(failed["health"] == "failed" && failed["problems"][0].as_str().unwrap().contains("failed"), "{failed}");
    let output = person.command().arg("status").output().unwrap();
    assert!(output.status.code() == Some(1) && text(&output.stdout).contains("failed"));
}

#[test]
fn a_profile_whose_last_success_is_old_is_overdue_and_people_are_told_once() {
    let person = with_profile("schedule = \"hourly\"\n");
    let told = person.path("told");
    let path = person.path("config/home.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}[profile.home.notify]\ncommand = \"echo $BKFS_EVENT >> '{}'\"\n", told.display()))
        .unwrap();
    person.run(["run"]);
    // As if the machine had slept.
    let record = person.path("config/runs/home.toml");
    let text = fs::read_to_string(&record).unwrap();
    let older = |line: &str| match line.split_once("_secs = ") {
        Some((name, secs)) => format!("{name}_secs = {}", secs.parse::<i64>().unwrap() - 100_000),
        None => line.to_owned(),
    };
    fs::write(&record, text.lines().map(older).collect::<Vec<_>>().join("\n")).unwrap();
    for _ in 0..2 {
        let output = person.command().args(["status", "--notify"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(super::text(&output.stdout).contains("overdue"));
    }
    assert_eq!(fs::read_to_string(told).unwrap().trim(), "overdue");
}

#[test]
fn without_anything_to_show_it_says_how_to_begin() {
    let person = Person::new();
    expect(&person.output(["status"]), 1, &["no profile", "bkfs config sample"]);
    let person = with_profile("");
    expect(&person.output(["status", "hme"]), 1, &["hme", "home"]);
    fs::write(person.path("config/bad.toml"), "[profile.x]\nsourcs = 1\n").unwrap();
    expect(&person.output(["status"]), 1, &["sourcs", "sources"]);
}
