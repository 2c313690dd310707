//! The units of systemd that run a profile: a service with a timer, or a service that watches.
//!
//! They keep the process away from what it does not need, but nothing is hidden from it: it reads what it backs up. So
//! there is no mount namespace (`ProtectSystem=`, `PrivateTmp=` and the like), which would also show a backup of the
//! whole system another tree. A profile whose hooks, passphrase or notifications are commands gets no confinement at
//! all, because these commands may be anything: `sudo`, `sendmail` and a script language would fail.

use std::fmt::Write as _;

use super::{
    job::{Job, Kind, Program},
    times::Times,
};
use crate::profile::Profile;

/// Whose units they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of one user.
    User,
    /// Those of the system, which root has.
    System,
}

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The name of its file.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Returns the first line of each unit of a profile. A file without it is somebody else's.
pub fn marker(profile: &str) -> String {
    format!("# Written by `bkfs schedule install` for the profile {profile}. `bkfs schedule remove` removes it.")
}

/// Returns the profile that the first line of a unit names.
pub fn marked(text: &str) -> Option<&str> {
    let line = text.lines().next()?;
    let name = line.strip_prefix("# Written by `bkfs schedule install` for the profile ")?.split(". `").next()?;
    (marker(name) == line).then_some(name)
}

/// Returns the names of the units of a profile, the one to enable last.
pub fn names(profile: &str, kind: Kind) -> Vec<String> {
    let name = escaped(profile);
    match kind {
        Kind::Run => vec![format!("bkfs-run@{name}.service"), format!("bkfs-run@{name}.timer")],
        Kind::Watch => vec![format!("bkfs-watch@{name}.service")],
    }
}

/// Returns the name of the unit to enable.
pub fn main_unit(profile: &str, kind: Kind) -> String {
    names(profile, kind).pop().unwrap_or_default()
}

/// Returns the units that run a profile: with a schedule, a timer. What runs it has no times of its own.
pub fn units(job: &Job, times: Option<&Times>, program: &Program, scope: Scope) -> Vec<Unit> {
    let texts = match (job.kind, times) {
        (Kind::Run, Some(times)) => {
            vec![run_service(&job.profile, program, scope), timer(&job.profile.name, times)]
        }
        (Kind::Run, None) => vec![run_service(&job.profile, program, scope)],
        (Kind::Watch, _) => vec![watch_service(&job.profile, program, scope)],
    };
    names(&job.profile.name, job.kind).into_iter().zip(texts).map(|(name, text)| Unit { name, text }).collect()
}

fn run_service(profile: &Profile, program: &Program, scope: Scope) -> String {
    let name = &profile.name;
    format!(
        "{}\n{}\n[Service]\nType=oneshot\n{}ExecStart={} run {}\n\
         # Another run of the profile was under way.\nSuccessExitStatus=11\n{}",
        marker(name),
        description(&format!("bkfs run of the profile {name}"), scope),
        environment(program),
        quoted(&program.path),
        quoted(name),
        limits(profile, Kind::Run, scope),
    )
}

fn timer(name: &str, times: &Times) -> String {
    let mut calendar = String::new();
    for time in times.on_calendar() {
        let _ = writeln!(calendar, "OnCalendar={time}");
    }
    format!(
        "{}\n[Unit]\nDescription=bkfs run of the profile {name}, as its schedule says\n\n\
         [Timer]\n{calendar}RandomizedDelaySec={}\n\
         # What was missed while the machine was off or asleep is caught up.\nPersistent=true\n\n\
         [Install]\nWantedBy=timers.target\n",
        marker(name),
        times.delay_secs(),
    )
}

fn watch_service(profile: &Profile, program: &Program, scope: Scope) -> String {
    let name = &profile.name;
    let wanted_by = match scope {
        Scope::User => "default.target",
        Scope::System => "multi-user.target",
    };
    format!(
        "{}\n{}\n[Service]\nType=notify\n{}ExecStart={} watch -P {}\nExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=on-failure\nRestartSec=1min\nWatchdogSec=5min\nTimeoutStartSec=infinity\nTimeoutStopSec=30s\n{}\n\
         [Install]\nWantedBy={wanted_by}\n",
        marker(name),
        description(&format!("bkfs watch of the profile {name}"), scope),
        environment(program),
        quoted(&program.path),
        quoted(name),
        limits(profile, Kind::Watch, scope),
    )
}

/// The section `[Unit]`. Only the system's manager knows the network.
fn description(what: &str, scope: Scope) -> String {
    let network = match scope {
        Scope::User => "",
        Scope::System => "After=network-online.target\nWants=network-online.target\n",
    };
    format!("[Unit]\nDescription={what}\n{network}")
}

fn environment(program: &Program) -> String {
    let mut lines = String::new();
    for (name, value) in &program.environment {
        // A variable is not replaced here, other than in a command.
        let _ = writeln!(lines, "Environment={}", escaped_text(&format!("{name}={value}")));
    }
    lines
}

/// What the process may not do.
fn limits(profile: &Profile, kind: Kind, scope: Scope) -> String {
    const IDLE: &str = "Nice=10\nIOSchedulingClass=idle\nLimitCORE=0\n";
    if runs_commands(profile) {
        return format!("{IDLE}# Not confined: the profile names commands, which may need anything.\n");
    }
    // fanotify is in no group of calls that a service may use.
    let calls = match kind {
        Kind::Run => "@system-service",
        Kind::Watch => "@system-service fanotify_init fanotify_mark",
    };
    let capabilities = match scope {
        Scope::User => "",
        // Reading every file, its trusted attributes, and whole file systems' events takes the others.
        Scope::System => {
            "CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_RAWIO CAP_SYS_PTRACE \
             CAP_NET_ADMIN CAP_NET_RAW CAP_SYSLOG CAP_BPF CAP_MKNOD CAP_SETFCAP\n"
        }
    };
    format!(
        "{IDLE}UMask=0077\nNoNewPrivileges=true\nLockPersonality=true\nMemoryDenyWriteExecute=true\n\
         RestrictRealtime=true\nRestrictSUIDSGID=true\nRestrictNamespaces=true\n\
         RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK\nSystemCallArchitectures=native\n\
         SystemCallFilter={calls}\nSystemCallErrorNumber=EPERM\n{capabilities}"
    )
}

/// Returns whether a profile runs commands of its author.
fn runs_commands(profile: &Profile) -> bool {
    let settings = &profile.settings;
    let has_hooks = settings.hooks.as_ref().is_some_and(|hooks| {
        [&hooks.before, &hooks.after, &hooks.failed, &hooks.finally].iter().any(|commands| commands.is_some())
    });
    let notifies = settings.notify.as_ref().is_some_and(|notify| notify.command.is_some() || notify.mail.is_some());
    has_hooks || notifies || settings.password_command.is_some()
}

/// Escapes the name of an instance as systemd-escape(1) does.
fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if at == 0 => escaped.push_str("\\x2e"),
            b'/' => escaped.push('-'),
            byte if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => escaped.push(char::from(byte)),
            byte => {
                let _ = write!(escaped, "\\x{byte:02x}");
            }
        }
    }
    escaped
}

/// Quotes a word of a command.
fn quoted(word: &str) -> String {
    escaped_text(&word.replace('$', "$$"))
}

/// Quotes a text. `%` begins what systemd replaces.
fn escaped_text(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@+,$".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn unit(body: &str, kind: Kind, scope: Scope) -> String {
        let profile = Arc::new(Profile::from_text(&format!("[profile.a]\n{body}")));
        let times = profile.settings.schedule.as_ref().map(|schedule| Times::of(*schedule.get()));
        let program = Program {
            path: "/opt/my bkfs/50%/bkfs".into(),
            environment: vec![("BKFS_CONFIG_DIR", "/a\\b \"c\"".into())],
        };
        let job = Job { profile, kind };
        units(&job, times.as_ref(), &program, scope).into_iter().map(|unit| unit.text).collect()
    }

    #[test]
    fn names_are_escaped_as_systemd_does() {
        assert_eq!(
            names("my-home_1.x", Kind::Run).join(" "),
            "bkfs-run@my\\x2dhome_1.x.service bkfs-run@my\\x2dhome_1.x.timer"
        );
        assert_eq!(main_unit("a", Kind::Watch), "bkfs-watch@a.service");
        assert_eq!(marked(&format!("{}\n[Unit]", marker("my.home"))), Some("my.home"));
        assert_eq!(marked("# Written by `bkfs schedule install` for the profile a. More"), None);
        assert_eq!(marked("[Unit]"), None);
    }

    #[test]
    fn a_timer_catches_up_and_its_service_is_confined() {
        let text = unit("schedule = 'daily 03:00'", Kind::Run, Scope::System);
        for line in [
            "ExecStart=\"/opt/my bkfs/50%%/bkfs\" run a",
            "Environment=\"BKFS_CONFIG_DIR=/a\\\\b \\\"c\\\"\"",
            "OnCalendar=*-*-* 03:00:00",
            "Persistent=true",
            "After=network-online.target",
            "IOSchedulingClass=idle",
            "NoNewPrivileges=true",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(text.starts_with(&marker("a")));
        assert!(!text.contains("ProtectHome") && !text.contains("PrivateTmp"), "it reads everything: {text}");
    }

    #[test]
    fn a_watch_tells_the_manager_that_it_is_alive() {
        let text = unit("", Kind::Watch, Scope::User);
        for line in ["Type=notify", "WatchdogSec=5min", "ExecReload=/bin/kill -HUP $MAINPID", "WantedBy=default.target"]
        {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(text.contains("fanotify_init") && !text.contains("network-online"), "{text}");
    }

    #[test]
    fn commands_of_a_profile_are_not_confined() {
        for body in ["password-command = 'pass x'", "hooks.before = 'sudo x'", "notify.mail = 'a@b.c'"] {
            let text = unit(body, Kind::Run, Scope::User);
            assert!(!text.contains("NoNewPrivileges") && text.contains("Nice=10"), "{text}");
        }
    }
}
