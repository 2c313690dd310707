//! Rows of the index that are missing or do not decode: each use rebuilds or corrects the index from the packs and the
//! log, by itself.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use bkfs_store::{
    access::{Lease, Manage, Open, OpenRequest, Opened},
    repository::Repository,
};
use heed::{
    CommitOrAbort, Database, Env, EnvOpenOptions, RoTxn,
    types::{Bytes, DecodeIgnore},
};

use support::world::{World, problems};

/// What is done to a row.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    Delete,
    Empty,
    Cut,
    Prefix,
}

const HARMS: [Harm; 4] = [Harm::Delete, Harm::Empty, Harm::Cut, Harm::Prefix];
/// Tables whose values are sorted with their keys: only whole rows can be lost there.
const SORTED: [&str; 2] = ["fresh chunks", "chunks"];
/// Rows of each table that are harmed.
const ROWS: usize = 12;

type Table = Database<'static, Bytes, Bytes>;

fn open(index: &Path) -> Env {
    // SAFETY: nothing else has it open, and it is whole.
    unsafe { EnvOpenOptions::new().max_dbs(32).open(index).unwrap() }
}

fn table(env: &Env, name: Option<&str>) -> Table {
    let opened = env.open_databases_and_commit(env.read_txn().unwrap(), |opener, txn| {
        opener.open_database::<Bytes, Bytes>(txn, name).map(CommitOrAbort::<_, ()>::Commit)
    });
    opened.unwrap().unwrap_commit().unwrap()
}

/// Returns the names of all tables and the keys of some of their rows.
fn rows(index: &Path) -> Vec<(String, Vec<u8>)> {
    let env = open(index);
    let main = table(&env, None).remap_data_type::<DecodeIgnore>();
    let names = |txn: &RoTxn<'_>| -> Vec<String> {
        main.iter(txn).unwrap().map(|row| String::from_utf8(row.unwrap().0.to_vec()).unwrap()).collect()
    };
    let names = names(&env.read_txn().unwrap());
    let mut found = Vec::new();
    for name in names {
        let table = table(&env, Some(&name));
        let txn = env.read_txn().unwrap();
        let mut keys: Vec<Vec<u8>> = table.iter(&txn).unwrap().map(|row| row.unwrap().0.to_vec()).collect();
        keys.retain(|key| !key.starts_with(b"packs/"));
        keys.dedup();
        keys.truncate(ROWS);
        found.extend(keys.into_iter().map(|key| (name.clone(), key)));
    }
    found
}

fn harm(index: &Path, name: &str, key: &[u8], harm: Harm) {
    // As if the process that wrote last had been killed.
    let _ = fs::remove_file(index.join("sealed"));
    let env = open(index);
    let table = table(&env, Some(name));
    let mut txn = env.write_txn().unwrap();
    let mut value = table.get(&txn, key).unwrap().unwrap().to_vec();
    match harm {
        Harm::Delete => drop(table.delete(&mut txn, key).unwrap()),
        Harm::Empty => table.put(&mut txn, key, b"").unwrap(),
        Harm::Cut => {
            value.pop();
            table.put(&mut txn, key, &value).unwrap();
        }
        Harm::Prefix => {
            value.insert(0, 0xff);
            table.put(&mut txn, key, &value).unwrap();
        }
    }
    txn.commit().unwrap();
}

fn copy(from: &Path, to: &PathBuf) {
    let _ = fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_row_that_is_missing_or_does_not_decode_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (place, index, saved) = (folder.path().join("repo"), folder.path().join("index"), folder.path().join("saved"));
    let world = World::new();
    let files = World::files(5);
    let repo = Arc::new(Repository::local(&place, &index).unwrap());
    repo.init(&world.request).unwrap();
    world.push(&*repo, &files).unwrap();
    world.push(&*repo, &World::files(6)).unwrap();
    // The first check records a verdict.
    assert_eq!(problems(&world.reader(repo.clone()), &*repo, true).unwrap(), Vec::<String>::new());
    let before = Opened { lease: Lease::default(), ..repo.open(&OpenRequest::default()).unwrap() };
    drop(repo);
    copy(&index, &saved);
    let rows = rows(&saved);
    let tables: Vec<&str> = rows.iter().map(|(table, _)| table.as_str()).collect();
    for table in ["meta", "packs", "pack_numbers", "commits", "snapshots", "clients", "offsets", "wraps"] {
        assert!(tables.contains(&table), "{tables:?}");
    }
    for (table, key) in &rows {
        for how in HARMS {
            if SORTED.contains(&table.as_str()) && how != Harm::Delete {
                continue;
            }
            copy(&saved, &index);
            harm(&index, table, key, how);
            let what = format!("{table}, row {}, {how:?}", key.escape_ascii());
            let repo = Arc::new(Repository::local(&place, &index).unwrap_or_else(|error| panic!("{what}: {error}")));
            let found = problems(&world.reader(repo.clone()), &*repo, true);
            assert_eq!(found.unwrap_or_else(|error| panic!("{what}: {error}")), Vec::<String>::new(), "{what}");
            let now = repo.open(&OpenRequest::default()).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(Opened { lease: Lease::default(), time: before.time, ..now }, before, "{what}");
        }
    }
}
