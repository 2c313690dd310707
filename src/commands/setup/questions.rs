//! What a newcomer is asked. Each answer may be an option.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bkfs_transport::{Token, client::Joined};

use super::args::SetupArgs;
use crate::{
    ask,
    commands::join,
    context::Context,
    failure::Failure,
    output,
    place::Place,
    profile::{Schedule, check_name},
};

/// Where backups go.
#[derive(Debug)]
pub enum To {
    /// A repository in a folder, or on a server that this machine knows.
    Place(Place),
    /// A server that invited this machine.
    Token(Box<Token>),
}

/// What to do with the recovery sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing.
    None,
    /// Print it.
    Terminal,
    /// Write it to this file.
    File(PathBuf),
}

/// The source of the passphrase that the profile names.
#[derive(Debug, PartialEq, Eq)]
pub enum Passphrase {
    /// `password-file`
    File(PathBuf),
    /// `password-command`
    Command(String),
}

/// What a person wants.
#[derive(Debug)]
pub struct Answers {
    pub to: To,
    pub sources: Vec<PathBuf>,
    pub with_caches: bool,
    /// When to run; `None` for by hand.
    pub schedule: Option<String>,
    pub watch: bool,
    pub recovery: Recovery,
    pub name: String,
    pub passphrase: Option<Passphrase>,
}

impl To {
    fn read(text: &str) -> Result<Self> {
        if text == "-" {
            return Ok(Self::Token(Box::new(Token::parse(join::read_token()?.trim())?)));
        }
        match text.starts_with("bkfs1") && !text.contains('/') {
            true => Ok(Self::Token(Box::new(Token::parse(text)?))),
            false => Ok(Self::Place(Place::parse(Some(&expanded(text)))?)),
        }
    }

    /// Returns the place, if it is known before this machine joins.
    pub fn known_place(&self, context: &Context) -> Result<Option<Place>> {
        let token = match self {
            Self::Place(place) => return Ok(Some(place.clone())),
            Self::Token(token) => token,
        };
        let servers = context.folders.places().servers()?;
        let known = servers
            .iter()
            .find(|server| server.fingerprint == token.fingerprint && server.accounts.contains(token.account.as_str()));
        // An invitation is good for one time. A setup that goes on has used it.
        let address = known.and_then(|server| server.addresses.first());
        address.map(|address| Place::parse(Some(&format!("bkfs://{address}/{}", token.account)))).transpose()
    }

    /// Returns the place where this machine was let in.
    pub fn joined(joined: &Joined) -> Place {
        Place::Url(joined.url.clone())
    }

    /// Returns it for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Place(place) => place.to_string(),
            Self::Token(token) => format!(
                "account {} of the server at {}",
                token.account,
                token.addresses.iter().next().map_or("an unknown address", String::as_str)
            ),
        }
    }
}

impl Recovery {
    /// Returns the file that is written.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    fn read(text: &str) -> Result<Self> {
        match text {
            "-" => Ok(Self::Terminal),
            "none" => Ok(Self::None),
            path => Ok(Self::File(absolute(Path::new(&expanded(path)))?)),
        }
    }
}

impl Answers {
    /// Takes the options, and asks for what they do not say.
    pub fn collect(context: &Context, args: &SetupArgs) -> Result<Self> {
        let uses_defaults = args.yes;
        let to = match &args.to {
            Some(to) => To::read(to)?,
            None => ask::value(
                context,
                "Where to? A folder (a disk, a share), the token of an invitation, or bkfs://HOST:PORT/ACCOUNT",
                None,
                "--to",
                To::read,
            )?,
        };
        let sources = sources(context, args)?;
        let with_caches = match ask::has_person(context) && !uses_defaults && !args.with_caches {
            true => !ask::agrees(context, "Leave out caches, which programs can make again?", true)?,
            false => args.with_caches,
        };
        let (schedule, watch) = how_often(context, args)?;
        let recovery = match &args.recovery {
            Some(path) if path.as_os_str() == "-" => Recovery::Terminal,
            Some(path) => Recovery::File(absolute(path)?),
            None if uses_defaults || !ask::has_person(context) => Recovery::None,
            None => ask::value(
                context,
                "The recovery sheet opens the repository if the passphrase is lost. Print it here (-), write it to a \
                 file, or none",
                Some("-"),
                "--recovery",
                Recovery::read,
            )?,
        };
        if context.json && recovery == Recovery::Terminal {
            let hint = "name a file in --recovery";
            return Err(Failure::new("with --json, the recovery sheet cannot be printed", hint).into());
        }
        let checked =
            |name: &str| check_name(name).map(|()| name.to_owned()).map_err(|why| Failure::new(why, "").into());
        let name = match &args.profile_name {
            Some(name) => checked(name)?,
            None if uses_defaults || !ask::has_person(context) => "home".to_owned(),
            None => ask::value(context, "The name of the profile", Some("home"), "--profile-name", checked)?,
        };
        Ok(Self { to, sources, with_caches, schedule, watch, recovery, name, passphrase: passphrase(context)? })
    }
}

fn sources(context: &Context, args: &SetupArgs) -> Result<Vec<PathBuf>> {
    let home = || {
        env::home_dir()
            .filter(|home| home.is_absolute())
            .ok_or_else(|| Failure::new("this user has no home folder", "name what to back up with --source"))
    };
    let mut found: Vec<PathBuf> = args.source.iter().map(|path| existing(path)).collect::<Result<_>>()?;
    if !found.is_empty() {
        return Ok(found);
    }
    if args.yes {
        return Ok(vec![existing(&home()?)?]);
    }
    let home = home()?.display().to_string();
    found.push(ask::value(context, "What to back up? A file or folder", Some(&home), "--source", |text| {
        existing(Path::new(&expanded(text)))
    })?);
    loop {
        let more = ask::value(context, "Another one, or Enter", Some(""), "--source", |text| match text {
            "" => Ok(None),
            text => existing(Path::new(&expanded(text))).map(Some),
        })?;
        match more {
            Some(path) => found.push(path),
            None => return Ok(found),
        }
    }
}

/// Returns a source as an absolute path. Fails if it does not exist.
fn existing(path: &Path) -> Result<PathBuf> {
    let path = absolute(path)?;
    match path.symlink_metadata() {
        Ok(_) => Ok(path),
        Err(error) => {
            let name = output::name(path.as_os_str().as_encoded_bytes());
            Err(Failure::new(format!("{name}: {error}"), "name a file or folder that exists (--source)").into())
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

/// Replaces `~` at the beginning, as a shell does: what is typed at a question has seen no shell.
fn expanded(text: &str) -> String {
    let home = env::home_dir().filter(|home| home.is_absolute()).map(|home| home.display().to_string());
    match (home, text.strip_prefix('~')) {
        (Some(home), Some(rest)) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
        _ => text.to_owned(),
    }
}

fn how_often(context: &Context, args: &SetupArgs) -> Result<(Option<String>, bool)> {
    let schedule = |text: &str| -> Result<String> {
        text.parse::<Schedule>().map_err(|why| Failure::new(why, "give it with --every"))?;
        Ok(text.to_owned())
    };
    match (&args.every, args.watch, args.no_schedule) {
        (Some(every), watch, _) => Ok((Some(schedule(every)?), watch)),
        // Changes that the kernel does not report, forgetting and checks wait for a run.
        (None, true, _) => Ok((Some("daily".to_owned()), true)),
        (None, false, true) => Ok((None, false)),
        (None, false, false) if args.yes => Ok((Some("daily".to_owned()), false)),
        (None, false, false) => ask::value(
            context,
            "How often? daily, hourly, watch (whenever files change), by hand, or like every 4h",
            Some("daily"),
            "--every",
            |text| match text {
                "watch" => Ok((Some("daily".to_owned()), true)),
                "by hand" | "hand" | "never" => Ok((None, false)),
                text => Ok((Some(schedule(text)?), false)),
            },
        ),
    }
}

/// Returns where runs take the passphrase from: from where this setup does, if that is not typed or secret itself.
fn passphrase(context: &Context) -> Result<Option<Passphrase>> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = &context.password_file {
        return Ok(Some(Passphrase::File(absolute(path)?)));
    }
    if set("BKFS_PASSWORD").is_some() {
        return Ok(None);
    }
    match (set("BKFS_PASSWORD_FILE"), set("BKFS_PASSWORD_COMMAND")) {
        // A pipe of a shell is gone when this command ends.
        (Some(path), _) if Path::new(&path).is_file() => Ok(Some(Passphrase::File(absolute(Path::new(&path))?))),
        (None, Some(command)) => Ok(command.into_string().ok().map(Passphrase::Command)),
        _ => Ok(None),
    }
}

/// Returns whether runs have the passphrase.
pub fn keeps_passphrase(answers: &Answers) -> bool {
    answers.passphrase.is_some()
}
