//! A server that stops, dies and comes back while clients push.

use std::{
    fs::{self, File},
    net::UdpSocket,
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal};

use crate::{
    common::program::{Person, Server},
    expect, noise, packs, text,
};

fn signal(id: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
}

/// Makes a source that takes a while to push.
fn make_source(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for i in 0..32 {
        fs::write(dir.join(format!("file-{i}")), noise(i + 10, 4 << 20)).unwrap();
    }
}

/// Starts a push that logs what happens to its connection, and waits until the server has stored a part of it.
fn begin_push(person: &Person, data: &Path) -> Child {
    let source = person.path("src");
    make_source(&source);
    let mut command = person.command();
    command.args(["push", "-C"]).arg(&source).arg(".").env("BKFS_LOG", "bkfs_transport=debug");
    let child = command.stdout(Stdio::null()).stderr(File::create(person.path("push.err")).unwrap()).spawn().unwrap();
    while packs(data).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Asserts that a push has gone on to its end. Returns what it logged.
#[track_caller]
fn expect_whole(person: &Person, push: Child) -> String {
    let status = push.wait_with_output().unwrap().status;
    let log = fs::read_to_string(person.path("push.err")).unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    let (source, out) = (person.path("src"), person.path("out"));
    person.run(["restore", "latest", out.to_str().unwrap()]);
    let compare = Command::new("diff").arg("-r").args([&source, &out]).output().unwrap();
    assert!(compare.status.success(), "{}", text(&compare.stdout));
    log
}

#[test]
fn a_push_goes_on_through_a_server_that_is_stopped_and_started() {
    let operator = Person::new();
    let (server, data) = (Server::start(&operator, &operator.path("server")), operator.path("server"));
    let (person, address) = (server.person("alice"), server.address.clone());
    let push = begin_push(&person, &data);
    signal(server.id(), Signal::TERM);
    drop(server);
    let server = Server::run(&operator, &data, &address);
    let log = expect_whole(&person, push);
    assert!(log.contains("the server stops or restarts"), "it was told: {log}");
    assert!(!log.contains("timed out"), "{log}");
    assert!(!server.log().contains("were cut off"), "{}", server.log());
}

#[test]
fn a_push_goes_on_through_a_server_that_was_killed_and_away_for_a_while() {
    let operator = Person::new();
    let (server, data) = (Server::start(&operator, &operator.path("server")), operator.path("server"));
    let (person, address) = (server.person("alice"), server.address.clone());
    let push = begin_push(&person, &data);
    signal(server.id(), Signal::KILL);
    drop(server);
    // By now QUIC's probes come so rarely that the next one could be long in coming.
    std::thread::sleep(Duration::from_secs(6));
    let _server = Server::run(&operator, &data, &address);
    let log = expect_whole(&person, push);
    // Either the server resets the old connection, or the client finds it by a new one. Neither waits for a timeout.
    assert!(log.contains("reset by peer") || log.contains("answers on a new connection"), "{log}");
    assert!(!log.contains("timed out"), "{log}");
}

/// Runs a server on a socket that stays open here, as a service manager does it.
fn run_on(socket: &UdpSocket, operator: &Person, data: &Path) -> Child {
    let program = operator.command();
    let mut shell = Command::new("sh");
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    shell.args(["-c", script, "sh"]).arg(program.get_program()).args(["server", "run", "--data"]).arg(data);
    let log = File::options().create(true).append(true).open(operator.path("server.log")).unwrap();
    shell.stdin(OwnedFd::from(socket.try_clone().unwrap())).stdout(Stdio::null()).stderr(log);
    shell.spawn().unwrap()
}

#[test]
fn a_server_listens_on_the_socket_that_it_is_passed_and_clients_wait_there() {
    let operator = Person::new();
    let data = operator.path("server");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    operator.run(["server", "init", "--data", data.to_str().unwrap(), "--address", &address]);
    let mut first = run_on(&socket, &operator, &data);
    let mut person = Person::new();
    let token = operator.run(["server", "invite", "--data", data.to_str().unwrap(), "alice", "--can", "all"]);
    person.repo = person.run(["join", token.trim()]).trim().to_owned();
    person.run(["init"]);
    let push = begin_push(&person, &data);
    signal(first.id(), Signal::TERM);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    let mut second = run_on(&socket, &operator, &data);
    expect_whole(&person, push);
    signal(second.id(), Signal::TERM);
    assert_eq!(second.wait().unwrap().code(), Some(0));
}

#[test]
fn a_server_refuses_a_socket_that_is_not_udp() {
    let operator = Person::new();
    let data = operator.path("server");
    operator.run(["server", "init", "--data", data.to_str().unwrap()]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let program = operator.command();
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    let output: Output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(program.get_program())
        .args(["server", "run", "--data"])
        .arg(&data)
        .stdin(OwnedFd::from(listener))
        .output()
        .unwrap();
    expect(&output, 1, &["not a UDP socket"]);
}
