//! Where a repository is: `-r REPO`.

use std::{fmt, path::PathBuf};

use anyhow::{Context as _, Result};
use bkfs_store::base::id::Hash;
use bkfs_transport::RepoUrl;

use crate::{context::Context, failure::Failure};

/// A folder on this machine, or a repository on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder, absolute and without symbolic links where it exists.
    Path(PathBuf),
    /// On a server.
    Url(RepoUrl),
}

impl Place {
    /// Reads what `-r` or BKFS_REPOSITORY says.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Err(Failure::new(
                "no repository was named",
                "give -r REPO or set BKFS_REPOSITORY: a folder's path, or bkfs://HOST:PORT/ACCOUNT",
            )
            .into());
        };
        if RepoUrl::is_url(text) {
            return Ok(Self::Url(text.parse()?));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Failure::new(
                format!("{scheme}:// is no kind of repository that bkfs knows"),
                "a repository is a folder's path, or bkfs://HOST:PORT/ACCOUNT[/NAME]",
            )
            .into());
        }
        let absolute = std::path::absolute(text).with_context(|| format!("the path {text:?}"))?;
        Ok(Self::Path(absolute.canonicalize().unwrap_or(absolute)))
    }

    /// The folder for the index of a repository at a path; in the cache, because the path may be a USB stick.
    pub fn index_dir(&self, context: &Context) -> PathBuf {
        let name = Hash::of(&[b"bkfs index of ", self.to_string().as_bytes()]).to_string();
        context.folders.cache.join("index").join(&name[..32])
    }

    /// Whether each question costs a round trip.
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
    fn paths_and_urls_are_told_apart() {
        assert!(matches!(Place::parse(Some("bkfs://h:1/a")).unwrap(), Place::Url(_)));
        assert!(
            matches!(Place::parse(Some("/no/such/folder")).unwrap(), Place::Path(p) if p == std::path::Path::new("/no/such/folder"))
        );
        assert!(matches!(Place::parse(Some("relative")).unwrap(), Place::Path(p) if p.is_absolute()));
        for bad in [None, Some(""), Some("sftp://h/x"), Some("bkfs://h:1"), Some("bkfs://h:1/../x")] {
            assert!(Place::parse(bad).is_err(), "{bad:?}");
        }
    }
}
