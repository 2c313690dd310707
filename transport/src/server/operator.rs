//! What a server's operator does with its data folder, whether or not a server runs on it.

use std::{path::Path, time::Duration};

use bkfs_store::{Error, Result, repository::Repository};

use super::{identity_files, invitation::Invitation, layout, options::Options, registry::Registry, state::ServerState};
use crate::{
    addresses::Addresses,
    identity::Identity,
    permission::Permissions,
    token::{Token, TokenSecret},
    url::Name,
};

/// Makes a server's folder. Invitations will carry `addresses`, which are joined by commas. No network credential can
/// make a snapshot that is younger than `protect_secs` unrecoverable.
pub fn init(data: &Path, addresses: &str, protect_secs: u64) -> Result<()> {
    let addresses: Addresses = addresses.parse()?;
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
    registry.create(&addresses, protect_secs)
}

/// Changes the addresses that invitations carry. Tokens and clients that know others are not affected.
pub fn set_addresses(data: &Path, addresses: &Addresses) -> Result<()> {
    identity_files::read(data)?;
    Registry::new(data).set_addresses(addresses)
}

/// Makes an invitation of one client to an account: see [`invite_to`].
pub fn invite(
    data: &Path,
    account: &Name,
    can: Permissions,
    quota_bytes: Option<u64>,
    valid: Duration,
) -> Result<Token> {
    invite_to(data, &Invitation { valid, quota_bytes, ..Invitation::new(account.clone(), can) })
}

/// Makes an invitation.
pub fn invite_to(data: &Path, invitation: &Invitation) -> Result<Token> {
    let invalid = |why: &str| Err(Error::Invalid(why.into()));
    if invitation.valid.as_secs() == 0 {
        return invalid("an invitation must be valid for at least one second");
    }
    if invitation.uses == 0 {
        return invalid("an invitation must be for at least one client");
    }
    if invitation.uses > 1 && invitation.client_name.is_some() {
        return invalid("an invitation for several clients cannot give them one name: name them after they joined");
    }
    if !invitation.can.intersects(Permissions::ALL) {
        return invalid("an invitation must allow something: give at least one permission");
    }
    let fingerprint = identity_files::read(data)?.fingerprint();
    let secret = TokenSecret::random()?;
    let addresses = Registry::new(data).invite(&secret, invitation, invitation.addresses.as_ref())?;
    Ok(Token { addresses, fingerprint, account: invitation.account.clone(), secret })
}

/// Opens a repository of a server for its operator. A running server notices by itself what is changed through it.
pub fn repository(data: &Path, account: &Name, name: &Name) -> Result<Repository> {
    identity_files::read(data)?;
    let registry = Registry::new(data);
    registry.refresh()?;
    let state = ServerState::new(data, registry, Options::default())?;
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
