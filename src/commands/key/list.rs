//! `bkfs key list`: lists passphrase slots and clients.

use anyhow::Result;
use bkfs_store::{
    base::id::DomainId,
    format::{
        keys::{OWNER_DOMAIN, slot},
        roster::{RosterClient, verify_roster},
    },
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::RepoArgs,
    context::Context,
    output::{self, Table},
    session::{Session, Unlocked},
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
    seal_key: u32,
    slots: Vec<SlotJson>,
    clients: Vec<ClientJson>,
}

#[derive(Serialize)]
struct SlotJson {
    id: String,
    memory_kib: Option<u32>,
    passes: Option<u32>,
    label: Option<String>,
    host: Option<String>,
    since: Option<String>,
    seal_key: Option<u32>,
    in_use: bool,
}

#[derive(Serialize)]
struct ClientJson {
    id: String,
    label: String,
    group: String,
    since: String,
    until: Option<String>,
    this_machine: bool,
}

/// Lists slots and clients.
pub fn run(context: &Context, args: &ListArgs) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    session.warn_of_rollback();
    let Unlocked { full, slot: used } = session.unlock(context, "listing keys")?;
    let roster = verify_roster(&session.opened.roster, &full.admin.verifying_key(), full.repo)?;
    let client_row = |client: &RosterClient| ClientJson {
        id: client.id.to_string(),
        label: full.open_label(client).unwrap_or_else(|_| "?".to_owned()),
        group: group(client.domain),
        since: output::time_json(client.since),
        until: client.until.map(output::time_json),
        this_machine: session.client() == Some(client.id),
    };
    let slot_row = |slot: &bkfs_store::format::keys::Slot| {
        let params = slot::slot_params(slot).ok();
        let info = slot::slot_info(&full, slot).ok();
        SlotJson {
            id: slot.id.to_string(),
            memory_kib: params.as_ref().map(|p| p.memory_kib),
            passes: params.as_ref().map(|p| p.passes),
            label: info.as_ref().map(|info| info.label.clone()),
            host: info.as_ref().map(|info| info.host.clone()),
            since: info.as_ref().map(|info| output::time_json(info.created)),
            seal_key: slot::slot_seal_key(&full, slot).ok().map(|number| number.0),
            in_use: used == Some(slot.id),
        }
    };
    let report = KeysJson {
        repository: full.repo.to_string(),
        seal_key: session.seal_keys.number().0,
        slots: session.opened.slots.iter().map(slot_row).collect(),
        clients: roster.clients.iter().map(client_row).collect(),
    };
    if context.json {
        return output::json_pretty(&report);
    }
    let newest = report.seal_key;
    output::line(match newest {
        1 => "seal key 1: never rotated".to_owned(),
        _ => format!("seal key {newest}: `bkfs key rotate` made it"),
    })?;
    output::line("")?;
    let mut slots = Table::new(&["SLOT", "SEAL KEY", "ARGON2ID", "SINCE", "HOST", "LABEL"], &[]);
    for (slot, stored) in report.slots.iter().zip(&session.opened.slots) {
        let params = match (slot.memory_kib, slot.passes) {
            (Some(memory), Some(passes)) => format!("{}, {passes} passes", output::size(u64::from(memory) * 1024)),
            _ => "damaged".to_owned(),
        };
        let info = slot::slot_info(&full, stored).unwrap_or_default();
        let since = slot.since.as_ref().map(|_| output::time_local(info.created)).unwrap_or_default();
        slots.row([
            stored.id.short(),
            match slot.seal_key {
                Some(number) if number < newest => format!("{number} (outdated)"),
                Some(number) => number.to_string(),
                None => "?".to_owned(),
            },
            params,
            since,
            output::name(info.host.as_bytes()),
            output::name(info.label.as_bytes()) + if slot.in_use { " (this one)" } else { "" },
        ]);
    }
    slots.print()?;
    output::line("")?;
    let mut clients = Table::new(&["CLIENT", "GROUP", "SINCE", "UNTIL", "LABEL"], &[]);
    for (row, client) in report.clients.iter().zip(&roster.clients) {
        clients.row([
            client.id.short(),
            match client.domain {
                DomainId::OWNER => row.group.clone(),
                domain => domain.short(),
            },
            output::time_local(client.since),
            client.until.map(output::time_local).unwrap_or_default(),
            output::name(row.label.as_bytes()) + if row.this_machine { " (this machine)" } else { "" },
        ]);
    }
    clients.print()
}

/// Names a trust domain. Except for the owner's, only a keyed hash of its name is known.
fn group(domain: DomainId) -> String {
    match domain {
        DomainId::OWNER => OWNER_DOMAIN.to_owned(),
        domain => domain.to_string(),
    }
}
