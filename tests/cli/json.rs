//! `--json`: what every command gives a program, errors included.

use std::process::Output;

use serde_json::Value;

use crate::{
    common::{
        json_doc,
        program::{Person, Server, cannot_mount},
    },
    expect, make_source, text,
};

/// Returns the one object that a command printed.
#[track_caller]
fn object(output: &Output) -> Value {
    expect(output, 0, &[]);
    let value: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stdout)));
    assert_eq!(value["version"], 1, "{value}");
    value
}

/// Returns the error that a command printed last on standard error.
#[track_caller]
fn error(output: &Output, exit: i32) -> Value {
    expect(output, exit, &[]);
    assert_eq!(text(&output.stdout), "");
    let err = text(&output.stderr);
    let line = err.lines().last().unwrap_or_default();
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {err}"));
    assert_eq!((&value["version"], &value["error"]["exit"]), (&Value::from(1), &Value::from(exit)), "{value}");
    value["error"].clone()
}

fn json(person: &Person, args: &[&str]) -> Output {
    let args = [args, &["--json"]].concat();
    let output = person.command().env("BKFS_NEW_PASSWORD", "another one").args(&args).output().unwrap();
    json_doc::check(&args, &output);
    output
}

#[test]
fn every_command_of_a_client_gives_an_object() {
    let person = Person::new();
    let source = person.path("src");
    make_source(&source);
    let (source, out, key) = (source.to_str().unwrap(), person.path("out"), person.path("laptop.key"));
    let init = object(&json(&person, &["init"]));
    let push = object(&json(&person, &["push", "-C", source, "."]));
    assert!(push["files"] == 3 && push["errors"] == Value::Array(Vec::new()), "{push}");
    object(&json(&person, &["restore", "latest", out.to_str().unwrap()]));
    expect(&json(&person, &["ls", "latest"]), 0, &[]);
    let plan = object(&json(&person, &["forget", "--dry-run", "--keep-last", "1"]));
    assert_eq!(plan["groups"].as_array().map(Vec::len), Some(1), "{plan}");
    for command in [&["check"][..], &["prune"], &["scrub"], &["repair", "index"], &["repair", "packs"]] {
        object(&json(&person, command));
    }
    object(&json(&person, &["repair", "snapshots"]));
    let added = object(&json(&person, &["key", "add"]));
    let slot = added["slot"].as_str().unwrap().to_owned();
    let removed = json(&person, &["key", "remove", &slot]);
    assert_eq!(object(&removed)["slot"], added["slot"]);
    let exported = object(&json(&person, &["key", "export-push", key.to_str().unwrap()]));
    assert_eq!((&exported["label"], &exported["full"]), (&Value::from("laptop"), &Value::from(false)));
    let recovery = object(&json(&person, &["key", "recovery"]));
    assert_eq!(recovery["repository"], init["repository"]);
    let keys = object(&json(&person, &["key", "list"]));
    let locked = object(&json(&person, &["key", "lock"]));
    assert_eq!(locked["was_unlocked"], false);
    assert!(keys["clients"].as_array().unwrap().iter().any(|client| client["id"] == exported["client"]), "{keys}");
    let snapshots: Value = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
    let id = snapshots[0]["id"].as_str().unwrap();
    object(&json(&person, &["forget", id]));
    expect(&json(&person, &["snapshots", "--trash"]), 0, &[]);
    object(&json(&person, &["unforget", id]));
    let changed = object(&json(&person, &["key", "change"]));
    assert!(changed["slot"].is_string() && changed["replaced"].is_string(), "{changed}");
}

#[test]
fn every_command_of_an_operator_gives_an_object() {
    let operator = Person::new();
    let data = operator.path("data");
    let data = data.to_str().unwrap();
    let init = json(&operator, &["server", "init", "--data", data, "--address", "localhost:9"]);
    assert_eq!(object(&init)["address"], "localhost:9");
    let token = object(&json(&operator, &["server", "invite", "--data", data, "alice"]));
    assert!(token["token"].as_str().unwrap().len() > 20);
    let server = Server::start(&operator, &operator.path("server"));
    let person = server.person("alice");
    let (data, account) = (operator.path("server"), "alice");
    let data = data.to_str().unwrap();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    object(&json(&operator, &["server", "revive", "--data", data, account]));
    object(&json(&operator, &["server", "scrub", "--data", data]));
    object(&json(&person, &["server", "known", "list"]));
    object(&json(&operator, &["server", "reclaim", "--data", data, account, "--dry-run"]));
    let commits = json(&operator, &["server", "purge", "--data", data, account]);
    let commits: Value = serde_json::from_slice(&commits.stdout).unwrap();
    let id = commits[0]["id"].as_str().unwrap();
    assert_eq!(object(&json(&operator, &["server", "purge", "--data", data, account, id]))["purged"][0], id);
}

#[test]
fn errors_are_objects_too() {
    let person = Person::new();
    let none = error(&json(&person, &["snapshots"]), 10);
    assert!(none["message"].as_str().unwrap().contains(&person.repo), "{none}");
    let usage = error(&json(&person, &["restore", "--no-such-option"]), 1);
    assert!(usage["message"].as_str().unwrap().contains("--no-such-option"), "{usage}");
    person.run(["init"]);
    let wrong = person.command().env("BKFS_PASSWORD", "wrong").args(["snapshots", "--json"]).output().unwrap();
    let wrong = error(&wrong, 12);
    assert!(wrong["hint"].as_str().unwrap().contains("BKFS_PASSWORD"), "{wrong}");
    let missing = error(&json(&person, &["push", "/no/such/\u{1b}[2J"]), 1);
    assert!(missing["message"].as_str().unwrap().contains("\\u{1b}[2J: No such file"), "{missing}");
    // For people the same name is escaped.
    let output = person.output(["push", "/no/such/\u{1b}[2J"]);
    expect(&output, 1, &["/no/such/\\u{1b}[2J"]);
}

#[test]
fn a_mount_says_that_it_is_ready() {
    if let Some(reason) = cannot_mount() {
        crate::skip!("{reason}");
    }
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let point = person.path("mount");
    std::fs::create_dir(&point).unwrap();
    let args = ["mount", "--background", "--json", point.to_str().unwrap()];
    let output = person.command().args(args).output().unwrap();
    json_doc::check(&args, &output);
    let mounted = object(&output);
    let unmounted = std::process::Command::new("umount").arg(&point).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(mounted["mountpoint"], point.to_str().unwrap());
}

#[test]
fn progress_is_written_as_lines_of_json() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    let source = person.path("src");
    let output = person.command().args(["push", "--progress-json", "--json"]).arg(&source).output().unwrap();
    assert!(output.status.success());
    let err = text(&output.stderr);
    let lines: Vec<Value> = err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = &lines.last().unwrap()["progress"];
    assert!(last["done"].as_u64().unwrap() > 1 << 20 && last["waiting"] == false, "{last}");
    assert!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["snapshot"].is_string());
    let output = person.command().args(["check", "--read-data", "--progress-json"]).output().unwrap();
    assert!(text(&output.stderr).lines().all(|line| line.starts_with("{\"version\":1,\"progress\":{")));
}
