//! Compares what commands print with `--json` with `docs/JSON.md`: each key, at whatever depth, stands in the row of
//! its command.

use std::{collections::BTreeSet, ffi::OsStr, process::Output};

use serde_json::Value;

const PAGE: &str = include_str!("../../docs/JSON.md");

/// Checks what a command has printed, if it was to print JSON and succeeded.
#[track_caller]
pub fn check<A: AsRef<OsStr>>(args: &[A], output: &Output) {
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.as_ref().to_str()).collect();
    let is_json = words.contains(&"--json") && words.first() != Some(&"cat");
    if !is_json || !output.status.success() {
        return;
    }
    let (name, known) = row(&words).unwrap_or_else(|| panic!("docs/JSON.md has no row for bkfs {}", words.join(" ")));
    for value in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>() {
        let value = value.unwrap_or_else(|e| panic!("bkfs {}: {e}", words.join(" ")));
        let mut keys = BTreeSet::new();
        collect(&value, &mut keys);
        let missing: Vec<_> = keys.iter().filter(|key| !known.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "docs/JSON.md lacks {missing:?} in the row of {name}: {value}");
    }
}

/// Checks a line that a command printed while it runs on.
#[track_caller]
pub fn check_line(name: &str, line: &str) {
    let known = keys(name).unwrap_or_else(|| panic!("docs/JSON.md has no row for bkfs {name}"));
    let mut found = BTreeSet::new();
    collect(&serde_json::from_str(line).unwrap_or_else(|e| panic!("bkfs {name}: {e}: {line}")), &mut found);
    let missing: Vec<_> = found.iter().filter(|key| !known.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "docs/JSON.md lacks {missing:?} in the row of {name}: {line}");
}

/// Returns the keys of all objects in a value: the names of fields, and not what a map has for keys, like ids.
fn collect(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                    keys.insert(key.clone());
                }
                collect(value, keys);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

/// Returns the name of the row of a command line, and the keys there.
fn row(words: &[&str]) -> Option<(String, BTreeSet<&'static str>)> {
    (1..=words.len().min(3)).rev().find_map(|len| {
        let name = words[..len].join(" ");
        let keys = keys(&name)?;
        Some((name, keys))
    })
}

/// Returns the keys in the row of a command, and those of the rows that it refers to.
fn keys(name: &str) -> Option<BTreeSet<&'static str>> {
    let mut rows = PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let (_, text) = rows.find(|(names, _)| quoted(names).any(|known| known == name))?;
    let mut keys: BTreeSet<&str> = quoted(text).collect();
    for (_, rest) in text.match_indices("the fields of ").map(|(at, words)| text.split_at(at + words.len())) {
        let other = quoted(rest).next().expect("the name of a command");
        keys.extend(self::keys(other).unwrap_or_else(|| panic!("a row of {other}")));
    }
    keys.insert("version");
    Some(keys)
}

/// Returns what stands between back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
