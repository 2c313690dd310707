//! Where secrets do not stay: the environment of programs that live long, that of commands that bkfs runs, and the
//! arguments of a program.

use std::{fs, io::Write, process::Stdio};

use crate::{
    common::program::{Person, Server, cannot_mount},
    expect, make_source, skip, text,
};

/// The environment with which each running mount of a folder began.
fn environments(mountpoint: &str) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let read = |name: &str| fs::read(process.path().join(name)).unwrap_or_default();
        let line = text(&read("cmdline"));
        if line.starts_with("bkfs\0mount") && line.contains(mountpoint) {
            found.push(text(&read("environ")));
        }
    }
    found
}

#[test]
fn a_mount_does_not_keep_the_passphrase_in_its_environment() {
    if let Some(reason) = cannot_mount() {
        skip!("{reason}");
    }
    if !rustix::process::geteuid().is_root() {
        skip!("only root can read the environment of a mount");
    }
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let point = person.path("background");
    fs::create_dir(&point).unwrap();
    let point = point.to_str().unwrap();
    person.run(["mount", "--background", point]);
    let found = environments(point);
    let hello = fs::read_to_string(format!("{point}/latest/hello"));
    let status = std::process::Command::new("umount").arg(point).status().unwrap();
    assert_eq!((hello.unwrap().as_str(), status.success()), ("hello\n", true));
    assert_eq!(found.len(), 1, "one mount");
    assert!(!found[0].contains("correct horse"), "{}", found[0]);
    // One in the foreground as well.
    let mount = person.mount(&[]);
    let environ = text(&fs::read(format!("/proc/{}/environ", mount.id())).unwrap());
    assert!(environ.contains("BKFS_CONFIG_DIR") && !environ.contains("correct horse"), "{environ}");
}

#[test]
fn a_command_that_prints_a_passphrase_gets_no_other_one() {
    let person = Person::with_repo();
    let seen = person.path("seen");
    let command = format!("env > '{}'; echo another passphrase", seen.display());
    let added = person.command().env("BKFS_NEW_PASSWORD_COMMAND", command).args(["key", "add"]).output().unwrap();
    expect(&added, 0, &[]);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("BKFS_CONFIG_DIR") && !seen.contains("correct horse"), "{seen}");
}

#[test]
fn a_process_with_keys_writes_no_core_dump() {
    let person = Person::with_repo();
    let limits = person.path("limits");
    // The command runs as a child of the process that opens the key, and inherits its limits.
    let command = format!("cat /proc/self/limits > '{}'; echo another passphrase", limits.display());
    let added = person.command().env("BKFS_NEW_PASSWORD_COMMAND", command).args(["key", "add"]).output().unwrap();
    expect(&added, 0, &[]);
    let limits = fs::read_to_string(limits).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

#[test]
fn a_token_can_come_from_standard_input() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let token = server.invite(&operator, "alice", "all");
    let person = Person::new();
    let join = |input: &str| {
        let mut child = (person.command().args(["join", "-"]).stdin(Stdio::piped()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    expect(&join("\n"), 1, &["standard input holds no token", "bkfs join - <"]);
    let joined = join(&format!("{token}\n"));
    expect(&joined, 0, &[]);
    assert!(text(&joined.stdout).contains(&server.address));
}

#[test]
fn keys_of_a_mount_are_not_swapped_out() {
    if let Some(reason) = cannot_mount() {
        skip!("{reason}");
    }
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let mount = person.mount(&[]);
    let status = fs::read_to_string(format!("/proc/{}/status", mount.id())).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("the kernel says what is locked");
    let kib: u64 = locked.split_ascii_whitespace().next().unwrap().parse().unwrap();
    // Pages for secrets only: neither none, nor all of the memory.
    assert!((16..=256).contains(&kib), "{kib} KiB are locked");
}
