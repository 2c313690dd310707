//! `bkfs schedule`, with a `systemctl` and a `crontab` that only record what they are asked for.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

use super::{expect, text};
use crate::{
    common::{json_doc, program::Person, terminal::Terminal},
    skip,
};

/// A machine with a profile `my-home`, and others.
pub struct Machine {
    pub person: Person,
    has_systemd: bool,
}

impl Machine {
    fn new(has_systemd: bool) -> Self {
        let person = Person::new();
        fs::create_dir_all(person.path("config")).unwrap();
        fs::create_dir(person.path("source")).unwrap();
        let common = format!("repositories = {:?}\nsources = {:?}\n", person.repo, person.path("source"));
        let profiles = format!(
            "[profile.my-home]\n{common}schedule = \"daily 03:00\"\n[profile.web]\n{common}schedule = \"every 4h\"\n\
             [profile.hand]\n{common}[profile.live]\n{common}[profile.live.watch]\nsettle = \"5s\"\n"
        );
        fs::write(person.path("config/all.toml"), profiles).unwrap();
        Self::of(person, has_systemd)
    }

    /// Makes the fakes.
    pub fn of(person: Person, has_systemd: bool) -> Self {
        fs::create_dir(person.path("bin")).unwrap();
        let calls = person.path("calls");
        let fake = |name: &str, script: String| {
            let path = person.path("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\necho \"{name} $*\" >> '{}'\n{script}", calls.display())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let here = person.dir.path().display();
        fake(
            "systemctl",
            format!(
                "[ -e '{here}/broken' ] && {{ echo 'Failed to connect to bus' >&2; exit 1; }}\n\
                     case \"$*\" in *show*) echo @2000000000;; esac\nexit 0\n"
            ),
        );
        fake(
            "crontab",
            format!(
                "[ -e '{here}/broken' ] && {{ echo 'not allowed' >&2; exit 1; }}\n\
                     if [ \"$1\" = - ]; then exec cat > '{here}/crontab'; fi\n\
                     [ -e '{here}/crontab' ] || {{ echo 'no crontab for me' >&2; exit 1; }}\ncat '{here}/crontab'\n"
            ),
        );
        Self { person, has_systemd }
    }

    pub fn command(&self) -> Command {
        let mut command = self.person.command();
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.person.path("bin").display()));
        // Without it, the folder of the system would be looked at.
        command.env("BKFS_UNIT_DIR", self.person.path("units"));
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        let mut args: Vec<&str> = [&["schedule"], args].concat();
        if !self.has_systemd {
            args.push("--cron");
        }
        let output = self.command().args(&args).output().unwrap();
        json_doc::check(&args, &output);
        output
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[args, &["--json"]].concat())).unwrap()
    }

    /// What was asked for, without what only looks.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.person.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.person.path("calls"));
        calls.lines().filter(|call| !call.contains(" show ") && !call.ends_with(" -l")).map(str::to_owned).collect()
    }

    fn unit(&self, name: &str) -> PathBuf {
        self.person.path("units").join(name)
    }

    /// Changes the text of the profiles.
    fn edit(&self, from: &str, to: &str) {
        let path = self.person.path("config/all.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(&path, text.replace(from, to)).unwrap();
    }
}

const TIMER: &str = "bkfs-run@my\\x2dhome.timer";
const SERVICE: &str = "bkfs-run@my\\x2dhome.service";

#[test]
fn timers_are_shown_written_started_listed_and_removed() {
    let machine = Machine::new(true);
    let shown = machine.run(&["install", "--dry-run"]);
    for word in [TIMER, "OnCalendar=*-*-* 03:00:00", "OnCalendar=*-*-* 00/4:00:00", "BKFS_CONFIG_DIR=", "Persistent"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert!(!shown.contains("hand") && !shown.contains("live"), "they have no schedule: {shown}");
    assert!(!machine.person.path("units").exists() && machine.calls().is_empty(), "a dry run changes nothing");
    // Nobody is asked, so nothing is done.
    let output = machine.output(&["install"]);
    expect(&output, 1, &["writes 4 units", "--yes"]);
    assert!(!machine.person.path("units").exists() && machine.calls().is_empty());
    let listed = machine.json(&["list"]);
    assert!(listed["schedules"][0]["profile"] == "my-home" && listed["schedules"][0]["installed"] == false, "{listed}");

    machine.run(&["install", "--yes", "--user"]);
    let enabled = format!("systemctl --user enable --now {TIMER} bkfs-run@web.timer");
    assert_eq!(machine.calls(), ["systemctl --user daemon-reload".to_owned(), enabled]);
    let service = fs::read_to_string(machine.unit(SERVICE)).unwrap();
    let program = format!("ExecStart={} run my-home\n", env!("CARGO_BIN_EXE_bkfs"));
    assert!(service.contains(&program) && service.contains("Type=oneshot"), "{service}");
    let listed = machine.json(&["list"]);
    let row = &listed["schedules"][0];
    assert!(row["installed"] == true && row["current"] == true && row["schedule"] == "daily 03:00", "{listed}");
    assert!(row["next"].as_str().unwrap().starts_with("2033-05-18T"), "{listed}");
    let shown = machine.run(&["list"]);
    assert!(shown.contains("every 4h") && shown.contains(TIMER), "{shown}");

    // The profile changes, and the timer follows only when it is installed again.
    machine.edit("daily 03:00", "daily 04:00");
    assert_eq!(machine.json(&["list"])["schedules"][0]["current"], false);
    machine.json(&["install", "my-home", "--yes"]);
    assert!(fs::read_to_string(machine.unit(TIMER)).unwrap().contains("OnCalendar=*-*-* 04:00:00"));
    machine.calls();

    machine.json(&["remove", "my-home", "--yes", "--user"]);
    let disabled = format!("systemctl --user disable --now {TIMER}");
    assert_eq!(machine.calls(), [disabled, "systemctl --user daemon-reload".to_owned()]);
    assert!(!machine.unit(TIMER).exists() && !machine.unit(SERVICE).exists());
    assert!(machine.unit("bkfs-run@web.timer").exists());
    machine.run(&["remove", "--yes"]);
    assert_eq!(fs::read_dir(machine.person.path("units")).unwrap().count(), 0);
    expect(&machine.output(&["remove", "web", "--yes"]), 1, &["nothing is installed", "web"]);
}

#[test]
fn a_watch_is_a_service_of_its_own() {
    let machine = Machine::new(true);
    machine.run(&["install", "--watch", "--yes", "--user"]);
    let name = "bkfs-watch@live.service";
    let text = fs::read_to_string(machine.unit(name)).unwrap();
    assert!(text.contains(" watch -P live\n") && text.contains("Type=notify"), "{text}");
    assert_eq!(machine.calls()[1], format!("systemctl --user enable --now {name}"));
    // It runs: if the unit changes, it is restarted.
    fs::write(machine.unit(name), text.replace("Nice=10", "Nice=11")).unwrap();
    machine.run(&["install", "--watch", "live", "--yes", "--user"]);
    assert_eq!(machine.calls()[2], format!("systemctl --user restart {name}"));
    machine.run(&["install", "my-home", "--yes"]);
    machine.run(&["remove", "--watch", "--yes"]);
    assert!(!machine.unit(name).exists() && machine.unit(TIMER).exists());
}

#[test]
fn files_of_others_are_left_alone() {
    let machine = Machine::new(true);
    fs::create_dir(machine.person.path("units")).unwrap();
    for own in ["[Unit]\nDescription=mine\n", "", "# Written by `bkfs schedule install` for the profile x. And me\n"] {
        fs::write(machine.unit(SERVICE), own).unwrap();
        expect(&machine.output(&["install", "my-home", "--yes"]), 1, &["was not written by", "my-home"]);
        assert!(!machine.unit(TIMER).exists() && machine.calls().is_empty());
        assert_eq!(fs::read_to_string(machine.unit(SERVICE)).unwrap(), own);
    }
    fs::remove_file(machine.unit(SERVICE)).unwrap();
    machine.run(&["install", "my-home", "--yes"]);
    fs::write(machine.unit(SERVICE), "mine").unwrap();
    machine.calls();
    expect(&machine.output(&["remove", "--yes"]), 1, &["was not written by"]);
    assert!(machine.calls().is_empty() && machine.unit(TIMER).exists(), "nothing is stopped");
    assert_eq!(fs::read_to_string(machine.unit(SERVICE)).unwrap(), "mine");
}

#[test]
fn a_manager_that_does_not_answer_is_reported_with_what_to_do() {
    let machine = Machine::new(true);
    fs::write(machine.person.path("broken"), "").unwrap();
    let output = machine.output(&["install", "my-home", "--yes", "--user"]);
    expect(&output, 1, &["the units are written, but", "Failed to connect to bus", "XDG_RUNTIME_DIR", "login"]);
    fs::remove_file(machine.person.path("broken")).unwrap();
    machine.run(&["install", "my-home", "--yes", "--user"]);
    fs::write(machine.person.path("broken"), "").unwrap();
    expect(&machine.output(&["remove", "--yes", "--user"]), 1, &["nothing was removed, but"]);
    assert!(machine.unit(TIMER).exists());
}

#[test]
fn what_cannot_be_installed_says_why() {
    let machine = Machine::new(true);
    expect(&machine.output(&["install", "hand", "--yes"]), 1, &["hand has no schedule", "daily 03:00", "all.toml"]);
    expect(&machine.output(&["install", "my-hom", "--yes"]), 1, &["my-hom", "is my-home meant?"]);
    machine.edit("[profile.live.watch]\nsettle = \"5s\"\n", "");
    expect(&machine.output(&["install", "--watch", "--yes"]), 1, &["no profile has a [watch]", "name the profiles"]);
    assert!(machine.calls().is_empty());
}

#[test]
fn without_systemd_only_its_own_lines_of_the_crontab_change() {
    let machine = Machine::new(false);
    let (file, own) = (machine.person.path("crontab"), "MAILTO=me\n1 2 * * * mine  # %\n");
    fs::write(&file, own).unwrap();
    let shown = machine.run(&["install", "--dry-run"]);
    assert!(shown.contains("0 3 * * * ") && shown.contains("begin"), "{shown}");
    assert_eq!(fs::read_to_string(&file).unwrap(), own);
    machine.run(&["install", "--yes"]);
    machine.json(&["install", "--watch", "live", "--yes"]);
    let now = fs::read_to_string(&file).unwrap();
    assert!(now.starts_with(own) && now.contains("@reboot ") && now.contains("run my-home\n"), "{now}");
    assert!(now.contains(&format!("BKFS_CONFIG_DIR={}", machine.person.path("config").display())), "{now}");
    let listed = machine.json(&["list"]);
    assert_eq!(listed["schedules"].as_array().unwrap().len(), 3, "{listed}");
    assert!(listed["schedules"][1]["current"] == true && listed["by"] == "cron", "{listed}");
    // The line does what it says.
    let line = now.lines().find(|line| line.ends_with("run my-home")).unwrap().splitn(6, ' ').nth(5).unwrap();
    machine.person.run(["init"]);
    let output = machine.command().env_remove("BKFS_CONFIG_DIR").args(["version"]).output().unwrap();
    assert!(output.status.success());
    let status = Command::new("sh").arg("-c").arg(line).env_remove("BKFS_PASSWORD").status().unwrap();
    assert!(status.success(), "{line}");

    machine.run(&["remove", "--yes"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), own);
    // A user without a crontab has an empty one; one that cannot be read is not replaced.
    fs::remove_file(&file).unwrap();
    machine.run(&["install", "my-home", "--yes"]);
    assert!(fs::read_to_string(&file).unwrap().starts_with("# bkfs schedule: begin"));
    fs::write(machine.person.path("broken"), "").unwrap();
    expect(&machine.output(&["install", "--yes"]), 1, &["`crontab -l` failed: not allowed", "nothing was changed"]);
}

#[test]
fn on_a_terminal_it_asks_after_it_has_shown_all() {
    let machine = Machine::new(true);
    for (answer, is_written) in [("n", false), ("y", true)] {
        let mut command = machine.command();
        command.args(["schedule", "install", "my-home", "--user"]);
        let Some(mut terminal) = Terminal::start(&command) else { skip!("script(1) is not installed") };
        terminal.expect("OnCalendar=*-*-* 03:00:00");
        terminal.expect("[y/N]");
        assert!(!machine.person.path("units").exists());
        terminal.enter(answer);
        let (code, shown) = terminal.end();
        assert_eq!((code == 0, machine.unit(TIMER).exists()), (is_written, is_written), "{shown}");
        assert!(shown.contains("my-home: run is installed, next 2033-05-18") || !is_written, "{shown}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        skip!("systemd-analyze is not installed");
    }
    let machine = Machine::new(true);
    for scope in [&["--user"][..], &[]] {
        machine.run(&[&["install", "my-home", "--yes"], scope].concat());
        machine.run(&[&["install", "--watch", "live", "--yes"], scope].concat());
        for name in [TIMER, SERVICE, "bkfs-watch@live.service"] {
            let mut command = Command::new("systemd-analyze");
            command.args(["verify", "--man=no", "--recursive-errors=one"]).arg(machine.unit(name));
            let output =
                command.env("SYSTEMD_UNIT_PATH", format!("{}:", machine.person.path("units").display())).output();
            let output = output.unwrap();
            let said = text(&output.stderr);
            assert!(output.status.success() && !said.contains("bkfs-"), "{name}: {said}");
        }
    }
}
