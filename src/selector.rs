//! How to name a snapshot on the command line: `SNAPSHOT[:PATH]`. SNAPSHOT is an id or a prefix of one, `latest`, or a
//! time ([`TimePattern`]).
//!
//! Filters limit the snapshots to choose from. A name that fits several snapshots is refused, and the error lists them.
//! What `latest` means is decided in [`bkfs_fs::select`].

mod choose;
mod filters;
mod time;

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    str::FromStr,
};

use bkfs_fs::select::WantedPath;
use bkfs_store::base::id::SnapshotId;
use clap::builder::{OsStringValueParser, TypedValueParser};

pub use choose::{choose, describe};
pub use filters::Filters;
pub use time::TimePattern;

/// The name of a snapshot on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotName {
    /// The newest.
    Latest,
    /// The one whose id begins with this text.
    Id(String),
    /// The one of this time.
    Time(TimePattern),
}

impl SnapshotName {
    /// Returns the name as it can be typed.
    pub fn text(&self) -> &str {
        match self {
            Self::Latest => "latest",
            Self::Id(text) => text,
            Self::Time(pattern) => pattern.text(),
        }
    }
}

impl FromStr for SnapshotName {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let is_hex = |s: &str| s.bytes().all(|b| b.is_ascii_hexdigit());
        if s == "latest" {
            Ok(Self::Latest)
        } else if (1..=SnapshotId::LEN * 2).contains(&s.len()) && is_hex(s) {
            Ok(Self::Id(s.to_ascii_lowercase()))
        } else if let Ok(pattern) = s.parse() {
            Ok(Self::Time(pattern))
        } else {
            Err(format!(
                "{s:?} is not a snapshot: give an id or a prefix of one, latest, or a time like '2026-11-20 \
                 09:00:00' or 2026-11-20T090000Z"
            ))
        }
    }
}

/// `SNAPSHOT[:PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The snapshot.
    pub name: SnapshotName,
    /// The path in the snapshot, without leading or trailing slashes, if one was given.
    pub path: Option<Vec<u8>>,
    /// Whether the path was written with a slash at its beginning.
    pub is_absolute: bool,
}

impl From<SnapshotName> for Selector {
    fn from(name: SnapshotName) -> Self {
        Self { name, path: None, is_absolute: false }
    }
}

impl Selector {
    /// Parses a selector. The path begins after the first colon, so it may contain colons. It need not be UTF-8.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let is_clock = |part: &[u8]| part.len() == 2 && part.iter().all(u8::is_ascii_digit);
        if bytes.len() > 2 && bytes.split(|b| *b == b':').all(is_clock) {
            let text = text.to_string_lossy();
            return Err(format!("{text:?} has no date: write a date and a time as one argument, in quotes"));
        }
        // A time may contain colons. The path begins after the first colon that is not part of it.
        let time_len = match TimePattern::parse_prefix(bytes).filter(|_| TimePattern::is_meant(bytes)) {
            Some((pattern, rest)) if is_unclear(&pattern, rest) => {
                let text = text.to_string_lossy();
                return Err(format!(
                    "{text:?} is neither a time nor a time with a path: write a time like 2026-11-20T09:00:00, and a \
                     path that looks like a number with ./ before it"
                ));
            }
            Some((_, rest)) => bytes.len() - rest.len(),
            None => 0,
        };
        let (name, path) = match bytes[time_len..].iter().position(|b| *b == b':') {
            Some(colon) => (&bytes[..time_len + colon], Some(&bytes[time_len + colon + 1..])),
            None => (bytes, None),
        };
        let is_absolute = path.is_some_and(|path| path.starts_with(b"/"));
        let path = path.map(clean_path).transpose()?;
        let name = std::str::from_utf8(name).map_err(|_| "the name of the snapshot is not UTF-8".to_owned())?;
        Ok(Self { name: name.parse()?, path, is_absolute })
    }

    /// Returns what the user wants of the snapshot.
    pub fn wanted(&self) -> Option<WantedPath<'_>> {
        self.path.as_deref().map(|path| WantedPath { path, is_absolute: self.is_absolute })
    }

    /// Returns the text from which [`Selector::parse`] makes the same selector.
    pub fn to_os_string(&self) -> OsString {
        let mut bytes = self.name.text().as_bytes().to_vec();
        if let Some(path) = &self.path {
            bytes.push(b':');
            // A number after a time would be a part of the time.
            bytes.extend_from_slice(if self.is_absolute { b"/" } else { b"./" });
            bytes.extend_from_slice(path);
        }
        OsString::from_vec(bytes)
    }
}

/// Whether what follows a time looks like more of the time, but is not: it must not become a path.
fn is_unclear(pattern: &TimePattern, rest: &[u8]) -> bool {
    let looks_like_time = |b: &u8| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'+' | b'-' | b'Z' | b'T');
    let path = rest.strip_prefix(b":").unwrap_or_default();
    pattern.could_continue() && path.first().is_some_and(u8::is_ascii_digit) && path.iter().all(looks_like_time)
}

/// Cleans a path below a snapshot's root: `/a//b/./` becomes `a/b`. Refuses `..`.
fn clean_path(path: &[u8]) -> Result<Vec<u8>, String> {
    let mut clean: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("a path in a snapshot cannot contain `..`".to_owned()),
            part => clean.push(part),
        }
    }
    Ok(clean.join(&b'/'))
}

/// Returns the parser of selectors for clap.
pub fn value_parser() -> impl TypedValueParser<Value = Selector> {
    OsStringValueParser::new().try_map(|text| Selector::parse(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Selector, String> {
        Selector::parse(OsStr::new(text))
    }

    fn time(text: &str) -> SnapshotName {
        SnapshotName::Time(text.parse().unwrap())
    }

    #[test]
    fn all_forms_are_parsed() {
        assert_eq!(parse("latest").unwrap(), Selector { name: SnapshotName::Latest, path: None, is_absolute: false });
        assert_eq!(parse("latest:").unwrap().path, Some(vec![]));
        assert_eq!(
            parse("AB12:/etc//./x:y/").unwrap(),
            Selector { name: SnapshotName::Id("ab12".into()), path: Some(b"etc/x:y".to_vec()), is_absolute: true }
        );
        assert_eq!(parse("2026-11-20T090000Z:a").unwrap().name, time("2026-11-20T090000Z"));
        assert_eq!(parse("2026-11").unwrap().name, time("2026-11"));
        assert_eq!(parse("20261120").unwrap().name, SnapshotName::Id("20261120".into()));
        for bad in ["", ":x", "newest", "latest:a/../b", "2026-1", &"a".repeat(65)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let path = Selector::parse(OsStr::from_bytes(b"latest:\xff")).unwrap().path;
        assert_eq!(path, Some(vec![0xff]));
    }

    #[test]
    fn the_colons_of_a_time_do_not_begin_a_path() {
        for (text, name, path) in [
            ("2026-11-28T11:16:00", "2026-11-28T11:16:00", None),
            ("2026-11-28 11:16:00", "2026-11-28 11:16:00", None),
            ("2026-11-28T11:16", "2026-11-28T11:16", None),
            ("2026-11-28T11:16:00:etc/x", "2026-11-28T11:16:00", Some("etc/x")),
            ("2026-11-28T11:16:00.25+01:00:/20", "2026-11-28T11:16:00.25+01:00", Some("20")),
            ("2026-11-28T11:16:00+01:etc", "2026-11-28T11:16:00+01", Some("etc")),
            ("2026-11-28T11:16:00Z:16", "2026-11-28T11:16:00Z", Some("16")),
            ("2026-11-28T11:etc", "2026-11-28T11", Some("etc")),
            ("2026-11-28T11:16/x", "2026-11-28T11", Some("16/x")),
            ("2026-11-28T11:./16", "2026-11-28T11", Some("16")),
            ("2026-11-28T111600Z-2:a", "2026-11-28T111600Z-2", Some("a")),
            ("2026-11-28:16", "2026-11-28", Some("16")),
            ("@12:34", "@12", Some("34")),
        ] {
            let parsed = parse(text).unwrap();
            assert_eq!((&parsed.name, parsed.path.as_deref()), (&time(name), path.map(str::as_bytes)), "{text}");
            assert_eq!(Selector::parse(&parsed.to_os_string()), Ok(parsed), "{text}");
        }
        for unclear in ["2026-11-28T11:1", "2026-11-28T11:61:00", "2026-11-28T11:16:0", "2026-11-28T11:16:99"] {
            assert!(parse(unclear).unwrap_err().contains("neither a time nor"), "{unclear}");
        }
        assert!(parse("11:16:00").unwrap_err().contains("in quotes"));
        assert!(parse("2026-11-28T1").is_err() && parse("2026-11-28x").is_err());
    }
}
