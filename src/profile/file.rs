//! Reads a file of profiles. Every problem has a line.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::settings::Settings;

/// The most profiles in a file.
const PROFILES_MAX: usize = 1000;
/// The longest name of a profile, in bytes.
const NAME_MAX: usize = 64;

/// Something that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1. 0 if it is about the whole file.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.message),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.message),
        }
    }
}

/// A profile as a file defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The line of its name.
    pub line: usize,
    /// What it sets itself.
    pub settings: Settings,
    /// The line of each key that it sets, like `exclude.caches`.
    pub lines: BTreeMap<String, usize>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// Whether only the file's owner can read it.
    pub is_private: bool,
}

/// A whole file, for the schema.
#[derive(JsonSchema)]
#[schemars(rename = "bkfs profiles")]
#[allow(dead_code, reason = "only its schema is used")]
struct File {
    /// The profiles by name: `[profile.NAME]`.
    profile: BTreeMap<String, Settings>,
}

/// Returns the schema of a file.
pub(super) fn schema() -> Value {
    schema_for!(File).to_value()
}

/// Reads a file: its profiles, and what is wrong outside of them.
pub(super) fn parse(file: &Path, text: &str) -> (Vec<Definition>, Vec<Problem>) {
    let problem = |line, message| Problem { file: file.to_owned(), line, message };
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => return (Vec::new(), vec![problem(line_of(text, error.span()), error.message().to_owned())]),
    };
    let (mut definitions, mut problems) = (Vec::new(), Vec::new());
    let schema = schema_for!(Settings).to_value();
    for (key, value) in table {
        let (name, line) = (key.get_ref().to_string(), line_of(text, Some(key.span())));
        if name != "profile" {
            let known = properties(&schema, &schema).is_some_and(|known| known.contains_key(&name));
            problems.push(problem(
                line,
                match known {
                    true => {
                        format!("{name:?} stands outside of a profile: keys of a profile follow a line [profile.NAME]")
                    }
                    false => format!("unknown key {name:?}: a file of profiles has only tables like [profile.NAME]"),
                },
            ));
            continue;
        }
        let DeValue::Table(profiles) = value.into_inner() else {
            problems.push(problem(line, "\"profile\" is not a table: write [profile.NAME]".into()));
            continue;
        };
        if profiles.len() > PROFILES_MAX {
            problems.push(problem(line, format!("there are more than {PROFILES_MAX} profiles in the file")));
            continue;
        }
        for (name, value) in profiles {
            let line = line_of(text, Some(name.span()));
            match check_name(name.get_ref()) {
                Ok(()) => definitions.push(definition(file, text, &schema, name.get_ref(), line, value)),
                Err(why) => problems.push(problem(line, why)),
            }
        }
    }
    (definitions, problems)
}

fn definition(
    file: &Path,
    text: &str,
    schema: &Value,
    name: &str,
    line: usize,
    mut value: Spanned<DeValue<'_>>,
) -> Definition {
    let mut walk = Walk { file, text, schema, lines: BTreeMap::new(), problems: Vec::new() };
    walk.visit("", value.get_mut(), schema);
    let (lines, mut problems) = (walk.lines, walk.problems);
    let settings = Settings::deserialize(ValueDeserializer::from(value)).unwrap_or_else(|error| {
        let line = line_of(text, error.span());
        // The key that stands at this line, or before it.
        let key = lines.iter().filter(|(_, at)| **at <= line).max_by_key(|(key, at)| (**at, key.len()));
        let key = key.map_or_else(String::new, |(key, _)| format!("{key}: "));
        problems.push(Problem { file: file.to_owned(), line, message: format!("{key}{}", plain(error.message())) });
        Settings::default()
    });
    Definition { name: name.to_owned(), file: file.to_owned(), line, settings, lines, problems, is_private: false }
}

/// Returns the message of a wrong value in words that are not those of Rust.
fn plain(message: &str) -> String {
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let expected = match expected {
        "" => return message.to_owned(),
        "a boolean" => "true or false",
        "i32" | "u32" => "a number",
        "path string" | "a string" => "text in quotes",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    let what = what.replace("invalid type: ", "").replace("invalid value: ", "");
    format!("{what} is not what belongs here: write {expected}")
}

/// Collects the lines of keys, and takes away the keys that the schema does not know.
struct Walk<'a> {
    file: &'a Path,
    text: &'a str,
    schema: &'a Value,
    lines: BTreeMap<String, usize>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn visit(&mut self, path: &str, value: &mut DeValue<'_>, node: &Value) {
        match value {
            DeValue::Table(table) => {
                let Some(known) = properties(self.schema, node) else { return };
                let mut unknown = Vec::new();
                for (key, value) in table.iter_mut() {
                    let name: &str = key.get_ref();
                    let line = line_of(self.text, Some(key.span()));
                    let Some(below) = known.get(name) else {
                        let message = unknown_key(name, path, known, self.schema);
                        self.problems.push(Problem { file: self.file.to_owned(), line, message });
                        unknown.push(name.to_owned());
                        continue;
                    };
                    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                    self.visit(&path, value.get_mut(), below);
                    self.lines.insert(path, line);
                }
                unknown.iter().for_each(|name| drop(table.remove(name.as_str())));
            }
            DeValue::Array(list) => {
                let items = alternatives(self.schema, node).into_iter().find_map(|node| node.get("items"));
                let Some(items) = items else { return };
                list.iter_mut().for_each(|value| self.visit(path, value.get_mut(), items));
            }
            _ => {}
        }
    }
}

/// Returns what a node of a schema can be: itself, what it refers to, and what it is one of.
fn alternatives<'a>(schema: &'a Value, node: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![node];
    let reference = node.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
    found.extend(reference.and_then(|path| schema.pointer(path)).into_iter().flat_map(|to| alternatives(schema, to)));
    let any = node.get("anyOf").and_then(Value::as_array);
    found.extend(any.into_iter().flatten().flat_map(|to| alternatives(schema, to)));
    found
}

/// Returns the keys of a table in a schema.
fn properties<'a>(schema: &'a Value, node: &'a Value) -> Option<&'a Map<String, Value>> {
    alternatives(schema, node).into_iter().find_map(|node| node.get("properties")?.as_object())
}

fn unknown_key(name: &str, path: &str, known: &Map<String, Value>, schema: &Value) -> String {
    let at = if path.is_empty() { String::new() } else { format!(" in {path}") };
    let place = |table: &String, below: &Value| {
        let found = properties(schema, below)?.contains_key(name);
        found.then(|| format!("{table}.{name}"))
    };
    let elsewhere = || {
        let top = properties(schema, schema)?;
        match path.is_empty() {
            true => top.iter().find_map(|(table, below)| place(table, below)),
            false => top.contains_key(name).then(|| format!("{name} of the profile itself, above its tables")),
        }
    };
    let nearest = nearest(name, known.keys().map(String::as_str)).map(str::to_owned);
    match elsewhere().or(nearest) {
        Some(meant) => format!("unknown key {name:?}{at}: is {meant} meant?"),
        None => {
            let known: Vec<&str> = known.keys().map(String::as_str).collect();
            format!("unknown key {name:?}{at}: the keys are {}", known.join(", "))
        }
    }
}

/// Returns the name that is nearest to one, if any is near.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this similarity, a suggestion confuses more than it helps.
    const NEAR: f64 = 0.8;
    let name = name.to_lowercase().replace('_', "-");
    let scored = known.map(|known| (strsim::jaro_winkler(&name, known), known));
    scored.filter(|(score, _)| *score >= NEAR).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// Fails if a text cannot be the name of a profile.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match name.len() {
        1..=NAME_MAX if name.chars().all(is_plain) && !name.starts_with(['-', '.']) => Ok(()),
        _ => Err(format!(
            "{name:?} cannot be the name of a profile: it has letters, digits, and - _ . inside, at most {NAME_MAX}"
        )),
    }
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let Some(span) = span else { return 0 };
    let before = text.as_bytes().get(..span.start.min(text.len())).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(usize, String)> {
        let (definitions, problems) = parse(Path::new("/p.toml"), text);
        let inside = definitions.into_iter().flat_map(|definition| definition.problems);
        problems.into_iter().chain(inside).map(|problem| (problem.line, problem.message)).collect()
    }

    #[track_caller]
    fn only(text: &str, line: usize, words: &[&str]) {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, line, "{found:?}");
        words.iter().for_each(|word| assert!(found[0].1.contains(word), "{word}: {found:?}"));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        only("[profile.a]\nsorces = '/'\n", 2, &["\"sorces\"", "is sources meant?"]);
        only("[profile.a]\n\n[profile.a.exclude]\nlarger_than = 5\n", 4, &["in exclude", "is larger-than meant?"]);
        only("[profile.a]\nkeep-daily = 7\n", 2, &["is retention.keep-daily meant?"]);
        only("[profile.a.exclude]\ntags = 'x'\n", 2, &["tags of the profile itself"]);
        only("[profile.a]\nxyzzy = 1\n", 2, &["the keys are", "sources"]);
        only("[[profile.a.limits.times]]\nfrom = '1:00'\nto = '2:00'\nuplaod = '2M'\n", 4, &["is upload meant?"]);
        only("sources = '/'\n", 1, &["outside of a profile"]);
        only("[profiles.a]\n", 1, &["only tables like [profile.NAME]"]);
        only("profile = 1\n", 1, &["not a table"]);
        only("[profile.'a b']\n", 1, &["cannot be the name"]);
        only("[profile.a]\nsources = \n", 2, &[]);
    }

    #[test]
    fn a_wrong_value_names_its_key_and_line() {
        only("[profile.a]\nsources = '/'\nschedule = 'dayly'\n", 3, &["schedule: ", "daily 03:00"]);
        only("[profile.a]\ncompression = 'x'\n", 2, &["compression: ", "string \"x\"", "write a number"]);
        only("[profile.a.retention]\nkeep-daily = -1\n", 2, &["retention.keep-daily: ", "whole number"]);
        only("[profile.a.limits]\nupload = '5'\n", 2, &["limits.upload: ", "at least 1K"]);
        only("[profile.a]\ntags = ['x',\n 'a,b']\n", 3, &["tags: ", "comma"]);
        only("[[profile.a.limits.times]]\nfrom = '1:00'\n", 1, &["to"]);
        only("[profile.a]\nretention = 5\n", 2, &["retention: integer `5`", "write a table"]);
        only("[profile.a]\nsources = 5\n", 2, &["sources: ", "text or a list of texts"]);
        only("[profile.a]\nabstract = 'yes'\n", 2, &["abstract: ", "write true or false"]);
        only("[profile.a]\ntarget = true\n", 2, &["target: boolean `true`", "text like documents"]);
        // One profile's problem is not another's.
        let (definitions, _) = parse(Path::new("/p"), "[profile.a]\nx = 1\n[profile.b]\nsources = '/'\n");
        assert_eq!((definitions[0].problems.len(), definitions[1].problems.len()), (1, 0));
        assert_eq!(definitions[1].lines.get("sources"), Some(&4));
    }
}
