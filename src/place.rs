//! Where a repository is, as `-r REPO` names it.

use std::{fmt, path::PathBuf};

use anyhow::{Context as _, Result};
use bkfs_store::base::id::Hash;
use bkfs_transport::RepoUrl;

use crate::{context::Context, failure::Failure};

/// A folder on this machine, or a repository on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder: an absolute path, without symbolic links if the folder exists.
    Path(PathBuf),
    /// A repository on a server.
    Url(RepoUrl),
}

impl Place {
    /// Parses the value of `-r` or BKFS_REPOSITORY.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Err(Failure::new(
                "no repository given",
                "use -r REPO or set BKFS_REPOSITORY: the path of a folder, or bkfs://HOST:PORT/ACCOUNT",
            )
            .into());
        };
        if RepoUrl::is_url(text) {
            return Ok(Self::Url(text.parse()?));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Failure::new(
                format!("{scheme}:// is not a kind of repository that bkfs supports"),
                "a repository is the path of a folder, or bkfs://HOST:PORT/ACCOUNT[/NAME]",
            )
            .into());
        }
        let absolute = std::path::absolute(text).with_context(|| format!("the path {text:?}"))?;
        Ok(Self::Path(absolute.canonicalize().unwrap_or(absolute)))
    }

    /// Returns the folder for the index of a repository at a path. It is in the cache, because the path may be on a USB
    /// stick.
    pub fn index_dir(&self, context: &Context) -> PathBuf {
        let name = Hash::of(&[b"bkfs index of ", self.to_string().as_bytes()]).to_string();
        context.folders.cache.join("index").join(&name[..32])
    }

    /// Returns whether each request costs a round trip over the network.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Url(_))
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
    fn paths_and_urls_are_distinguished() {
        assert!(matches!(Place::parse(Some("bkfs://h:1/a")).unwrap(), Place::Url(_)));
        assert_eq!(Place::parse(Some("/no/such/folder")).unwrap(), Place::Path("/no/such/folder".into()));
        assert!(matches!(Place::parse(Some("relative")).unwrap(), Place::Path(p) if p.is_absolute()));
        for bad in [None, Some(""), Some("sftp://h/x"), Some("bkfs://h:1"), Some("bkfs://h:1/../x")] {
            assert!(Place::parse(bad).is_err(), "{bad:?}");
        }
    }
}
