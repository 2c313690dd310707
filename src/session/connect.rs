//! From a place to its store.

use std::sync::Arc;

use anyhow::Result;
use bkfs_store::{Error, access::Access, repository::Repository};
use bkfs_transport::{Identity, client::Remote};

use crate::{config, context::Context, failure::Failure, place::Place};

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
        Place::Url(url) => {
            let Some(pin) = context.folders.places().pin(&url.server())? else {
                let what = format!("this machine has not joined the server at {}", url.server());
                return Err(Failure::new(what, "`bkfs join TOKEN` enrols it, with a token from the operator").into());
            };
            Ok(Arc::new(Remote::connect(url, &identity(context)?, pin)?))
        }
    }
}

/// This machine's name on the network, made when it is first needed.
pub fn identity(context: &Context) -> Result<Identity> {
    let path = context.folders.identity();
    if let Some(bytes) = config::read_optional(&path)? {
        return Ok(Identity::decode(&bytes)?);
    }
    let identity = Identity::generate()?;
    config::write_private(&path, &identity.encode())?;
    Ok(identity)
}
