//! An account, and a client of it.

use std::collections::{BTreeMap, BTreeSet};

use bkfs_store::base::id::{ClientId, Hash};

use crate::{permission::Permissions, server::quota::Limits, url::Name};

/// An account.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// How many accounts the server had removed when this one was made.
    pub life: u64,
    /// What it may store.
    pub limits: Limits,
    /// The account whose limits it shares. That one has no parent.
    pub parent: Option<Name>,
    /// By the fingerprints of their certificates.
    pub clients: BTreeMap<Hash, Client>,
}

/// A client of an account.
#[derive(Debug, Clone)]
pub struct Client {
    /// When it joined, in seconds of Unix time.
    pub joined_secs: i64,
    /// Its name, which the operator gave it.
    pub name: Option<Name>,
    /// What it may do in repositories that have no entry of their own.
    pub can: Permissions,
    /// What it may do in single repositories.
    pub can_in: BTreeMap<Name, Permissions>,
    /// Repositories, and the clients of their rosters whose keys it has shown.
    pub ties: BTreeSet<(Name, ClientId)>,
    /// Repositories, and the clients whose snapshots it has sent without showing their keys. That counts against it
    /// and gives it nothing: anybody who has a snapshot can send it.
    pub sent: BTreeSet<(Name, ClientId)>,
    /// Whether it may do nothing any more.
    pub is_revoked: bool,
}

impl Client {
    pub(super) fn new(joined_secs: i64) -> Self {
        Self {
            joined_secs,
            name: None,
            can: Permissions::NONE,
            can_in: BTreeMap::new(),
            ties: BTreeSet::new(),
            sent: BTreeSet::new(),
            is_revoked: false,
        }
    }

    /// What the client may do in a repository, unless it is revoked.
    pub fn can_in(&self, repository: &Name) -> Permissions {
        self.can_in.get(repository).copied().unwrap_or(self.can)
    }

    /// The clients of a repository's roster whose keys the client has shown.
    pub fn keys_in<'a>(&'a self, repository: &'a Name) -> impl Iterator<Item = ClientId> + 'a {
        in_repository(&self.ties, repository)
    }

    /// The clients of a repository's roster whose snapshots the client has sent without showing their keys.
    pub fn sent_in<'a>(&'a self, repository: &'a Name) -> impl Iterator<Item = ClientId> + 'a {
        in_repository(&self.sent, repository)
    }

    /// The clients of a repository's roster with which this client ends.
    pub fn tied_in<'a>(&'a self, repository: &'a Name) -> impl Iterator<Item = ClientId> + 'a {
        self.keys_in(repository).chain(self.sent_in(repository))
    }

    pub(super) fn ties_mut(&mut self, by_snapshot: bool) -> &mut BTreeSet<(Name, ClientId)> {
        if by_snapshot { &mut self.sent } else { &mut self.ties }
    }

    /// Adds permissions, in one repository or in all.
    pub(super) fn add(&mut self, repository: Option<Name>, can: Permissions) {
        match repository {
            Some(repository) => {
                let held = self.can_in(&repository);
                self.can_in.insert(repository, held.union(can));
            }
            None => {
                self.can = self.can.union(can);
                self.can_in.values_mut().for_each(|held| *held = held.union(can));
            }
        }
    }

    /// Sets permissions, in one repository or in all. A client that was revoked comes back.
    pub(super) fn permit(&mut self, repository: Option<Name>, can: Permissions) {
        if std::mem::take(&mut self.is_revoked) {
            (self.can, self.can_in) = (Permissions::NONE, BTreeMap::new());
        }
        match repository {
            Some(repository) => drop(self.can_in.insert(repository, can)),
            None => (self.can, self.can_in) = (can, BTreeMap::new()),
        }
    }
}

fn in_repository<'a>(ties: &'a BTreeSet<(Name, ClientId)>, name: &'a Name) -> impl Iterator<Item = ClientId> + 'a {
    ties.iter().filter(move |(repository, _)| repository == name).map(|(_, key)| *key)
}
