//! What a server's operator does with its data folder, whether or not a server runs on it.

use std::{path::Path, time::Duration};

use bkfs_store::{Error, Result, repository::Repository};

use super::{identity_files, layout, options::Options, registry::Registry, state::ServerState};
use crate::{
    identity::Identity,
    permission::Permissions,
    token::{Token, TokenSecret},
    url::{self, Name},
};

/// Makes a server's folder. Invitations will carry `address`. No network credential can make a snapshot that is younger
/// than `protect_secs` unrecoverable.
pub fn init(data: &Path, address: &str, protect_secs: u64) -> Result<()> {
    let address = url::normalize_address(address)?;
    let registry = Registry::new(data);
    if registry.exists()? {
        return Err(Error::Invalid(format!("there is already a server in {}", data.display())));
    }
    let accounts = layout::accounts_folder(data);
    if accounts.exists() {
        let reason = format!("the log is missing, but {} exists: restore the log from a copy", accounts.display());
        return Err(Error::damaged(format!("the server in {}", data.display()), reason));
    }
    // The first record of the log makes the folder a server, so it comes last: an `init` that was interrupted can be
    // repeated.
    identity_files::create(data, &Identity::generate()?)?;
    registry.create(&address, protect_secs)
}

/// Makes an invitation to an account. The first invitation creates the account. An invitation can be used for the time
/// `valid`, by this machine's clock, in whole seconds.
pub fn invite(
    data: &Path,
    account: &Name,
    can: Permissions,
    quota_bytes: Option<u64>,
    valid: Duration,
) -> Result<Token> {
    let valid_secs = i64::try_from(valid.as_secs()).unwrap_or(i64::MAX);
    if valid_secs == 0 {
        return Err(Error::Invalid("an invitation must be valid for at least one second".into()));
    }
    let fingerprint = identity_files::read(data)?.fingerprint();
    let registry = Registry::new(data);
    registry.refresh()?;
    let address = registry.address()?;
    let secret = TokenSecret::random()?;
    registry.invite(&secret, account, can, quota_bytes, valid_secs)?;
    Ok(Token { address, fingerprint, account: account.clone(), secret })
}

/// Opens a repository of a server for its operator. A running server notices by itself what is changed through it.
pub fn repository(data: &Path, account: &Name, name: &Name) -> Result<Repository> {
    identity_files::read(data)?;
    let registry = Registry::new(data);
    registry.refresh()?;
    let state = ServerState::new(data, registry, Options::default());
    if !state.exists(account, name)? {
        return Err(Error::NoRepository { place: format!("account {account}, repository {name}") });
    }
    state.open(account, name)
}

/// Verifies a server's own files, its log and its identity, and repairs either from its second copy. Returns whether a
/// file was repaired.
pub fn verify(data: &Path) -> Result<bool> {
    let is_identity_repaired = identity_files::repair(data, &identity_files::read(data)?)?;
    Ok(Registry::new(data).verify()? || is_identity_repaired)
}
