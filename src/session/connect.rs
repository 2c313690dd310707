//! Connects to the store at a place.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bkfs_store::{Error, ErrorKind, access::Access, base::id::Hash, format::erasure::Parity, repository::Repository};
use bkfs_transport::{
    Identity, RepoUrl,
    client::{self, Remote},
};

use crate::{
    args::ParityArg,
    config::{self, KnownServer},
    context::Context,
    failure::Failure,
    output,
    place::Place,
};

/// A store, and the connection to the server that keeps it.
pub struct Connected {
    /// The store.
    pub access: Arc<dyn Access>,
    /// The connection; none for a repository in a folder.
    pub remote: Option<Arc<Remote>>,
}

/// Connects to the store of an existing repository. `patience` limits how long to wait for a lost server; `None` means
/// as long as suits a push.
pub fn connect(context: &Context, place: &Place, patience: Option<Duration>) -> Result<Connected> {
    match place {
        Place::Path(path) => {
            // Without this check a mistyped path would leave an index in the cache.
            if !bkfs_store::repository::exists(path)? {
                return Err(Error::NoRepository { place: place.to_string() }.into());
            }
            let access = Arc::new(Repository::local(path, &place.index_dir(&context.folders.cache))?);
            Ok(Connected { access, remote: None })
        }
        Place::Url(url) => {
            let remote = remote(context, url)?;
            if let Some(patience) = patience {
                remote.set_retry_timeout(patience);
            }
            let remote = Arc::new(remote);
            Ok(Connected { access: remote.clone(), remote: Some(remote) })
        }
    }
}

/// Connects to the store at a place where a repository will be created. Without `parity`, the default of the place
/// applies.
pub fn connect_new(context: &Context, place: &Place, parity: Option<ParityArg>) -> Result<Arc<dyn Access>> {
    match (place, parity) {
        (Place::Path(path), parity) => {
            let repository =
                Repository::local(path, &place.index_dir(&context.folders.cache)).map_err(|e| explain(context, e))?;
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

/// Connects to a server that this machine knows. The address in the URL is tried first, and then the others.
fn remote(context: &Context, url: &RepoUrl) -> Result<Remote> {
    let (address, identity) = (url.server(), identity(context)?);
    let server = match context.folders.places().server_at(&address)? {
        Some(server) => server,
        None => recognise(context, url, &identity)?,
    };
    let others = server.addresses.into_iter().filter(|known| *known != address);
    let addresses: Vec<String> = [address.clone()].into_iter().chain(others).collect();
    let remote = Remote::connect_via(url, &addresses, &identity, server.fingerprint)?;
    remote.limit(context.limit_upload, context.limit_download);
    Ok(remote)
}

/// Finds out whether a server at an address that this machine does not know is one that it knows by another address.
/// Its certificate proves it, so that nobody is asked. The address is remembered.
fn recognise(context: &Context, url: &RepoUrl, identity: &Identity) -> Result<KnownServer> {
    let (address, places) = (url.server(), context.folders.places());
    let servers = places.servers()?;
    let what = format!("this machine has not joined the server at {address}");
    if servers.is_empty() {
        let hint = format!(
            "run `bkfs join TOKEN`; the server's operator makes the token with `bkfs server invite --data DIR {}`",
            url.account
        );
        return Err(Failure::new(what, hint).into());
    }
    let fingerprints: Vec<Hash> = servers.iter().map(|server| server.fingerprint).collect();
    let found = client::recognise(&address, identity, &fingerprints).map_err(|error| {
        let hint = "if a server that this machine knows has moved there, run `bkfs server known rename OLD NEW` (`bkfs \
             server known list` lists them). Otherwise run `bkfs join TOKEN` with a token from the server's operator";
        let doubt = match error.kind() {
            ErrorKind::Unreachable => ", and cannot see whether it knows it by another address",
            _ => "",
        };
        Failure::new(format!("{what}{doubt}: {error}"), hint)
    })?;
    let Some(server) = servers.into_iter().find(|server| server.fingerprint == found) else {
        return Err(Failure::new(what, "").into());
    };
    places.add_address(found, &address)?;
    if !context.quiet {
        let known = server.addresses.first().map_or("another address", String::as_str);
        output::note(format!(
            "{address} is the server that this machine knows as {known}: the certificate is the same"
        ));
    }
    Ok(server)
}

/// Returns this machine's identity on the network. Creates it when it is first needed.
pub fn identity(context: &Context) -> Result<Identity> {
    let path = context.folders.identity();
    if let Some(bytes) = config::read_optional(&path)? {
        return Identity::decode(&bytes).map_err(|error| {
            let hint =
                "bring it back from a copy if there is one. Otherwise remove it, and `bkfs join` the servers again";
            Failure::new(format!("{}: {error}", path.display()), hint).into()
        });
    }
    let identity = Identity::generate()?;
    config::write_private(&path, &identity.encode())?;
    Ok(identity)
}
