//! `bkfs config check`: finds what is wrong with profiles, before a night is lost to it.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::{
    completion,
    context::Context,
    failure::{Exit, Failure},
    output,
    profile::{Profile, Profiles},
};

/// Arguments of `config check`.
#[derive(Debug, Args)]
#[command(
    about = "Check profiles for mistakes",
    long_about = "Check profiles: all of them, or the named ones. Each mistake is shown with its file and line, and an \
        unknown key with the nearest known one. A source, key file or passphrase file that does not exist now is a \
        warning: it may be on a disk that is not mounted.\n\n\
        Profiles are read from *.toml in the configuration folder and in /etc/bkfs. No repository is opened.",
    after_help = "Examples:\n  bkfs config check\n  bkfs config check home"
)]
pub struct CheckArgs {
    /// The profiles to check [default: all]
    #[arg(value_name = "PROFILE", add = completion::profile())]
    profiles: Vec<String>,
}

#[derive(Serialize)]
struct CheckJson {
    profiles: Vec<ProfileJson>,
    /// What is wrong outside of profiles.
    problems: Vec<String>,
}

#[derive(Serialize)]
struct ProfileJson {
    name: String,
    runs: bool,
    problems: Vec<String>,
    warnings: Vec<String>,
}

/// Runs `bkfs config check`.
pub fn run(context: &Context, args: &CheckArgs) -> Result<Exit> {
    let profiles = Profiles::load(&context.folders);
    let mut names: Vec<String> = args.profiles.clone();
    if names.is_empty() {
        names = profiles.names().map(str::to_owned).collect();
        if names.is_empty() && profiles.problems().is_empty() {
            return Err(none(&profiles).into());
        }
    }
    let known: Vec<&str> = profiles.names().collect();
    let mut found = Vec::new();
    for name in &names {
        if !known.contains(&name.as_str()) {
            return Err(profiles.get(name).err().unwrap_or_else(|| none(&profiles).into()));
        }
        found.push(match profiles.resolve(name) {
            Ok(profile) => ProfileJson {
                name: name.clone(),
                runs: profile.is_runnable(),
                problems: Vec::new(),
                warnings: warnings(&profile),
            },
            Err(problems) => ProfileJson {
                name: name.clone(),
                runs: false,
                problems: problems.iter().map(ToString::to_string).collect(),
                warnings: Vec::new(),
            },
        });
    }
    let outside: Vec<String> = profiles.problems().iter().map(ToString::to_string).collect();
    let is_right = outside.is_empty() && found.iter().all(|profile| profile.problems.is_empty());
    print(context, found, outside)?;
    Ok(if is_right { Exit::Success } else { Exit::Error })
}

/// Returns the error for a user without profiles.
pub fn none(profiles: &Profiles) -> Failure {
    Failure::new(
        format!("there is no profile in {}", profiles.places()),
        "make one: `bkfs config sample > ~/.config/bkfs/home.toml`, change it to what you have, and run `bkfs config \
         check`",
    )
}

/// Returns what may be wrong, by a look at the disk.
fn warnings(profile: &Profile) -> Vec<String> {
    let (settings, mut found) = (&profile.settings, Vec::new());
    let base = settings.directory.as_deref();
    let mut check = |key: &str, path: &Path| {
        if let Err(error) = path.metadata() {
            found.push(format!("{key}: {}: {error}", output::name(path.as_os_str().as_encoded_bytes())));
        }
    };
    for source in profile.sources() {
        check("sources", &base.map_or_else(|| source.clone(), |base| base.join(source)));
    }
    let excluded = settings.exclude.as_ref().and_then(|exclude| exclude.files.as_ref());
    excluded.iter().flat_map(|files| &files.0).for_each(|path| check("exclude.files", path));
    settings.key_file.iter().for_each(|path| check("key-file", path));
    settings.password_file.iter().for_each(|path| check("password-file", path));
    found
}

fn print(context: &Context, profiles: Vec<ProfileJson>, problems: Vec<String>) -> Result<()> {
    if context.json {
        return output::json_pretty(&CheckJson { profiles, problems });
    }
    problems.iter().chain(profiles.iter().flat_map(|profile| &profile.problems)).for_each(output::note);
    for profile in &profiles {
        let warn = |warning: &String| output::note(format!("warning: {}: {warning}", profile.name));
        profile.warnings.iter().for_each(warn);
    }
    if context.quiet {
        return Ok(());
    }
    for profile in &profiles {
        let verdict = match (profile.problems.len(), profile.runs) {
            (0, true) => "is right".to_owned(),
            (0, false) => {
                "is right; `bkfs run` does not run it: it is abstract, or has no sources or repositories".into()
            }
            (n, _) => format!("has {}", output::count(n as u64, "problem")),
        };
        output::line(format!("{} {verdict}", profile.name))?;
    }
    Ok(())
}
