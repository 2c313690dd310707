//! The file of the profile. It is written once, and never over another one.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::questions::{Answers, Passphrase};
use crate::{
    config::{make_private_dir, read_optional},
    context::Context,
    failure::Failure,
    profile::Profiles,
};

/// What [`RETENTION`] keeps, for people.
pub const RETENTION_TEXT: &str = "the last 3, and one for each of 24 hours, 7 days, 5 weeks and 12 months";
const RETENTION: &str = "keep-last = 3\nkeep-hourly = 24\nkeep-daily = 7\nkeep-weekly = 5\nkeep-monthly = 12\n";

/// Returns the text of the profile.
fn text(answers: &Answers, repository: &str) -> Result<String> {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let path = |path: &PathBuf| {
        path.to_str().map(quoted).ok_or_else(|| {
            Failure::new(format!("{path:?} is not UTF-8, and a profile is"), "back up the folder above it instead")
        })
    };
    let sources = answers.sources.iter().map(path).collect::<Result<Vec<_>, _>>()?.join(", ");
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let name = if answers.name.chars().all(is_bare) { answers.name.clone() } else { quoted(&answers.name) };
    let mut text = format!(
        "# Written by `bkfs setup`. docs/PROFILES.md explains all keys, and `bkfs config check` finds mistakes.\n\
         [profile.{name}]\nrepositories = [{}]\nsources = [{sources}]\n",
        quoted(repository)
    );
    if let Some(schedule) = &answers.schedule {
        text.push_str(&format!("schedule = {}\n", quoted(schedule)));
    }
    match &answers.passphrase {
        Some(Passphrase::File(file)) => text.push_str(&format!("password-file = {}\n", path(file)?)),
        Some(Passphrase::Command(command)) => text.push_str(&format!("password-command = {}\n", quoted(command))),
        None => {}
    }
    let mut patterns = Vec::new();
    if !answers.with_caches {
        patterns.push(quoted(".cache/"));
    }
    // A repository in a folder does not back up itself.
    if answers.sources.iter().any(|source| Path::new(repository).starts_with(source)) {
        patterns.push(quoted(&literal(repository)));
    }
    text.push_str(&format!(
        "\n[profile.{name}.exclude]\npatterns = [{}]\ncaches = {}\n\n[profile.{name}.retention]\n{RETENTION}",
        patterns.join(", "),
        !answers.with_caches
    ));
    Ok(text)
}

/// Returns a pattern that matches only this path.
fn literal(path: &str) -> String {
    let mut pattern = String::new();
    for c in path.chars() {
        if "*?[]\\".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Fails if the profile exists and is another one. Returns whether it exists.
pub fn check(context: &Context, file: &Path, answers: &Answers, repository: &str) -> Result<bool> {
    let (name, wanted) = (&answers.name, text(answers, repository)?);
    let fail = |what: String| {
        let hint = format!(
            "nothing was changed; choose another name with --profile-name, or go on with this profile: `bkfs config \
             show {name}` shows it, and `bkfs run {name}` runs it"
        );
        Err(Failure::new(what, hint).into())
    };
    match read_optional(file)? {
        Some(found) if found == wanted.as_bytes() => return Ok(true),
        Some(_) => return fail(format!("{} exists already, and says something else", file.display())),
        None => {}
    }
    let profiles = Profiles::load(&context.folders);
    if profiles.names().any(|known| known == name) {
        return fail(format!("there is a profile {name} already, in another file of {}", profiles.places()));
    }
    Ok(false)
}

/// Writes the profile. Returns whether it is new.
pub fn write(context: &Context, file: &Path, answers: &Answers, repository: &str) -> Result<bool> {
    if check(context, file, answers, repository)? {
        return Ok(false);
    }
    make_private_dir(&context.folders.config)?;
    let temporary = context.folders.config.join(format!(".{}.{}.tmp", answers.name, std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        new.write_all(text(answers, repository).map_err(std::io::Error::other)?.as_bytes())?;
        new.sync_all()?;
        // Unlike a rename, this fails if the file has appeared meanwhile.
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            &temporary,
            rustix::fs::CWD,
            file,
            rustix::fs::RenameFlags::NOREPLACE,
        )?;
        Ok(())
    };
    let written = write().with_context(|| format!("writing {}", file.display()));
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        commands::setup::questions::{Recovery, To},
        place::Place,
    };

    #[test]
    fn the_text_says_what_was_answered() {
        let answers = Answers {
            to: To::Place(Place::Path("/h/x/re*po".into())),
            sources: vec!["/h/x".into(), "/etc/\"odd\"".into()],
            with_caches: false,
            schedule: Some("every 4h".into()),
            watch: false,
            recovery: Recovery::None,
            name: "my.home".into(),
            passphrase: Some(Passphrase::File("/p".into())),
        };
        let text = text(&answers, "/h/x/re*po").unwrap();
        let read: toml::Table = text.parse().unwrap();
        let profile = &read["profile"]["my.home"];
        assert_eq!(profile["sources"][1].as_str(), Some("/etc/\"odd\""));
        assert_eq!(profile["exclude"]["patterns"][1].as_str(), Some("/h/x/re\\*po"));
        assert_eq!(profile["retention"]["keep-monthly"].as_integer(), Some(12));
        assert_eq!(profile["password-file"].as_str(), Some("/p"));
    }
}
