//! From a place to its store.

use std::sync::Arc;

use anyhow::Result;
use bkfs_store::{Error, access::Access, repository::Repository};

use crate::{context::Context, place::Place};

/// The store at a place where a repository is.
pub fn connect(context: &Context, place: &Place) -> Result<Arc<dyn Access>> {
    match place {
        Place::Path(path) => {
            // Otherwise a mistyped path would leave an index in the cache.
            if !Repository::exists(path)? {
                return Err(Error::NoRepository { place: place.to_string() }.into());
            }
            connect_new(context, place)
        }
        Place::Url(_) => connect_new(context, place),
    }
}

/// The store at a place where a repository is to be made.
pub fn connect_new(context: &Context, place: &Place) -> Result<Arc<dyn Access>> {
    match place {
        Place::Path(path) => Ok(Arc::new(Repository::local(path, &place.index_dir(context))?)),
        Place::Url(url) => Err(Error::Unreachable(format!("{url}: this build has no network yet")).into()),
    }
}
