//! The units of systemd on this machine: their folder, and `systemctl`.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    job::Kind,
    outside::{reason, run},
    units::{Scope, Unit, marked, names},
};
use crate::{failure::Failure, output};

/// A folder in which tests look at units. It replaces the folder of the user, or of the system.
const FOLDER_VARIABLE: &str = "BKFS_UNIT_DIR";
/// Longer files are no units.
const UNIT_BYTES_MAX: u64 = 64 << 10;

/// The manager of this user's units, or of the system's.
#[derive(Debug, Clone)]
pub struct Systemd {
    /// Where units are written.
    pub folder: PathBuf,
    /// Whose units they are.
    pub scope: Scope,
}

/// What runs a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The name of the profile.
    pub profile: String,
    /// How it is run.
    pub kind: Kind,
    /// When it is run, as systemd says it.
    pub when: Vec<String>,
}

impl Systemd {
    /// Returns the manager, if there is one: for root that of the system, unless `is_user`.
    pub fn find(is_user: bool) -> Result<Option<Self>> {
        let scope = match rustix::process::geteuid().is_root() && !is_user {
            true => Scope::System,
            false => Scope::User,
        };
        if let Some(folder) = env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()) {
            return Ok(Some(Self { folder: folder.into(), scope }));
        }
        // What sd_booted(3) looks at.
        if !Path::new("/run/systemd/system").is_dir() {
            return Ok(None);
        }
        let folder = match scope {
            Scope::System => PathBuf::from("/etc/systemd/system"),
            Scope::User => user_folder()?,
        };
        Ok(Some(Self { folder, scope }))
    }

    /// Returns the command of a person that does the same.
    pub fn command(&self, args: &[&str]) -> String {
        let user = if self.scope == Scope::User { " --user" } else { "" };
        format!("systemctl{user} {}", args.join(" "))
    }

    /// Returns the text of a unit that bkfs wrote, or `None` if there is no such file. Fails if it is somebody else's.
    pub fn read(&self, name: &str, profile: &str) -> Result<Option<String>> {
        let path = self.folder.join(name);
        match read_text(&path)? {
            Some(text) if marked(&text) == Some(profile) => Ok(Some(text)),
            Some(_) => Err(Failure::new(
                format!("{} was not written by `bkfs schedule install` for the profile {profile}", path.display()),
                "it is left alone; move it away if it is not needed",
            )
            .into()),
            None => Ok(None),
        }
    }

    /// Writes units. Each file is written whole or not at all.
    pub fn write(&self, units: &[Unit]) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("creating {}", self.folder.display()))?;
        for unit in units {
            let path = self.folder.join(&unit.name);
            let temporary = self.folder.join(format!(".{}.{}.tmp", unit.name, std::process::id()));
            let written = fs::File::create(&temporary)
                .and_then(|mut file| file.write_all(unit.text.as_bytes()).and_then(|()| file.sync_all()))
                .and_then(|()| fs::rename(&temporary, &path));
            if let Err(error) = written {
                let _ = fs::remove_file(&temporary);
                return Err(error).with_context(|| format!("writing {}", path.display()));
            }
        }
        Ok(())
    }

    /// Fails if a file that would be removed is somebody else's.
    pub fn check_own(&self, profile: &str, kind: Kind) -> Result<()> {
        names(profile, kind).iter().try_for_each(|name| self.read(name, profile).map(drop))
    }

    /// Removes what was written for a profile. Fails if a file is somebody else's.
    pub fn remove(&self, profile: &str, kind: Kind) -> Result<()> {
        for name in names(profile, kind) {
            if self.read(&name, profile)?.is_some() {
                let path = self.folder.join(&name);
                fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Returns what is installed, in the order of the names. Files of others are passed over.
    pub fn installed(&self) -> Result<Vec<Installed>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| self.folder.display().to_string()),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| self.folder.display().to_string())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = match &name {
                name if name.starts_with("bkfs-run@") && name.ends_with(".timer") => Kind::Run,
                name if name.starts_with("bkfs-watch@") && name.ends_with(".service") => Kind::Watch,
                _ => continue,
            };
            let Some(text) = read_text(&entry.path())? else { continue };
            let Some(profile) = marked(&text).filter(|profile| names(profile, kind).contains(&name)) else { continue };
            let when = text.lines().filter_map(|line| line.strip_prefix("OnCalendar=")).map(str::to_owned).collect();
            found.push(Installed { profile: profile.to_owned(), kind, when });
        }
        found.sort_by(|a, b| (&a.profile, a.kind).cmp(&(&b.profile, b.kind)));
        Ok(found)
    }

    /// Runs `systemctl`. `done` says in the error what was done before.
    pub fn run(&self, args: &[&str], done: &str) -> Result<()> {
        let command = self.command(args);
        let failed = |why: String| {
            let hint = match self.scope {
                Scope::System => format!("when that is mended: `{command}`"),
                Scope::User => format!(
                    "a user's units need a login of that user, and not `su` or `sudo`; there, or with \
                     XDG_RUNTIME_DIR=/run/user/{}, run `{}` and `{command}`",
                    rustix::process::getuid().as_raw(),
                    self.command(&["daemon-reload"]),
                ),
            };
            Failure::new(format!("{done}, but `{command}` failed: {why}"), hint)
        };
        let output = self.call(args).map_err(|error| failed(error.to_string()))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(failed(reason(&output)).into()),
        }
    }

    /// Returns when a timer elapses next, in seconds since 1970, if systemd says it.
    pub fn next(&self, unit: &str) -> Option<i64> {
        let args = ["show", unit, "--property=NextElapseUSecRealtime", "--value", "--timestamp=unix"];
        let output = self.call(&args).ok().filter(|output| output.status.success())?;
        String::from_utf8_lossy(&output.stdout).trim().strip_prefix('@')?.parse().ok()
    }

    fn call(&self, args: &[&str]) -> Result<std::process::Output> {
        let user: &[&str] = if self.scope == Scope::User { &["--user"] } else { &[] };
        run("systemctl", &[user, args].concat(), None)
    }

    /// Says what a user's units need to run without a login, if they lack it.
    pub fn lacks_lingering(&self, user: &str) -> bool {
        self.scope == Scope::User && !Path::new("/var/lib/systemd/linger").join(user).exists()
    }
}

fn user_folder() -> Result<PathBuf> {
    let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = config.or_else(|| Some(env::home_dir().filter(|home| home.is_absolute())?.join(".config")));
    match config {
        Some(config) => Ok(config.join("systemd/user")),
        None => Err(Failure::new("this user has no home folder", "set HOME").into()),
    }
}

/// Reads a unit. What is no text has no marker.
fn read_text(path: &Path) -> Result<Option<String>> {
    let meta = match path.metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A link to nowhere, as `systemctl mask` makes to /dev/null, is somebody's decision.
            return Ok(path.symlink_metadata().is_ok().then(String::new));
        }
        Err(error) => return Err(error).with_context(|| output::name(path.as_os_str().as_encoded_bytes())),
    };
    if !meta.is_file() || meta.len() > UNIT_BYTES_MAX {
        return Ok(Some(String::new()));
    }
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
