//! Chooses the snapshot that a name stands for, or says why none or several fit.

use std::collections::BTreeSet;

use bkfs_fs::select::{Candidate, Here, NoLatest, SnapshotFilter, WantedPath, latest};
use bkfs_store::{Error, base::time::Time, format::snapshot::Snapshot};
use jiff::tz::TimeZone;

use super::SnapshotName;
use crate::{clients::Clients, failure::Failure, output};

/// How many snapshots a message lists at most.
const LISTED_MAX: usize = 20;

/// Chooses one of the candidates, which are sorted from oldest to newest. Returns its index. `path` is what the user
/// wants of the snapshot; it matters only for `latest`.
pub fn choose(
    candidates: &[Candidate<'_>],
    name: &SnapshotName,
    path: Option<WantedPath<'_>>,
    filter: &SnapshotFilter,
    here: Here<'_>,
    clients: &Clients,
) -> anyhow::Result<usize> {
    let found: Vec<usize> = match name {
        SnapshotName::Latest => {
            return {
                let unclear = |why| no_latest(candidates, why, path, filter, clients);
                latest(candidates, filter, path, here).map_err(unclear)
            };
        }
        SnapshotName::Id(prefix) => {
            let fits = |index: &usize| candidates[*index].id.to_string().starts_with(prefix);
            (0..candidates.len()).filter(fits).collect()
        }
        SnapshotName::Time(pattern) => {
            let times: Vec<Time> = candidates.iter().map(|candidate| candidate.snapshot.time).collect();
            pattern.find(&times, &TimeZone::system())
        }
    };
    let found: Vec<usize> = found
        .into_iter()
        .filter(|index| filter.matches(candidates[*index].client, candidates[*index].snapshot))
        .collect();
    match found[..] {
        [] => Err(Error::SnapshotNotFound(none_found(candidates.len(), name, filter)).into()),
        [one] => Ok(one),
        _ => {
            let message = format!("{} fits {} snapshots", name.text(), found.len());
            let hint = "name one by its id; more of the time, --target or --client may also tell them apart";
            Err(several(candidates, &found, &message, hint, clients))
        }
    }
}

fn no_latest(
    candidates: &[Candidate<'_>],
    why: NoLatest,
    path: Option<WantedPath<'_>>,
    filter: &SnapshotFilter,
    clients: &Clients,
) -> anyhow::Error {
    let path = path.map(|wanted| output::name(wanted.path)).unwrap_or_default();
    match why {
        NoLatest::NoSnapshot => {
            Error::SnapshotNotFound(none_found(candidates.len(), &SnapshotName::Latest, filter)).into()
        }
        NoLatest::Several { candidates: found } if count_clients(candidates, &found) > 1 => {
            let several_clients = output::count(count_clients(candidates, &found) as u64, "client");
            let message = format!("latest is not clear: snapshots of {several_clients} fit");
            let hint = "choose a client with --client NAME; a client gives its host and targets any names it likes";
            several(candidates, &found, &message, hint, clients)
        }
        NoLatest::Several { candidates: found } => {
            let message = format!("latest is not clear: there are {} series of snapshots", found.len());
            let hint = "choose one with --target (and --host), give the path of what you want (latest:/PATH), or name \
                        a snapshot by its id";
            several(candidates, &found, &message, hint, clients)
        }
        NoLatest::NotHeld { candidates: found, elsewhere } if elsewhere.is_empty() => {
            let message = format!("/{path} is not in the sources of any newest snapshot; these are");
            let hint = "`bkfs snapshots` lists older snapshots, which may hold it";
            several(candidates, &found, &message, hint, clients)
        }
        NoLatest::NotHeld { elsewhere, .. } => {
            let message = format!("no snapshot of this machine holds /{path}, but snapshots of other clients do");
            several(candidates, &elsewhere, &message, "name the client: --client NAME, or --host HOST", clients)
        }
    }
}

/// Returns an error that lists snapshots, the newest first.
fn several(
    candidates: &[Candidate<'_>],
    found: &[usize],
    message: &str,
    hint: &str,
    clients: &Clients,
) -> anyhow::Error {
    let mut message = format!("{message}:");
    let shows_client = count_clients(candidates, found) > 1;
    for candidate in found.iter().rev().take(LISTED_MAX).map(|index| &candidates[*index]) {
        message.push_str(&format!("\n        {}", describe(candidate)));
        if shows_client {
            message.push_str(&format!(", {}", clients.name(candidate.client)));
        }
    }
    if found.len() > LISTED_MAX {
        message.push_str(&format!("\n        and {} more", found.len() - LISTED_MAX));
    }
    Failure::new(message, hint).into()
}

fn count_clients(candidates: &[Candidate<'_>], found: &[usize]) -> usize {
    found.iter().map(|index| candidates[*index].client).collect::<BTreeSet<_>>().len()
}

/// Returns what tells a snapshot from others, for a person.
pub fn describe(candidate: &Candidate<'_>) -> String {
    let snapshot: &Snapshot = candidate.snapshot;
    let (target, host) = (output::name(snapshot.target.as_bytes()), output::name(snapshot.host.as_bytes()));
    let host = if target.starts_with(&format!("{host}:")) { String::new() } else { format!(", host {host}") };
    format!("{} of {}, target {target}{host}", candidate.id.short(), output::time_local(snapshot.time))
}

fn none_found(all: usize, name: &SnapshotName, filter: &SnapshotFilter) -> String {
    let what = match name {
        SnapshotName::Latest => "there is no snapshot".to_owned(),
        SnapshotName::Id(text) => format!("no snapshot has an id that begins with {text}"),
        SnapshotName::Time(pattern) => {
            format!("no snapshot was made at {} (without Z or an offset, times are local)", pattern.text())
        }
    };
    let limited =
        if filter.is_empty() { "" } else { " among those that pass --client, --host, --target, --tag and --path" };
    match all {
        0 => "the repository has no snapshots yet; `bkfs push` makes one".to_owned(),
        _ => format!("{what}{limited}; `bkfs snapshots` lists all snapshots"),
    }
}
