//! `bkfs run`: pushes to several repositories, what follows, hooks, exit codes, and what is recorded.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    common::program::{Person, Server},
    expect, make_source, noise,
    profiles::{bare, home, with_profile, write},
    text,
};

fn run(mut command: Command, args: &[&str]) -> Output {
    command.arg("run").args(args).output().unwrap()
}

/// The program with the passphrase in its environment.
fn with_password(person: &Person) -> Command {
    let mut command = bare(person);
    command.env("BKFS_PASSWORD", "correct horse battery staple");
    command
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

fn record(person: &Person) -> toml::Table {
    fs::read_to_string(person.path("config/runs/home.toml")).unwrap().parse().unwrap()
}

/// Gives the person a second repository.
fn second_repository(person: &Person) -> String {
    let second = person.path("second").display().to_string();
    person.run(["init", "-r", &second]);
    second
}

#[test]
fn a_run_pushes_forgets_prunes_and_checks() {
    let rules =
        "[profile.home.retention]\nkeep-last = 1\n[profile.home.prune]\n[profile.home.check]\nread-data = '100%'\n";
    let person = with_profile(rules);
    let first = run(with_password(&person), &["--json"]);
    expect(&first, 0, &[]);
    let report = json(&first);
    let done = &report["profiles"][0]["repositories"][0];
    assert_eq!((report["exit"].as_u64(), done["push"]["files"].as_u64()), (Some(0), Some(3)), "{report}");
    assert!(done["prune"].is_object() && done["check"]["packs"].as_u64() > Some(0), "{report}");
    // Another person's series in the same repository is not this profile's to forget.
    person.run(["push", "--target", "docs", "--host", "beta", person.path("home").to_str().unwrap()]);
    fs::write(person.path("home/new"), "new").unwrap();
    let second = json(&run(with_password(&person), &["home", "--json"]));
    let done = &second["profiles"][0]["repositories"][0];
    assert_eq!(done["forget"]["trashed_total"].as_u64(), Some(1), "{second}");
    assert!(done["prune"].is_null() && done["check"].is_null(), "neither is due again: {second}");
    let list: Value = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
    // Nothing is printed where nobody watches and nothing is wrong.
    let quiet = run(with_password(&person), &[]);
    assert_eq!((text(&quiet.stdout), text(&quiet.stderr)), (String::new(), String::new()));
    let record = record(&person);
    assert_eq!(record["result"].as_str(), Some("success"));
    let of_repository = &record["repositories"][&person.repo];
    for key in ["pushed_secs", "succeeded_secs", "pruned_secs", "checked_secs"] {
        assert!(of_repository[key].as_integer() >= record["started_secs"].as_integer().map(|at| at - 600), "{record}");
    }
}

#[test]
fn a_machine_with_a_push_key_only_pushes() {
    let person = with_profile("[profile.home.retention]\nkeep-last = 1\n[profile.home.prune]\n[profile.home.check]\n");
    assert_eq!(text(&run(bare(&person), &[]).stderr), "", "this is not worth a word");
    let verbose = run(bare(&person), &["-v"]);
    expect(&verbose, 0, &["not done: forgetting, pruning, checking: this needs the passphrase"]);
    assert!(text(&verbose.stdout).contains("home: done"), "{}", text(&verbose.stdout));
    // A wrong passphrase is worth one.
    let mut command = bare(&person);
    command.env("BKFS_PASSWORD", "wrong");
    expect(&run(command, &[]), 3, &["forgetting, pruning, checking: ", "passphrase"]);
}

#[test]
fn a_server_that_allows_only_pushes_gets_pushes() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let owner = server.person("alice");
    make_source(&owner.path("src"));
    let person = Person::new();
    make_source(&person.path("home"));
    expect(&person.output(["join", &server.invite(&operator, "alice", "push")]), 0, &[]);
    let key = person.path("push.key").display().to_string();
    owner.run(["key", "export-push", &key]);
    let person = Person { repo: owner.repo.clone(), ..person };
    write(
        &person,
        "home.toml",
        &format!("{}key-file = '{key}'\n[profile.home.retention]\nkeep-last = 1\n", home(&person)),
    );
    let done = run(bare(&person), &["-v"]);
    expect(&done, 0, &["not done: forgetting: "]);
    assert!(owner.run(["snapshots"]).contains("docs"));
}

#[test]
fn one_repository_that_fails_does_not_stop_the_others() {
    let person = with_profile("");
    let second = second_repository(&person);
    let profile = home(&person).replace(&format!("'{}'", person.repo), &format!("['/no/such', '{second}']"));
    write(&person, "home.toml", &profile);
    let done = run(bare(&person), &["--json"]);
    expect(&done, 3, &["home: /no/such: there is no repository at /no/such"]);
    let report = json(&done);
    let results = |at: usize| report["profiles"][0]["repositories"][at]["result"].as_str();
    assert_eq!((results(0), results(1)), (Some("failed"), Some("success")), "{report}");
    assert!(person.run(["snapshots", "-r", &second]).contains("docs"));
    let record = record(&person);
    assert_eq!(record["result"].as_str(), Some("partly"));
    assert!(record["error"].as_str().unwrap().contains("/no/such"), "{record}");
    // All of them fail.
    write(&person, "home.toml", &profile.replace(&second, "/nor/this"));
    expect(&run(bare(&person), &[]), 1, &["/no/such", "/nor/this"]);
    // A source that could not be read whole.
    write(&person, "home.toml", &home(&person));
    expect(&run(bare(&person), &[]), 0, &[]);
    fs::remove_dir_all(person.path("home")).unwrap();
    fs::create_dir(person.path("home")).unwrap();
    expect(&run(bare(&person), &[]), 3, &["has no files now"]);
}

#[test]
fn hooks_run_around_the_pushes_and_learn_what_happened() {
    let person = with_profile("");
    let log = person.path("log").display().to_string();
    let say = |what: &str| {
        format!("'echo {what} $BKFS_PROFILE $BKFS_TARGET $BKFS_EXIT $BKFS_ERROR >> {log}; env >> {log}.env'")
    };
    let hooks = format!(
        "[profile.home.hooks]\nbefore = ['echo talks', {}]\nafter = {}\nfailed = {}\nfinally = {}\n",
        say("before"),
        say("after"),
        say("failed"),
        say("finally")
    );
    write(&person, "home.toml", &format!("{}{hooks}", home(&person)));
    let done = run(with_password(&person), &["--json"]);
    expect(&done, 0, &["talks"]);
    json(&done);
    assert_eq!(fs::read_to_string(&log).unwrap(), "before home docs\nafter home docs 0\nfinally home docs 0\n");
    let environment = fs::read_to_string(format!("{log}.env")).unwrap();
    assert!(!environment.contains("correct horse"), "no secrets");
    let snapshot = format!("BKFS_SNAPSHOT={}", person.newest());
    assert!(environment.contains(&snapshot) && environment.contains("BKFS_HOOK=finally"), "{environment}");
    // The hook before fails: nothing is pushed.
    fs::remove_file(&log).unwrap();
    let failing = hooks.replace("'echo talks'", "'exit 7'");
    write(&person, "home.toml", &format!("{}{failing}", home(&person)));
    expect(&run(bare(&person), &[]), 1, &["home: the hook before failed with code 7: exit 7"]);
    let told = fs::read_to_string(&log).unwrap();
    let error = "the hook before failed with code 7: exit 7";
    assert_eq!(told, format!("failed home docs 1 {error}\nfinally home docs 1 {error}\n"));
    assert!(person.newest().starts_with(&snapshot["BKFS_SNAPSHOT=".len()..]));
    // A hook after it fails: the snapshot is there.
    let failing = hooks.replace("after = ", "after = 'kill -9 $$' # ");
    write(&person, "home.toml", &format!("{}{failing}", home(&person)));
    expect(&run(bare(&person), &[]), 3, &["the hook after was ended by signal 9"]);
}

/// `bkfs run -v | head -1` is no reason to stop.
#[test]
fn a_closed_pipe_stops_no_run() {
    let person = with_profile("");
    let log = person.path("log").display().to_string();
    write(
        &person,
        "home.toml",
        &format!("{}[profile.home.hooks]\nfinally = 'echo $BKFS_EXIT > {log}'\n", home(&person)),
    );
    let mut command = bare(&person);
    let mut run = command.args(["run", "-v"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(run.stdout.take());
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_eq!(fs::read_to_string(&log).unwrap(), "0\n");
    assert_eq!(record(&person)["result"].as_str(), Some("success"));
    assert!(person.run(["snapshots"]).contains("docs"));
}

#[test]
fn what_cannot_run_is_explained() {
    let person = Person::with_repo();
    expect(&run(bare(&person), &[]), 1, &["there is no profile in", "bkfs config sample"]);
    write(&person, "a.toml", "[profile.a]\nsources = '/etc'\n[profile.b]\nabstract = true\nrepositories = '/x'\n");
    expect(&run(bare(&person), &[]), 1, &["there is nothing to run", "bkfs config check"]);
    expect(&run(bare(&person), &["a"]), 1, &["the profile a has no repositories"]);
    expect(&run(bare(&person), &["b"]), 1, &["the profile b is abstract"]);
    expect(&run(bare(&person), &["c"]), 1, &["there is no profile \"c\""]);
    // A broken profile is not passed over: it may be the one that matters.
    make_source(&person.path("home"));
    write(&person, "home.toml", &home(&person));
    write(&person, "a.toml", "[profile.a]\nsorces = '/etc'\n");
    expect(&run(bare(&person), &[]), 1, &["is sources meant?"]);
    expect(&run(bare(&person), &["-P", "home"]), 0, &[]);
}

#[test]
fn a_run_excludes_another_of_the_same_profile() {
    let person =
        with_profile("[profile.home.hooks]\nbefore = 'touch started; while ! [ -e go ]; do sleep 0.05; done'\n");
    let mut command = bare(&person);
    let mut first = command.current_dir(person.dir.path()).arg("run").spawn().unwrap();
    while !person.path("started").exists() {
        assert!(first.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(record(&person)["result"].as_str(), Some("running"));
    expect(&run(bare(&person), &[]), 11, &["another run of this profile is under way"]);
    fs::write(person.path("go"), "").unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!(record(&person)["result"].as_str(), Some("success"));
}

#[test]
fn limits_and_keys_of_the_profile_hold_in_a_run() {
    let person = with_profile(
        "password-command = 'echo correct horse battery staple'\n[profile.home.retention]\nkeep-last = 1\n",
    );
    let done = run(bare(&person), &["-v"]);
    expect(&done, 0, &[]);
    assert!(!text(&done.stderr).contains("not done"), "{}", text(&done.stderr));
    let report = json(&run(bare(&person), &["--json"]));
    assert_eq!(report["profiles"][0]["repositories"][0]["forget"]["trashed_total"].as_u64(), Some(1), "{report}");
}

#[test]
fn a_signal_stops_a_run_and_its_hooks_follow() {
    let person = with_profile("");
    let second = second_repository(&person);
    let log = person.path("log").display().to_string();
    let both = home(&person).replace(&format!("'{}'", person.repo), &format!("['{}', '{second}']", person.repo));
    let hooks = |before: &str| {
        format!(
            "{both}compression = 19\n[profile.home.hooks]\nbefore = '{before}'\n\
             failed = 'echo failed $BKFS_EXIT >> {log}'\n\
             finally = 'echo finally >> {log}'\n"
        )
    };
    // While a hook runs, and while files are read.
    let letters: Vec<u8> = noise(7, 64 << 20).into_iter().map(|byte| b'a' + (byte & 15)).collect();
    fs::write(person.path("home/letters"), letters).unwrap();
    for (before, pushes) in [("touch started; sleep 1", 0), ("touch started; (sleep 0.5; kill -INT $PPID) &", 1)] {
        write(&person, "home.toml", &hooks(before));
        let _ = (fs::remove_file(&log), fs::remove_file(person.path("started")));
        let mut command = bare(&person);
        let mut run = command.current_dir(person.dir.path()).arg("run").spawn().unwrap();
        while !person.path("started").exists() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        if pushes == 0 {
            let pid = rustix::process::Pid::from_raw(run.id() as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        }
        let status = run.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2), "{before}");
        assert_eq!(fs::read_to_string(&log).unwrap(), "failed 130\nfinally\n", "{before}");
        let record = record(&person);
        assert_eq!(record["result"].as_str(), Some("interrupted"));
        assert_eq!(record.get("repositories").map_or(0, |of| of.as_table().unwrap().len()), pushes, "{record}");
    }
}

#[test]
fn the_limit_of_a_profile_holds_for_a_server() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let person = server.person("alice");
    make_source(&person.path("home"));
    write(&person, "home.toml", &home(&person));
    let took = |args: &[&str]| {
        fs::write(person.path("home/sub/big"), noise(std::process::id().into(), 1 << 20)).unwrap();
        let begun = std::time::Instant::now();
        expect(&bare(&person).args(args).output().unwrap(), 0, &[]);
        begun.elapsed().as_secs_f64()
    };
    // All the day, and all the night: a limit that has times.
    let times = "[[profile.home.limits.times]]\nfrom = '00:00'\nto = '12:00'\nupload = '256K'\n\
                 [[profile.home.limits.times]]\nfrom = '12:00'\nto = '00:00'\nupload = '256K'\n";
    write(&person, "home.toml", &format!("{}{times}", home(&person)));
    assert!(took(&["run", "home"]) > 2.0, "a megabyte at 256 KiB a second takes longer");
    // What is typed counts for more. Everything is new in a second repository.
    write(&person, "home.toml", &format!("{}{times}", home(&person).replace("/alice'", "/alice/two'")));
    let mut init = bare(&person);
    expect(
        &init.env("BKFS_PASSWORD", "x").args(["init", "-P", "home", "--limit-upload", "1G"]).output().unwrap(),
        0,
        &[],
    );
    assert!(took(&["push", "-P", "home", "--limit-upload", "1G"]) < 2.0);
}
