//! Standard input and the output of commands as files of a snapshot.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::{
    common::program::{Person, Server},
    expect, make_source, noise,
    profiles::{bare, home, with_profile, write},
    text,
};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pushes with these bytes on standard input.
fn pipe(person: &Person, args: &[&str], input: &[u8]) -> Output {
    let mut command = person.command();
    let mut child = command
        .arg("push")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A push that fails does not read it.
    let writes = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writes.join().unwrap();
    output
}

/// The bytes of a file in the newest snapshot of a series.
fn cat(person: &Person, args: &[&str]) -> Vec<u8> {
    let output = person.command().arg("cat").args(args).output().unwrap();
    expect(&output, 0, &[]);
    output.stdout
}

#[test]
fn standard_input_becomes_a_file() {
    let person = Person::with_repo();
    // Longer than every buffer on the way.
    let dump = noise(1, 30_000_000);
    expect(&pipe(&person, &["--stdin", "db.sql"], &dump), 0, &[]);
    assert_eq!(person.run(["ls", "-R", "latest"]), "db.sql\n");
    assert!(cat(&person, &["latest:db.sql"]) == dump);
    // Without a name for the series, it is that of the file.
    let listed = person.run(["snapshots", "--json"]);
    assert!(listed.contains(&format!("{}:/db.sql", person.host())), "{listed}");
    // A dump that differs a little sends a little.
    let mut changed = dump.clone();
    changed.splice(15_000_000..15_000_000, *b"inserted");
    let report = pipe(&person, &["--json", "--stdin", "db.sql"], &changed);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert!(report["bytes_added"].as_u64().unwrap() < 3_000_000, "{report}");
    assert!(cat(&person, &["latest:db.sql"]) == changed);
    // It is found by its path, too.
    assert!(cat(&person, &["latest:/db.sql"]) == changed);
}

#[test]
fn it_stands_beside_files_and_commands() {
    let person = Person::with_repo();
    let source = person.path("src");
    make_source(&source);
    let base = source.to_str().unwrap();
    let (one, two) = ("--command=sub/made=echo made", "--command=new/deep/empty=true");
    expect(&pipe(&person, &["--target", "t", "--stdin", "a", one, two, "-C", base, "."], b"input"), 0, &[]);
    let expected = "a\nhello\nnew/\nnew/deep/\nnew/deep/empty\nsub/\nsub/big\nsub/made\nsub/small\n";
    assert_eq!(person.run(["ls", "-R", "latest"]), expected);
    assert_eq!(cat(&person, &["latest:sub/made"]), b"made\n");
    assert_eq!(cat(&person, &["latest:new/deep/empty"]), b"");
    assert_eq!(cat(&person, &["latest:a"]), b"input");
    // A restore gives what a person expects: their own file, for nobody else.
    let out = person.path("out");
    person.run(["restore".as_ref(), "latest".as_ref(), out.as_os_str()]);
    use std::os::unix::fs::MetadataExt;
    let made = fs::metadata(out.join("sub/made")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid()), (0o600, rustix::process::geteuid().as_raw()));
    person.run(["check", "--read-data"]);
}

#[test]
fn a_command_that_fails_leaves_no_half_dump() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    let base = person.path("src").display().to_string();
    let push = |commands: &[&str]| {
        let commands = commands.iter().map(|command| format!("--command={command}"));
        person.output(["push", "--target", "t", "-C", &base, "."].map(str::to_owned).into_iter().chain(commands))
    };
    expect(&push(&["db.sql=head -c 3000000 /dev/zero"]), 0, &[]);
    let half = "head -c 3000000 /dev/urandom; echo why >&2; exit 7";
    let output = push(&[&format!("db.sql={half}"), "other=echo yes", "signal=kill -9 $$", "none=/no/such/program"]);
    let words = [
        format!("{base}/db.sql: the command `{half}` failed with code 7"),
        "why".into(),
        "signal: the command `kill -9 $$` was ended by signal 9".into(),
        "`/no/such/program` failed with code 127".into(),
        "3 parts of the source".into(),
    ];
    expect(&output, 3, &words.each_ref().map(String::as_str));
    assert_eq!(person.run(["ls", "latest"]), "hello\nother\nsub/\n");
    assert_eq!(cat(&person, &["latest:other"]), b"yes\n");
    // The problems are in JSON as well, and a dump that works again is there again.
    let json = person.output(["push", "--json", "--command=x=exit 1"]);
    expect(&json, 3, &[]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["errors"][0]["path"].as_str(), Some("/x"), "{json}");
    expect(&push(&["db.sql=echo whole"]), 0, &[]);
    assert_eq!(cat(&person, &["--target", "t", "latest:db.sql"]), b"whole\n");
    person.run(["check", "--read-data"]);
}

#[test]
fn what_cannot_be_is_refused_before_the_repository_is_opened() {
    // There is no repository: what is wrong with the options comes first.
    let person = Person::new();
    make_source(&person.path("src"));
    let base = person.path("src").display().to_string();
    for (args, words) in [
        (&["--command", "x=true", "--command", "x=false"][..], "two streams want the path x"),
        (&["--command", "x=true", "--command", "x/y=false"], "two streams want the path x"),
        (&["--command", "../x=true"], "has .. in it"),
        (&["--command", "/x=true"], "begins with a slash"),
        (&["--command", "x="], "the command is empty"),
        (&["-C", &base, ".", "--command", "hello=true"], "hello is there already"),
        (&["-C", &base, ".", "--command", "hello/x=true"], "hello is in the sources and is no folder"),
        (&[], "no PATH was given"),
    ] {
        let output = person.output(["push"].iter().chain(args));
        expect(&output, 1, &[words]);
    }
    expect(&person.output(["push", "--command", "x"]), 1, &["NAME=COMMAND"]);
    for name in ["../x", "/x", "", "a/../b"] {
        let output = pipe(&person, &["--stdin", name], b"x");
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output.stderr));
    }
    // Both come from one place.
    expect(&pipe(&person, &["--stdin", "x", "--command", "x=true"], b"x"), 1, &["two streams want the path x"]);
}

/// The program on a terminal of its own; none if there is no program that makes one.
fn on_terminal(person: &Person, args: &str) -> Option<Command> {
    Command::new("script").arg("--version").output().ok()?;
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{} {args}", env!("CARGO_BIN_EXE_bkfs")), "/dev/null"]).stdin(Stdio::null());
    for (name, value) in person.command().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Some(command)
}

#[test]
fn standard_input_that_is_closed_or_a_terminal_is_refused() {
    let person = Person::with_repo();
    let mut closed = Command::new("sh");
    closed.args(["-c", "exec \"$0\" push --stdin x <&-", env!("CARGO_BIN_EXE_bkfs")]);
    for (name, value) in person.command().get_envs() {
        match value {
            Some(value) => closed.env(name, value),
            None => closed.env_remove(name),
        };
    }
    expect(&closed.output().unwrap(), 1, &["standard input is closed", "< /dev/null"]);
    if let Some(mut terminal) = on_terminal(&person, "push --stdin x") {
        let output = terminal.output().unwrap();
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("standard input is a terminal") && said.contains("pg_dump mydb | bkfs push"), "{said}");
    }
    // A folder cannot be read: the snapshot has no such file.
    let folder = File::open(person.dir.path()).unwrap();
    let output = person.command().args(["push", "--stdin", "x"]).stdin(folder).output().unwrap();
    expect(&output, 3, &["/x: ", "Is a directory"]);
    // Nothing is something, if a person says so.
    expect(&person.output(["push", "--stdin", "x"]), 0, &[]);
    assert_eq!(cat(&person, &["latest:x"]), b"");
}

/// Waits until a file has a line, and returns it.
fn wait_for_line(path: &Path) -> String {
    let begun = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(line) if line.ends_with('\n') => return line.trim().to_owned(),
            _ => assert!(begun.elapsed() < PATIENCE, "{} was not written", path.display()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_signal_ends_the_push_and_all_that_the_command_has_started() {
    let person = Person::with_repo();
    let (grandchild, said) = (person.path("grandchild"), person.path("said"));
    // A shell that goes on after the polite signal, and has a child.
    let script = format!(
        "trap 'echo asked > {}' TERM; sleep 1000 & echo $! > {}; while :; do echo part; sleep 1; done",
        said.display(),
        grandchild.display()
    );
    let mut push = person.command();
    let mut push = push.args(["push", "--command", &format!("x={script}")]).stderr(Stdio::null()).spawn().unwrap();
    let sleeper = Pid::from_raw(wait_for_line(&grandchild).parse().unwrap()).unwrap();
    assert!(test_kill_process(sleeper).is_ok());
    kill_process(Pid::from_child(&push), Signal::INT).unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(push.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
    // Whoever inherits it may not have taken note of its end yet.
    let is_alive = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", sleeper.as_raw_nonzero())).unwrap_or_default();
        test_kill_process(sleeper).is_ok() && !stat.contains(") Z ")
    };
    let begun = Instant::now();
    while is_alive() {
        assert!(begun.elapsed() < PATIENCE, "the child of the command still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(wait_for_line(&said), "asked");
    assert_eq!(person.run(["snapshots", "--json"]).trim(), "[]");
}

#[test]
fn streams_reach_a_server() {
    let owner = Person::new();
    let server = Server::start(&owner, &owner.path("data"));
    let person = server.person("alice");
    let dump = noise(5, 20_000_000);
    let output = pipe(&person, &["--stdin", "dumps/db.sql", "--command", "log=seq 100000"], &dump);
    expect(&output, 0, &[]);
    assert!(cat(&person, &["latest:dumps/db.sql"]) == dump);
    assert!(cat(&person, &["latest:log"]).ends_with(b"99999\n100000\n"));
    expect(&pipe(&person, &["--stdin", "dumps/db.sql", "--command", "log=exit 4"], &dump), 3, &["failed with code 4"]);
    person.run(["check", "--read-data"]);
}

#[test]
fn a_profile_runs_its_commands() {
    let person = with_profile("[[profile.home.command]]\nname = 'db.sql'\nrun = 'echo dump'\n");
    let list = || person.run(["ls", "-R", "latest"]);
    expect(&bare(&person).arg("run").output().unwrap(), 0, &[]);
    assert!(list().contains("db.sql\n"), "{}", list());
    expect(&bare(&person).args(["push", "-P", "home"]).output().unwrap(), 0, &[]);
    // Sources that are typed replace all of those of the profile.
    let typed = person.path("home/hello").display().to_string();
    expect(&bare(&person).args(["push", "-P", "home", "--target", "typed", &typed]).output().unwrap(), 0, &[]);
    assert!(!person.run(["ls", "-R", "--target", "typed", "latest"]).contains("db.sql"));
    // One that fails makes the run fail in part.
    let with = |more: &str| write(&person, "home.toml", &format!("{}{more}", home(&person)));
    with("[[profile.home.command]]\nname = 'db.sql'\nrun = 'exit 9'\n");
    expect(&bare(&person).arg("run").output().unwrap(), 3, &["the command `exit 9` failed with code 9"]);
    with("[[profile.home.command]]\nname = '../x'\nrun = 'true'\n");
    expect(&bare(&person).arg("run").output().unwrap(), 1, &["command.name", "has .. in it"]);
    // Only commands are a profile, too.
    let only = format!("[profile.home]\nrepositories = '{}'\ntarget = 'only'\n", person.repo);
    write(&person, "home.toml", &(only + "[[profile.home.command]]\nname = 'a'\nrun = 'echo alone'\n"));
    expect(&bare(&person).arg("run").output().unwrap(), 0, &[]);
    assert_eq!(cat(&person, &["--target", "only", "latest:a"]), b"alone\n");
    expect(&bare(&person).args(["watch", "-P", "home"]).output().unwrap(), 1, &["has only commands"]);
}

#[test]
fn watch_takes_no_streams() {
    let person = with_profile("[[profile.home.command]]\nname = 'db.sql'\nrun = 'echo dump'\n");
    for args in [["--stdin", "x"], ["--command", "x=true"]] {
        let output = person.output(["watch"].iter().chain(&args));
        expect(&output, 1, &["`bkfs watch` takes no", "use `bkfs push"]);
    }
    let mut watch = bare(&person);
    watch.args(["watch", "-P", "home", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let begun = Instant::now();
    while person.run(["snapshots", "--json"]).trim() == "[]" {
        assert!(begun.elapsed() < PATIENCE, "there is no snapshot");
        std::thread::sleep(Duration::from_millis(100));
    }
    kill_process(Pid::from_child(&watch), Signal::TERM).unwrap();
    assert!(watch.wait().unwrap().success());
    let output = watch.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr).matches("1 command of the profile home left out").count(), 1, "{output:?}");
    assert!(!person.run(["ls", "-R", "latest"]).contains("db.sql"));
}
