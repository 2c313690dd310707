//! Arguments that several commands share, and the values they take: sizes, durations, parity.

use std::{path::PathBuf, str::FromStr, time::Duration};

use bkfs_store::{base::label::Label, format::erasure::Parity};
use clap::{ArgMatches, Args, parser::ValueSource};

use crate::completion;

/// The lowest limit of bandwidth, in bytes a second.
const RATE_MIN: u64 = 1024;

/// The options that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
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

/// A limit in bytes; none is no limit. A type of its own, because clap takes an `Option` for an argument that may be
/// missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimit(pub Option<u64>);

/// A limit of a number; none is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountLimit(pub Option<u64>);

/// Parses a tag. Options that take tags split their value at commas first.
pub fn parse_tag(text: &str) -> Result<String, String> {
    parse_label(Label::Tag, text)
}

/// Parses the name of a target.
pub fn parse_target(text: &str) -> Result<String, String> {
    parse_label(Label::Target, text)
}

/// Parses the name of a host.
pub fn parse_host(text: &str) -> Result<String, String> {
    parse_label(Label::Host, text)
}

/// Parses the label of a client.
pub fn parse_client_label(text: &str) -> Result<String, String> {
    parse_label(Label::Client, text)
}

fn parse_label(label: Label, text: &str) -> Result<String, String> {
    label.check(text).map(str::to_owned).map_err(|error| error.to_string())
}

/// Parses a size in bytes: `500`, `500K`, `2GiB`. Units are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(format!("{text:?} is not a size; give one like 500M"));
    }
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("unknown unit {unit:?}: use K, M, G or T")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a size; give one like 500M"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is too large"))
}

/// Parses a rate in bytes a second, which must let something get done.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let rate = parse_size(text)?;
    match rate >= RATE_MIN {
        true => Ok(rate),
        false => Err("give at least 1K; without the option there is no limit".into()),
    }
}

/// Parses a limit of bytes, or `off`.
pub fn parse_size_limit(text: &str) -> Result<SizeLimit, String> {
    match text {
        "off" => Ok(SizeLimit(None)),
        text => parse_size(text).map(|bytes| SizeLimit(Some(bytes))).map_err(|why| format!("{why}, or off")),
    }
}

/// Parses a limit of a number, or `off`.
pub fn parse_limit(text: &str) -> Result<CountLimit, String> {
    match text {
        "off" => Ok(CountLimit(None)),
        text => {
            text.parse().map(|n| CountLimit(Some(n))).map_err(|_| format!("{text:?} is not a number; give one, or off"))
        }
    }
}

/// Parses a duration: `90s`, `30m`, `1h`, `2d`, `3w`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration; give one like 30m, 1h or 14d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("500M"), Ok(500 << 20));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert!(parse_size("x").unwrap_err().contains("is not a size"));
        assert_eq!(parse_rate("500K"), Ok(500 << 10));
        assert!(parse_rate("0").is_err() && parse_rate("1023").is_err() && parse_rate("").is_err());
        assert!(parse_size("5X").is_err());
        assert!(parse_size("99999999999T").is_err());
    }

    #[test]
    fn durations_are_parsed() {
        assert_eq!(parse_duration("14d").unwrap().as_secs(), 14 * 86_400);
        assert_eq!(parse_duration("0d").unwrap().as_secs(), 0);
        for bad in ["", "d", "5", "5y", "-5d", "99999999999999999999d", "9999999999999999999w"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

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
