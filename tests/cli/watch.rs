//! `bkfs watch` as people and service managers run it.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{expect, network, source::SmallDisk};
use crate::common::{
    json_doc,
    program::{Person, Server},
};

/// How long a push may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running watch.
struct Watching {
    child: Child,
    lines: Receiver<Value>,
    errors: Option<std::thread::JoinHandle<String>>,
}

impl Watching {
    /// Starts a watch that pushes soon, and prints JSON.
    fn start(person: &Person, args: &[&str], source: &Path) -> Self {
        let mut command = person.command();
        command.args(["watch", "--json", "--settle", "1s", "--at-least", "0s", "--at-most", "3s"]);
        command.args(args).arg(source);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                json_doc::check_line("watch", &line);
                let _ = send.send(serde_json::from_str(&line).unwrap());
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, lines, errors: Some(errors) }
    }

    /// Waits for the next event that passes.
    #[track_caller]
    fn expect(&mut self, passes: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut seen = Vec::new();
        while let Ok(event) = self.lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            if passes(&event) {
                return event;
            }
            seen.push(event);
        }
        let _ = self.child.kill();
        panic!("the event did not come, but {seen:#?}\n{}", self.errors.take().unwrap().join().unwrap());
    }

    #[track_caller]
    fn snapshot(&mut self) -> Value {
        self.expect(|event| event["event"] == "snapshot")
    }

    /// Whether nothing is told for a while.
    fn is_silent_for(&self, time: Duration) -> bool {
        self.lines.recv_timeout(time).is_err()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends the watch as a service manager does, and returns how it ended and what it wrote.
    fn end(mut self) -> (ExitStatus, String) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().unwrap();
        (status, self.errors.take().unwrap().join().unwrap())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn person_with_source() -> (Person, PathBuf) {
    let person = Person::with_repo();
    let source = person.path("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("hello"), "hello\n").unwrap();
    fs::write(source.join("sub/other"), "other\n").unwrap();
    (person, source)
}

/// Asserts that the newest snapshot holds what the source holds.
#[track_caller]
fn assert_current(person: &Person, source: &Path) {
    let copy = person.path("copy");
    person.run(["restore", &person.newest(), copy.to_str().unwrap()]);
    let held = copy.join(source.strip_prefix("/").unwrap());
    let differences = Command::new("diff").args(["-r"]).arg(source).arg(held).output().unwrap();
    assert!(differences.status.success(), "{}", String::from_utf8_lossy(&differences.stdout));
    fs::remove_dir_all(copy).unwrap();
}

fn states(person: &Person) -> Vec<Value> {
    let read = |entry: fs::DirEntry| serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
    fs::read_dir(person.path("config/watches")).unwrap().map(|entry| read(entry.unwrap())).collect()
}

#[test]
fn changes_are_pushed_and_a_signal_takes_the_last_of_them() {
    for method in ["auto", "inotify"] {
        let (person, source) = person_with_source();
        let mut watching = Watching::start(&person, &["--method", method], &source);
        let first = watching.snapshot();
        assert!(first["looked_at_everything"] == true && first["files"] == 2, "{first}");
        fs::write(source.join("sub/other"), "changed\n").unwrap();
        fs::create_dir_all(source.join("new/deep")).unwrap();
        fs::write(source.join("new/deep/file"), "new\n").unwrap();
        let second = watching.snapshot();
        assert!(second["looked_at_everything"] == false, "{second}");
        // They may have come in two parts.
        while second["files"] != 3 && !watching.is_silent_for(Duration::from_secs(3)) {}
        assert_current(&person, &source);
        assert_eq!(states(&person)[0]["unprotected_since"], Value::Null);
        fs::write(source.join("hello"), "at the last moment\n").unwrap();
        let (status, errors) = watching.end();
        assert!(status.success() && errors.is_empty(), "{status} {errors}");
        assert_current(&person, &source);
        let state = &states(&person)[0];
        assert!(state["ended"] == true && state["unprotected_since"].is_null(), "{state}");
        let list: Value = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
        assert!(list.as_array().unwrap().iter().all(|snapshot| snapshot["tags"][0] == "watch"));
    }
}

#[test]
fn what_the_pushes_write_themselves_is_not_pushed_again_and_again() {
    let (person, source) = person_with_source();
    // The configuration, the cache and the repository are below the folder that is watched.
    let mut watching = Watching::start(&person, &[], person.dir.path());
    watching.snapshot();
    fs::write(source.join("hello"), "changed\n").unwrap();
    watching.snapshot();
    assert!(watching.is_silent_for(Duration::from_secs(6)));
    assert!(watching.end().0.success());
}

#[test]
fn nothing_is_forgotten_while_the_server_is_away() {
    let (_keeper, server, person) = network::pushed();
    let source = person.path("watched");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), "a\n").unwrap();
    let mut watching = Watching::start(&person, &[], &source);
    watching.snapshot();
    network::kill(&server);
    let (data, address) = (server.data().to_owned(), server.address.clone());
    fs::write(source.join("b"), "b\n").unwrap();
    let failed = watching.expect(|event| event["event"] == "failed");
    assert!(failed["error"].as_str().is_some_and(|error| !error.is_empty()), "{failed}");
    fs::write(source.join("c"), "c\n").unwrap();
    let state = states(&person).into_iter().find(|state| state["error"].is_string()).unwrap();
    assert!(state["unprotected_since"].is_u64(), "{state}");
    drop(server);
    let keeper = Person::new();
    let _server = Server::run(&keeper, &data, &address);
    let back = watching.snapshot();
    assert!(back["files"] == 3 && back["looked_at_everything"] == false, "{back}");
    assert_current(&person, &source);
    let (status, errors) = watching.end();
    assert!(status.success() && errors.contains("nothing was pushed, and it is tried again"), "{errors}");
}

#[test]
fn a_hangup_looks_at_everything_and_makes_no_needless_snapshot() {
    let (person, source) = person_with_source();
    // Without the folders above, which others change.
    let mut watching = Watching::start(&person, &["-C", source.to_str().unwrap()], Path::new("."));
    watching.snapshot();
    watching.signal(rustix::process::Signal::HUP);
    let event = watching.expect(|event| event["looked_at_everything"] == true);
    assert!(event["event"] == "unchanged" && event["snapshot"].is_null(), "{event}");
}

#[test]
fn what_the_kernel_does_not_watch_is_scanned_at_an_interval() {
    let (person, source) = person_with_source();
    for folder in 0..10 {
        fs::create_dir(source.join(format!("d{folder}"))).unwrap();
    }
    // Limits of a user are those of its namespace.
    let limit = "echo 3 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
    let can = Command::new("unshare").args(["-Ur", "sh", "-c", limit, "sh", "true"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        println!("skipped: user namespaces cannot be made here");
        return;
    }
    let plain = person.command();
    let mut command = Command::new("unshare");
    command.args(["-Ur", "sh", "-c", limit, "sh"]).arg(plain.get_program());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["watch", "--json", "--method", "inotify", "--settle", "1s", "--at-least", "0s"]);
    command.args(["--rescan-unwatched", "2s"]).arg(&source);
    let mut watching = Watching::spawn(command);
    let first = watching.snapshot();
    let unwatched = first["unwatched"].as_array().unwrap();
    let is_about_limit = |part: &Value| part["reason"].as_str().unwrap().contains("max_user_watches");
    assert!(!unwatched.is_empty() && unwatched.iter().all(is_about_limit), "{first}");
    fs::write(source.join("d9/new"), "new\n").unwrap();
    let found = watching.expect(|event| event["files"] == 3);
    assert_eq!(found["event"], "snapshot");
    assert!(watching.end().1.contains("not watched"));
}

#[test]
fn a_watch_waits_while_the_network_is_metered() {
    let (person, source) = person_with_source();
    // In place of the bus on which NetworkManager would answer.
    let (bin, answer) = (person.path("bin"), person.path("answer"));
    fs::create_dir(&bin).unwrap();
    fs::write(&answer, "u 1\n").unwrap();
    fs::write(bin.join("busctl"), format!("#!/bin/sh\ncat '{}'\n", answer.display())).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(bin.join("busctl")).status().unwrap().success());
    let mut command = person.command();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).args(["watch", "--json", "--skip-on-metered", "--settle", "0s", "--at-least", "0s"]);
    command.arg(&source);
    let mut watching = Watching::spawn(command);
    assert!(watching.is_silent_for(Duration::from_secs(3)));
    fs::write(&answer, "u 2\n").unwrap();
    watching.snapshot();
}

#[test]
fn two_hundred_changes_a_second_are_kept_up_with() {
    for method in ["auto", "inotify"] {
        let (person, source) = person_with_source();
        let mut watching = Watching::start(&person, &["--method", method], &source);
        watching.snapshot();
        let begun = Instant::now();
        let mut pushes = 0;
        for i in 0..1600u32 {
            let path = source.join(format!("sub/f{}", i % 150));
            match i % 9 {
                0 => drop(fs::remove_file(path)),
                1 => drop(fs::rename(path, source.join(format!("sub/g{}", i % 40)))),
                _ => fs::write(path, format!("{i} {}", "x".repeat(i as usize))).unwrap(),
            }
            while let Ok(event) = watching.lines.try_recv() {
                assert_eq!(event["event"], "snapshot", "{event}");
                pushes += 1;
            }
            std::thread::sleep((begun + Duration::from_millis(5) * i).saturating_duration_since(Instant::now()));
        }
        assert!(pushes >= 1, "changes that never settle are pushed all the same");
        let (status, errors) = watching.end();
        assert!(status.success() && errors.is_empty(), "{status} {errors}");
        assert_current(&person, &source);
    }
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let (person, source) = person_with_source();
    let source = source.to_str().unwrap();
    expect(&person.output(["watch", "--at-most", "0s", source]), 1, &["--at-most is 0", "at least 1s"]);
    expect(&person.output(["watch", "/nonexistent"]), 1, &["/nonexistent", "nothing was pushed"]);
    expect(&person.output(["watch", "--exclude-file", "/nonexistent", source]), 1, &["/nonexistent"]);
    expect(&person.output(["watch", "--settle", "soon", source]), 1, &["soon"]);
    expect(&person.output(["watch", "-r", "/nonexistent/repo", source]), 10, &["/nonexistent/repo"]);
    let mut stranger = person.command();
    stranger.env("BKFS_CONFIG_DIR", person.path("none")).env("BKFS_PASSWORD", "wrong").args(["watch", source]);
    expect(&stranger.output().unwrap(), 12, &["passphrase"]);
}

#[test]
fn a_hangup_reads_the_profile_again() {
    let (person, source) = person_with_source();
    let profile = |exclude: &str| {
        let text = format!(
            "[profile.home]\nrepositories = {:?}\nsources = {:?}\n[profile.home.exclude]\npatterns = {exclude}\n\
             [profile.home.watch]\nsettle = \"1s\"\nat-least = \"0s\"\n",
            person.repo, source
        );
        fs::write(person.path("config/home.toml"), text).unwrap();
    };
    profile("[]");
    let mut command = person.command();
    command.env_remove("BKFS_REPOSITORY").args(["watch", "--json", "-P", "home"]);
    let mut watching = Watching::spawn(command);
    assert_eq!(watching.snapshot()["files"], 2);
    // A profile that is wrong changes nothing.
    profile("[");
    watching.signal(rustix::process::Signal::HUP);
    fs::write(source.join("third"), "third\n").unwrap();
    watching.expect(|event| event["files"] == 3);
    profile("[\"hello\"]");
    watching.signal(rustix::process::Signal::HUP);
    let event = watching.expect(|event| event["files"] == 2);
    assert!(event["event"] == "snapshot" && event["looked_at_everything"] == true, "{event}");
    fs::write(source.join("hello"), "excluded\n").unwrap();
    assert!(watching.is_silent_for(Duration::from_secs(3)));
    assert!(watching.end().1.contains("the profile cannot be read again"));
}

#[test]
fn the_service_manager_is_told_what_the_watch_does() {
    use std::os::unix::net::UnixDatagram;
    let (person, source) = person_with_source();
    let path = person.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = person.command();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000").args(["watch", "--settle", "0s"]).arg(&source);
    let watching = Watching::spawn(command);
    let mut told = String::new();
    let mut buffer = [0; 4096];
    for wanted in ["READY=1", "STATUS=snapshot ", "WATCHDOG=1"] {
        while !told.contains(wanted) {
            let len = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}: {told}"));
            told += &String::from_utf8_lossy(&buffer[..len]);
            told.push('\n');
        }
    }
    assert!(watching.end().0.success());
}

#[test]
fn what_is_mounted_and_unmounted_at_the_source_is_noticed() {
    if !rustix::process::geteuid().is_root() {
        crate::skip!("only root can mount a small disk");
    }
    for method in ["auto", "inotify"] {
        let (person, source) = person_with_source();
        let mut watching = Watching::start(&person, &["--method", method], &source);
        assert_eq!(watching.snapshot()["files"], 2);
        for _ in 0..2 {
            let disk = SmallDisk::new(&source.join("disk")).unwrap();
            fs::write(disk.path.join("first"), "first\n").unwrap();
            watching.expect(|event| event["files"] == 3 && event["looked_at_everything"] == true);
            // What is on it is watched from now on.
            fs::write(disk.path.join("second"), "second\n").unwrap();
            let event = watching.expect(|event| event["files"] == 4);
            assert_eq!(event["looked_at_everything"], false, "{method}");
            drop(disk);
            watching.expect(|event| event["files"] == 2 && event["looked_at_everything"] == true);
            fs::remove_dir(source.join("disk")).unwrap();
            watching.snapshot();
        }
        assert!(watching.end().0.success());
    }
}
