//! What people and other machines write: addresses, names, permissions, ids.

#![no_main]

use bkfs_fuzz::encodes_back;
use bkfs_store::base::{
    codec,
    id::{ChunkId, RepoId},
};
use bkfs_transport::{Name, Permissions, RepoUrl};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(name) = codec::decode::<Name>("a name", data) {
        encodes_back(&name);
    }
    if let Ok(permissions) = codec::decode::<Permissions>("permissions", data) {
        encodes_back(&permissions);
        let _ = permissions.to_string();
    }
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(url) = text.parse::<RepoUrl>() {
        assert!(RepoUrl::is_url(text));
        let again: RepoUrl = url.to_string().parse().expect("what was printed");
        assert_eq!(again, url);
        let of = RepoUrl::new(&url.server(), url.account.clone()).expect("an address that was printed");
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
