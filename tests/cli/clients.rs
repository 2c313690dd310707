//! Removing clients and passphrases: what is asked, what is said, and how a removed client comes back.

use serde_json::Value;

use crate::{
    common::{program::Person, terminal},
    expect, make_source, text,
};

fn pushed() -> Person {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    person
}

fn keys(person: &Person) -> Value {
    serde_json::from_str(&person.run(["key", "list", "--json"])).unwrap()
}

fn add_passphrase(person: &Person, passphrase: &str, label: &str) {
    let args = ["key", "add", "--label", label];
    expect(&person.command().env("BKFS_NEW_PASSWORD", passphrase).args(args).output().unwrap(), 0, &[]);
}

#[test]
fn this_machines_own_client_is_not_removed_unasked() {
    let person = pushed();
    let list = keys(&person);
    let id = list["clients"][0]["id"].as_str().unwrap();
    expect(&person.output(["client", "revoke", id]), 1, &[&id[..8], "is this machine", "--yes"]);
    assert!(keys(&person)["clients"][0]["until"].is_null(), "nothing was changed");
    expect(&person.output(["key", "remove", id]), 1, &["is a client", "client revoke"]);
    person.run(["client", "revoke", id, "--yes"]);
    assert!(keys(&person)["clients"][0]["until"].is_string());

    // The next push says so, also if it has nothing new to send; and it makes no snapshot.
    let snapshots = person.run(["snapshots", "--json"]);
    for source in [person.path("src"), "/etc/hostname".into()] {
        let output = person.output(["push".as_ref(), source.as_os_str()]);
        expect(&output, 12, &[&id[..8], "was removed from the repository on", "key enrol"]);
    }
    assert_eq!(person.run(["snapshots", "--json"]), snapshots);
    expect(&person.command().env_remove("BKFS_PASSWORD").args(["key", "enrol"]).output().unwrap(), 12, &["passphrase"]);
    person.run(["key", "enrol"]);
    expect(&person.output(["key", "enrol"]), 1, &["is client", "already"]);
    expect(&person.command().env_remove("BKFS_PASSWORD").args(["push", "/etc/hostname"]).output().unwrap(), 0, &[]);
    assert_eq!(person.run(["snapshots", "--json"]).matches("\"received\"").count(), 2);
}

#[test]
fn a_removed_machine_comes_back_with_a_key_file() {
    let person = pushed();
    let (first, second) = (person.path("first.key"), person.path("second.key"));
    for key in [&first, &second] {
        person.run(["key", "export-push", key.to_str().unwrap()]);
    }
    let laptop = |args: &[&str]| {
        let mut command = person.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_CONFIG_DIR", person.path("laptop"));
        command.env("BKFS_CACHE_DIR", person.path("laptop-cache")).args(args).output().unwrap()
    };
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    expect(&laptop(&["key", "enrol", "--push-key", first]), 0, &[]);
    expect(&laptop(&["push", "/etc/hostname"]), 0, &[]);
    expect(&laptop(&["key", "enrol", "--push-key", second]), 1, &["already"]);
    // It is not this machine: nothing needs to be confirmed.
    person.run(["client", "revoke", "first"]);
    expect(&person.output(["client", "revoke", "nobody"]), 1, &["no client", "key list"]);
    expect(&laptop(&["push", "/etc/hostname"]), 12, &["was removed", "--push-key"]);
    expect(&laptop(&["key", "enrol", "--push-key", first]), 12, &["was removed"]);
    expect(&laptop(&["key", "enrol", "--push-key", second]), 0, &[]);
    expect(&laptop(&["push", "/etc/hostname"]), 0, &[]);
}

#[test]
fn the_passphrase_in_use_is_not_removed_unasked() {
    let person = pushed();
    add_passphrase(&person, "second", "the safe");
    let list = keys(&person);
    let slot = |label: &str| {
        let slots = list["slots"].as_array().unwrap();
        slots.iter().find(|slot| slot["label"] == label).unwrap_or_else(|| panic!("{list}")).clone()
    };
    let (first, safe) = (slot("first"), slot("the safe"));
    assert_eq!((&first["in_use"], &safe["in_use"]), (&Value::Bool(true), &Value::Bool(false)));
    assert!(safe["host"].is_string() && safe["since"].is_string(), "{safe}");
    let shown = person.run(["key", "list"]);
    assert!(shown.contains("first (this one)") && shown.contains("the safe\n"), "{shown}");

    let id = first["id"].as_str().unwrap();
    let refused = person.output(["key", "remove", id]);
    expect(&refused, 1, &[&id[..8], "first, from ", "your passphrase has just opened", "--yes"]);
    // With the other passphrase it is another's.
    let other = |args: &[&str]| person.command().env("BKFS_PASSWORD", "second").args(args).output().unwrap();
    expect(&other(&["key", "remove", safe["id"].as_str().unwrap()]), 1, &["the safe", "--yes"]);
    expect(&other(&["key", "remove", id]), 0, &[]);
    expect(&person.output(["snapshots"]), 12, &["wrong passphrase"]);
    expect(&other(&["key", "remove", safe["id"].as_str().unwrap(), "--yes"]), 1, &["only passphrase"]);
}

#[test]
fn a_changed_passphrase_keeps_its_label() {
    let person = pushed();
    add_passphrase(&person, "second", "the safe");
    let mut change = person.command();
    change.env("BKFS_PASSWORD", "second").env("BKFS_NEW_PASSWORD", "third").args(["key", "change"]);
    expect(&change.output().unwrap(), 0, &[]);
    let list = person.command().env("BKFS_PASSWORD", "third").args(["key", "list"]).output().unwrap();
    assert!(text(&list.stdout).contains("the safe (this one)"), "{}", text(&list.stdout));
}

#[test]
fn a_terminal_is_asked_and_ctrl_c_changes_nothing() {
    let person = pushed();
    add_passphrase(&person, "second", "the safe");
    let before = keys(&person);
    let id = |label: &str| {
        let slots = before["slots"].as_array().unwrap();
        slots.iter().find(|slot| slot["label"] == label).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let Some((code, said)) = terminal::run(&person, &["key", "remove", &id("first")], "\u{3}") else {
        crate::skip!("script(1) is missing");
    };
    assert!(code == 130 && said.contains("first, from"), "{code} {said}");
    assert_eq!(keys(&person), before);
    for answer in ["n\n", "\n", "\u{4}"] {
        let (code, said) = terminal::run(&person, &["key", "remove", &id("the safe")], answer).unwrap();
        assert!(code == 1 && said.contains("the safe") && said.contains("nothing was changed"), "{code} {said}");
    }
    let client = before["clients"][0]["id"].as_str().unwrap();
    let (code, said) = terminal::run(&person, &["client", "revoke", client], "no\n").unwrap();
    assert!(code == 1 && said.contains("is this machine"), "{code} {said}");
    assert_eq!(keys(&person), before);
    let (code, said) = terminal::run(&person, &["key", "remove", &id("the safe")], "y\n").unwrap();
    assert!(code == 0 && said.contains("removed passphrase slot"), "{code} {said}");
}
