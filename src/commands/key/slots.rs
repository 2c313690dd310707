//! `bkfs key add`, `bkfs key change` and `bkfs key remove`.

use std::path::PathBuf;

use anyhow::Result;
use bkfs_store::{
    Error,
    format::{
        keys::{
            Slot,
            slot::{self, SlotParams},
        },
        roster::verify_roster,
    },
};
use clap::Args;

use crate::{
    args::RepoArgs, context::Context, enrol, failure::Failure, kernel_keyring, output, passphrase, session::Session,
};

/// Arguments of `key add` and `key change`.
#[derive(Debug, Args)]
pub struct NewPassphraseArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Read the new passphrase from this file
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

/// Arguments of `key remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The id of a slot or client, or a prefix of it
    #[arg(value_name = "ID")]
    id: String,
}

/// Adds a passphrase.
pub fn add(context: &Context, args: &NewPassphraseArgs) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    let full = session.full_key(context, "adding a passphrase")?;
    let passphrase = passphrase::additional(args.new_password_file.as_deref())?;
    let slot = slot::seal_slot(&full, passphrase.as_bytes(), SlotParams::default())?;
    session.access.put_slot(&slot)?;
    announce(context, format!("added passphrase slot {}", slot.id.short()))
}

/// Replaces a passphrase with a new one.
pub fn change(context: &Context, args: &NewPassphraseArgs) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    // Only the old passphrase shows which slot to replace, so a key file or the keyring is not enough.
    let Some(old) = passphrase::existing(context, &session.place.to_string())? else {
        return Err(passphrase::missing("changing the passphrase needs the old one").into());
    };
    let mut found = None;
    for slot in &session.opened.slots {
        if let Some(full) = slot::open_slot(slot, old.as_bytes())? {
            found = Some((slot.id, full));
            break;
        }
    }
    let Some((old_id, full)) = found else {
        return Err(Error::WrongPassphrase { slots: session.opened.slots.len() }.into());
    };
    full.check_config(&session.config)?;
    let passphrase = passphrase::additional(args.new_password_file.as_deref())?;
    // Add the new slot first: a crash between the two steps leaves both passphrases, never none.
    let slot = slot::seal_slot(&full, passphrase.as_bytes(), SlotParams::default())?;
    session.access.put_slot(&slot)?;
    session.access.remove_slot(old_id)?;
    announce(context, format!("changed the passphrase: slot {} replaces {}", slot.id.short(), old_id.short()))
}

/// Removes a slot, or revokes a client.
pub fn remove(context: &Context, args: &RemoveArgs) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    let full = session.full_key(context, "removing a key")?;
    let roster = verify_roster(&session.opened.roster, &full.admin.verifying_key(), full.repo)?;
    let id = args.id.to_ascii_lowercase();
    let slots: Vec<&Slot> = session.opened.slots.iter().filter(|s| s.id.to_string().starts_with(&id)).collect();
    let clients: Vec<_> =
        roster.clients.iter().filter(|c| c.until.is_none() && c.id.to_string().starts_with(&id)).collect();
    match (slots.as_slice(), clients.as_slice()) {
        ([slot], []) => {
            if session.opened.slots.len() == 1 {
                let hint = "add another one first, with `bkfs key add`";
                return Err(Failure::new("this is the only passphrase of the repository", hint).into());
            }
            session.access.remove_slot(slot.id)?;
            kernel_keyring::remove(full.repo)?;
            announce(context, format!("removed passphrase slot {}", slot.id.short()))
        }
        ([], [client]) => {
            enrol::revoke_client(session.access.as_ref(), &full, client.id)?;
            let label = full.open_label(client).unwrap_or_default();
            announce(context, format!("revoked client {} ({})", client.id.short(), output::name(label.as_bytes())))
        }
        ([], []) => Err(Failure::new(
            format!("no passphrase slot and no client has an id that begins with {id:?}"),
            "`bkfs key list` lists them",
        )
        .into()),
        _ => Err(Failure::new(format!("{id} fits several slots or clients"), "give more digits of the id").into()),
    }
}

fn announce(context: &Context, text: String) -> Result<()> {
    if context.quiet || context.json { Ok(()) } else { output::line(text) }
}
