//! Connects to the store at a place.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bkfs_store::{Error, access::Access, format::erasure::Parity, repository::Repository};
use bkfs_transport::{Identity, RepoUrl, client::Remote};

use crate::{args::ParityArg, config, context::Context, failure::Failure, place::Place};

/// Connects to the store of an existing repository. `patience` limits how long to wait for a lost server; `None` means
/// as long as suits a push.
pub fn connect(context: &Context, place: &Place, patience: Option<Duration>) -> Result<Arc<dyn Access>> {
    match place {
        Place::Path(path) => {
            // Without this check a mistyped path would leave an index in the cache.
            if !bkfs_store::repository::exists(path)? {
                return Err(Error::NoRepository { place: place.to_string() }.into());
            }
            Ok(Arc::new(Repository::local(path, &place.index_dir(context))?))
        }
        Place::Url(url) => {
            let remote = remote(context, url)?;
            if let Some(patience) = patience {
                remote.set_retry_timeout(patience);
            }
            Ok(Arc::new(remote))
        }
    }
}

/// Connects to the store at a place where a repository will be created. Without `parity`, the default of the place
/// applies.
pub fn connect_new(context: &Context, place: &Place, parity: Option<ParityArg>) -> Result<Arc<dyn Access>> {
    match (place, parity) {
        (Place::Path(path), parity) => {
            let repository = Repository::local(path, &place.index_dir(context)).map_err(|e| explain(context, e))?;
            Ok(Arc::new(repository.with_parity(parity.map_or(Some(Parity::default()), |parity| parity.0))))
        }
        (Place::Url(url), None) => Ok(Arc::new(remote(context, url)?)),
        (Place::Url(_), Some(_)) => Err(Failure::new(
            "--parity applies only to a repository in a folder",
            "on a server, the operator sets it: `bkfs server run --parity`",
        )
        .into()),
    }
}

/// Adds a hint to an error in the cache folder: a user need not know what an index is.
fn explain(context: &Context, error: Error) -> anyhow::Error {
    match &error {
        Error::Io { path, .. } if path.starts_with(&context.folders.cache) => Failure::new(
            error.to_string(),
            "the cache folder cannot be used; choose another one with --cache-dir or BKFS_CACHE_DIR",
        )
        .into(),
        _ => error.into(),
    }
}

fn remote(context: &Context, url: &RepoUrl) -> Result<Remote> {
    let Some(fingerprint) = context.folders.places().fingerprint(&url.server())? else {
        let what = format!("this machine has not joined the server at {}", url.server());
        return Err(Failure::new(what, "run `bkfs join TOKEN` with a token from the server's operator").into());
    };
    Ok(Remote::connect(url, &identity(context)?, fingerprint)?)
}

/// Returns this machine's identity on the network. Creates it when it is first needed.
pub fn identity(context: &Context) -> Result<Identity> {
    let path = context.folders.identity();
    if let Some(bytes) = config::read_optional(&path)? {
        return Ok(Identity::decode(&bytes)?);
    }
    let identity = Identity::generate()?;
    config::write_private(&path, &identity.encode())?;
    Ok(identity)
}
