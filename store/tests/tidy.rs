//! House rules that the compiler does not know: which module of the store may use which, that crates meet only in the
//! store, that every file says at its top what it is, and that none grows too long.
//!
//! The sources are scanned as text: `crate::` paths and their brace trees, without comments and without unit tests.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules of the store, lowest first, and what each may use. A module uses only what stands above it, so there are
/// no circles. `node` is `tree/node.rs`, the plain records of trees (through their re-exports in `tree`), which lie far
/// below the code that builds and reads trees.
const LAYERS: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("error", &["id"]),
    ("node", &["id"]),
    ("codec", &["error"]),
    ("lmdb", &["error"]),
    ("crypto", &["error", "id"]),
    ("signed", &["codec", "crypto", "error"]),
    ("config", &["codec", "crypto", "error", "id", "node", "signed"]),
    ("roster", &["codec", "crypto", "error", "id", "node", "signed"]),
    ("fate", &["node"]),
    ("loss", &["id"]),
    ("log", &["codec", "error", "id", "loss", "node"]),
    ("compress", &["error"]),
    ("frame", &["codec", "compress", "crypto", "error", "id"]),
    ("access", &["crypto", "error", "frame", "id", "loss", "node"]),
    ("keys", &["access", "codec", "config", "crypto", "error", "id", "node", "roster", "signed"]),
    ("tombstone", &["codec", "crypto", "error", "id", "keys", "signed"]),
    ("keyring", &["access", "crypto", "error", "id", "keys"]),
    ("snapshot", &["access", "codec", "crypto", "error", "id", "keyring", "keys", "node", "roster", "signed"]),
    ("retention", &["id", "node", "snapshot"]),
    ("chunker", &["config", "crypto", "error"]),
    ("pack", &["access", "codec", "crypto", "error", "frame", "id", "roster", "signed"]),
    ("erasure", &["error", "id", "pack"]),
    ("sweep", &["access", "codec", "error", "frame", "id", "loss", "pack"]),
    ("logfile", &["codec", "error", "id", "log", "node"]),
    ("backend", &["crypto", "error", "id"]),
    ("logpair", &["backend", "error", "id", "logfile"]),
    ("logsalvage", &["codec", "id", "log", "logfile", "node"]),
    ("index", &["codec", "crypto", "error", "fate", "frame", "id", "lmdb", "logfile", "loss", "node", "pack", "sweep"]),
    ("tree", &["codec", "config", "crypto", "error", "id", "keys", "node"]),
    ("content", &["error", "id", "keys", "node", "tree"]),
    (
        "reader",
        &[
            "access",
            "codec",
            "config",
            "content",
            "crypto",
            "error",
            "fate",
            "frame",
            "id",
            "keyring",
            "keys",
            "log",
            "node",
            "roster",
            "snapshot",
            "tombstone",
            "tree",
        ],
    ),
    (
        "prune",
        &[
            "access", "codec", "compress", "crypto", "error", "frame", "id", "keys", "log", "node", "pack", "reader",
            "sweep", "tree",
        ],
    ),
    ("check", &["access", "codec", "error", "frame", "id", "log", "node", "pack", "reader", "roster", "tree"]),
    ("repair", &["access", "check", "error", "id", "loss", "node", "pack", "reader", "tree"]),
    (
        "repository",
        &[
            "access",
            "backend",
            "codec",
            "config",
            "crypto",
            "erasure",
            "error",
            "fate",
            "frame",
            "id",
            "index",
            "keys",
            "lmdb",
            "log",
            "logfile",
            "logpair",
            "logsalvage",
            "loss",
            "node",
            "pack",
            "roster",
            "signed",
            "snapshot",
            "sweep",
            "tombstone",
        ],
    ),
];

/// Most lines of a file, unit tests apart.
const LINES_MAX: usize = 600;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// A source without its line comments and without its unit tests, which stand last.
fn code(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap();
    source.lines().map(|l| l.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The paths that a use tree like `a::{b, c::d}` stands for; reads up to the tree's end and returns the rest.
fn tree<'a>(text: &'a str, prefix: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = prefix.to_vec();
    let mut text = text.trim_start();
    loop {
        if let Some(mut rest) = text.strip_prefix('{') {
            loop {
                rest = tree(rest, &path, paths).trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
                if let Some(rest) = rest.strip_prefix('}') {
                    return rest;
                }
            }
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(text.len());
        path.push(text[..end].to_owned());
        text = text[end..].trim_start();
        match text.strip_prefix("::") {
            Some(rest) => text = rest.trim_start(),
            None => break,
        }
    }
    paths.push(path);
    // `as name` belongs to the path.
    match text.strip_prefix("as ") {
        Some(rest) => rest.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
        None => text,
    }
}

/// The modules of this crate that a file uses. `up` is what leads from the file to the crate's root.
fn uses(source: &str, up: Option<&str>, records: &BTreeSet<String>) -> BTreeSet<String> {
    let code = code(source);
    let mut paths = Vec::new();
    for root in ["crate::"].into_iter().chain(up) {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                tree(&code[at + root.len()..], &[], &mut paths);
            }
        }
    }
    let module = |path: Vec<String>| match path[0].as_str() {
        "Error" | "ErrorKind" | "Result" => "error".to_owned(),
        "tree" if path.get(1).is_some_and(|name| records.contains(name)) => "node".to_owned(),
        name => name.to_owned(),
    };
    paths.into_iter().map(module).collect()
}

/// The names that `tree` re-exports from its records.
fn records() -> BTreeSet<String> {
    let source = fs::read_to_string(workspace().join("store/src/tree.rs")).unwrap();
    let mut paths = Vec::new();
    let exports = source.split("pub use node::").nth(1).expect("tree re-exports its records");
    tree(exports, &[], &mut paths);
    paths.into_iter().map(|path| path[0].clone()).collect()
}

#[test]
fn the_table_has_no_circles() {
    let mut below = BTreeSet::new();
    for (module, allowed) in LAYERS {
        for used in *allowed {
            assert!(below.contains(used), "{module} may use {used}, which does not stand above it");
        }
        assert!(below.insert(module), "{module} comes twice");
    }
}

#[test]
fn modules_use_only_what_the_table_lets_them() {
    let src = workspace().join("store/src");
    let table: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let records = records();
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        // Unit tests in a file of their own may use anything.
        if inside.file_name().unwrap() == "tests.rs" {
            continue;
        }
        let mut parts: Vec<_> = inside.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        let depth = parts.len();
        let first = parts.swap_remove(0);
        let module = match first.trim_end_matches(".rs") {
            "lib" => continue,
            "tree" if inside == Path::new("tree/node.rs") => "node".to_owned(),
            name => name.to_owned(),
        };
        let up = match depth {
            1 => Some("super::"),
            2 => Some("super::super::"),
            _ => None,
        };
        seen.insert(module.clone());
        let Some(allowed) = table.get(module.as_str()) else {
            wrong.push(format!("{module} has no row in the table of store/tests/tidy.rs"));
            continue;
        };
        for used in uses(&fs::read_to_string(&file).unwrap(), up, &records) {
            let own = used == module || (module == "node" && used == "tree");
            if !own && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: {module} may not use {used}", inside.display()));
            }
        }
    }
    for (module, _) in LAYERS {
        if !seen.contains(*module) {
            wrong.push(format!("the table has a row for {module}, which is not there"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_scanner_finds_what_it_is_for() {
    let records = BTreeSet::from(["Time".to_owned()]);
    let found = |source: &str, up| uses(source, up, &records).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        found("use crate::{\n    access::{Access, Slot as S},\n    id::*, Result,\n};", None),
        "access error id"
    );
    assert_eq!(found("use crate::tree::{Time, Builder};\nlet x = crate::pack::Pack::new();", None), "node pack tree");
    assert_eq!(found("// use crate::index;\nuse other_crate::x; $crate::y::z;", None), "");
    assert_eq!(found("use super::roster::Roster;", Some("super::")), "roster");
    assert_eq!(found("fn f() {}\n#[cfg(test)]\nmod tests {\n use crate::index;\n}", None), "");
}

#[test]
fn crates_meet_only_in_the_store() {
    for (name, forbidden) in [
        ("store", &["bkfs-fs", "bkfs-transport", "tokio", "quinn", "fuser", "clap"][..]),
        ("fs", &["bkfs-transport", "quinn", "clap"]),
        ("transport", &["bkfs-fs", "fuser", "clap"]),
    ] {
        let manifest = fs::read_to_string(workspace().join(name).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
        for crate_name in forbidden {
            let named = dependencies.lines().any(|l| l.split(['.', ' ', '=']).next() == Some(crate_name));
            assert!(!named, "{name} must not depend on {crate_name}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_none_is_too_long() {
    let mut files = Vec::new();
    for dir in ["src", "store", "transport", "fs", "tests", "benches", "examples"] {
        rust_files(&workspace().join(dir), &mut files);
    }
    let mut wrong = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        if !source.starts_with("//!") {
            wrong.push(format!("{} does not open with //!", file.display()));
        }
        let lines = source.split("#[cfg(test)]\nmod ").next().unwrap().lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{} has {lines} lines; split it before {LINES_MAX}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
