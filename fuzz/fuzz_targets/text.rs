//! Texts of people and other machines: addresses, names, permissions, base32, ids.

#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../../transport/src/base32.rs"]
mod base32;

use bkfs_fuzz::encodes_back;
use bkfs_store::base::{
    codec,
    id::{ChunkId, RepoId},
};
use bkfs_transport::{Name, Permissions, RepoUrl};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    assert_eq!(base32::decode(&base32::encode(data)).as_deref(), Some(data));
    if let Ok(name) = codec::decode::<Name>("a name", data) {
        encodes_back(&name);
    }
    if let Ok(permissions) = codec::decode::<Permissions>("permissions", data) {
        encodes_back(&permissions);
        let _ = permissions.to_string();
    }
    let Ok(text) = str::from_utf8(data) else { return };
    if let Some(bytes) = base32::decode(text) {
        assert_eq!(base32::encode(&bytes), text.to_ascii_lowercase());
    }
    if let Ok(url) = text.parse::<RepoUrl>() {
        assert!(RepoUrl::is_url(text));
        let again: RepoUrl = url.to_string().parse().expect("what was printed");
        assert_eq!(again, url);
        let of = RepoUrl::of(&url.server(), url.account.clone()).expect("an address that was printed");
        assert_eq!((of.host, of.port), (url.host, url.port));
    }
    if let Ok(name) = text.parse::<Name>() {
        assert_eq!(name.as_str(), text);
        assert!((1..=64).contains(&text.len()) && !text.contains('/') && !text.starts_with(['.', '-']));
    }
    if let Ok(permissions) = text.parse::<Permissions>() {
        assert_eq!(permissions.to_string().parse::<Permissions>().expect("what was printed"), permissions);
    }
    if let Ok(id) = text.parse::<ChunkId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    let _ = text.parse::<RepoId>();
});
