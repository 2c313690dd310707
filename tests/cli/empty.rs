//! Files of zero length, as a copy that failed or a disk that lost power leaves them: the message says that the file is
//! empty and what to do, and what it says helps.

use std::fs;

use crate::{
    common::program::{Person, Server},
    expect, make_source,
};

fn pushed() -> Person {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    fs::write(person.path("empty"), "").unwrap();
    person
}

#[test]
fn a_named_file_that_is_empty() {
    let person = pushed();
    let empty = person.path("empty");
    let empty = empty.to_str().unwrap();
    for text in ["", "\n", " \r\n\n"] {
        fs::write(empty, text).unwrap();
        let output = person.output(["snapshots", "--key-file", empty]);
        expect(&output, 12, &["the key file ", " is empty", "copy it again"]);
        let output = person.output(["snapshots", "--key-file", &format!("{empty}.not")]);
        expect(&output, 12, &["does not exist"]);
    }
    fs::write(empty, "\n").unwrap();
    let output = person.output(["snapshots", "--password-file", empty]);
    expect(&output, 12, &["the passphrase from ", " is empty", "it must hold the passphrase"]);
    // No patterns: that is right.
    let source = person.path("src");
    person.run(["push", "--exclude-file", empty, "-C", source.to_str().unwrap(), "."]);
}

#[test]
fn an_invitation_that_is_empty() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let person = Person::new();
    expect(&person.output(["join", " "]), 1, &["not a valid invitation token: it is empty"]);
    let token = server.invite(&operator, "alice", "all");
    fs::write(person.path("empty"), "").unwrap();
    let empty = person.path("empty");
    let output = person.output(["join", &token, "--push-key", empty.to_str().unwrap()]);
    expect(&output, 12, &["the key file ", " is empty", "copy it again"]);
    // The invitation is not used up. An identity that is empty uses up none either.
    fs::create_dir_all(person.path("config")).unwrap();
    let identity = person.path("config/identity");
    fs::write(&identity, "").unwrap();
    let output = person.output(["join", &token]);
    expect(&output, 1, &[identity.to_str().unwrap(), "it is empty", "remove it"]);
    fs::remove_file(&identity).unwrap();
    person.run(["join", &token]);
}

#[test]
fn what_this_machine_remembers_is_empty() {
    let person = pushed();
    let source = person.path("src");
    let push = || person.output(["push", "-C", source.to_str().unwrap(), "."]);
    let repository = fs::read_dir(person.path("config/repositories")).unwrap().next().unwrap().unwrap().path();
    for (file, exit, hint) in [
        (repository.join("seen.toml"), 1, "rollback"),
        (person.path("config/places.toml"), 1, "join those again"),
        // A push does without what earlier pushes held.
        (repository.join("sources.toml"), 0, ""),
    ] {
        fs::write(&file, "").unwrap();
        expect(&push(), exit, &[file.to_str().unwrap(), "it is empty; restore it from a copy, or remove it", hint]);
        assert_eq!(fs::read(&file).unwrap(), b"", "nothing is written over it");
        fs::remove_file(&file).unwrap();
        expect(&push(), 0, &[]);
    }
    let key = repository.join("push.key");
    fs::write(&key, "").unwrap();
    expect(&push(), 1, &[key.to_str().unwrap(), "it is empty", "`bkfs key enrol`"]);
    fs::remove_file(&key).unwrap();
    person.run(["key", "enrol"]);
    expect(&push(), 0, &[]);
}
