//! What a push says of what it found: lines for what is new or changed, dry runs, patterns without use.

use std::fs;

use serde_json::Value;

use crate::{common::program::Person, expect, make_source, text};

fn lines(person: &Person, args: &[&str]) -> Vec<String> {
    let source = person.path("src");
    let mut all = vec!["push", "-v", "-C", source.to_str().unwrap()];
    all.extend(args);
    all.push(".");
    let prefix = format!("{}/", source.display());
    let listed = |line: &&str| line.starts_with("new ") || line.starts_with("changed ");
    let mut lines: Vec<_> = person.run(&all).lines().filter(listed).map(|line| line.replace(&prefix, "")).collect();
    lines.sort();
    lines
}

#[test]
fn what_is_new_or_changed_is_listed_with_v() {
    let person = Person::with_repo();
    let source = person.path("src");
    make_source(&source);
    let all = ["new      hello", "new      sub/big", "new      sub/small"];
    assert_eq!(lines(&person, &["-n"]), all);
    assert_eq!(lines(&person, &[]), all);
    // These files are so young that they are read again, and they are the same.
    assert_eq!(lines(&person, &[]), Vec::<String>::new());
    fs::write(source.join("hello"), "changed\n").unwrap();
    fs::write(source.join("sub/odd\x1b[2J"), "new\n").unwrap();
    std::os::unix::fs::symlink("hello", source.join("link")).unwrap();
    let changed = ["changed  hello", "new      link", "new      sub/odd\\u{1b}[2J"];
    assert_eq!(lines(&person, &["-n"]), changed);
    assert_eq!(lines(&person, &[]), changed);
    // Without -v nothing is printed where there is no terminal, and a program gets one object.
    fs::write(source.join("hello"), "again\n").unwrap();
    let push = |args: &[&str]| {
        let output = person.command().args(["push", "-C"]).arg(&source).args(args).arg(".").output().unwrap();
        expect(&output, 0, &[]);
        text(&output.stdout)
    };
    assert_eq!(push(&[]), "");
    fs::write(source.join("hello"), "and again\n").unwrap();
    let json: Value = serde_json::from_str(&push(&["-v", "--json"])).unwrap();
    assert_eq!((&json["files_changed"], &json["files_unchanged"]), (&Value::from(1), &Value::from(3)), "{json}");
}

#[test]
fn a_dry_run_says_what_would_be_sent() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    let push = |args: &[&str]| -> Value {
        let source = person.path("src");
        let output = person.command().args(["push", "--json", "-C"]).arg(&source).args(args).arg(".").output().unwrap();
        expect(&output, 0, &[]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let dry = push(&["-n"]);
    assert!(dry["snapshot"].is_null() && person.run(["snapshots", "--json"]).trim() == "[]");
    let real = push(&[]);
    let (said, sent) = (dry["bytes_stored"].as_u64().unwrap(), real["bytes_stored"].as_u64().unwrap());
    // Padding and compressed times make a few bytes of difference.
    assert!(said > 1 << 20 && said.abs_diff(sent) < 4096, "{said} {sent}");
    assert_eq!(push(&["-n"])["bytes_stored"], 0);
}

#[test]
fn patterns_that_excluded_nothing_are_named_with_v() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    let source = person.path("src");
    let push = |args: &[&str]| {
        let mut command = person.command();
        command.args(["push", "-e", "big", "-e", "/nowhere/", "-e", "{hello,small}", "-C"]).arg(&source);
        command.args(args).arg(".").output().unwrap()
    };
    let output = push(&["-v"]);
    expect(&output, 0, &["the pattern /nowhere/ excluded nothing", "the pattern {hello,small} excluded nothing"]);
    assert!(!text(&output.stderr).contains("big"), "{}", text(&output.stderr));
    let quiet = push(&[]);
    assert_eq!(text(&quiet.stderr), "");
    let json: Value = serde_json::from_slice(&push(&["--json"]).stdout).unwrap();
    assert_eq!(json["patterns_unused"], serde_json::json!(["/nowhere/", "{hello,small}"]));
}
