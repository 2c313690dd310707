//! Where a repository is, as `-r REPO` names it.

mod mistaken;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, Result};
use bkfs_store::base::id::Hash;
use bkfs_transport::RepoUrl;
use serde::{Deserialize, Serialize};

use self::mistaken::Mistake;
use crate::{failure::Failure, output};

/// A folder on this machine, or a repository on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder: an absolute path, without symbolic links if the folder exists.
    Path(PathBuf),
    /// A repository on a server.
    Url(RepoUrl),
}

/// Which copy of a repository it is that this machine uses: a hash of the place and, for a folder, of when its
/// configuration was made. Copies of one repository share its id, and each goes on by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CopyId(String);

impl fmt::Display for CopyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Place {
    /// Parses the value of `-r` or BKFS_REPOSITORY.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else {
            return Err(Failure::new(
                "no repository given",
                "use -r REPO or set BKFS_REPOSITORY: the path of a folder, or bkfs://HOST:PORT/ACCOUNT",
            )
            .into());
        };
        if RepoUrl::is_url(text) {
            return Ok(Self::Url(text.parse()?));
        }
        check_folder(text)?;
        let absolute = std::path::absolute(text).with_context(|| format!("the path {text:?}"))?;
        Ok(Self::Path(absolute.canonicalize().unwrap_or(absolute)))
    }

    /// Returns the folder for the index of a repository at a path. It is in the cache folder, because the path may be
    /// on a USB stick.
    pub fn index_dir(&self, cache: &Path) -> PathBuf {
        let name = Hash::of(&[b"bkfs index of ", self.to_string().as_bytes()]).to_string();
        cache.join("index").join(&name[..32])
    }

    /// Returns which copy of a repository is at this place now.
    pub fn copy(&self) -> CopyId {
        let made = match self {
            // A copy of the folder has another one, even if it is mounted at the same place.
            Self::Path(path) => std::fs::metadata(path.join("config")).and_then(|meta| meta.created()).ok(),
            Self::Url(_) => None,
        };
        let made = made.and_then(|made| made.duration_since(UNIX_EPOCH).ok()).map_or(0, |made| made.as_nanos());
        let hash = Hash::of(&[b"bkfs copy at ", self.to_string().as_bytes(), &made.to_le_bytes()]);
        CopyId(hash.to_string()[..32].to_owned())
    }

    /// Returns whether each request costs a round trip over the network.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Url(_))
    }
}

/// Fails if a text that should name a folder looks like an address or like a path that no shell expanded.
pub fn check_folder(text: &str) -> Result<()> {
    match mistaken::find(text) {
        Some(Mistake { what, instead }) => {
            Err(Failure::new(output::name(what.as_bytes()), output::name(instead.as_bytes())).into())
        }
        None => Ok(()),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Url(url) => write!(f, "{url}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_known_by_its_place_and_by_when_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("config"), "x").unwrap();
        };
        make("a");
        let (a, b) = (Place::Path(dir.path().join("a")), Place::Path(dir.path().join("b")));
        let first = a.copy();
        assert_eq!(first, a.copy());
        assert_ne!(first, b.copy());
        if std::fs::metadata(dir.path().join("a/config")).and_then(|meta| meta.created()).is_err() {
            println!("skipped: this file system does not say when files were made");
            return;
        }
        // Another copy at the same place.
        std::fs::rename(dir.path().join("a"), dir.path().join("away")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        make("a");
        assert_ne!(a.copy(), first);
        std::fs::remove_dir_all(dir.path().join("a")).unwrap();
        std::fs::rename(dir.path().join("away"), dir.path().join("a")).unwrap();
        assert_eq!(a.copy(), first);
    }

    #[test]
    fn paths_and_urls_are_distinguished() {
        assert!(matches!(Place::parse(Some("bkfs://h:1/a")).unwrap(), Place::Url(_)));
        assert_eq!(Place::parse(Some("/no/such/folder")).unwrap(), Place::Path("/no/such/folder".into()));
        assert!(matches!(Place::parse(Some("relative")).unwrap(), Place::Path(p) if p.is_absolute()));
        for bad in [None, Some("bkfs://h:1"), Some("bkfs://h:1/../x"), Some("bkfs:///srv/repo")] {
            assert!(Place::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_typo_and_an_address_of_another_program_are_no_folders() {
        for (text, hint) in [
            ("", "is the path of a folder"),
            (" ", "is the path of a folder"),
            ("/srv/repo ", "write \"/srv/repo\""),
            ("/srv/repo\n", "write \"/srv/repo\""),
            ("me@nas:/backup", "bkfs://HOST:PORT/ACCOUNT"),
            ("nas:/backup", "./nas:/backup"),
            ("nas:7443/alice", "write bkfs://nas:7443/alice;"),
            ("me@nas:7443/alice", "write bkfs://nas:7443/alice;"),
            ("me@nas/backup", "./me@nas/backup"),
            ("nas:backup", "./nas:backup"),
            ("sftp:me@nas:/backup", "is the path of a folder"),
            ("sftp://h/x", "is the path of a folder"),
            ("sftp//h/x", "is the path of a folder"),
            ("ssh://h/x", "is the path of a folder"),
            ("s3:s3.amazonaws.com/bucket", "is the path of a folder"),
            ("b2:bucket:path", "is the path of a folder"),
            ("rest:http://h:8000/", "is the path of a folder"),
            ("rclone:remote:path", "is the path of a folder"),
            ("https://h/x", "is the path of a folder"),
            ("nextcloud://h/x", "is the path of a folder"),
            ("bkfs//nas:7443/alice", "write bkfs://nas:7443/alice;"),
            ("bkfs:/nas:7443/alice", "write bkfs://nas:7443/alice;"),
            ("bkfs:nas:7443/alice", "bkfs:"),
            ("BKFS://nas:7443/alice", "write bkfs://nas:7443/alice;"),
            ("//nas:7443/alice", "write bkfs://nas:7443/alice"),
            ("file:///srv/repo", "write the path: /srv/repo"),
            ("file:/srv/repo", "write the path: /srv/repo"),
            ("~/repo", "/repo; for a folder"),
            ("~alice/repo", "./~alice/repo"),
            ("$HOME/repo", "./$HOME/repo"),
            ("\"/srv/repo\"", "without the quotes"),
            ("C:\\repo", "./C:"),
            ("D:/repo", "./D:/repo"),
        ] {
            let error = Place::parse(Some(text)).expect_err(text);
            let failure = error.downcast_ref::<Failure>().expect(text);
            assert!(failure.hint.contains(hint), "{text:?}: {} / {}", failure.message, failure.hint);
        }
    }

    #[test]
    fn a_folder_may_have_any_name_if_it_is_written_as_a_path() {
        for good in [
            "./x:y",
            "./me@nas:/b",
            "/srv/x:y",
            "/mnt/~",
            "repo",
            "a b",
            "../x",
            ".",
            "bkfs",
            "bkfs/x",
            "s3/x",
            "a/b:c",
        ] {
            assert!(matches!(Place::parse(Some(good)), Ok(Place::Path(path)) if path.is_absolute()), "{good}");
        }
    }
}
