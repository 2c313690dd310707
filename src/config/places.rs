//! Which repository is at which place, and which servers this machine knows.
//!
//! A server is known by the fingerprint of its certificate. Its addresses and the repositories on it belong to the
//! fingerprint, so that a server can have several names, and change them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::Result;
use bkfs_store::base::id::{Hash, RepoId};
use bkfs_transport::RepoUrl;
use serde::{Deserialize, Serialize};

use super::files::{Remembered, read_toml, update_toml};
use crate::failure::Failure;

/// The file `places.toml`.
#[derive(Debug, Clone)]
pub struct Places {
    path: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct PlacesToml {
    /// The path of a folder -> repository id.
    #[serde(default)]
    repositories: BTreeMap<String, String>,
    #[serde(default)]
    servers: Vec<ServerToml>,
}

impl Remembered for PlacesToml {
    const WHAT: &str = "which repositories are where, and which servers it joined: join those again";
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct ServerToml {
    fingerprint: String,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    accounts: BTreeSet<String>,
    /// ACCOUNT/NAME -> repository id.
    #[serde(default)]
    repositories: BTreeMap<String, String>,
}

/// A server that this machine knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownServer {
    /// The fingerprint of its certificate.
    pub fingerprint: Hash,
    /// Its addresses, `HOST:PORT`, in the order in which they are tried.
    pub addresses: Vec<String>,
    /// The accounts that this machine joined.
    pub accounts: BTreeSet<String>,
    /// The repositories that were seen there, ACCOUNT/NAME, and their ids.
    pub repositories: BTreeMap<String, String>,
}

impl Places {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the repository that was last found at a place, which is a path or a URL.
    pub fn repository(&self, place: &str) -> Result<Option<RepoId>> {
        let places = self.read()?;
        let found = match url_of(place) {
            Some(url) => places.at(&url.server()).and_then(|server| server.repositories.get(&name_of(&url))),
            None => places.repositories.get(place),
        };
        Ok(found.and_then(|id| id.parse().ok()))
    }

    /// Records which repository is at a place. A place on a server that is not known is not recorded.
    pub fn set_repository(&self, place: &str, id: RepoId) -> Result<()> {
        if self.repository(place)? == Some(id) {
            return Ok(());
        }
        self.update(|places| match url_of(place) {
            Some(url) => {
                if let Some(server) = places.at_mut(&url.server()) {
                    server.accounts.insert(url.account.to_string());
                    server.repositories.insert(name_of(&url), id.to_string());
                }
            }
            None => drop(places.repositories.insert(place.to_owned(), id.to_string())),
        })
    }

    /// Returns the servers that this machine knows.
    pub fn servers(&self) -> Result<Vec<KnownServer>> {
        Ok(self.read()?.servers.iter().filter_map(ServerToml::known).collect())
    }

    /// Returns the server that is known at an address.
    pub fn server_at(&self, address: &str) -> Result<Option<KnownServer>> {
        Ok(self.read()?.at(address).and_then(ServerToml::known))
    }

    /// Records that a server is at these addresses, before others where it is known already. No other server is there
    /// any more.
    pub fn set_addresses(&self, fingerprint: Hash, addresses: &[String]) -> Result<()> {
        self.update(|places| {
            places.servers.iter_mut().for_each(|server| server.addresses.retain(|known| !addresses.contains(known)));
            let server = places.with(fingerprint);
            server.addresses.splice(0..0, addresses.iter().cloned());
        })
    }

    /// Records one more address of a server, after those that are known.
    pub fn add_address(&self, fingerprint: Hash, address: &str) -> Result<()> {
        self.update(|places| {
            let server = places.with(fingerprint);
            if !server.is_at(address) {
                server.addresses.push(address.to_owned());
            }
        })
    }

    /// Records that this machine has joined an account.
    pub fn add_account(&self, fingerprint: Hash, account: &str) -> Result<()> {
        self.update(|places| {
            places.with(fingerprint).accounts.insert(account.to_owned());
        })
    }

    /// Gives a server another address in place of an old one. What is known of the server stays. Returns the server.
    pub fn rename(&self, old: &str, new: &str) -> Result<KnownServer> {
        let mut renamed = None;
        self.update(|places| renamed = Some(places.rename(old, new)))?;
        renamed.unwrap_or_else(|| Err(unknown(old).into()))
    }

    fn read(&self) -> Result<PlacesToml> {
        read_toml(&self.path)
    }

    fn update(&self, change: impl FnOnce(&mut PlacesToml)) -> Result<()> {
        update_toml(&self.path, change)
    }
}

impl PlacesToml {
    fn at(&self, address: &str) -> Option<&ServerToml> {
        self.servers.iter().find(|server| server.is_at(address))
    }

    fn at_mut(&mut self, address: &str) -> Option<&mut ServerToml> {
        self.servers.iter_mut().find(|server| server.is_at(address))
    }

    /// Returns the server with this fingerprint, which is new if it was not known.
    fn with(&mut self, fingerprint: Hash) -> &mut ServerToml {
        let fingerprint = fingerprint.to_string();
        let at = self.servers.iter().position(|server| server.fingerprint == fingerprint).unwrap_or(self.servers.len());
        if at == self.servers.len() {
            self.servers.push(ServerToml { fingerprint, ..ServerToml::default() });
        }
        &mut self.servers[at]
    }

    fn rename(&mut self, old: &str, new: &str) -> Result<KnownServer> {
        let Some(fingerprint) = self.at(old).map(|server| server.fingerprint.clone()) else {
            return Err(unknown(old).into());
        };
        if let Some(other) = self.at(new).filter(|other| other.fingerprint != fingerprint) {
            let message = format!("{new} is another server, with the fingerprint {}", other.fingerprint);
            return Err(
                Failure::new(message, "nothing was changed; `bkfs server known list` lists the known servers").into()
            );
        }
        let Some(server) = self.at_mut(old) else { return Err(unknown(old).into()) };
        match server.is_at(new) {
            true => server.addresses.retain(|address| address != old || old == new),
            false => server.addresses.iter_mut().filter(|address| *address == old).for_each(|at| *at = new.to_owned()),
        }
        server.known().ok_or_else(|| unknown(old).into())
    }
}

impl ServerToml {
    fn is_at(&self, address: &str) -> bool {
        self.addresses.iter().any(|known| known == address)
    }

    fn known(&self) -> Option<KnownServer> {
        let Self { fingerprint, addresses, accounts, repositories } = self.clone();
        Some(KnownServer { fingerprint: fingerprint.parse().ok()?, addresses, accounts, repositories })
    }
}

fn unknown(address: &str) -> Failure {
    Failure::new(
        format!("this machine knows no server at {address}"),
        "`bkfs server known list` lists the known servers",
    )
}

fn url_of(place: &str) -> Option<RepoUrl> {
    RepoUrl::is_url(place).then(|| place.parse().ok())?
}

/// The name of a repository on its server.
fn name_of(url: &RepoUrl) -> String {
    format!("{}/{}", url.account, url.repository())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> (tempfile::TempDir, Places) {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path().join("config/places.toml"));
        (dir, places)
    }

    const ONE: Hash = Hash([1; 32]);
    const TWO: Hash = Hash([2; 32]);

    #[test]
    fn remembers_repositories_by_folder_and_by_server() {
        let (_dir, places) = places();
        assert_eq!(places.repository("/a").unwrap(), None);
        places.set_repository("/a", RepoId([1; 16])).unwrap();
        places.set_repository("bkfs://h:1/alice", RepoId([2; 16])).unwrap();
        assert_eq!(places.repository("bkfs://h:1/alice").unwrap(), None, "the server is not known");
        places.set_addresses(ONE, &["h:1".into(), "i:2".into()]).unwrap();
        places.set_repository("bkfs://h:1/alice", RepoId([2; 16])).unwrap();
        assert_eq!(places.repository("/a").unwrap(), Some(RepoId([1; 16])));
        for same in ["bkfs://h:1/alice", "bkfs://i:2/alice", "bkfs://i:2/alice/main"] {
            assert_eq!(places.repository(same).unwrap(), Some(RepoId([2; 16])), "{same}");
        }
        for other in ["bkfs://h:2/alice", "bkfs://h:1/bob", "bkfs://h:1/alice/photos"] {
            assert_eq!(places.repository(other).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn a_renamed_server_keeps_what_is_known() {
        let (_dir, places) = places();
        places.set_addresses(ONE, &["old:1".into(), "i:2".into()]).unwrap();
        places.set_addresses(TWO, &["two:1".into()]).unwrap();
        places.set_repository("bkfs://old:1/alice", RepoId([2; 16])).unwrap();
        let renamed = places.rename("old:1", "new:1").unwrap();
        assert_eq!((renamed.fingerprint, renamed.addresses), (ONE, vec!["new:1".to_owned(), "i:2".into()]));
        assert_eq!(places.repository("bkfs://new:1/alice").unwrap(), Some(RepoId([2; 16])));
        assert_eq!(places.server_at("old:1").unwrap(), None);
        for (old, new) in [("old:1", "x:1"), ("new:1", "two:1")] {
            let before = places.servers().unwrap();
            assert!(places.rename(old, new).is_err(), "{old} to {new}");
            assert_eq!(places.servers().unwrap(), before);
        }
        // Two names of one server become one.
        assert_eq!(places.rename("i:2", "new:1").unwrap().addresses, ["new:1"]);
        assert_eq!(places.rename("new:1", "new:1").unwrap().addresses, ["new:1"]);
    }

    #[test]
    fn an_address_belongs_to_one_server() {
        let (_dir, places) = places();
        places.set_addresses(ONE, &["h:1".into(), "i:2".into()]).unwrap();
        places.add_account(ONE, "alice").unwrap();
        places.set_addresses(TWO, &["h:1".into()]).unwrap();
        assert_eq!(places.server_at("h:1").unwrap().unwrap().fingerprint, TWO);
        let one = places.server_at("i:2").unwrap().unwrap();
        assert_eq!((one.fingerprint, one.addresses.len()), (ONE, 1));
        assert!(one.accounts.contains("alice"));
        places.set_addresses(ONE, &["j:3".into(), "i:2".into()]).unwrap();
        places.add_address(ONE, "k:4").unwrap();
        assert_eq!(places.server_at("i:2").unwrap().unwrap().addresses, ["j:3", "i:2", "k:4"]);
    }
}
