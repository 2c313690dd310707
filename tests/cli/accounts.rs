//! Accounts, their limits and their clients, as the operator and the owner of a repository manage them.

use std::process::Output;

use serde_json::Value;

use crate::{
    common::program::{Person, Server},
    expect, text,
};

/// Checks the exit code, and that the words are in what was printed, results and messages.
#[track_caller]
fn says(output: &Output, code: i32, words: &[&str]) {
    expect(output, code, &[]);
    let said = text(&output.stdout).to_owned() + &text(&output.stderr);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in what was printed: {said}");
    }
}

/// Runs a command of the operator: its words, then `--data`, then its arguments.
fn operate(operator: &Person, command: &str, args: &[&str]) -> Output {
    let data = operator.path("server");
    let words: Vec<&str> = ["server"].into_iter().chain(command.split(' ')).collect();
    let data = ["--data", data.to_str().unwrap()];
    operator.output(words.iter().chain(&data).chain(args))
}

fn json(operator: &Person, command: &str, args: &[&str]) -> Value {
    let output = operate(operator, command, &[args, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

/// An operator with a server, a person with a repository there, and a laptop that may only push.
fn a_company() -> (Person, Server, Person, Person) {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let person = server.person("alice");
    let key = person.path("laptop.key");
    person.run(["key", "export-push", key.to_str().unwrap(), "--label", "laptop"]);
    let mut laptop = Person::new();
    let token = text(&operate(&operator, "invite", &["alice", "--can", "push", "--name", "laptop", "-q"]).stdout);
    laptop.repo = laptop.run(["join", token.trim(), "--push-key", key.to_str().unwrap()]).trim().to_owned();
    (operator, server, person, laptop)
}

fn push(person: &Person) -> Output {
    person.command().env_remove("BKFS_PASSWORD").args(["push", "/etc/hostname"]).output().unwrap()
}

#[test]
fn an_admin_revokes_a_client_on_the_roster_and_on_the_server() {
    let (operator, _server, person, laptop) = a_company();
    says(&push(&laptop), 0, &[]);
    let clients = json(&operator, "client list", &["alice"]);
    let listed = clients.as_array().unwrap().iter().find(|client| client["name"] == "laptop").unwrap().clone();
    assert_eq!((&listed["can"], listed["keys"].as_array().unwrap().len()), (&Value::from("push"), 1), "{clients}");
    says(&person.output(["client", "revoke", "lapdog"]), 1, &["no client has the label", "key list"]);
    says(&person.output(["client", "revoke", "laptop"]), 0, &["revoked client", "laptop", "access to the server"]);
    says(&push(&laptop), 1, &["no permission"]);
    says(&person.output(["client", "revoke", "laptop"]), 0, &["knows no machine that holds its key"]);
    // No token brings it back; the operator does, and a new key.
    let token = text(&operate(&operator, "invite", &["alice", "--can", "all", "-q"]).stdout);
    says(&laptop.output(["join", token.trim()]), 1, &["was revoked", "client permit"]);
    says(&operate(&operator, "client permit", &["alice", "laptop", "--can", "push"]), 0, &["laptop", "push"]);
    says(&push(&laptop), 12, &["was removed from the repository on", "key enrol"]);
    let key = person.path("second.key");
    person.run(["key", "export-push", key.to_str().unwrap()]);
    says(&laptop.output(["key", "enrol", "--push-key", key.to_str().unwrap()]), 0, &["is now client"]);
    says(&push(&laptop), 0, &[]);
    says(&push(&person), 0, &[]);
}

#[test]
fn an_invitation_is_withdrawn_before_it_is_used() {
    let (operator, _server, _person, _laptop) = a_company();
    let invited = json(&operator, "invite", &["alice", "--can", "all", "--name", "astray"]);
    let (token, id) = (invited["token"].as_str().unwrap(), invited["id"].as_str().unwrap());
    let open = json(&operator, "invitation list", &["alice"]);
    assert_eq!((&open[0]["id"], &open[0]["name"], open.as_array().unwrap().len()), (&id.into(), &"astray".into(), 1));
    says(&operate(&operator, "invitation list", &["alice"]), 0, &[&id[..8], "astray", "0 of 1"]);
    says(&operate(&operator, "invitation withdraw", &["alice", "0000000"]), 1, &["no open invitation"]);
    says(&operate(&operator, "invitation withdraw", &["alice", &id[..8]]), 0, &["withdrew invitation"]);
    says(&operate(&operator, "invitation list", &["alice"]), 0, &["no invitation to account alice is open"]);
    // The server that runs knows it at once.
    says(&Person::new().output(["join", token]), 1, &["unknown here"]);
}

#[test]
fn without_the_permission_admin_the_roster_ends_and_a_warning_says_what_is_left() {
    let (operator, _server, person, laptop) = a_company();
    says(&push(&laptop), 0, &[]);
    let clients = json(&operator, "client list", &["alice"]);
    let desktop = clients.as_array().unwrap().iter().find(|client| client["can"] == "all").unwrap().clone();
    let desktop = desktop["client"].as_str().unwrap();
    says(&operate(&operator, "client permit", &["alice", desktop, "--can", "push,read"]), 0, &["push,read"]);
    let revoked = person.output(["client", "revoke", "laptop"]);
    says(&revoked, 0, &["revoked client", "warning", "server client revoke"]);
    says(&push(&laptop), 12, &["was removed"]);
}

#[test]
fn limits_are_set_shown_and_explained() {
    let (operator, _server, person, laptop) = a_company();
    says(&push(&laptop), 0, &[]);
    says(&operate(&operator, "account quota", &["alcie", "1G"]), 1, &["no account alcie", "account list"]);
    says(&operate(&operator, "account quota", &["alice", "1X"]), 1, &["1X", "or off"]);
    says(&operate(&operator, "account quota", &["alice"]), 1, &["<SIZE|off>"]);
    says(&operate(&operator, "account limit", &["alice"]), 1, &["--snapshots"]);
    says(&operate(&operator, "account quota", &["alice", "1K"]), 0, &["may store 1.00 KiB", "already"]);
    let pushed = laptop.command().env_remove("BKFS_PASSWORD").args(["push", "/etc/passwd"]).output().unwrap();
    says(&pushed, 1, &["quota of 1.00 KiB is used up", "nothing was pushed", "Nothing that is stored was lost"]);
    let account = json(&operator, "account show", &["alice"]);
    assert_eq!((&account["limits"]["bytes"], &account["used"]["snapshots"]), (&1024.into(), &1.into()), "{account}");
    assert!(account["used"]["bytes"].as_u64().unwrap() > 4096 && account["repositories"][0]["repository"] == "main");
    says(&operate(&operator, "account quota", &["alice", "off"]), 0, &["without limits"]);
    says(&operate(&operator, "account limit", &["alice", "--snapshots", "1"]), 0, &["1 snapshot"]);
    says(&laptop.output(["push", "/etc/passwd"]), 1, &["its limit is 1 snapshots"]);
    says(&operate(&operator, "account quota", &["alice", "--parent", "alice"]), 1, &["same account"]);
    let shown = operate(&operator, "account list", &[]);
    assert!(text(&shown.stdout).contains("alice"), "{shown:?}");
    says(&person.output(["snapshots"]), 0, &[]);
}

#[test]
fn an_account_is_removed_only_when_that_is_confirmed() {
    let (operator, _server, person, laptop) = a_company();
    says(&push(&laptop), 0, &[]);
    let refused = operate(&operator, "account remove", &["alice"]);
    says(&refused, 1, &["account alice", "1 repository (main)", "1 snapshot", "nothing can bring them back", "--yes"]);
    says(&person.output(["snapshots"]), 0, &[]);
    says(&operate(&operator, "account remove", &["alice", "--yes"]), 0, &["removed account alice"]);
    says(&person.output(["snapshots"]), 1, &["no permission"]);
    assert!(!operator.path("server/accounts/alice").exists());
    assert_eq!(json(&operator, "account list", &[]), Value::Array(vec![]));
}

#[test]
fn an_invitation_may_be_for_several_clients_and_one_repository() {
    let (operator, server, _person, _laptop) = a_company();
    let args = ["alice", "--can", "push,read", "--uses", "2", "--repository", "photos"];
    let invited = operate(&operator, "invite", &args);
    says(&invited, 0, &["2 clients", "in repository photos"]);
    let token = text(&invited.stdout).trim().to_owned();
    for _ in 0..2 {
        let mut person = Person::new();
        person.repo = person.run(["join", &token]).trim().to_owned();
        says(&person.output(["snapshots"]), 1, &["no permission to open a repository"]);
    }
    says(&Person::new().output(["join", &token]), 1, &["has been used"]);
    says(&operate(&operator, "invite", &["alice", "--uses", "2", "--name", "x"]), 1, &["one name"]);
    says(&operate(&operator, "invite", &["alice", "--uses", "0"]), 1, &["at least one client"]);
    says(&operate(&operator, "invite", &["alice", "--can", "none"]), 1, &["must allow something"]);
    drop(server);
}
