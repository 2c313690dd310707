//! Making this machine a client at its first push.

use anyhow::Result;
use bkfs_store::{
    base::id::DomainId,
    format::keys::{FullKey, KeyFile, PushKey},
};

use crate::{
    context::{Context, host_name},
    enrol,
    failure::{Exit, Failure},
    place::Place,
    session::Session,
};

/// Makes this machine a client. It has the passphrase, but no push key.
pub fn enrol_this_machine(context: &Context, session: &mut Session) -> Result<PushKey> {
    let full = session.full_key(context, "enrolling this machine").map_err(|error| match error.downcast_ref() {
        Some(bkfs_store::Error::NoPermission { .. }) => no_push_key(&session.place),
        _ => error,
    })?;
    enrol_with(session, &full)
}

/// Makes this machine a client, with the full key.
pub fn enrol_with(session: &mut Session, full: &FullKey) -> Result<PushKey> {
    let url = Some(session.place.to_string());
    let key = enrol::add_client(session.access.as_ref(), full, &host_name(), url, DomainId::OWNER)?;
    session.folder.set_push_key(&KeyFile::Push(key.clone()).encode())?;
    tracing::info!("this machine is now a client; its push key is {}", session.folder.push_key_path().display());
    session.set_machine_key(key.clone());
    session.reopen(Some(key.client_id()), session.folder.seen(&session.copy)?.0.seen())?;
    Ok(key)
}

/// Returns the error for a client that may only push and has no push key: the server gives it nothing that a passphrase
/// could open.
fn no_push_key(place: &Place) -> anyhow::Error {
    Failure::new(
        format!("this machine has no push key for {place}, and no permission to read there, so it cannot enrol itself"),
        "write a push key with `bkfs key export-push FILE` on a machine that can read; use it here with --key-file \
         FILE or `bkfs join TOKEN --push-key FILE`",
    )
    .exit(Exit::WrongKey)
    .into()
}
