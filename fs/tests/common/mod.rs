//! A repository in a folder, for tests that need one.

#![allow(clippy::unwrap_used, dead_code, reason = "each test file uses a part of it")]

use std::{path::Path, sync::Arc};

use bkfs_fs::push::{self, OpenedRepository, Push, PushOptions};
use bkfs_store::{
    access::{Access, InitRequest, OpenRequest},
    base::{
        id::{DomainId, RepoId},
        time::Time,
    },
    format::{
        config::{Config, verify_config},
        erasure::Parity,
        keys::{FullKey, PushKey},
        roster::Roster,
    },
    owner::reader::Reader,
    repository::Repository,
};

#[path = "../../../tests/common/compare.rs"]
pub mod compare;
pub mod odd_fs;
#[path = "../../../tests/common/odd_tree.rs"]
pub mod odd_tree;

/// A repository, and its owner, who has all keys.
pub struct Owner {
    pub full: FullKey,
    pub client: PushKey,
    pub config: Config,
    pub access: Arc<dyn Access>,
}

impl Owner {
    pub fn new(folder: &Path) -> Self {
        Self::with_parity(folder, Some(Parity::default()))
    }

    /// Creates a repository with this amount of error correction.
    pub fn with_parity(folder: &Path, parity: Option<Parity>) -> Self {
        let full = FullKey::random(RepoId([7; 16]));
        let signed = full.config(Time::default(), Default::default());
        let (client, entry) = full.new_client("test", None, DomainId::OWNER, Time::default());
        let roster = Roster { repo: full.repo, number: 1, clients: vec![entry] };
        let repository = Repository::local(&folder.join("repo"), &folder.join("index")).unwrap();
        let access: Arc<dyn Access> = Arc::new(repository.with_parity(parity));
        let roster = full.sign_roster(&roster);
        access.init(&InitRequest { config: signed.clone(), roster, slots: vec![] }).unwrap();
        Self { full, client, config: verify_config(&signed).unwrap(), access }
    }

    pub fn push(&self, source: &Path, cache: &Path) -> push::PushReport {
        let request = OpenRequest {
            client: Some(self.client.client_id()),
            seen: push::last_seen(cache, self.client.repo, self.client.client_id()),
        };
        let opened = self.access.open(&request).unwrap();
        let options = PushOptions {
            target: "t".into(),
            host: "h".into(),
            base: Some(source.into()),
            paths: vec![".".into()],
            ..PushOptions::default()
        };
        let (access, config, key) = (&self.access, &self.config, &self.client);
        Push::new(OpenedRepository { access: access.clone(), opened: &opened, config, key }, cache, &options)
            .run()
            .unwrap()
    }

    pub fn reader(&self) -> Arc<Reader> {
        Reader::new(self.access.clone(), self.full.clone(), &self.config, 64 << 20)
    }
}
