//! House rules that the compiler does not know: which room of the store may use which, that no crate has circles, that
//! crates meet only in the store, that no object grows until everything can touch it, and how long files and lines are.
//!
//! The sources are scanned as text, without comments and without unit tests.

#![allow(clippy::unwrap_used)]

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/source.rs"]
mod source;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use source::{Crate, code, methods, rust_files};

/// The rooms of the store, lowest first, and the rooms that each may use. The list has no circles, and neither
/// `repository` nor `owner` is in the other's row: they meet at the seam.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("crypto", &["base"]),
    ("format", &["base", "crypto"]),
    ("access", &["base", "crypto", "format"]),
    ("repository", &["base", "crypto", "format", "access"]),
    ("owner", &["base", "crypto", "format", "access"]),
];

/// Rooms in which no key of a repository may appear, and the types that hold keys.
const KEYLESS: &[&str] = &["access", "repository"];
const KEY_TYPES: &[&str] =
    &["KeyRing", "FullKey", "PushKey", "IdKeys", "DataKey", "SealSecret", "SigningKey", "AeadKey", "Secret"];

/// Most methods of a trait at the seam.
const TRAIT_METHODS_MAX: usize = 10;
/// Most methods of a type below the seam.
const TYPE_METHODS_MAX: usize = 40;
/// Most fields of `Repository`.
const REPOSITORY_FIELDS_MAX: usize = 6;
/// Most lines of a file, unit tests not counted.
const LINES_MAX: usize = 600;
/// Most characters of a line. Rows of tables and lines with a URL may be longer.
const COLUMNS_MAX: usize = 120;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn crate_at(folder: &str) -> Crate {
    Crate::read(&workspace().join(folder))
}

#[test]
fn rooms_use_only_what_stands_below_them() {
    let rooms: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let store = crate_at("store/src");
    let mut wrong = Vec::new();
    for (file, used) in store.uses() {
        let Some(room) = file.first() else { continue };
        let Some(allowed) = rooms.get(room.as_str()) else {
            wrong.push(format!("{room} is not a room of the store: add it to the table in store/tests/tidy.rs"));
            continue;
        };
        let Some(other) = used.first().filter(|other| *other != room) else { continue };
        if !allowed.contains(&other.as_str()) {
            wrong.push(format!("{} must not use {}", file.join("::"), used.join("::")));
        }
    }
    for (room, _) in ROOMS {
        assert!(
            store.modules.keys().any(|module| module.first().is_some_and(|name| name == room)),
            "{room} is missing"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_rooms_has_no_circles() {
    let mut below = Vec::new();
    for (room, allowed) in ROOMS {
        assert!(allowed.iter().all(|used| below.contains(used)), "{room} uses a room that does not stand above it");
        below.push(room);
    }
}

#[test]
fn no_key_comes_below_the_seam() {
    let store = crate_at("store/src");
    let mut wrong = Vec::new();
    for (module, source) in &store.modules {
        if !module.first().is_some_and(|room| KEYLESS.contains(&room.as_str())) {
            continue;
        }
        for word in code(source).split(|c: char| !c.is_alphanumeric() && c != '_') {
            if KEY_TYPES.contains(&word) {
                wrong.push(format!("{} must not know {word}", module.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_crate_has_circles() {
    let mut wrong = Vec::new();
    for folder in ["store/src", "transport/src", "fs/src", "src"] {
        for circle in circles::find(&crate_at(folder).uses()) {
            wrong.push(format!("{folder}: {}", circle.join(" -> ")));
        }
    }
    assert!(wrong.is_empty(), "modules that use each other:\n{}", wrong.join("\n"));
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
fn traits_and_types_stay_small() {
    let store = crate_at("store/src");
    let mut wrong = Vec::new();
    for (name, count) in methods(&store, "access", "trait ") {
        if count > TRAIT_METHODS_MAX {
            wrong.push(format!("the trait {name} has {count} methods, more than {TRAIT_METHODS_MAX}"));
        }
    }
    let types = methods(&store, "repository", "impl");
    assert!(types.get("Repository").is_some_and(|count| *count > 10), "the methods of Repository are found");
    for (name, count) in types {
        if count > TYPE_METHODS_MAX {
            wrong.push(format!("{name} has {count} methods, more than {TYPE_METHODS_MAX}"));
        }
    }
    let repository = code(&store.modules[&vec!["repository".to_owned()]]);
    let fields = source::fields(&repository, "Repository").expect("repository.rs defines Repository");
    if fields > REPOSITORY_FIELDS_MAX {
        wrong.push(format!("Repository has {fields} fields, more than {REPOSITORY_FIELDS_MAX}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_states_what_it_is_and_none_is_too_long() {
    let mut files = Vec::new();
    for dir in ["src", "store", "transport", "fs", "tests", "benches", "examples", "fuzz"] {
        rust_files(&workspace().join(dir), &mut files);
    }
    let mut wrong = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        // A fuzz target begins with the attribute that makes it one.
        if !source.trim_start_matches("#![no_main]").trim_start().starts_with("//!") && !source.starts_with("//!") {
            wrong.push(format!("{} does not open with //!", file.display()));
        }
        let lines = source::without_tests(&source).lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{} has {lines} lines; split it before {LINES_MAX}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_line_is_too_wide() {
    let mut files = Vec::new();
    source::text_files(&workspace(), &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let Ok(source) = fs::read_to_string(&file) else { continue };
        for (number, line) in source.lines().enumerate() {
            let is_table_row = line.trim_start_matches(['/', '!', ' ']).starts_with('|');
            let may_be_wide = is_table_row || line.contains("://");
            if line.chars().count() > COLUMNS_MAX && !may_be_wide {
                wrong.push(format!("{}:{}: {} columns", file.display(), number + 1, line.chars().count()));
            }
        }
    }
    assert!(wrong.is_empty(), "lines of more than {COLUMNS_MAX} columns:\n{}", wrong.join("\n"));
}
