//! Where the last check of a share of the data ended, so that the next check continues there. If the file is lost, the
//! next check starts again from the beginning.

use anyhow::Result;
use bkfs_store::base::id::PackId;
use serde::{Deserialize, Serialize};

use super::{
    files::{Remembered, read_toml, update_toml},
    folder::RepoFolder,
};

const FILE: &str = "check.toml";

#[derive(Debug, Default, Serialize, Deserialize)]
struct LastCheckToml {
    /// The last pack that was read.
    #[serde(default)]
    reached: String,
}

impl Remembered for LastCheckToml {
    const WHAT: &str = "where the last check of a share ended, and the next one begins at the first pack";
}

impl RepoFolder {
    /// Returns the pack where the last check of a share ended.
    pub fn last_checked(&self) -> Result<Option<PackId>> {
        Ok(read_toml::<LastCheckToml>(&self.file(FILE))?.reached.parse().ok())
    }

    /// Records the pack where a check of a share ended.
    pub fn set_last_checked(&self, reached: PackId) -> Result<()> {
        update_toml(&self.file(FILE), |contents: &mut LastCheckToml| contents.reached = reached.to_string())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Folders;
    use bkfs_store::base::id::{PackId, RepoId};

    #[test]
    fn remembers_the_last_pack() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::new(Some(dir.path().join("config")), Some(dir.path().join("cache"))).unwrap();
        let folder = folders.repository(RepoId([1; 16]));
        assert_eq!(folder.last_checked().unwrap(), None);
        folder.set_last_checked(PackId([7; 32])).unwrap();
        assert_eq!(folder.last_checked().unwrap(), Some(PackId([7; 32])));
    }
}
