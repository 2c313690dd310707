//! How to name a snapshot on the command line: `SNAPSHOT[:PATH]`. SNAPSHOT is an id or a prefix of one, `latest`, or a
//! time like `2026-11-20T090000Z` or a prefix of one, like `2026-11-20`.
//!
//! Filters limit the snapshots to choose from. A name that fits several snapshots is refused, and the error lists them.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    str::FromStr,
};

use bkfs_store::{
    Error, Result,
    base::{id::SnapshotId, time::Time},
    format::snapshot::Snapshot,
};
use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};

use crate::output;

/// The name of a snapshot on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotName {
    /// The newest.
    Latest,
    /// The one whose id begins with this text.
    Id(String),
    /// The one whose time begins with this text, written like the names of folders in a mount.
    Time(String),
}

impl FromStr for SnapshotName {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let is_hex = |s: &str| s.bytes().all(|b| b.is_ascii_hexdigit());
        if s == "latest" {
            Ok(Self::Latest)
        } else if (1..=SnapshotId::LEN * 2).contains(&s.len()) && is_hex(s) {
            Ok(Self::Id(s.to_ascii_lowercase()))
        } else if is_time_prefix(s) {
            // `--json` prints RFC 3339, with colons. Here it means the same as the name without colons.
            Ok(Self::Time(s.replace(':', "")))
        } else {
            Err(format!(
                "{s:?} is not a snapshot: give an id or a prefix of one, latest, or a time like 2026-11-20T090000Z"
            ))
        }
    }
}

fn is_time_prefix(s: &str) -> bool {
    let s = s.as_bytes();
    let digits = |range: std::ops::Range<usize>| s.get(range).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
    s.len() >= 7
        && digits(0..4)
        && s[4] == b'-'
        && digits(5..7)
        && s[7..].iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'T' | b'Z' | b':' | b'.'))
}

/// `SNAPSHOT[:PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The snapshot.
    pub name: SnapshotName,
    /// The path in the snapshot, without leading or trailing slashes, if one was given.
    pub path: Option<Vec<u8>>,
}

impl Selector {
    /// Parses a selector. The path begins after the first colon, so it may contain colons. It need not be UTF-8.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let (name, path) = match bytes.iter().position(|b| *b == b':') {
            Some(colon) => (&bytes[..colon], Some(clean_path(&bytes[colon + 1..])?)),
            None => (bytes, None),
        };
        let name = std::str::from_utf8(name).map_err(|_| "the name of the snapshot is not UTF-8".to_owned())?;
        Ok(Self { name: name.parse()?, path })
    }

    /// Returns the text from which [`Selector::parse`] makes the same selector.
    pub fn to_os_string(&self) -> OsString {
        let mut bytes = match &self.name {
            SnapshotName::Latest => b"latest".to_vec(),
            SnapshotName::Id(text) | SnapshotName::Time(text) => text.clone().into_bytes(),
        };
        if let Some(path) = &self.path {
            bytes.push(b':');
            bytes.extend_from_slice(path);
        }
        OsString::from_vec(bytes)
    }
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

/// Options that limit the snapshots to choose from.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Snapshot filters")]
pub struct Filters {
    /// Consider only snapshots of this machine
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Consider only snapshots of this target
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Consider only snapshots with this tag (repeat to require several tags)
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Consider only snapshots of pushes that named PATH (repeat to require several paths)
    #[arg(long, value_name = "PATH")]
    pub path: Vec<OsString>,
}

impl Filters {
    /// Returns whether a snapshot passes all filters.
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        let trimmed = |path: &OsStr| match path.as_bytes() {
            b"/" => b"/".to_vec(),
            bytes => bytes.strip_suffix(b"/").unwrap_or(bytes).to_vec(),
        };
        self.host.as_ref().is_none_or(|host| *host == snapshot.host)
            && self.target.as_ref().is_none_or(|target| *target == snapshot.target)
            && self.tag.iter().all(|tag| snapshot.tags.contains(tag))
            && self.path.iter().all(|path| snapshot.paths.iter().any(|p| p.0 == trimmed(path)))
    }

    /// Returns whether no filter is set.
    pub fn is_empty(&self) -> bool {
        self.host.is_none() && self.target.is_none() && self.tag.is_empty() && self.path.is_empty()
    }
}

/// A snapshot that can be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The snapshot's id.
    pub id: SnapshotId,
    /// The snapshot.
    pub snapshot: &'a Snapshot,
}

/// Chooses one of the candidates, which are sorted from oldest to newest. Returns its index.
pub fn choose(candidates: &[Candidate<'_>], name: &SnapshotName, filters: &Filters) -> Result<usize> {
    let fits = |c: &Candidate<'_>| {
        filters.matches(c.snapshot)
            && match name {
                SnapshotName::Latest => true,
                SnapshotName::Id(prefix) => c.id.to_string().starts_with(prefix),
                SnapshotName::Time(prefix) => time_fits(c.snapshot.time, prefix),
            }
    };
    let found: Vec<usize> = candidates.iter().enumerate().filter(|(_, c)| fits(c)).map(|(i, _)| i).collect();
    match (found.as_slice(), name) {
        ([], _) => Err(Error::SnapshotNotFound(none_found(candidates.len(), name, filters))),
        (all, SnapshotName::Latest) => {
            Ok(all.iter().copied().max_by_key(|i| (candidates[*i].snapshot.time, *i)).unwrap_or_default())
        }
        ([one], _) => Ok(*one),
        (several, SnapshotName::Id(text) | SnapshotName::Time(text)) => {
            let mut names: Vec<String> = several
                .iter()
                .take(8)
                .map(|i| format!("{} ({})", candidates[*i].id.short(), output::time_name(candidates[*i].snapshot.time)))
                .collect();
            if several.len() > names.len() {
                names.push("...".to_owned());
            }
            let count = several.len();
            Err(Error::SnapshotNotFound(format!("{text} fits {count} snapshots; choose one: {}", names.join(", "))))
        }
    }
}

/// Returns whether a time begins with the prefix, either as the name of a folder in a mount or with its fraction.
fn time_fits(time: Time, prefix: &str) -> bool {
    output::time_name(time).starts_with(prefix) || output::time_json(time).replace(':', "").starts_with(prefix)
}

fn none_found(all: usize, name: &SnapshotName, filters: &Filters) -> String {
    let what = match name {
        SnapshotName::Latest => "there is no snapshot".to_owned(),
        SnapshotName::Id(text) => format!("no snapshot has an id that begins with {text}"),
        SnapshotName::Time(text) => format!("no snapshot was made at {text} (times are in UTC)"),
    };
    let limited = if filters.is_empty() { "" } else { " among those that pass --host, --target, --tag and --path" };
    match all {
        0 => "the repository has no snapshots yet; `bkfs push` makes one".to_owned(),
        _ => format!("{what}{limited}; `bkfs snapshots` lists all snapshots"),
    }
}

#[cfg(test)]
mod tests {
    use bkfs_store::{
        base::id::{ChunkId, Hash},
        format::{
            snapshot::{PathBytes, PushStats},
            tree::{Node, NodeKind, Subtree, Totals},
        },
    };

    use super::*;

    fn parse(text: &str) -> Result<Selector, String> {
        Selector::parse(OsStr::new(text))
    }

    #[test]
    fn all_forms_are_parsed() {
        assert_eq!(parse("latest").unwrap(), Selector { name: SnapshotName::Latest, path: None });
        assert_eq!(parse("latest:").unwrap().path, Some(vec![]));
        assert_eq!(
            parse("AB12:/etc//./x:y/").unwrap(),
            Selector { name: SnapshotName::Id("ab12".into()), path: Some(b"etc/x:y".to_vec()) }
        );
        assert_eq!(parse("2026-11-20T090000Z:a").unwrap().name, SnapshotName::Time("2026-11-20T090000Z".into()));
        assert_eq!(parse("2026-11").unwrap().name, SnapshotName::Time("2026-11".into()));
        assert_eq!(parse("20261120").unwrap().name, SnapshotName::Id("20261120".into()));
        for bad in ["", ":x", "newest", "latest:a/../b", "2026-1", &"a".repeat(65)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let path = Selector::parse(OsStr::from_bytes(b"latest:\xff")).unwrap().path;
        assert_eq!(path, Some(vec![0xff]));
    }

    fn snapshot(secs: i64, host: &str, tags: &[&str]) -> Snapshot {
        let root = Node {
            mode: 0o755,
            subtree: Some(Subtree { id: ChunkId::default(), entries: 0, totals: Totals::default() }),
            ..Node::new(b"", NodeKind::Directory)
        };
        Snapshot {
            time: Time { secs, nanos: 0 },
            host: host.into(),
            user: "u".into(),
            target: "home".into(),
            paths: vec![PathBytes(b"/home".to_vec())],
            tags: tags.iter().map(|t| (*t).into()).collect(),
            root,
            stats: PushStats::default(),
            program: "bkfs".into(),
            sequence: 1,
            previous: None,
            log_len: 0,
            log_head: Hash::default(),
        }
    }

    #[test]
    fn one_is_chosen_or_the_error_says_why_not() {
        let snapshots = [snapshot(1_795_165_200, "a", &["x"]), snapshot(1_795_165_260, "b", &[])];
        let ids = [SnapshotId([0x11; 32]), SnapshotId([0x12; 32])];
        let candidates: Vec<_> = snapshots.iter().zip(ids).map(|(snapshot, id)| Candidate { id, snapshot }).collect();
        let pick = |text: &str, filters: &Filters| choose(&candidates, &parse(text).unwrap().name, filters);
        let none = Filters::default();
        assert_eq!(pick("latest", &none).unwrap(), 1);
        assert_eq!(pick("11", &none).unwrap(), 0);
        assert_eq!(pick("2026-11-20T090000Z", &none).unwrap(), 0);
        assert!(pick("1", &none).unwrap_err().to_string().contains("fits 2 snapshots"));
        assert!(pick("2026-11-20", &none).unwrap_err().to_string().contains("12121212"));
        assert!(pick("ff", &none).unwrap_err().to_string().contains("begins with ff"));
        let host = Filters { host: Some("a".into()), ..none.clone() };
        assert_eq!(pick("latest", &host).unwrap(), 0);
        assert_eq!(pick("1", &host).unwrap(), 0);
        let tag = Filters { tag: vec!["x".into()], path: vec!["/home/".into()], ..none.clone() };
        assert_eq!(pick("latest", &tag).unwrap(), 0);
        let path = Filters { path: vec!["/etc".into()], ..none };
        assert!(pick("latest", &path).unwrap_err().to_string().contains("--path"));
        assert!(choose(&[], &SnapshotName::Latest, &path).unwrap_err().to_string().contains("no snapshots yet"));
    }
}
