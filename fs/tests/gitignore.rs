//! Patterns compared with git itself: random patterns over random trees, asked of `git check-ignore`.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use bkfs_fs::exclude::{ExcludeOptions, Excludes};
use proptest::{prelude::*, sample::select, test_runner::TestCaseError};

/// Names of entries. They hold what patterns are made of.
const NAMES: &[&str] =
    &["a", "b", "ab", "A", "a b", "{a,b}", "[a]", "*", "!a", "#a", "$a", "a{", "x.o", "a ", "\\a", "é"];
/// Patterns are strings of these.
const PIECES: &[&str] = &[
    "a",
    "b",
    "A",
    "x",
    ".o",
    "*",
    "**",
    "?",
    "/",
    "/",
    "/",
    "**/",
    "/**",
    "[ab]",
    "[!a]",
    "[^a]",
    "[[:upper:]]",
    "[[:alpha:]b]",
    "[z-a]",
    "[a-c]",
    "[",
    "]",
    "{a,b}",
    "{",
    ",",
    "}",
    "\\",
    "\\*",
    "!",
    "#",
    "$",
    " ",
    "\\ ",
    "é",
    "[]a]",
    "[a/b]",
];

fn pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(select(PIECES), 1..6).prop_map(|pieces| pieces.concat())
}

fn path() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(select(NAMES), 1..4)
}

/// Creates a tree. A path that runs into a file is left out.
fn create(root: &Path, paths: &[(Vec<&str>, bool)]) {
    for (names, is_dir) in paths {
        let path = root.join(names.join("/"));
        let parent = path.parent().expect("a path has a parent");
        if fs::create_dir_all(parent).is_ok() && fs::symlink_metadata(&path).is_err() {
            if *is_dir { fs::create_dir(&path) } else { fs::write(&path, "") }.expect("an entry is created");
        }
    }
}

/// Every entry below a folder but git's own: its path, and whether it is a folder.
fn entries(root: &Path, below: &str, found: &mut Vec<(String, bool)>) {
    for entry in fs::read_dir(root.join(below)).expect("the tree is listed") {
        let entry = entry.expect("the tree is listed");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        if below.is_empty() && name.starts_with(".git") {
            continue;
        }
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let is_dir = entry.path().is_dir();
        if is_dir {
            entries(root, &path, found);
        }
        found.push((path, is_dir));
    }
}

/// What git ignores of the paths.
fn ignored_by_git(root: &Path, paths: &[(String, bool)]) -> BTreeSet<String> {
    let mut git = git(root).args(["check-ignore", "--no-index", "--stdin", "-z"]).spawn().expect("git runs");
    let input: String = paths.iter().flat_map(|(path, _)| ["./", path, "\0"]).collect();
    git.stdin.take().expect("it has an input").write_all(input.as_bytes()).expect("git reads the paths");
    let output = git.wait_with_output().expect("git ends");
    assert!(matches!(output.status.code(), Some(0 | 1)), "git check-ignore: {output:?}");
    let paths = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    paths.map(|path| String::from_utf8_lossy(path).trim_start_matches("./").to_owned()).collect()
}

fn git(root: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(root).stdin(Stdio::piped()).stdout(Stdio::piped());
    git.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    git
}

/// Whether the rules exclude an entry, or a folder that it is in.
fn is_excluded(rules: &Excludes, path: &str, is_dir: bool) -> bool {
    let ancestors = path.match_indices('/').map(|(at, _)| &path[..at]);
    ancestors.into_iter().any(|folder| rules.matches(folder.as_bytes(), true)) || rules.matches(path.as_bytes(), is_dir)
}

fn agree_with_git(patterns: &[String], paths: &[(Vec<&str>, bool)]) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().expect("a folder is made");
    let root = dir.path();
    assert!(git(root).args(["init", "--quiet"]).status().expect("git runs").success());
    create(root, paths);
    fs::write(root.join(".git/info/exclude"), patterns.join("\n")).expect("the patterns are written");
    let rules = Excludes::new(&ExcludeOptions { patterns: patterns.to_vec(), ..Default::default() })
        .expect("no pattern is refused");
    let mut found = Vec::new();
    entries(root, "", &mut found);
    let expected = ignored_by_git(root, &found);
    let actual = found.iter().filter(|(path, is_dir)| is_excluded(&rules, path, *is_dir)).map(|(path, _)| path.clone());
    prop_assert_eq!(actual.collect::<BTreeSet<_>>(), expected, "patterns {:?}", patterns);
    Ok(())
}

#[test]
fn patterns_decide_as_in_git() {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("skipped: there is no git");
        return;
    }
    let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    let trees = prop::collection::vec((path(), any::<bool>()), 1..24);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let strategy = (prop::collection::vec(pattern(), 1..6), trees);
    runner.run(&strategy, |(patterns, paths)| agree_with_git(&patterns, &paths)).unwrap();
}
