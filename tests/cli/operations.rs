//! What an operator sees and sets: the configuration file and its reload, logs, the audit log, metrics, and a copy of
//! the server.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Output,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::{
    common::program::{Person, Server},
    expect, make_source, packs, text,
};

/// How long a reload may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(operator: &Person, more: &[&str]) -> Output {
    let data = operator.path("server");
    operator.output(["server", "config", "--data", data.to_str().unwrap()].iter().chain(more))
}

fn an_operator() -> Person {
    let operator = Person::new();
    operator.run(["server", "init", "--data", operator.path("server").to_str().unwrap()]);
    operator
}

#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn options_win_over_the_file_and_the_file_over_what_is_usual() {
    let operator = an_operator();
    let shown = |more: &[&str]| -> Value {
        let output = config(&operator, &[more, &["--json"]].concat());
        expect(&output, 0, &[]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let usual = shown(&[]);
    assert_eq!((&usual["listen"], &usual["metrics"]), (&"0.0.0.0:7443".into(), &"off".into()), "{usual}");
    let file = operator.path("server/server.toml");
    fs::write(&file, "listen = \"127.0.0.1:9\"\nscrub-rate = \"5M\"\nlog-level = \"debug\"\naudit-keep = 2\n").unwrap();
    let mixed = shown(&["--listen", "127.0.0.1:10"]);
    assert_eq!((&mixed["listen"], &mixed["scrub-rate"]), (&"127.0.0.1:10".into(), &"5242880".into()), "{mixed}");
    assert_eq!((&mixed["log-level"], &mixed["audit-keep"]), (&"debug".into(), &2.into()), "{mixed}");
    // What is shown can be the file.
    let printed = config(&operator, &[]);
    let other = operator.path("other.toml");
    fs::write(&other, &printed.stdout).unwrap();
    assert_eq!(config(&operator, &["--config", other.to_str().unwrap()]).stdout, printed.stdout);
}

#[test]
fn a_mistake_in_the_file_is_named_with_its_line() {
    let operator = an_operator();
    let file = operator.path("server/server.toml");
    for (contents, words) in [
        ("parity = \"5%\"\nscrub-evry = \"1d\"\n", ["line 2", "scrub-evry"]),
        ("\n\nscrub-every = \"often\"\n", ["line 3", "is not a duration"]),
        ("metrics = \"here\"\n", ["line 1", "or off"]),
        ("log-format = \"xml\"\n", ["line 1", "journald"]),
        ("audit-size = 16\n", ["line 1", "expected a string"]),
        ("listen = \n", ["line 1", "server.toml"]),
    ] {
        fs::write(&file, contents).unwrap();
        expect(&config(&operator, &[]), 1, &words);
        let run = ["server", "run", "--data", operator.path("server").to_str().unwrap()].map(str::to_owned);
        expect(&operator.output(run), 1, &words);
    }
    let absent = operator.path("absent.toml");
    expect(&config(&operator, &["--config", absent.to_str().unwrap()]), 1, &["absent.toml"]);
}

#[test]
fn the_example_is_what_is_usual() {
    let operator = an_operator();
    let usual = config(&operator, &[]);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/server.toml");
    // Every line of the example is a comment. Without the marks, it states what holds without it.
    let text = fs::read_to_string(example).unwrap();
    let settings: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("#")).filter(|l| !l.starts_with(' ')).collect();
    let file = operator.path("uncommented.toml");
    fs::write(&file, settings.join("\n")).unwrap();
    expect(&config(&operator, &["--config", example]), 0, &[]);
    assert_eq!(text_of(&config(&operator, &["--config", file.to_str().unwrap()])), text_of(&usual));
    assert_eq!(settings.iter().filter(|l| l.contains('=')).count(), text_of(&usual).lines().count(), "{settings:?}");
}

fn text_of(output: &Output) -> String {
    expect(output, 0, &[]);
    text(&output.stdout)
}

#[test]
fn a_hangup_changes_settings_and_stops_nothing() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let person = server.person("alice");
    let hangup = || {
        let pid = Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::HUP).unwrap();
    };
    let file = operator.path("server/server.toml");
    fs::write(&file, "log-level = \"debug\"\nlog-format = \"json\"\naudit-log = \"other.log\"\n").unwrap();
    assert!(!server.log().contains("DEBUG"), "{}", server.log());
    hangup();
    wait_for("the settings are read again", || server.log().contains("the settings were read again"));
    assert!(server.log().contains("changes of log-format need a restart"), "{}", server.log());
    person.run(["snapshots"]);
    wait_for("the level counts at once", || server.log().contains("DEBUG"));
    wait_for("so does the audit log", || operator.path("server/other.log").metadata().is_ok_and(|meta| meta.len() > 0));
    // A mistake changes nothing, and says so.
    fs::write(&file, "log-level = \"loud\"\n").unwrap();
    hangup();
    wait_for("the mistake is named", || server.log().contains("the old ones stay"));
    person.run(["snapshots"]);
}

#[test]
fn the_log_can_be_json() {
    let operator = Person::new();
    let first = Server::start(&operator, &operator.path("server"));
    let address = first.address.clone();
    drop(first);
    let log = operator.path("server.log");
    fs::remove_file(&log).unwrap();
    let server = Server::run_with(&operator, &operator.path("server"), &address, &["--log-format", "json"]);
    let _person = server.person("alice");
    let lines: Vec<Value> = server.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let joined = lines.iter().find(|line| line["message"] == "a client joined").unwrap();
    assert_eq!((&joined["account"], &joined["level"]), (&"alice".into(), &"INFO".into()), "{joined}");
    drop(server);
    let data = operator.path("server");
    let run = ["server", "run", "--data", data.to_str().unwrap(), "--log-format", "xml"];
    expect(&operator.output(run), 1, &["journald"]);
}

/// Returns the entries of the server's audit log.
fn audit(operator: &Person) -> Vec<Value> {
    let text = fs::read_to_string(operator.path("server/audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_audit_log_says_who_did_what() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let person = server.person("alice");
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    person.run(["forget", &person.newest()]);
    let reader = server.invite(&operator, "alice", "read");
    let other = Person::new();
    other.run(["join", &reader]);
    let mut refused = other.command();
    let refused = refused.env("BKFS_REPOSITORY", &person.repo).args(["push", "/etc/hostname"]).output().unwrap();
    expect(&refused, 1, &["no permission"]);
    // Connections end with their commands, which the server may see a little later.
    let ends = |entries: &[Value]| entries.iter().filter(|entry| entry["action"] == "disconnect").count();
    wait_for("connections end", || ends(&audit(&operator)) >= 3);
    let entries = audit(&operator);
    let one = |action: &str, outcome: &str| {
        let is_it = |entry: &&Value| entry["action"] == action && entry["outcome"] == outcome;
        entries.iter().find(is_it).unwrap_or_else(|| panic!("{action} {outcome}: {entries:?}"))
    };
    for (action, outcome) in [("join", "ok"), ("init", "ok"), ("open", "ok"), ("commit", "ok"), ("forget", "ok")] {
        let entry = one(action, outcome);
        assert_eq!(entry["account"], "alice", "{entry}");
        assert_eq!(entry["client"].as_str().unwrap().len(), 64, "{entry}");
        assert!(entry["time"].as_str().unwrap().ends_with('Z') && entry["address"].is_string(), "{entry}");
    }
    let commit = one("commit", "ok");
    assert!(commit["received_bytes"].as_u64().unwrap() > 1 << 20, "{commit}");
    assert_eq!(commit["snapshot"].as_str().unwrap().len(), 64, "{commit}");
    let refused = entries.iter().find(|entry| entry["outcome"] == "refused").unwrap();
    assert!(refused["error"].as_str().unwrap().contains("no permission"), "{refused}");
    assert_ne!(refused["client"], commit["client"]);
}

/// Asks an HTTP server for something. Returns the status and the body.
fn get(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn metrics_say_what_is_stored_and_what_was_done() {
    let operator = Person::new();
    let first = Server::start(&operator, &operator.path("server"));
    let address = first.address.clone();
    let person = first.person("alice");
    make_source(&person.path("src"));
    drop(first);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = Server::run_with(&operator, &operator.path("server"), &address, &["--metrics", &free]);
    // Clients that say nothing take no place from others for long, and none from those who push.
    let _silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(&free).unwrap()).collect();
    person.push(&person.path("src"));
    let (status, metrics) = get(&free, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status, 200);
    let value = |series: &str| -> f64 {
        let found = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("{series} is missing:\n{metrics}")).parse().unwrap()
    };
    let labels = "{account=\"alice\",repository=\"main\"}";
    assert!(value(&format!("bkfs_stored_bytes{labels}")) > f64::from(1 << 20));
    assert_eq!(value(&format!("bkfs_snapshots{labels}")), 1.0);
    assert_eq!(value(&format!("bkfs_repository_up{labels}")), 1.0);
    assert!(value(&format!("bkfs_last_push_timestamp_seconds{labels}")) > 1.7e9);
    assert_eq!(value("bkfs_requests_total{call=\"commit\",outcome=\"ok\"}"), 1.0);
    assert!(value("bkfs_received_bytes_total{account=\"alice\"}") > f64::from(1 << 20));
    assert!(value("bkfs_connections_total") >= 1.0);
    assert!(value("bkfs_disk_free_bytes") > 0.0);
    let target = metrics.lines().find(|line| line.starts_with("bkfs_target_last_push_timestamp_seconds{")).unwrap();
    assert!(target.contains("target=\"") && !target.contains("src"), "targets are opaque: {target}");
    assert_eq!(get(&free, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), (200, "ok\n".into()));
    assert_eq!(get(&free, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").0, 404);
    assert_eq!(get(&free, "DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n").0, 405);
    assert_eq!(get(&free, "\u{16}rubbish\r\n\r\n").0, 400);
    drop(server);
    let data = operator.path("server");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _holds = std::net::TcpListener::bind(taken).unwrap();
    let args = ["server", "run", "--listen", &address, "--metrics", &taken.to_string(), "--data"];
    expect(&operator.output(args.into_iter().chain([data.to_str().unwrap()])), 1, &["cannot offer metrics"]);
}

#[test]
fn a_server_comes_back_from_its_copy_and_clients_go_on() {
    let operator = Person::new();
    let (data, copy) = (operator.path("server"), operator.path("copy"));
    let server = Server::start(&operator, &data);
    let (person, address) = (server.person("alice"), server.address.clone());
    let source = person.path("src");
    make_source(&source);
    person.push(&source);
    let backup = || operator.output(["server", "backup", "--data", data.to_str().unwrap(), copy.to_str().unwrap()]);
    expect(&backup(), 0, &[]);
    fs::write(source.join("later"), "later\n").unwrap();
    person.push(&source);
    // The second copy has only what is new.
    let before = packs(&copy).len();
    let output = operator
        .output(["server", "backup", "--json", "--data", data.to_str().unwrap()].iter().copied().chain(copy.to_str()));
    expect(&output, 0, &[]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["files"].as_u64().unwrap() < 20 && packs(&copy).len() > before, "{report}");
    assert!(!copy.join("accounts/alice/main/index").exists() && !copy.join("running").exists());
    drop(server);
    fs::remove_dir_all(&data).unwrap();
    let _server = Server::run(&operator, &copy, &address);
    assert_eq!(person.run(["cat", "latest:later"]), "later\n");
    fs::write(source.join("new"), "new\n").unwrap();
    person.push(&source);
    person.run(["check", "--read-data"]);
    assert_eq!(person.run(["cat", "latest:new"]), "new\n");
}

#[test]
fn a_copy_is_made_only_where_nothing_is_lost() {
    let operator = an_operator();
    let data = operator.path("server");
    let backup = |to: &str| operator.output(["server", "backup", "--data", data.to_str().unwrap(), to]);
    let (inside, full, other) = (data.join("copy"), operator.path("full"), operator.path("other"));
    expect(&backup(inside.to_str().unwrap()), 1, &["lie in one another"]);
    fs::create_dir(&full).unwrap();
    fs::write(full.join("letters"), "dear").unwrap();
    expect(&backup(full.to_str().unwrap()), 1, &["neither empty nor an earlier copy"]);
    assert!(full.join("letters").exists());
    operator.run(["server", "init", "--data", other.to_str().unwrap()]);
    expect(&backup(other.to_str().unwrap()), 1, &["another server"]);
    let (nothing, to) = (operator.path("nothing"), operator.path("to"));
    let args = ["server", "backup", "--data", nothing.to_str().unwrap(), to.to_str().unwrap()];
    expect(&operator.output(args), 1, &["nothing"]);
}
