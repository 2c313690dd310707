//! `bkfs key rotate`: makes a new seal key.

use anyhow::Result;
use bkfs_store::{
    Error,
    base::id::SlotId,
    format::keys::{
        FullKey, Slot,
        slot::{self, SlotParams},
    },
    owner::rotation::{self, Rotation},
};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::slots::{announce, describe_slot, info};
use crate::{
    args::RepoArgs,
    ask,
    context::Context,
    failure::{Exit, Failure},
    kernel_keyring, passphrase,
    session::Session,
};

/// Arguments of `key rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// A slot that is removed.
#[derive(Serialize)]
struct RemovedJson {
    slot: String,
    label: Option<String>,
    host: Option<String>,
}

/// A passphrase that was given, and what it opened.
struct Given {
    passphrase: Zeroizing<Vec<u8>>,
    slot: SlotId,
    full: FullKey,
}

/// Rotates the seal key, or finishes a rotation that was interrupted.
pub fn run(context: &Context, args: &RotateArgs) -> Result<()> {
    let mut session = Session::open(context, &args.repo)?;
    if let Some(failure) = session.rollback_failure() {
        // The rotation would follow an older list of seal keys than the newest.
        return Err(failure.into());
    }
    let given = open(context, &session)?;
    session.seal_keys.check_newest(&given.full)?;
    let left: Vec<Slot> = rotation::outdated(&given.full, &session.opened.slots).into_iter().cloned().collect();
    match left.is_empty() {
        true => rotate(context, args, &mut session, &given),
        false => finish(context, args, &session, &given, &left),
    }
}

/// Opens a slot. A key file or the kernel's keyring is not enough: only with a passphrase can a slot be made.
fn open(context: &Context, session: &Session) -> Result<Given> {
    let slots = &session.opened.slots;
    if slots.is_empty() {
        let hint = "`bkfs key add`, with a full key file, adds a passphrase; it needs the permission admin on a server";
        return Err(Failure::new(format!("{} shows no passphrase slots", session.place), hint).into());
    }
    let open = |passphrase: &[u8]| {
        let (slot, full) = slot::open_any(slots, passphrase, &session.seal_keys)?;
        Ok(Given { passphrase: Zeroizing::new(passphrase.to_vec()), slot, full })
    };
    let Some(given) = passphrase::open(context, &session.place.to_string(), open)? else {
        return Err(passphrase::missing("rotating the seal key needs a passphrase, which gets a new slot").into());
    };
    given.full.check_config(&session.config)?;
    Ok(given)
}

fn rotate(context: &Context, args: &RotateArgs, session: &mut Session, given: &Given) -> Result<()> {
    let others: Vec<Slot> = session.opened.slots.iter().filter(|slot| slot.id != given.slot).cloned().collect();
    let number = session.seal_keys.number().0 + 1;
    let what = format!(
        "about to make seal key {number} of {}. Full key files and recovery sheets from before will not open what is \
         pushed from then on{}",
        session.place,
        describe(&given.full, &others)
    );
    if !args.yes {
        ask::confirm(context, &what, "Rotate the seal key?", "--yes")?;
    }
    let own = session.opened.slots.iter().find(|slot| slot.id == given.slot);
    let label = own.and_then(|slot| slot::slot_info(&given.full, slot).ok()).unwrap_or_default().label;
    let rotation = Rotation {
        opened: &session.opened,
        full: &given.full,
        passphrase: &given.passphrase,
        params: SlotParams::default(),
        info: &info(label),
    };
    let made = rotation.run(&*session.access).map_err(|error| match error {
        Error::LeaseRefused { reason } => {
            let message = format!("{reason}; nothing was changed by this one");
            let hint = "`bkfs key list` shows the newest seal key; a passphrase that was removed needs `bkfs key add`";
            Failure::new(message, hint).exit(Exit::Locked).into()
        }
        error @ (Error::Unreachable(_) | Error::Io { .. } | Error::Full { .. }) => anyhow::Error::from(error)
            .context("the rotation may be done in part; run `bkfs key rotate` again: it finishes it or begins again"),
        error => error.into(),
    })?;
    kernel_keyring::remove(given.full.repo)?;
    session.reopen_rotated(context)?;
    let mut text = format!(
        "seal key {number} is the newest: what is pushed from now on opens only with keys from now on\n\
         passphrase slot {} replaces {}",
        made.slot.short(),
        given.slot.short()
    );
    text.push_str(&removed_text(&given.full, &others));
    text.push_str(
        "\nFull key files and recovery sheets from before open only what was pushed before: print a new sheet with \
         `bkfs key recovery`, and write key files again with `bkfs key export-full`",
    );
    announce(
        context,
        &json!({
            "seal_key": number,
            "slot": made.slot.to_string(),
            "replaced": given.slot.to_string(),
            "removed": removed_json(&given.full, &others),
            "finished": false,
        }),
        text,
    )
}

/// Removes the slots that an interrupted rotation left.
fn finish(context: &Context, args: &RotateArgs, session: &Session, given: &Given, left: &[Slot]) -> Result<()> {
    let number = session.seal_keys.number().0;
    let what = format!(
        "a rotation to seal key {number} of {} was interrupted before its older slots were removed{}",
        session.place,
        describe(&given.full, left)
    );
    if !args.yes {
        ask::confirm(context, &what, "Remove them?", "--yes")?;
    }
    let ids: Vec<SlotId> = left.iter().map(|slot| slot.id).collect();
    rotation::finish(&*session.access, &ids)?;
    kernel_keyring::remove(given.full.repo)?;
    announce(
        context,
        &json!({
            "seal_key": number,
            "slot": given.slot.to_string(),
            "replaced": Value::Null,
            "removed": removed_json(&given.full, left),
            "finished": true,
        }),
        format!(
            "finished the interrupted rotation to seal key {number}{}\nTo make another seal key, run `bkfs key rotate` \
             again",
            removed_text(&given.full, left)
        ),
    )
}

/// Lists slots that are about to be removed.
fn describe(full: &FullKey, slots: &[Slot]) -> String {
    if slots.is_empty() {
        return String::new();
    }
    let list: String = slots.iter().map(|slot| format!("\n        {}", name(full, slot))).collect();
    format!(". These passphrases will be removed; `bkfs key add` adds them again:{list}")
}

fn removed_text(full: &FullKey, slots: &[Slot]) -> String {
    let line =
        |slot| format!("\nremoved passphrase slot {}: `bkfs key add` adds the passphrase again", name(full, slot));
    slots.iter().map(line).collect()
}

fn name(full: &FullKey, slot: &Slot) -> String {
    format!("{}{}", slot.id.short(), describe_slot(slot::slot_info(full, slot).ok().as_ref()))
}

fn removed_json(full: &FullKey, slots: &[Slot]) -> Vec<RemovedJson> {
    let row = |slot: &Slot| {
        let info = slot::slot_info(full, slot).ok();
        let (label, host) = info.map(|info| (info.label, info.host)).unzip();
        RemovedJson { slot: slot.id.to_string(), label, host }
    };
    slots.iter().map(row).collect()
}
