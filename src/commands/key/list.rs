//! `bkfs key list`: lists passphrase slots and clients.

use anyhow::Result;
use bkfs_store::format::{
    keys::slot,
    roster::{RosterClient, verify_roster},
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::RepoArgs,
    context::Context,
    output::{self, Table},
    session::Session,
};

/// Arguments of `key list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    repo: RepoArgs,
}

#[derive(Serialize)]
struct KeysJson {
    repository: String,
    slots: Vec<SlotJson>,
    clients: Vec<ClientJson>,
}

#[derive(Serialize)]
struct SlotJson {
    id: String,
    memory_kib: Option<u32>,
    passes: Option<u32>,
}

#[derive(Serialize)]
struct ClientJson {
    id: String,
    label: String,
    full: bool,
    since: String,
    until: Option<String>,
    this_machine: bool,
}

/// Lists slots and clients.
pub fn run(context: &Context, args: &ListArgs) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    session.warn_of_rollback();
    let full = session.full_key(context, "listing keys")?;
    let roster = verify_roster(&session.opened.roster, &full.admin.verifying_key(), full.repo)?;
    let client_row = |client: &RosterClient| ClientJson {
        id: client.id.to_string(),
        label: full.open_label(client).unwrap_or_else(|_| "?".to_owned()),
        full: client.is_trusted,
        since: output::time_json(client.since),
        until: client.until.map(output::time_json),
        this_machine: session.client() == Some(client.id),
    };
    let slot_row = |slot: &bkfs_store::format::keys::Slot| {
        let params = slot::slot_params(slot).ok();
        SlotJson {
            id: slot.id.to_string(),
            memory_kib: params.as_ref().map(|p| p.memory_kib),
            passes: params.as_ref().map(|p| p.passes),
        }
    };
    let report = KeysJson {
        repository: full.repo.to_string(),
        slots: session.opened.slots.iter().map(slot_row).collect(),
        clients: roster.clients.iter().map(client_row).collect(),
    };
    if context.json {
        return output::json_pretty(&report);
    }
    let mut slots = Table::new(&["SLOT", "ARGON2ID"], &[]);
    for slot in &report.slots {
        let params = match (slot.memory_kib, slot.passes) {
            (Some(memory), Some(passes)) => format!("{}, {passes} passes", output::size(u64::from(memory) * 1024)),
            _ => "damaged".to_owned(),
        };
        slots.row([slot.id[..8].to_owned(), params]);
    }
    slots.print()?;
    output::line("")?;
    let mut clients = Table::new(&["CLIENT", "KEY", "SINCE", "UNTIL", "LABEL"], &[]);
    for (row, client) in report.clients.iter().zip(&roster.clients) {
        clients.row([
            client.id.short(),
            if row.full { "full" } else { "push" }.to_owned(),
            output::time_local(client.since),
            client.until.map(output::time_local).unwrap_or_default(),
            output::name(row.label.as_bytes()) + if row.this_machine { " (this machine)" } else { "" },
        ]);
    }
    clients.print()
}
