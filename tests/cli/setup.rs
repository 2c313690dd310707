//! `bkfs setup`: by options, and as a newcomer answers its questions on a terminal.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use super::{expect, make_source, schedule::Machine, text};
use crate::{
    common::{
        json_doc,
        program::{Person, Server},
        terminal::Terminal,
    },
    skip,
};

/// A machine with a home folder that has something in it, and nothing of bkfs.
fn newcomer() -> Machine {
    let person = Person::new();
    make_source(&person.path("home"));
    Machine::of(person, true)
}

fn command(machine: &Machine, args: &[&str]) -> Command {
    let mut command = machine.command();
    command.env("HOME", machine.person.path("home")).env_remove("BKFS_REPOSITORY").arg("setup").args(args);
    command
}

fn output(machine: &Machine, args: &[&str]) -> Output {
    let output = command(machine, args).output().unwrap();
    json_doc::check(&[&["setup"], args].concat(), &output);
    output
}

fn json(machine: &Machine, args: &[&str]) -> Value {
    let output = output(machine, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn in_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn options_alone_set_up_everything_and_again_change_nothing() {
    let machine = newcomer();
    let (sheet, file) = (machine.person.path("sheet"), machine.person.path("config/home.toml"));
    let args = ["--to", &machine.person.repo, "--yes", "--user", "--watch", "--recovery", in_text(&sheet)];
    let done = json(&machine, &args);
    assert!(done["created"] == true && done["scheduled"] == true && done["result"] == "success", "{done}");
    let profile = fs::read_to_string(&file).unwrap();
    for word in ["schedule = \"daily\"", "caches = true", "keep-daily = 7", in_text(&machine.person.path("home"))] {
        assert!(profile.contains(word), "{word}: {profile}");
    }
    assert!(fs::read_to_string(&sheet).unwrap().starts_with("# bkfs recovery sheet"));
    let calls = machine.calls();
    assert_eq!(calls[1], "systemctl --user enable --now bkfs-run@home.timer");
    assert_eq!(calls[3], "systemctl --user enable --now bkfs-watch@home.service");
    let status = machine.command().args(["status", "--json"]).output().unwrap();
    assert!(status.status.success(), "{}", text(&status.stdout));
    machine.person.run(["config", "check", "home"]);
    let id = machine.person.newest();
    // The sheet opens the repository.
    let mut read = machine.command();
    read.env_remove("BKFS_PASSWORD")
        .env("BKFS_KEY_FILE", &sheet)
        .args(["ls", &format!("{id}:{}", in_text(&machine.person.path("home")))]);
    assert!(text(&read.output().unwrap().stdout).contains("hello"));

    // As after an interruption: what is there is used.
    fs::remove_dir_all(machine.person.path("units")).unwrap();
    let again = json(&machine, &args);
    assert!(again["created"] == false && again["result"] == "success", "{again}");
    assert_eq!(fs::read_to_string(&file).unwrap(), profile);
    assert!(machine.person.path("units/bkfs-run@home.timer").exists());
    fs::remove_file(&file).unwrap();
    assert_eq!(json(&machine, &[&args[..], &["--no-push"]].concat())["result"], Value::Null);
    assert_eq!(fs::read_to_string(&file).unwrap(), profile);
}

#[test]
fn a_profile_or_a_sheet_that_exists_is_never_overwritten() {
    let machine = newcomer();
    let (sheet, file) = (machine.person.path("sheet"), machine.person.path("config/home.toml"));
    fs::create_dir(machine.person.path("config")).unwrap();
    fs::write(&file, "[profile.home]\n").unwrap();
    let args = ["--to", &machine.person.repo, "--yes", "--no-schedule"];
    expect(&output(&machine, &args), 1, &["home.toml exists already", "--profile-name"]);
    fs::rename(&file, machine.person.path("config/other.toml")).unwrap();
    expect(&output(&machine, &args), 1, &["a profile home already", "--profile-name"]);
    assert!(!Path::new(&machine.person.repo).exists() && !file.exists(), "nothing was begun");
    fs::write(&sheet, "mine").unwrap();
    let named = [&args[..], &["--profile-name", "mine", "--recovery", in_text(&sheet)]].concat();
    expect(&output(&machine, &named), 1, &["is not its recovery sheet", "--recovery"]);
    assert_eq!(fs::read_to_string(&sheet).unwrap(), "mine");
    // It goes on with another name for the sheet.
    let new = machine.person.path("new");
    let named = [&named[..named.len() - 1], &[in_text(&new)]].concat();
    let done = json(&machine, &named);
    assert!(done["created"] == false && done["profile"] == "mine" && done["scheduled"] == false, "{done}");
    assert!(machine.calls().is_empty(), "nothing was installed");
}

#[test]
fn without_a_terminal_what_is_missing_is_named() {
    let machine = newcomer();
    let repo = machine.person.repo.clone();
    let gone = machine.person.path("gone");
    let source = machine.person.path("home");
    let (source, gone) = (in_text(&source), in_text(&gone));
    for (args, words) in [
        (&[][..], &["--to is missing", "give --to"][..]),
        (&["--yes"], &["--to is missing"]),
        (&["--to", &repo], &["--source is missing"]),
        (&["--to", &repo, "--source", source], &["--every is missing"]),
        (&["--to", &repo, "--source", source, "--every", "daily"], &["keep:", "run the command again with --yes"]),
        (&["--to", &repo, "--yes", "--source", gone], &["gone", "No such file", "--source"]),
        (&["--to", &repo, "--yes", "--every", "dayly"], &["dayly", "daily 03:00", "--every"]),
        (&["--to", &repo, "--yes", "--profile-name", "a b"], &["a b", "cannot be the name"]),
        (&["--to", &repo, "--yes", "--quiet", "--every", "every 5s"], &["too often"]),
        (&["--to", "bkfs1broken", "--yes"], &["not a valid invitation token"]),
        (&["--to", "sftp://h/x", "--yes"], &["sftp://h/x"]),
        (&["--to", "bkfs://127.0.0.1:1/alice", "--yes"], &["has not joined", "bkfs join TOKEN"]),
    ] {
        expect(&output(&machine, args), 1, words);
    }
    let as_json = output(&machine, &["--to", &repo, "--yes", "--json", "--recovery", "-"]);
    expect(&as_json, 1, &["cannot be printed", "name a file in --recovery"]);
    let mut without = command(&machine, &["--to", &repo, "--yes"]);
    expect(&without.env_remove("BKFS_PASSWORD").output().unwrap(), 12, &["needs a passphrase", "BKFS_PASSWORD"]);
    assert!(!machine.person.path("config/home.toml").exists() && machine.calls().is_empty());
}

#[test]
fn an_invitation_is_used_once_and_the_setup_goes_on_with_it() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let token = server.invite(&operator, "alice", "all");
    let machine = newcomer();
    // The passphrase is missing after the server was joined.
    let args = ["--to", &token, "--yes", "--no-schedule"];
    let mut first = command(&machine, &args);
    expect(&first.env_remove("BKFS_PASSWORD").output().unwrap(), 12, &["joined account alice", "BKFS_PASSWORD"]);
    let done = json(&machine, &args);
    let url = format!("bkfs://{}/alice", server.address);
    assert!(done["created"] == true && done["repository"] == url.as_str() && done["result"] == "success", "{done}");
    assert!(!done.to_string().contains(&token), "{done}");
    // A second machine finds the repository, and needs its passphrase.
    let second = newcomer();
    let token = server.invite(&operator, "alice", "all");
    let passphrase = second.person.path("passphrase");
    fs::write(&passphrase, "wrong\n").unwrap();
    let args = ["--to", &token, "--yes", "--no-schedule", "--password-file", in_text(&passphrase)];
    expect(&output(&second, &args), 12, &["passphrase"]);
    fs::write(&passphrase, "correct horse battery staple\n").unwrap();
    assert_eq!(json(&second, &args)["created"], false);
    let profile = fs::read_to_string(second.person.path("config/home.toml")).unwrap();
    assert!(profile.contains(&format!("password-file = {:?}", in_text(&passphrase))), "{profile}");
}

#[test]
fn a_repository_in_the_home_folder_does_not_back_up_itself() {
    let machine = newcomer();
    let repo = machine.person.path("home/back[up]");
    fs::create_dir_all(machine.person.path("home/.cache/x")).unwrap();
    fs::write(machine.person.path("home/.cache/x/y"), "z").unwrap();
    json(&machine, &["--to", in_text(&repo), "--yes", "--no-schedule"]);
    let again = machine.command().args(["run", "home", "--json"]).output().unwrap();
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["profiles"][0]["repositories"][0]["push"]["files"], 3, "{again}");
}

#[test]
fn a_manager_that_fails_does_not_prevent_the_first_backup() {
    let machine = newcomer();
    fs::write(machine.person.path("broken"), "").unwrap();
    let output = output(&machine, &["--to", &machine.person.repo, "--yes", "--user", "--json"]);
    expect(&output, 3, &["Failed to connect to bus", "the setup goes on", "bkfs schedule install home"]);
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(done["scheduled"] == false && done["result"] == "success", "{done}");
}

#[test]
fn a_newcomer_answers_questions_and_makes_mistakes() {
    let machine = newcomer();
    let mut setup = command(&machine, &["--user"]);
    setup.env_remove("BKFS_PASSWORD");
    let Some(mut terminal) = Terminal::start(&setup) else { skip!("script(1) is not installed") };
    terminal.expect("Where to?");
    terminal.enter("sftp://h/x");
    terminal.expect("is the path of a folder");
    terminal.expect("Where to?");
    terminal.enter("~/../repo");
    terminal.expect("What to back up?");
    terminal.enter("/does/not/exist");
    terminal.expect("No such file");
    terminal.expect("What to back up?");
    terminal.enter("");
    terminal.expect("Another one");
    terminal.enter("");
    terminal.expect("Leave out caches");
    terminal.enter("");
    terminal.expect("How often?");
    terminal.enter("sometimes");
    terminal.expect("is not a schedule");
    terminal.enter("every 4h");
    terminal.expect("recovery sheet");
    terminal.enter("");
    terminal.expect("name of the profile");
    terminal.enter("");
    terminal.expect("when:    every 4h");
    terminal.expect("Do all this?");
    assert!(!Path::new(&machine.person.repo).exists(), "nothing is done before the answer");
    terminal.enter("y");
    terminal.expect("Passphrase for the new repository");
    terminal.enter("correct horse");
    terminal.expect("Repeat");
    terminal.enter("correct hose");
    terminal.expect("are different");
    for prompt in ["Passphrase for the new repository", "Repeat"] {
        terminal.expect(prompt);
        terminal.enter("correct horse battery staple");
    }
    terminal.expect("OnCalendar=*-*-* 00/4:00:00");
    terminal.expect("run it like this?");
    assert!(!machine.person.path("units").exists());
    terminal.enter("");
    terminal.expect("# bkfs recovery sheet");
    terminal.expect("The first backup is done.");
    terminal.expect("bkfs mount -P home");
    let (code, shown) = terminal.end();
    assert_eq!(code, 0, "{shown}");
    assert!(machine.person.path("units/bkfs-run@home.timer").exists());
    assert!(machine.person.run(["status"]).contains("fine"));
}
