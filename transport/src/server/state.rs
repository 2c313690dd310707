//! What a server's connections and its background work share.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bkfs_store::{
    ErrorKind, Result,
    repository::{self, Repository},
};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    accounts::Bound,
    audit::Audit,
    connections::Connections,
    layout,
    ledger::{self, Accounting, Ledger},
    limits::{CALLS, JOINS, MEMORY_KIB, WAITS},
    metrics::Metrics,
    notices::Notices,
    opened::{Key, OpenRepositories},
    options::Options,
    pushes::Pushes,
    quota::Amount,
    registry::Registry,
    shares::Shares,
    uploads::Uploads,
    waits::Waits,
};
use crate::url::Name;

/// The state of a server.
pub(super) struct ServerState {
    pub data: PathBuf,
    pub registry: Registry,
    options: RwLock<Arc<Options>>,
    pub uploads: Uploads,
    pub pushes: Pushes,
    pub notices: Notices,
    /// Whether the server was asked to stop.
    pub stopping: watch::Sender<bool>,
    pub metrics: Metrics,
    pub audit: Audit,
    pub connections: Connections,
    pub waits: Arc<Waits>,
    pub open_repositories: OpenRepositories,
    pub ledger: Ledger,
    /// How many accounts had been removed when their repositories were last closed.
    removals_seen: AtomicU64,
    /// Memory, in KiB.
    pub memory: Shares,
    /// Calls into the store.
    pub calls: Shares,
    /// Requests that wait for a log.
    pub waiting: Shares,
    /// Requests to join.
    pub joins: Shares,
}

impl ServerState {
    pub fn new(data: &Path, registry: Registry, options: Options) -> Result<Self> {
        Ok(Self {
            data: data.to_owned(),
            removals_seen: AtomicU64::new(registry.ask(|accounts| accounts.removals())),
            registry,
            audit: Audit::open(options.audit.as_ref())?,
            options: RwLock::new(Arc::new(options)),
            uploads: Uploads::new(data),
            pushes: Pushes::default(),
            notices: Notices::default(),
            stopping: watch::Sender::new(false),
            metrics: Metrics::new(),
            connections: Connections::default(),
            waits: Arc::default(),
            open_repositories: OpenRepositories::default(),
            ledger: Ledger::default(),
            memory: Shares::new(MEMORY_KIB),
            calls: Shares::new(CALLS),
            waiting: Shares::new(WAITS),
            joins: Shares::new(JOINS),
        })
    }

    /// The options as they are now.
    pub fn options(&self) -> Arc<Options> {
        self.options.read().clone()
    }

    /// Changes the options. What has begun goes on with the old ones.
    pub fn set_options(&self, options: Options) {
        *self.options.write() = Arc::new(options);
    }

    /// Waits until the server is asked to stop.
    pub async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.stopping.subscribe().wait_for(|is_stopping| *is_stopping).await;
    }

    /// Returns a repository for a client, and opens it if it is not open. The names are safe as names of folders: they
    /// were checked when they were parsed.
    pub fn repository(&self, account: &Name, name: &Name) -> Result<Arc<Repository>> {
        let key = self.key(account, name);
        let life = key.1;
        self.open_repositories.get(key, || {
            // The account may have been removed, and made again.
            if self.open_repositories.retain(|(other, of, _)| other != account || *of == life) {
                self.ledger.changed(account);
            }
            let repository = self.open(account, name)?;
            match repository::resume_parity(&repository) {
                // A repository that is about to be made has no parity to resume.
                Err(error) if error.kind() != ErrorKind::NoRepository => Err(error),
                _ => Ok(repository),
            }
        })
    }

    /// Returns a repository for background work. It is closed after use, unless a client has opened it.
    pub fn background_repository(&self, account: &Name, name: &Name) -> Result<Arc<Repository>> {
        match self.open_repositories.get_open(&self.key(account, name)) {
            Some(repository) => Ok(repository),
            None => Ok(Arc::new(self.open(account, name)?)),
        }
    }

    /// Removes what the making of a repository has left that failed.
    pub fn discard(&self, account: &Name, name: &Name) {
        let folder = layout::folder(&self.data, account, name);
        if self.exists(account, name).unwrap_or(true) || !self.open_repositories.close(&self.key(account, name)) {
            return;
        }
        // Only the index, which is made again. Anything else stays, and so does the folder then.
        let removed = std::fs::remove_dir_all(folder.join("index")).and_then(|()| std::fs::remove_dir(&folder));
        if let Err(error) = removed {
            tracing::debug!(%account, repository = %name, %error, "something is left of a repository that failed");
        }
    }

    /// Opens a repository.
    pub fn open(&self, account: &Name, name: &Name) -> Result<Repository> {
        let folder = layout::folder(&self.data, account, name);
        let repository = Repository::local(&folder, &folder.join("index"))?;
        Ok(repository.with_floor(self.registry.protect_secs()).with_parity(self.options().parity))
    }

    /// Whether there is such a repository. Unlike [`ServerState::open`], this makes no folder.
    pub fn exists(&self, account: &Name, name: &Name) -> Result<bool> {
        repository::exists(&layout::folder(&self.data, account, name))
    }

    fn key(&self, account: &Name, name: &Name) -> Key {
        let life = self.registry.ask(|accounts| accounts.life(account)).unwrap_or_default();
        (account.clone(), life, name.clone())
    }

    /// Closes the connections of clients that have lost a right.
    pub fn close_lost(&self) {
        self.connections.close(|client, losses| self.registry.ask(|accounts| accounts.has_lost_since(client, losses)));
    }

    /// Closes the connections of clients that may have lost a right since they connected. They connect again if they
    /// still may do something. Also closes the repositories of accounts that were removed.
    pub fn close_sessions(&self) {
        self.close_lost();
        let is_there = |account: &Name, life| self.registry.ask(|accounts| accounts.life(account) == Some(life));
        self.open_repositories.retain(|(account, life, _)| is_there(account, *life));
        // Only the operator removes accounts. What a client can cause must not have all accounts measured again.
        let removals = self.registry.ask(|accounts| accounts.removals());
        if self.removals_seen.swap(removals, Relaxed) != removals {
            self.ledger.changed_everywhere();
        }
    }
}

impl Accounting for ServerState {
    fn bounds(&self, account: &Name) -> Vec<Bound> {
        self.registry.ask(|accounts| accounts.bounds(account))
    }

    fn measure(&self, account: &Name, counts_snapshots: bool) -> Result<Amount> {
        ledger::measure(&layout::account_folder(&self.data, account), |name| match counts_snapshots {
            true => ledger::snapshots(&*self.background_repository(account, name)?),
            false => Ok(0),
        })
    }
}
