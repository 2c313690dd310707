//! Arguments that several commands share. The values that they take are in [`crate::values`].

use std::{path::PathBuf, str::FromStr};

use bkfs_store::format::erasure::Parity;
use clap::{ArgMatches, Args, parser::ValueSource};

use crate::completion;
pub use crate::values::{
    CountLimit, SizeLimit, parse_client_label, parse_duration, parse_host, parse_limit, parse_rate, parse_size,
    parse_size_limit, parse_tag, parse_target,
};

/// The options that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Write a line of JSON about the progress of long work to standard error, each second
    #[arg(long, global = true)]
    pub progress_json: bool,
    /// Print more (repeat for even more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Take repository, keys, limits and what to push from this profile; see `bkfs config sample`
    #[arg(short = 'P', long, global = true, value_name = "NAME", env = "BKFS_PROFILE", hide_env_values = true,
        add = completion::profile())]
    pub profile: Option<String>,
    /// Use the key in this file, as written by `bkfs key export-full` or `bkfs key export-push`
    #[arg(long, global = true, value_name = "FILE", env = "BKFS_KEY_FILE", hide_env_values = true)]
    pub key_file: Option<PathBuf>,
    /// Read the passphrase from this file (or set BKFS_PASSWORD, BKFS_PASSWORD_FILE or BKFS_PASSWORD_COMMAND)
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Keep keys and known servers in this folder
    #[arg(long, global = true, value_name = "DIR", env = "BKFS_CONFIG_DIR", hide_env_values = true)]
    pub config_dir: Option<PathBuf>,
    /// Keep caches in this folder; it can be deleted at any time
    #[arg(long, global = true, value_name = "DIR", env = "BKFS_CACHE_DIR", hide_env_values = true)]
    pub cache_dir: Option<PathBuf>,
    /// Send at most this many bytes of data in a second, like 500K or 2M
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_rate, env = "BKFS_LIMIT_UPLOAD",
        hide_env_values = true)]
    pub limit_upload: Option<u64>,
    /// Receive at most this many bytes of data in a second
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_rate, env = "BKFS_LIMIT_DOWNLOAD",
        hide_env_values = true)]
    pub limit_download: Option<u64>,
}

/// Which options a person typed, in contrast to the environment. A profile counts for more than the environment, and
/// for less than an option.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Typed {
    /// Whether `-r` was typed.
    pub repository: bool,
    /// Whether `--key-file` was typed.
    pub key_file: bool,
    /// Whether `--limit-upload` was typed.
    pub limit_upload: bool,
    /// Whether `--limit-download` was typed.
    pub limit_download: bool,
}

impl Typed {
    /// Looks at what was parsed, down to the last subcommand.
    pub fn of(matches: &ArgMatches) -> Self {
        let is_typed = |id: &str| {
            let mut levels = std::iter::successors(Some(matches), |level| level.subcommand().map(|(_, below)| below));
            levels.any(|level| {
                let is_known = level.ids().any(|known| known.as_str() == id);
                is_known && level.value_source(id) == Some(ValueSource::CommandLine)
            })
        };
        Self {
            repository: is_typed("repository"),
            key_file: is_typed("key_file"),
            limit_upload: is_typed("limit_upload"),
            limit_download: is_typed("limit_download"),
        }
    }
}

/// The option that names the repository.
#[derive(Debug, Clone, Default, Args)]
pub struct RepoArgs {
    /// The repository: the path of a folder, or bkfs://HOST:PORT/ACCOUNT[/NAME] (./x:y is always a path)
    #[arg(short, long, value_name = "REPO", env = "BKFS_REPOSITORY", hide_env_values = true)]
    pub repository: Option<String>,
}

/// An amount of parity: `5%`, `5` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParityArg(pub Option<Parity>);

impl FromStr for ParityArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let percent = text.strip_suffix('%').unwrap_or(text).parse().ok().and_then(Parity::percent);
        percent.map(|parity| Self(Some(parity))).ok_or_else(|| "give a percentage from 1% to 100%, or off".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_is_a_percentage_or_off() {
        let parse = |text: &str| text.parse::<ParityArg>();
        assert_eq!(parse("off"), Ok(ParityArg(None)));
        assert_eq!(parse("5%"), Ok(ParityArg(Some(Parity::default()))));
        assert_eq!(parse("100"), Ok(ParityArg(Parity::percent(100))));
        for bad in ["", "%", "0", "0%", "101%", "-5%", "5.5%", "on", "5%%"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
