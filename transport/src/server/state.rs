//! What a server's connections and its background work share.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bkfs_store::{ErrorKind, Result, repository::Repository};
use parking_lot::Mutex;

use super::{layout, options::Options, registry::Registry, uploads::Uploads};
use crate::url::Name;

/// The state of a server.
pub(super) struct ServerState {
    pub data: PathBuf,
    pub registry: Registry,
    pub options: Options,
    pub uploads: Uploads,
    /// The repositories that clients have used, by account and name.
    repositories: Mutex<HashMap<(Name, Name), Arc<Repository>>>,
}

impl ServerState {
    pub fn new(data: &Path, registry: Registry, options: Options) -> Self {
        let (repositories, uploads) = (Mutex::default(), Uploads::default());
        Self { data: data.to_owned(), registry, options, uploads, repositories }
    }

    /// Returns a repository for a client. It is opened once and stays open. The names are safe as names of folders:
    /// they were checked when they were parsed.
    pub fn repository(&self, account: &Name, name: &Name) -> Result<Arc<Repository>> {
        let mut repositories = self.repositories.lock();
        let key = (account.clone(), name.clone());
        if let Some(repository) = repositories.get(&key) {
            return Ok(repository.clone());
        }
        let repository = self.open(account, name)?;
        match repository.resume_parity() {
            // A repository that is about to be made has no parity to resume.
            Err(error) if error.kind() != ErrorKind::NoRepository => return Err(error),
            _ => {}
        }
        let repository = Arc::new(repository);
        repositories.insert(key, repository.clone());
        Ok(repository)
    }

    /// Returns a repository for background work. It is closed after use, unless a client has opened it.
    pub fn background_repository(&self, account: &Name, name: &Name) -> Result<Arc<Repository>> {
        let opened = self.repositories.lock().get(&(account.clone(), name.clone())).cloned();
        match opened {
            Some(repository) => Ok(repository),
            None => Ok(Arc::new(self.open(account, name)?)),
        }
    }

    /// Opens a repository.
    pub fn open(&self, account: &Name, name: &Name) -> Result<Repository> {
        let folder = layout::folder(&self.data, account, name);
        let repository = Repository::local(&folder, &folder.join("index"))?;
        Ok(repository.with_floor(self.registry.protect_secs()).with_parity(self.options.parity))
    }

    /// Whether there is such a repository. Unlike [`ServerState::open`], this makes no folder.
    pub fn exists(&self, account: &Name, name: &Name) -> Result<bool> {
        bkfs_store::repository::exists(&layout::folder(&self.data, account, name))
    }

    /// Bytes of packs in all of an account's repositories.
    pub fn account_bytes(&self, account: &Name) -> Result<u64> {
        let names = layout::names(&layout::account_folder(&self.data, account))?;
        names.iter().map(|name| self.repository(account, name)?.bytes_stored()).sum()
    }
}
