//! Values that people write, on the command line and in profiles: sizes, rates, durations, names, parts of the data.

mod alarm_share;
mod max_unused;
mod size;
mod subset;

use std::{os::unix::ffi::OsStrExt, path::Path, time::Duration};

use bkfs_fs::push::StreamFile;
use bkfs_store::base::label::Label;

pub use alarm_share::AlarmShare;
pub use max_unused::MaxUnused;
pub use size::{parse_rate, parse_size};
pub use subset::Subset;

/// A limit in bytes; none is no limit. A type of its own, because clap takes an `Option` for an argument that may be
/// missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimit(pub Option<u64>);

/// A limit of a number; none is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountLimit(pub Option<u64>);

/// Fails with what is wrong with the path of a stream in a snapshot, if anything is.
pub fn check_stream_name(name: &Path) -> Result<(), String> {
    StreamFile::names(name.as_os_str().as_bytes()).map(drop).map_err(|error| error.to_string())
}

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
    fn durations_are_parsed() {
        assert_eq!(parse_duration("14d").unwrap().as_secs(), 14 * 86_400);
        assert_eq!(parse_duration("0d").unwrap().as_secs(), 0);
        for bad in ["", "d", "5", "5y", "-5d", "99999999999999999999d", "9999999999999999999w"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
