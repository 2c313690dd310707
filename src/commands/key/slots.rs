//! `bkfs key add`, `bkfs key change` and `bkfs key remove`.

use std::path::PathBuf;

use anyhow::Result;
use bkfs_store::format::{
    keys::{
        Slot, SlotInfo,
        slot::{self, SlotParams},
    },
    roster::verify_roster,
};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    args::RepoArgs,
    ask,
    context::{Context, host_name},
    failure::Failure,
    kernel_keyring, output, passphrase,
    session::{Session, Unlocked},
};

/// Arguments of `key add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    #[command(flatten)]
    new: NewPassphraseArgs,
    /// Name the passphrase like this, for example after where it is kept
    #[arg(long, value_name = "NAME", default_value = "")]
    label: String,
}

/// Arguments of `key change`, and what `key add` has in common with it.
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
    /// The id of a slot, or a prefix of it
    #[arg(value_name = "ID")]
    id: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Adds a passphrase.
pub fn add(context: &Context, args: &AddArgs) -> Result<()> {
    let session = Session::open(context, &args.new.repo)?;
    let full = session.full_key(context, "adding a passphrase")?;
    let passphrase = passphrase::additional(args.new.new_password_file.as_deref())?;
    let slot = slot::seal_slot(&full, passphrase.as_bytes(), SlotParams::default(), &info(args.label.clone()))?;
    session.access.put_slot(&slot)?;
    announce(
        context,
        &json!({ "slot": slot.id.to_string(), "label": args.label }),
        format!("added passphrase slot {}", slot.id.short()),
    )
}

/// Returns what a slot that this machine creates now says about itself.
pub(super) fn info(label: String) -> SlotInfo {
    SlotInfo { label, host: host_name(), created: output::now() }
}

/// Replaces a passphrase with a new one.
pub fn change(context: &Context, args: &NewPassphraseArgs) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    // Only the old passphrase shows which slot to replace, so a key file or the keyring is not enough.
    let slots = &session.opened.slots;
    let open = |passphrase: &[u8]| slot::open_any(slots, passphrase, &session.seal_keys);
    let Some((old_id, full)) = passphrase::open(context, &session.place.to_string(), open)? else {
        return Err(passphrase::missing("changing the passphrase needs the old one").into());
    };
    full.check_config(&session.config)?;
    session.seal_keys.check_newest(&full)?;
    let passphrase = passphrase::additional(args.new_password_file.as_deref())?;
    let label = session.opened.slots.iter().find(|slot| slot.id == old_id).map(|slot| slot::slot_info(&full, slot));
    let label = label.and_then(Result::ok).unwrap_or_default().label;
    // Add the new slot first: a crash between the two steps leaves both passphrases, never none.
    let slot = slot::seal_slot(&full, passphrase.as_bytes(), SlotParams::default(), &info(label))?;
    session.access.put_slot(&slot)?;
    session.access.remove_slot(old_id)?;
    announce(
        context,
        &json!({ "slot": slot.id.to_string(), "replaced": old_id.to_string() }),
        format!("changed the passphrase: slot {} replaces {}", slot.id.short(), old_id.short()),
    )
}

/// Removes a slot.
pub fn remove(context: &Context, args: &RemoveArgs) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    let unlocked = session.unlock(context, "removing a key")?;
    let full = &unlocked.full;
    let roster = verify_roster(&session.opened.roster, &full.admin.verifying_key(), full.repo)?;
    let id = args.id.to_ascii_lowercase();
    let slots: Vec<&Slot> = session.opened.slots.iter().filter(|s| s.id.to_string().starts_with(&id)).collect();
    let clients: Vec<_> =
        roster.clients.iter().filter(|c| c.until.is_none() && c.id.to_string().starts_with(&id)).collect();
    match (slots.as_slice(), clients.as_slice()) {
        ([slot], []) => remove_slot(context, args, &session, &unlocked, slot),
        ([], []) => Err(Failure::new(
            format!("no passphrase slot has an id that begins with {id:?}"),
            "`bkfs key list` lists them",
        )
        .into()),
        ([], [client, ..]) => Err(Failure::new(
            format!("{} is a client, and no passphrase slot", client.id.short()),
            "`bkfs client revoke` ends a client",
        )
        .into()),
        _ => Err(Failure::new(format!("{id} fits several slots"), "give more digits of the id").into()),
    }
}

fn remove_slot(
    context: &Context,
    args: &RemoveArgs,
    session: &Session,
    unlocked: &Unlocked,
    slot: &Slot,
) -> Result<()> {
    if session.opened.slots.len() == 1 {
        let hint = "add another one first, with `bkfs key add`";
        return Err(Failure::new("this is the only passphrase of the repository", hint).into());
    }
    let info = slot::slot_info(&unlocked.full, slot).ok();
    let what = format!("passphrase slot {}{}", slot.id.short(), describe_slot(info.as_ref()));
    let warning = match unlocked.slot == Some(slot.id) {
        true => Some(format!("{what} is the one that your passphrase has just opened: it will open nothing any more")),
        false => None,
    };
    confirm(context, args.yes, &what, warning)?;
    session.access.remove_slot(slot.id)?;
    kernel_keyring::remove(unlocked.full.repo)?;
    let label = info.map(|info| info.label).unwrap_or_default();
    announce(
        context,
        &json!({ "slot": slot.id.to_string(), "label": label }),
        format!("removed passphrase slot {}", slot.id.short()),
    )
}

/// Describes a slot to a person: ` (label, from HOST, since TIME)`, as far as that is known.
pub(super) fn describe_slot(info: Option<&SlotInfo>) -> String {
    let Some(SlotInfo { label, host, created }) = info else { return String::new() };
    let label = if label.is_empty() { "no label" } else { label };
    let (label, host) = (output::name(label.as_bytes()), output::name(host.as_bytes()));
    format!(" ({label}, from {host}, since {})", output::time_local(*created))
}

/// Asks before a key is removed. A key that is in use here, which `warning` says, is not removed unasked.
fn confirm(context: &Context, is_confirmed: bool, what: &str, warning: Option<String>) -> Result<()> {
    match warning {
        _ if is_confirmed => Ok(()),
        None if !ask::has_person(context) => Ok(()),
        Some(warning) => ask::confirm(context, &warning, "Remove it?", "--yes"),
        None => ask::confirm(context, &format!("about to remove {what}"), "Remove it?", "--yes"),
    }
}

/// Says what was done: as an object for programs, or as a line for people.
pub(super) fn announce(context: &Context, done: &Value, text: String) -> Result<()> {
    match (context.json, context.quiet) {
        (true, _) => output::json(done),
        (false, true) => Ok(()),
        (false, false) => output::line(text),
    }
}
