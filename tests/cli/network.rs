//! Over the network: servers that are down, full, rolled back or not the right one; tokens and permissions.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use rustix::process::{Pid, Signal};

use crate::{
    common::{
        program::{Person, Server},
        terminal::Terminal,
    },
    expect, make_source, noise,
    servers::logged,
    text,
};

/// Returns an operator, a server, and a person with one push in a repository on it.
pub fn pushed() -> (Person, Server, Person) {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let person = server.person("alice");
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    (operator, server, person)
}

/// Runs the program with another configuration, as another machine of the same person.
fn elsewhere(person: &Person, name: &str, args: &[&str]) -> Output {
    let mut command = person.command();
    command.env("BKFS_CONFIG_DIR", person.path(&format!("config-{name}")));
    command.env("BKFS_CACHE_DIR", person.path(&format!("cache-{name}")));
    command.args(args).output().unwrap()
}

fn push_args(source: &Path) -> Vec<&str> {
    vec!["push", "-C", source.to_str().unwrap(), "."]
}

/// Kills a server without a chance to close its connections.
pub fn kill(server: &Server) {
    let pid = Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn a_server_serves_from_join_to_restore() {
    let (_operator, server, person) = pushed();
    assert!(person.repo.starts_with(&format!("bkfs://{}/alice", server.address)), "{}", person.repo);
    assert_eq!(person.run(["cat", "latest:hello"]), "hello\n");
    let out = person.path("out");
    person.run(["restore", "latest", out.to_str().unwrap()]);
    assert_eq!(fs::read(out.join("sub/big")).unwrap(), fs::read(person.path("src/sub/big")).unwrap());
    person.run(["check", "--read-data"]);
    // The account has a second repository.
    let second = format!("{}/second", person.repo);
    let run = |args: &[&str]| person.command().env("BKFS_REPOSITORY", &second).args(args).output().unwrap();
    expect(&run(&["snapshots"]), 10, &["second"]);
    expect(&run(&["init"]), 0, &[]);
    expect(&run(&["snapshots", "--json"]), 0, &[]);
}

#[test]
fn a_push_only_machine_joins_with_its_key() {
    let (operator, server, person) = pushed();
    let key = person.path("laptop.key");
    person.run(["key", "export-push", key.to_str().unwrap()]);
    let token = server.invite(&operator, "alice", "push");
    let laptop = |args: &[&str]| {
        let mut command = person.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_CONFIG_DIR", person.path("config-laptop"));
        command.env("BKFS_CACHE_DIR", person.path("cache-laptop")).args(args).output().unwrap()
    };
    let joined = laptop(&["join", &token, "--push-key", key.to_str().unwrap()]);
    expect(&joined, 0, &[]);
    assert_eq!(text(&joined.stdout).trim(), person.repo);
    fs::write(person.path("src/of-laptop"), "x\n").unwrap();
    let source = person.path("src");
    expect(&laptop(&push_args(&source)), 0, &[]);
    fs::write(person.path("src/of-laptop-2"), "y\n").unwrap();
    expect(&laptop(&push_args(&source)), 0, &[]);
    // The key cannot read. Even with the passphrase, the server does not let this client read.
    expect(&laptop(&["snapshots"]), 1, &["no permission", "read"]);
    expect(&elsewhere(&person, "laptop", &["snapshots"]), 1, &["no permission", "read"]);
    expect(&laptop(&["check"]), 1, &["no permission"]);
    // A machine that joined without a key has nothing to push with, with or without the passphrase.
    let token = server.invite(&operator, "alice", "push");
    expect(&elsewhere(&person, "keyless", &["join", &token]), 0, &[]);
    expect(&elsewhere(&person, "keyless", &push_args(&source)), 12, &["no push key", "export-push", "--key-file"]);
    let mut args = push_args(&source);
    args.extend(["--key-file", key.to_str().unwrap()]);
    expect(&elsewhere(&person, "keyless", &args), 0, &[]);
    assert_eq!(person.run(["cat", "--client", "laptop", "latest:of-laptop-2"]), "y\n");
}

#[test]
fn a_reader_cannot_push() {
    let (operator, server, person) = pushed();
    let token = server.invite(&operator, "alice", "read");
    expect(&elsewhere(&person, "reader", &["join", &token]), 0, &[]);
    expect(&elsewhere(&person, "reader", &["cat", "latest:hello"]), 0, &[]);
    expect(&elsewhere(&person, "reader", &["push", "/etc/hostname"]), 1, &["no permission"]);
    expect(&elsewhere(&person, "reader", &["key", "add"]), 12, &["new passphrase"]);
}

#[test]
fn a_token_works_once_and_only_if_complete() {
    let (operator, server, person) = pushed();
    let token = server.invite(&operator, "alice", "push");
    expect(&elsewhere(&person, "a", &["join", &token]), 0, &[]);
    expect(&elsewhere(&person, "b", &["join", &token]), 1, &["used"]);
    let cut = &token[..token.len() - 3];
    expect(&elsewhere(&person, "b", &["join", cut]), 1, &["token"]);
    expect(&elsewhere(&person, "b", &["join", "nonsense"]), 1, &["token"]);
    // A missing key file does not use up the token.
    let token = server.invite(&operator, "alice", "push");
    expect(&elsewhere(&person, "b", &["join", &token, "--push-key", "/no/such.key"]), 12, &["/no/such.key"]);
    expect(&elsewhere(&person, "b", &["join", &token]), 0, &[]);
}

#[test]
fn a_token_expires() {
    let (operator, _server, person) = pushed();
    let data = operator.path("server");
    let invite = |valid: &str| {
        operator.output(["server", "invite", "--data", data.to_str().unwrap(), "alice", "--valid", valid])
    };
    let (long, short) = (invite("1h"), invite("1s"));
    expect(&long, 0, &[]);
    expect(&short, 0, &[]);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let late = elsewhere(&person, "a", &["join", text(&short.stdout).trim()]);
    expect(&late, 1, &["expired", "ask the operator for a new one"]);
    // The attempt leaves nothing behind: no server is known, and the same machine joins with the next token.
    expect(&elsewhere(&person, "a", &["snapshots"]), 1, &["not joined"]);
    expect(&elsewhere(&person, "a", &["join", text(&long.stdout).trim()]), 0, &[]);
    expect(&elsewhere(&person, "a", &["cat", "latest:hello"]), 0, &[]);
    for bad in ["0s", "1", "soon"] {
        expect(&invite(bad), 1, &[if bad == "0s" { "at least one second" } else { "valid" }]);
    }
}

#[test]
fn a_machine_that_has_not_joined_is_told_to_join() {
    let (_operator, server, person) = pushed();
    expect(&elsewhere(&person, "stranger", &["snapshots"]), 1, &[&server.address, "not joined", "bkfs join"]);
}

#[test]
fn a_server_with_another_certificate_is_refused() {
    let (_operator, server, person) = pushed();
    let places = person.path("config/places.toml");
    let text = fs::read_to_string(&places).unwrap();
    let entry = text.lines().find(|line| line.starts_with("fingerprint")).unwrap();
    let digits = entry.split('"').rev().nth(1).unwrap();
    let wrong: String = digits.chars().map(|c| if c == '0' { '1' } else { '0' }).collect();
    fs::write(&places, text.replace(digits, &wrong)).unwrap();
    expect(&person.output(["snapshots"]), 1, &[&server.address, "certificate", "not the one"]);
    expect(&person.output(["push", "/etc/hostname"]), 1, &[&server.address, "certificate"]);
}

#[test]
fn a_server_that_is_down_is_named() {
    let (operator, server, person) = pushed();
    let address = server.address.clone();
    drop(server);
    expect(&person.output(["snapshots"]), 1, &[&address, "is it running"]);
    expect(&person.output(["push", "/etc/hostname"]), 1, &[&address]);
    let _server = Server::run(&operator, &operator.path("server"), &address);
    expect(&person.output(["cat", "latest:hello"]), 0, &[]);
}

#[test]
fn a_server_that_dies_during_a_push_loses_nothing() {
    let (operator, server, person) = pushed();
    let source = person.path("src");
    for i in 0..24u64 {
        fs::write(source.join(format!("file-{i}")), crate::noise(i + 10, 4 << 20)).unwrap();
    }
    let mut push = person.command();
    push.args(push_args(&source)).env("BKFS_LOG", "bkfs_transport=debug");
    let child = push.stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Kill the server as soon as it has stored a part of the push.
    let packs = || {
        let output =
            Command::new("find").arg(operator.path("server")).args(["-path", "*packs*", "-type", "f"]).output();
        text(&output.unwrap().stdout).lines().count()
    };
    let before = packs();
    while packs() == before {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    kill(&server);
    let address = server.address.clone();
    drop(server);
    let _server = Server::run(&operator, &operator.path("server"), &address);
    // The push either finds the server again and continues, or ends with a clear error, and the next push continues.
    let output = child.wait_with_output().unwrap();
    // The new server reports that it does not know the connection, so the client need not wait for a timeout.
    assert!(text(&output.stderr).contains("reset by peer"), "{}", text(&output.stderr));
    if !output.status.success() {
        expect(&output, 1, &[&address]);
        person.run(push_args(&source));
    }
    let out = person.path("out");
    person.run(["restore", "latest", out.to_str().unwrap()]);
    let compare = Command::new("diff").arg("-r").args([&source, &out]).output().unwrap();
    assert!(compare.status.success(), "{}", text(&compare.stdout));
    person.run(["check", "--read-data"]);
}

#[test]
fn several_machines_push_at_the_same_time() {
    let (operator, server, person) = pushed();
    let source = person.path("src");
    for i in 0..8u64 {
        fs::write(source.join(format!("file-{i}")), crate::noise(i + 40, 1 << 20)).unwrap();
    }
    let names = ["one", "two", "three"];
    for name in names {
        let token = server.invite(&operator, "alice", "all");
        expect(&elsewhere(&person, name, &["join", &token]), 0, &[]);
    }
    std::thread::scope(|scope| {
        for name in names {
            let (person, source) = (&person, &source);
            scope.spawn(move || expect(&elsewhere(person, name, &push_args(source)), 0, &[]));
        }
    });
    let list: serde_json::Value = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 4);
    person.run(["check", "--read-data"]);
}

#[test]
fn an_older_copy_of_a_server_is_detected() {
    let (operator, server, person) = pushed();
    let (data, copy, address) = (operator.path("server"), operator.path("copy"), server.address.clone());
    drop(server);
    assert!(Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap().success());
    let server = Server::run(&operator, &data, &address);
    let source = person.path("src");
    fs::write(source.join("later"), "later\n").unwrap();
    person.push(&source);
    drop(server);
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&copy, &data).unwrap();
    let _server = Server::run(&operator, &data, &address);
    expect(&person.output(["snapshots"]), 13, &["warning", "rolled back"]);
    expect(&person.output(["check"]), 13, &["rolled back"]);
    expect(&person.output(push_args(&source)), 13, &["rolled back"]);
    expect(&person.output(["check", "--read-data", "--accept-rollback"]), 0, &[]);
    expect(&person.output(push_args(&source)), 0, &[]);
    assert_eq!(person.run(["cat", "latest:later"]), "later\n");
}

#[test]
fn a_full_disk_on_the_server_is_reported_to_the_client() {
    if !rustix::process::geteuid().is_root() {
        crate::skip!("only root can mount a small disk");
    }
    let operator = Person::new();
    let Some(disk) = crate::source::SmallDisk::new(&operator.path("disk")) else {
        crate::skip!("nothing can be mounted");
    };
    let server = Server::start(&operator, &disk.path.join("server"));
    let person = server.person("alice");
    let source = person.path("src");
    make_source(&source);
    person.push(&source);
    fs::write(source.join("huge"), crate::noise(3, 24 << 20)).unwrap();
    expect(&person.output(push_args(&source)), 1, &["no space left", "nothing was lost"]);
    logged(&server, &["ERROR", "a request failed", "account=alice", "no space left"]);
    expect(&person.output(["cat", "latest:hello"]), 0, &[]);
    fs::remove_file(source.join("huge")).unwrap();
    disk.grow();
    expect(&person.output(push_args(&source)), 0, &[]);
    expect(&person.output(["check", "--read-data"]), 0, &[]);
}

#[test]
fn a_damaged_pack_on_the_server_is_mended_or_reported_to_the_client() {
    let (operator, _server, person) = pushed();
    let output = Command::new("find")
        .arg(operator.path("server"))
        .args(["-path", "*packs*", "-type", "f", "-size", "+500k"])
        .output()
        .unwrap();
    let found = text(&output.stdout);
    let pack = Path::new(found.lines().next().unwrap());
    let whole = fs::read(pack).unwrap();
    let mut bytes = whole.clone();
    bytes[400_000] ^= 4;
    fs::write(pack, &bytes).unwrap();
    let output = person.output(["cat", "latest:sub/big"]);
    expect(&output, 0, &["found a damaged pack and mended it"]);
    assert!(fs::read(pack).unwrap() == whole);

    bytes[200_000..600_000].fill(0);
    fs::write(pack, bytes).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    expect(&person.output(["check", "--read-data"]), 1, &[name, "sub/big"]);
    expect(&person.output(["cat", "latest:hello"]), 0, &[]);
}

#[test]
fn progress_says_when_it_waits_for_the_server() {
    let (_operator, server, person) = pushed();
    let source = person.path("large");
    fs::create_dir(&source).unwrap();
    for number in 0..60 {
        fs::write(source.join(number.to_string()), noise(100 + number, 2 << 20)).unwrap();
    }
    let mut command = person.command();
    command.args(["push", "-C"]).arg(&source).arg(".").env("COLUMNS", "200");
    let Some(mut terminal) = Terminal::start(&command) else { crate::skip!("there is no script(1)") };
    terminal.expect("sent");
    kill(&server);
    terminal.expect("waiting for the server");
    // The first one asks to stop; the second one does not wait for the server.
    terminal.press("\u{3}");
    terminal.press("\u{3}");
    let (code, shown) = terminal.end();
    assert_eq!(code, 130, "{shown}");
}
