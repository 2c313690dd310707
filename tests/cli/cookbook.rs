//! Runs every command of `docs/COOKBOOK.md`, task by task, in a sandbox.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::{noise, text};
use crate::common::program::{Person, cannot_mount};

const PAGE: &str = include_str!("../../docs/COOKBOOK.md");

/// What a task's script begins with. A server is started in the background, and everything ends with the script.
const PREAMBLE: &str = r#"
set -euo pipefail
started=()
trap 'for pid in "${started[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" || true; done' EXIT
serve() {
  "$@" > server-log 2>&1 &
  started+=($!)
  for _ in $(seq 300); do grep -q "^listening on" server-log && return 0; sleep 0.1; done
  cat server-log >&2
  return 1
}
"#;

/// A block of commands, and the machine that it runs on.
struct Block {
    machine: String,
    commands: String,
}

/// The blocks of a task.
fn blocks(number: usize) -> Vec<Block> {
    let begin = PAGE.find(&format!("\n## {number}. ")).unwrap_or_else(|| panic!("task {number} is missing"));
    let task = &PAGE[begin + 1..];
    let task = &task[..task.find("\n## ").unwrap_or(task.len())];
    let mut blocks = Vec::new();
    for part in task.split("```sh").skip(1) {
        let (machine, rest) = part.split_once('\n').unwrap();
        let machine = if machine.trim().is_empty() { "laptop" } else { machine.trim() };
        let commands = rest.split("```").next().unwrap();
        blocks.push(Block { machine: machine.to_owned(), commands: commands.to_owned() });
    }
    assert!(!blocks.is_empty(), "task {number} has no commands");
    blocks
}

/// Runs tasks one after another in a sandbox, and then `check`, which is a script as well.
fn run(tasks: &[usize], check: &str) {
    let person = Person::new();
    let dir = person.dir.path();
    let alice = dir.join("alice");
    fs::create_dir_all(alice.join("letters")).unwrap();
    fs::create_dir_all(alice.join("www")).unwrap();
    fs::write(alice.join("letters/to-bob"), "Dear Bob\n").unwrap();
    fs::write(alice.join("www/index.html"), "<p>hello</p>\n").unwrap();
    fs::write(alice.join("machine.img"), noise(1, 3 << 20)).unwrap();
    for version in ["old-1", "old-2"] {
        fs::create_dir_all(alice.join(version)).unwrap();
        fs::write(alice.join(version).join("file"), version).unwrap();
    }
    for folder in ["usb", "srv", "mnt", "bin", "work"] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    // In place of a database.
    let dump = "#!/bin/sh\nprintf 'dump of %s\\n' \"$1\"\n";
    fs::write(dir.join("bin/pg_dump"), dump).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(dir.join("bin/pg_dump")).status().unwrap().success());
    let free = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap();
    let places: BTreeMap<&str, String> = [
        ("/media/usb", at(dir, "usb")),
        ("/home/alice", at(dir, "alice")),
        ("/srv/bkfs", at(dir, "srv/bkfs")),
        ("/mnt/b", at(dir, "mnt")),
        ("backup.example.org:7443", free.to_string()),
        ("--yes laptop", format!("--yes {}", person.host())),
        ("bkfs server run", "serve bkfs server run".to_owned()),
    ]
    .into();
    let mut script = PREAMBLE.to_owned();
    for block in tasks.iter().flat_map(|number| blocks(*number)) {
        let home = dir.join(format!("machine-{}", block.machine));
        fs::create_dir_all(&home).unwrap();
        script += &format!("export HOME='{}'\n{}\n", home.display(), block.commands);
    }
    script += check;
    for (there, here) in &places {
        script = script.replace(there, here);
    }
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BKFS_")) {
        command.env_remove(name);
    }
    let program = Path::new(env!("CARGO_BIN_EXE_bkfs")).parent().unwrap();
    let path = format!("{}:{}:{}", dir.join("bin").display(), program.display(), std::env::var("PATH").unwrap());
    let output = command
        .args(["-c", &script])
        .current_dir(dir.join("work"))
        .env("PATH", path)
        .env("BKFS_PASSWORD", "correct horse battery staple")
        .env("XDG_RUNTIME_DIR", dir.join("runtime"))
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_CACHE_HOME")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "tasks {tasks:?}: {}\n{script}\n--- printed\n{out}\n--- errors\n{err}",
        output.status
    );
}

fn at(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_laptop_and_a_disk() {
    run(&[1], "test -s sheet\nbkfs cat -r /media/usb/backup latest:/home/alice/letters/to-bob | grep -q Bob\n");
}

#[test]
fn a_machine_of_your_own_and_a_server_that_can_only_push() {
    let check = "export HOME=/home/alice/../machine-laptop\nbkfs cat --target web latest:/home/alice/www/index.html | \
                 grep -q hello\nexport HOME=/home/alice/../machine-web\n\
                 if bkfs snapshots 2>/dev/null; then exit 9; fi\n";
    run(&[2, 3], check);
}

#[test]
fn a_database() {
    run(&[4], "grep -q 'dump of shop' shop.sql\n");
}

#[test]
fn a_disk_image() {
    run(&[5], "bkfs cat -r /media/usb/backup latest:/home/alice/machine.img | cmp - /home/alice/machine.img\n");
}

#[test]
fn the_first_restore() {
    if let Some(reason) = cannot_mount() {
        println!("skipped: {reason}");
        return;
    }
    run(&[6], "grep -q Bob letters-restored/to-bob\n");
}

#[test]
fn one_file_as_it_was() {
    run(&[7], "grep -q Bob /home/alice/letters/to-bob\n");
}

#[test]
fn a_lost_laptop() {
    let check = "grep -q Bob /home/alice/back/letters/to-bob\nexport HOME=/home/alice/../machine-laptop\n\
                 if bkfs push /home/alice/letters 2>/dev/null; then exit 9; fi\n";
    run(&[2, 8], check);
}

#[test]
fn a_second_disk() {
    run(&[9], "bkfs cat -r /media/usb/second latest:/home/alice/letters/to-bob | grep -q Bob\n");
}

#[test]
fn moving_from_another_program() {
    run(&[10], "test $(bkfs snapshots -r /media/usb/backup --json | grep -c '\"id\"') = 2\n");
}

#[test]
fn protected_all_the_time() {
    run(&[11], "wait $watch\nbkfs cat -r /media/usb/backup latest:/home/alice/letters/new | grep -q 'seconds ago'\n");
}

#[test]
fn before_an_upgrade_and_every_month() {
    run(&[12], "test $(bkfs snapshots -r /media/usb/backup --json | grep -c '\"id\"') = 2\n");
}

#[test]
fn every_task_is_run() {
    let tasks = PAGE.lines().filter(|line| line.starts_with("## ")).count();
    assert_eq!(tasks, 12);
    (1..=tasks).for_each(|number| drop(blocks(number)));
}
