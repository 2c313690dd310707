//! From a place to its store.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bkfs_store::{Error, access::Access, format::erasure::Parity, repository::Repository};
use bkfs_transport::{Identity, RepoUrl, client::Remote};

use crate::{commands::init::ParityArg, config, context::Context, failure::Failure, place::Place};

/// The store at a place where a repository is. A server that was lost is waited for as long as `patience` says; none:
/// as long as is right for a push.
pub fn connect(context: &Context, place: &Place, patience: Option<Duration>) -> Result<Arc<dyn Access>> {
    match place {
        Place::Path(path) => {
            // Otherwise a mistyped path would leave an index in the cache.
            if !bkfs_store::repository::exists(path)? {
                return Err(Error::NoRepository { place: place.to_string() }.into());
            }
            Ok(Arc::new(Repository::local(path, &place.index_dir(context))?))
        }
        Place::Url(url) => {
            let remote = remote(context, url)?;
            if let Some(patience) = patience {
                remote.set_patience(patience);
            }
            Ok(Arc::new(remote))
        }
    }
}

/// The store at a place where a repository is to be made, with so much parity; none: as is usual there.
pub fn connect_new(context: &Context, place: &Place, parity: Option<ParityArg>) -> Result<Arc<dyn Access>> {
    match (place, parity) {
        (Place::Path(path), parity) => {
            let repository = Repository::local(path, &place.index_dir(context)).map_err(|e| explain(context, e))?;
            Ok(Arc::new(repository.with_parity(parity.map_or(Some(Parity::default()), |parity| parity.0))))
        }
        (Place::Url(url), None) => Ok(Arc::new(remote(context, url)?)),
        (Place::Url(_), Some(_)) => Err(Failure::new(
            "--parity is for a repository in a folder",
            "on a server, whoever runs it decides: `bkfs server run --parity`",
        )
        .into()),
    }
}

/// The path of an index says nothing to somebody who never heard of it.
fn explain(context: &Context, error: Error) -> anyhow::Error {
    match &error {
        Error::Io { path, .. } if path.starts_with(&context.folders.cache) => Failure::new(
            error.to_string(),
            "the cache folder cannot be used; --cache-dir or BKFS_CACHE_DIR names another one",
        )
        .into(),
        _ => error.into(),
    }
}

fn remote(context: &Context, url: &RepoUrl) -> Result<Remote> {
    let Some(pin) = context.folders.places().pin(&url.server())? else {
        let what = format!("this machine has not joined the server at {}", url.server());
        return Err(Failure::new(what, "`bkfs join TOKEN` enrols it, with a token from the operator").into());
    };
    Ok(Remote::connect(url, &identity(context)?, pin)?)
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
