//! Servers as their operators and their clients manage them: invitations, joining again, addresses and names.

use std::process::Output;

use serde_json::Value;

use crate::{
    common::{
        program::{Person, Server},
        terminal,
    },
    expect, make_source, text,
};

/// Runs a command of the operator.
fn operate(operator: &Person, command: &str, args: &[&str]) -> Output {
    let data = operator.path("server");
    operator.output(["server", command, "--data", data.to_str().unwrap()].iter().chain(args))
}

fn a_server() -> (Person, Server) {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    (operator, server)
}

#[test]
fn joining_again_takes_no_permission_away() {
    let (operator, server) = a_server();
    let person = server.person("alice");
    let again = server.invite(&operator, "alice", "push");
    let joined = person.output(["join", &again]);
    expect(&joined, 0, &["account alice", &server.address, "may: all"]);
    assert_eq!(text(&joined.stdout).trim(), person.repo);
    // This needs the permission admin, which the second token does not give.
    let added = person.command().env("BKFS_NEW_PASSWORD", "another one").args(["key", "add"]).output().unwrap();
    expect(&added, 0, &[]);
}

#[test]
fn joining_again_adds_permissions() {
    let (operator, server) = a_server();
    let person = server.person("alice");
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let other = Person::new();
    expect(&other.output(["join", &server.invite(&operator, "alice", "push")]), 0, &["may: push\n", "push key"]);
    let read = || other.command().env("BKFS_REPOSITORY", &person.repo).args(["cat", "latest:hello"]).output().unwrap();
    expect(&read(), 1, &["no permission"]);
    expect(&other.output(["join", &server.invite(&operator, "alice", "read")]), 0, &["may: push,read"]);
    expect(&read(), 0, &[]);
}

#[test]
fn another_server_at_a_known_address_must_be_confirmed() {
    let (operator, server) = a_server();
    let person = server.person("alice");
    let address = server.address.clone();
    let first = places(&person);
    drop(server);
    let other = Person::new();
    let data = other.path("server");
    other.run(["server", "init", "--data", data.to_str().unwrap(), "--address", &address]);
    let replacing = Server::run(&other, &data, &address);
    let token = replacing.invite(&other, "alice", "all");
    // Off a terminal: an error that shows both fingerprints and says what to do. The token is not used up.
    let refused = person.output(["join", &token]);
    expect(&refused, 1, &[&address, "another server", "known:", "the token:", "--replace-pin"]);
    let known = first.lines().find_map(|line| line.split('"').find(|word| word.len() == 64)).unwrap();
    assert!(text(&refused.stderr).contains(known), "{}", text(&refused.stderr));
    assert_eq!(places(&person), first, "nothing was changed");
    if let Some((code, said)) = terminal::run(&person, &["join", &token], "n\n") {
        assert!(code == 1 && said.contains("known:") && said.contains("nothing was changed"), "{code} {said}");
        let (code, said) = terminal::run(&person, &["join", &token], "\u{3}").unwrap();
        assert!(code == 130, "{code} {said}");
        assert_eq!(places(&person), first, "nothing was changed");
        let (code, said) = terminal::run(&person, &["join", &token], "y\n").unwrap();
        assert!(code == 0 && said.contains("may: all"), "{code} {said}");
    } else {
        println!("skipped: script(1) is missing, so nothing is asked");
    }
    expect(&person.output(["join", &replacing.invite(&other, "alice", "all"), "--replace-pin"]), 0, &[]);
    drop(replacing);
    // The first server is now the stranger.
    let _first = Server::run(&operator, &operator.path("server"), &address);
    expect(&person.output(["snapshots"]), 1, &["not the one"]);
}

fn places(person: &Person) -> String {
    std::fs::read_to_string(person.path("config/places.toml")).unwrap()
}

#[test]
fn invite_and_join_print_one_word_and_explain_it_on_standard_error() {
    let (operator, server) = a_server();
    let args = ["alice", "--can", "push,read", "--quota", "200G", "--valid", "1h"];
    let invited = operate(&operator, "invite", &args);
    expect(&invited, 0, &["alice", "push,read", "200 GiB", "valid until", "bkfs join"]);
    let token = text(&invited.stdout);
    assert!(token.starts_with("bkfs1") && token.split_whitespace().count() == 1, "{token}");
    let quiet = operate(&operator, "invite", &["alice", "-q"]);
    expect(&quiet, 0, &[]);
    assert!(quiet.stderr.is_empty() && text(&quiet.stdout).starts_with("bkfs1"), "{quiet:?}");
    let json = operate(&operator, "invite", &["alice", "--json"]);
    let value: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json.stderr.is_empty() && value["can"] == "push,read" && value["account"] == "alice", "{value}");
    assert!(value["expires"].is_string(), "{value}");

    let person = Person::new();
    let joined = person.output(["join", token.trim()]);
    expect(&joined, 0, &["joined account alice", "fingerprint", "may: push,read", "next:"]);
    assert_eq!(text(&joined.stdout), format!("bkfs://{}/alice\n", server.address));
    let quiet = person.output(["join", "-q", text(&quiet.stdout).trim()]);
    assert!(quiet.stderr.is_empty() && quiet.stdout == joined.stdout, "{quiet:?}");
    let json = person.output(["join", "--json", value["token"].as_str().unwrap()]);
    let value: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json.stderr.is_empty() && value["can"] == "push,read", "{value}");
}

#[test]
fn joining_with_a_key_keeps_the_key_that_is_there() {
    let (operator, server) = a_server();
    let person = server.person("alice");
    let key = person.path("other.key");
    person.run(["key", "export-push", key.to_str().unwrap()]);
    let (token, key) = (server.invite(&operator, "alice", "push"), key.to_str().unwrap().to_owned());
    expect(&person.output(["join", &token, "--push-key", &key]), 1, &["has a push key", "--push-key"]);
    // The token is not used up.
    expect(&person.output(["join", &token]), 0, &["may: all"]);
}

/// Waits until the server's log has a line with all the words, and returns it.
#[track_caller]
pub fn logged(server: &Server, words: &[&str]) -> String {
    let begin = std::time::Instant::now();
    loop {
        let log = server.log();
        if let Some(line) = log.lines().find(|line| words.iter().all(|word| line.contains(word))) {
            return line.to_owned();
        }
        assert!(begin.elapsed().as_secs() < 20, "no line with {words:?} in the log:\n{log}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn the_operator_reads_what_happens() {
    let (operator, server) = a_server();
    let person = server.person("alice");
    make_source(&person.path("src"));
    let started = logged(&server, &["INFO", "the server listens", &server.address]);
    // A time in UTC comes first.
    let time = started.split(' ').next().unwrap();
    assert!(time.starts_with("20") && time.contains('T') && time.ends_with('Z'), "{started}");
    logged(&server, &["INFO", "a client joined", "account=alice", "address=127.0.0.1:", "can=all", "fingerprint="]);
    logged(&server, &["INFO", "a repository was made", "account=alice", "repository=main"]);
    person.push(&person.path("src"));
    let push = logged(&server, &["INFO", "a push was stored", "account=alice", "repository=main", "client=", "packs="]);
    let field = |name: &str| push.split(name).nth(1).unwrap().split(' ').next().unwrap().trim_matches('"').to_owned();
    assert!(field("bytes=").parse::<u64>().unwrap() > 1 << 20, "{push}");
    assert!(field("seconds=").parse::<f64>().unwrap() < 600.0, "{push}");
    person.run(["forget", "latest"]);
    logged(&server, &["INFO", "1 forgotten", "account=alice"]);
    let slot = person.command().env("BKFS_NEW_PASSWORD", "second").args(["key", "add"]).output().unwrap();
    expect(&slot, 0, &[]);
    logged(&server, &["INFO", "passphrase slot", "was added", "account=alice"]);

    // Refusals say from where.
    let stranger = Person::new();
    let token = server.invite(&operator, "alice", "push");
    expect(&stranger.output(["join", &token]), 0, &[]);
    let url = format!("bkfs://{}/alice/second", server.address);
    expect(&stranger.output(["init", "-r", &url]), 1, &["no permission"]);
    let words = ["WARN", "a request was refused", "account=alice", "repository=second", "address=127.0.0.1:", "make a"];
    logged(&server, &words);
    expect(&Person::new().output(["join", &token]), 1, &["used"]);
    logged(&server, &["WARN", "a stranger was refused", "address=127.0.0.1:", "has been used"]);
    let log = operator.path("server.log");
    drop(server);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("the server stops") && log.contains("the server has stopped"), "{log}");
}

#[test]
fn a_stranger_cannot_fill_the_log() {
    let (operator, server) = a_server();
    let (stranger, other) = (Person::new(), server.person("alice"));
    let token = server.invite(&operator, "alice", "push");
    expect(&other.output(["join", &token]), 0, &[]);
    for _ in 0..30 {
        expect(&stranger.output(["join", &token]), 1, &["used"]);
    }
    let count = server.log().matches("a stranger was refused").count();
    assert!((20..=25).contains(&count), "{count}");
}

#[test]
fn the_journal_adds_its_own_times() {
    use std::os::unix::fs::MetadataExt;
    let operator = Person::new();
    expect(&operate(&operator, "init", &[]), 0, &[]);
    // The variable alone says nothing: programs inherit it whose output goes elsewhere.
    for (is_journal, inode) in [(true, 0), (false, 1)] {
        let log = operator.path("journal");
        let file = std::fs::File::create(&log).unwrap();
        let meta = file.metadata().unwrap();
        let mut command = operator.command();
        command.env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino() + inode)).stderr(file);
        command.args(["server", "run", "--listen", "127.0.0.1:0", "--data"]).arg(operator.path("server"));
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains("the server has stopped"), "{log}");
        assert!(log.lines().all(|line| line.trim_start().starts_with("INFO") == is_journal), "{log}");
    }
}

#[test]
fn libraries_are_silent_unless_asked() {
    let (_operator, server) = a_server();
    let person = server.person("alice");
    let verbose = person.output(["-vvv", "snapshots"]);
    expect(&verbose, 0, &[]);
    let words = ["rustls", "quinn", "ciphersuite"];
    let dumps = |text: &str| text.lines().filter(|line| words.iter().any(|word| line.contains(word))).count();
    assert_eq!(dumps(&text(&verbose.stderr)), 0, "{}", text(&verbose.stderr));
    let asked = person.command().env("BKFS_LOG", "rustls=debug").args(["snapshots"]).output().unwrap();
    assert!(dumps(&text(&asked.stderr)) > 0, "{}", text(&asked.stderr));
    let wrong = person.command().env("BKFS_LOG", "bkfs=loud").args(["snapshots"]).output().unwrap();
    expect(&wrong, 0, &["warning: BKFS_LOG is ignored"]);
}

/// A server that listens on all addresses of this machine, of both kinds if there are both, and its port.
fn a_server_everywhere(operator: &Person, addresses: impl Fn(u16) -> String) -> (Server, u16) {
    let all = if has_ipv6() { "[::]" } else { "0.0.0.0" };
    let port = free_port();
    let data = operator.path("server");
    operator.run(["server", "init", "--data", data.to_str().unwrap(), "--address", &addresses(port)]);
    (Server::run(operator, &data, &format!("{all}:{port}")), port)
}

fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn has_ipv6() -> bool {
    let found = std::net::UdpSocket::bind("[::1]:0").is_ok();
    if !found {
        println!("skipped: there is no IPv6, so only IPv4 is tried");
    }
    found
}

fn a_person(token: &str) -> Person {
    let mut person = Person::new();
    person.repo = person.run(["join", token]).trim().to_owned();
    person.run(["init"]);
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    person
}

fn servers(person: &Person) -> Vec<Value> {
    let list: Value = serde_json::from_str(&person.run(["server", "known", "list", "--json"])).unwrap();
    list["servers"].as_array().unwrap().clone()
}

/// Reads a file of the newest snapshot of the repository with this URL.
fn read_at(person: &Person, url: &str) -> Output {
    person.command().env("BKFS_REPOSITORY", url).args(["cat", "latest:hello"]).output().unwrap()
}

#[test]
fn a_server_is_recognised_by_its_certificate_under_any_name() {
    let operator = Person::new();
    let (server, port) = a_server_everywhere(&operator, |port| format!("127.0.0.1:{port}"));
    let person = a_person(&server.invite(&operator, "alice", "all"));
    let mut names = vec!["127.0.0.2", "localhost"];
    if has_ipv6() {
        names.push("[::1]");
    }
    for name in &names {
        let url = format!("bkfs://{name}:{port}/alice");
        let known = format!("{name}:{port} is the server that this machine knows as 127.0.0.1:{port}");
        expect(&read_at(&person, &url), 0, &[&known]);
        let again = read_at(&person, &url);
        expect(&again, 0, &[]);
        assert!(!text(&again.stderr).contains("is the server"), "it is said once: {}", text(&again.stderr));
        let source = person.path("src");
        let args = ["push", "-C", source.to_str().unwrap(), "."];
        expect(&person.command().env("BKFS_REPOSITORY", &url).args(args).output().unwrap(), 0, &[]);
    }
    let list = servers(&person);
    assert!(list.len() == 1 && list[0]["addresses"].as_array().unwrap().len() == 1 + names.len(), "{list:?}");
    assert_eq!(list[0]["repositories"].as_object().unwrap().len(), 1, "{list:?}");

    // A server that this machine does not know is an error, and nothing is remembered.
    let other = Person::new();
    let (_stranger, port) = a_server_everywhere(&other, |port| format!("127.0.0.1:{port}"));
    let refused = read_at(&person, &format!("bkfs://127.0.0.1:{port}/alice"));
    expect(&refused, 1, &["not joined", "none that this machine has joined", "bkfs join", "server known rename"]);
    assert_eq!(servers(&person), list);
    let dead = read_at(&person, &format!("bkfs://127.0.0.1:{}/alice", free_port()));
    expect(&dead, 1, &["not joined", "does not answer", "server known list"]);
    assert_eq!(servers(&person), list);
}

#[test]
fn a_server_moves() {
    let operator = Person::new();
    let (server, old) = a_server_everywhere(&operator, |port| format!("127.0.0.1:{port}"));
    let person = a_person(&server.invite(&operator, "alice", "all"));
    drop(server);
    let new = free_port();
    let (from, to) = (format!("127.0.0.1:{old}"), format!("127.0.0.2:{new}"));
    let set = operate(&operator, "set", &["--address", &to]);
    expect(&set, 0, &[]);
    assert_eq!(text(&set.stdout), format!("invitations will contain {to}\n"));
    expect(&operate(&operator, "set", &["--address", "http://x"]), 1, &["HOST:PORT"]);
    let server = Server::run(&operator, &operator.path("server"), &format!("0.0.0.0:{new}"));
    expect(&read_at(&person, &person.repo), 1, &[&from, "does not answer"]);

    // The client is told. What it knows stays: the certificate, the repository, and what it has seen there.
    let renamed = person.output(["server", "known", "rename", &from, &to]);
    expect(&renamed, 0, &[]);
    assert!(text(&renamed.stdout).contains(&to), "{}", text(&renamed.stdout));
    let url = format!("bkfs://{to}/alice");
    let read = read_at(&person, &url);
    expect(&read, 0, &[]);
    assert!(!text(&read.stderr).contains(&to), "{}", text(&read.stderr));
    let list = servers(&person);
    assert_eq!(list[0]["addresses"], serde_json::json!([to]));
    assert_eq!(list[0]["repositories"].as_object().unwrap().len(), 1);
    let shown = person.run(["server", "known", "list"]);
    assert!(shown.contains(&to) && shown.contains("alice"), "{shown}");
    expect(&person.output(["server", "known", "rename", &from, &to]), 1, &["knows no server at", "server known list"]);
    // Invitations have the new address.
    let other = Person::new();
    assert_eq!(other.run(["join", &server.invite(&operator, "alice", "push")]).trim(), url);
}

#[test]
fn several_addresses_are_tried_in_order() {
    let operator = Person::new();
    let dead = free_port();
    let (server, port) = a_server_everywhere(&operator, |port| format!("127.0.0.1:{dead},localhost:{port}"));
    let person = a_person(&server.invite(&operator, "alice", "all"));
    // The address that answered is the one in the URL, and the first from now on.
    assert_eq!(person.repo, format!("bkfs://localhost:{port}/alice"));
    assert_eq!(
        servers(&person)[0]["addresses"],
        serde_json::json!([format!("localhost:{port}"), format!("127.0.0.1:{dead}")])
    );
    // A URL with the other address reaches the server, too, and so does one that never answered.
    expect(&read_at(&person, &format!("bkfs://127.0.0.1:{dead}/alice")), 0, &[]);
    // One token can have other addresses.
    let given = format!("127.0.0.2:{port},127.0.0.1:{port}");
    let invited = operate(&operator, "invite", &["alice", "--address", &given]);
    expect(&invited, 0, &[&given]);
    let joined = Person::new().run(["join", text(&invited.stdout).trim()]);
    assert_eq!(joined.trim(), format!("bkfs://127.0.0.2:{port}/alice"));
    let json = text(&operate(&operator, "invite", &["alice", "--json"]).stdout);
    assert!(json.contains(&format!("127.0.0.1:{dead},localhost:{port}")), "{json}");
    expect(&operate(&operator, "invite", &["alice", "--address", "a,b,c,d,e,f,g,h,i"]), 1, &["at most 8"]);
}

#[test]
fn a_second_server_on_a_folder_says_so() {
    let (operator, server) = a_server();
    let data = operator.path("server");
    let listen = format!("127.0.0.1:{}", free_port());
    let second = operate(&operator, "run", &["--listen", &listen]);
    let process = format!("process {}", server.id());
    expect(&second, 1, &["another server runs on", data.to_str().unwrap(), &process, &server.address]);
    // The operator's other commands work meanwhile.
    expect(&operate(&operator, "invite", &["alice"]), 0, &[]);
    expect(&operate(&operator, "set", &["--address", &server.address]), 0, &[]);
    // A server that was killed is no obstacle.
    crate::network::kill(&server);
    let address = server.address.clone();
    drop(server);
    let _again = Server::run(&operator, &data, &address);
}

#[test]
fn a_client_without_servers_is_told_how_to_get_one() {
    let person = Person::new();
    let list = person.output(["server", "known", "list"]);
    expect(&list, 0, &["knows no server", "bkfs join"]);
    assert!(list.stdout.is_empty());
    expect(&person.output(["server", "known", "rename", "bkfs://a:1/alice", "b:1"]), 1, &["knows no server at a:1"]);
}
