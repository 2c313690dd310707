//! Which repository is at which place, and which certificate each server has.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use bkfs_store::base::id::{Hash, RepoId};
use serde::{Deserialize, Serialize};

use super::files::{read_toml, update_toml};

/// The file `places.toml`.
#[derive(Debug, Clone)]
pub struct Places {
    path: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct PlacesToml {
    /// Path or URL -> repository id.
    #[serde(default)]
    repositories: BTreeMap<String, String>,
    /// HOST:PORT -> fingerprint of the server's certificate.
    #[serde(default, rename = "pins")]
    fingerprints: BTreeMap<String, String>,
}

impl Places {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the repository that was last found at a place.
    pub fn repository(&self, place: &str) -> Result<Option<RepoId>> {
        Ok(read_toml::<PlacesToml>(&self.path)?.repositories.get(place).and_then(|id| id.parse().ok()))
    }

    /// Records which repository is at a place.
    pub fn set_repository(&self, place: &str, id: RepoId) -> Result<()> {
        match self.repository(place)? == Some(id) {
            true => Ok(()),
            false => update_toml(&self.path, |c: &mut PlacesToml| {
                c.repositories.insert(place.to_owned(), id.to_string());
            }),
        }
    }

    /// Returns the fingerprint of a server's certificate.
    pub fn fingerprint(&self, address: &str) -> Result<Option<Hash>> {
        Ok(read_toml::<PlacesToml>(&self.path)?.fingerprints.get(address).and_then(|text| text.parse().ok()))
    }

    /// Records the fingerprint of a server's certificate.
    pub fn set_fingerprint(&self, address: &str, fingerprint: Hash) -> Result<()> {
        update_toml(&self.path, |c: &mut PlacesToml| {
            c.fingerprints.insert(address.to_owned(), fingerprint.to_string());
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_repositories_and_fingerprints() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path().join("config/places.toml"));
        assert_eq!(places.repository("/a").unwrap(), None);
        places.set_repository("/a", RepoId([1; 16])).unwrap();
        places.set_fingerprint("h:1", Hash([2; 32])).unwrap();
        assert_eq!(places.repository("/a").unwrap(), Some(RepoId([1; 16])));
        assert_eq!(places.fingerprint("h:1").unwrap(), Some(Hash([2; 32])));
        assert_eq!(places.fingerprint("h:2").unwrap(), None);
    }
}
