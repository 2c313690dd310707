//! Signals: every one that ends a program ends this one cleanly, and its parent sees which it was.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    common::program::{Person, Server, cannot_mount},
    expect, files, make_source, noise, text,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Signals that end a program, and those that a terminal, a service manager, `timeout` and a limit send.
const SIGNALS: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::XCPU,
    Signal::POWER,
];

/// Returns the command that runs the program with the default action for every signal, whatever ignores them here, and
/// without core files.
fn command(person: &Person) -> Command {
    with_prelude(person, "ulimit -c 0; exec env --default-signal \"$@\"")
}

fn with_prelude(person: &Person, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_bkfs")]).stdin(Stdio::null());
    for (name, value) in person.command().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits until `ready`, or until the program has ended, and returns whether it still runs.
fn runs_until(child: &mut Child, ready: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if ready() {
            return true;
        }
        assert!(begin.elapsed() < PATIENCE, "the program is not ready");
    }
    false
}

fn ended_by(status: ExitStatus, signal: Signal) {
    assert!(is_by(status, signal), "{status} after {signal:?}");
}

/// Returns whether a program was ended by the signal, or exited as a shell shows that.
fn is_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal.as_raw()) || status.code() == Some(128 + signal.as_raw())
}

/// Returns the names of temporary files below a folder.
fn partial(folder: &Path) -> Vec<String> {
    let output = Command::new("find").arg(folder).args(["-name", "*.partial"]).output().unwrap();
    text(&output.stdout).lines().map(ToOwned::to_owned).collect()
}

fn with_large_files() -> Person {
    let person = Person::with_repo();
    let source = person.path("src");
    for folder in 0..4u64 {
        fs::create_dir_all(source.join(format!("{folder}"))).unwrap();
        for file in 0..3 {
            fs::write(source.join(format!("{folder}/{file}")), noise(folder * 10 + file, 6_000_000)).unwrap();
        }
    }
    person.push(&source);
    person
}

/// Starts a restore, and sends a signal when files are being written. Returns how it ended.
fn restore_and_signal(mut command: Command, dest: &Path, signal: Signal) -> ExitStatus {
    // A fast machine may be done before the signal arrives.
    for _ in 0..50 {
        let _ = fs::remove_dir_all(dest);
        let mut child = command.args(["restore", "latest"]).arg(dest).stderr(Stdio::null()).spawn().unwrap();
        if runs_until(&mut child, || !partial(dest).is_empty()) {
            send(&child, signal);
            let status = child.wait().unwrap();
            if !status.success() || signal == Signal::HUP {
                return status;
            }
        }
    }
    panic!("every restore ended before its signal");
}

#[test]
fn a_restore_ends_by_the_signal_and_leaves_no_partial_files() {
    let person = with_large_files();
    let dest = person.path("out");
    for signal in SIGNALS {
        ended_by(restore_and_signal(command(&person), &dest, signal), signal);
        assert_eq!(partial(&dest), [""; 0], "{signal:?}");
    }
    // It continues, and takes the sign away that it was not finished.
    person.run(["restore".as_ref(), "latest".as_ref(), dest.as_os_str()]);
    let difference = Command::new("diff").arg("-r").args([&person.path("src"), &dest]).output().unwrap();
    assert!(difference.status.success(), "{}", text(&difference.stdout));
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let person = with_large_files();
    let dest = person.path("out");
    let nohup = with_prelude(&person, "trap '' HUP; exec \"$@\"");
    assert!(restore_and_signal(nohup, &dest, Signal::HUP).success());
    assert_eq!(files(&dest).len(), 12);
}

#[test]
fn a_push_and_a_prune_end_by_the_signal_and_harm_nothing() {
    let person = with_large_files();
    let source = person.path("src");
    for (round, signal) in SIGNALS.into_iter().enumerate() {
        fs::write(source.join("new"), noise(100 + round as u64, 8_000_000)).unwrap();
        for args in [&["push", "-C", source.to_str().unwrap(), "."][..], &["prune", "--yes", "--max-unused", "0"]] {
            let mut child = command(&person).args(args).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(30 * (1 + round as u64 % 5)));
            send(&child, signal);
            let status = child.wait().unwrap();
            // Before it catches signals, and after its work is done, it ends as it would anyway.
            assert!(status.success() || is_by(status, signal), "{args:?}: {status}");
        }
    }
    person.push(&source);
    person.run(["check", "--read-data"]);
}

#[test]
fn a_mount_ends_with_every_signal() {
    if let Some(why) = cannot_mount() {
        crate::skip!("{why}");
    }
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let point = person.path("mount");
    fs::create_dir(&point).unwrap();
    let is_mounted = || fs::read_to_string("/proc/self/mountinfo").unwrap().contains(point.to_str().unwrap());
    for signal in SIGNALS {
        let mut child = command(&person).arg("mount").arg(&point).stderr(Stdio::null()).spawn().unwrap();
        assert!(runs_until(&mut child, is_mounted), "the mount ended");
        send(&child, signal);
        let status = child.wait().unwrap();
        // A user ends a mount with one of these, a terminal or a service manager with another.
        match [Signal::HUP, Signal::INT, Signal::TERM].contains(&signal) {
            true => assert_eq!(status.code(), Some(0), "{signal:?}"),
            false => ended_by(status, signal),
        }
        assert!(!is_mounted(), "{signal:?}");
        assert_eq!(fs::read_dir(&point).unwrap().count(), 0);
    }
}

#[test]
fn a_mount_in_the_background_ends_with_a_signal() {
    if let Some(why) = cannot_mount() {
        crate::skip!("{why}");
    }
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let (point, helper) = (person.path("mount"), person.path("mount.bkfs"));
    fs::create_dir(&point).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bkfs"), &helper).unwrap();
    let is_mounted = || fs::read_to_string("/proc/self/mountinfo").unwrap().contains(point.to_str().unwrap());
    for (is_helper, signal) in [(false, Signal::HUP), (false, Signal::USR1), (true, Signal::HUP), (true, Signal::TERM)]
    {
        let output = match is_helper {
            false => person.output(["mount".as_ref(), "--background".as_ref(), point.as_os_str()]),
            true => {
                let mut command = Command::new(&helper);
                person.command().get_envs().for_each(|(name, value)| {
                    value.map(|value| command.env(name, value));
                });
                command.arg(&person.repo).arg(&point).output().unwrap()
            }
        };
        expect(&output, 0, &[]);
        // The process that has the mountpoint in its arguments.
        let list = Command::new("pgrep").args(["-f", &format!("is-child.*{}", point.display())]).output().unwrap();
        let pid: i32 = text(&list.stdout).trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        let begin = Instant::now();
        while is_mounted() {
            assert!(begin.elapsed() < PATIENCE, "it stays mounted after {signal:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(fs::read_dir(&point).unwrap().count(), 0);
    }
}

#[test]
fn a_server_ends_with_an_interrupt_and_not_with_a_hangup() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let data = operator.path("server");
    let address = server.address.clone();
    drop(server);
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = command(&operator)
            .args(["server", "run", "--listen", &address, "--data"])
            .arg(&data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert!(lines.next().unwrap().unwrap().starts_with("listening on"));
        send(&child, Signal::HUP);
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_scrub_of_one_repository_ends_by_the_signal() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let person = server.person("alice");
    fs::create_dir(person.path("src")).unwrap();
    fs::write(person.path("src/large"), noise(1, 8_000_000)).unwrap();
    person.push(&person.path("src"));
    drop(server);
    let child = command(&operator)
        .args(["server", "scrub", "--rate", "1M", "--data"])
        .arg(operator.path("server"))
        .arg("alice")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    send(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    ended_by(output.status, Signal::INT);
    assert!(text(&output.stdout).contains("not finished"), "what was found so far is shown: {}", text(&output.stdout));
}
