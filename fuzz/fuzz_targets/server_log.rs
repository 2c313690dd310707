//! The server's log of accounts, invitations and clients: a file with records of any bytes and valid hashes. The module
//! is private to its crate and is compiled in by its path.

#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../../transport/src/addresses.rs"]
mod addresses;
#[path = "../../transport/src/permission.rs"]
mod permission;
#[path = "../../transport/src/server"]
mod server {
    pub mod accounts;
    pub mod event;
    pub mod invitation;
    pub mod quota;
    pub mod registry;
}
#[path = "../../transport/src/token.rs"]
mod token;
#[path = "../../transport/src/url.rs"]
mod url;

use std::{fs, sync::LazyLock};

use bkfs_fuzz::Input;
use bkfs_store::{
    base::id::Hash,
    format::log::file::{self as log_file, Position},
};
use server::registry::Registry;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));

/// Reads a log as a starting server does, and again as a running one. Returns whether it can be read.
fn read(file: &[u8]) -> bool {
    fs::write(FOLDER.path().join("log"), file).expect("a file in a temporary folder");
    let registry = Registry::new(FOLDER.path());
    let good = registry.refresh().is_ok();
    assert_eq!(registry.refresh().is_ok(), good);
    let account = url::Name::default_repository();
    registry.permissions(Hash([1; 32]), &account, &account);
    registry.is_known(Hash([1; 32]));
    registry.ask(|accounts| {
        accounts.addresses();
        accounts.all().keys().for_each(|name| drop(accounts.bounds(name)));
    });
    good
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    read(data);
    let (mut input, mut at, mut file) = (Input(data), Position::default(), Vec::new());
    while let Some(body) = input.part() {
        let (framed, next) = log_file::encode_bytes(at, body);
        file.extend_from_slice(&framed);
        at = next;
    }
    if read(&file) && !file.is_empty() {
        // A log that is torn in its last record is read up to that record.
        assert!(read(&file[..file.len() - 1]));
    }
});
