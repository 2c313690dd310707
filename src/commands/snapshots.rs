//! `bkfs snapshots`: lists the snapshots, or the ones in the trash.

use std::collections::BTreeSet;

use anyhow::Result;
use bkfs_store::{
    base::time::Time,
    format::{fate, snapshot::PathBytes},
    owner::reader::SnapshotInfo,
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::RepoArgs,
    catalog::Catalog,
    clients::Clients,
    context::Context,
    failure::Exit,
    output::{self, Table},
    selector::Filters,
    session::Session,
};

/// Arguments of `snapshots`.
#[derive(Debug, Args)]
#[command(
    about = "List the snapshots",
    long_about = "List the snapshots, oldest first: in the order in which the repository received them, \
        whatever the clocks of the machines that pushed them said.\n\n\
        For each one, print the beginning of its id, which other commands accept; its time, in the local time zone; \
        how many files and bytes it holds; how many bytes its push added to the repository; its tags; its target; and \
        its client, if they are of several clients. \
        --json prints more.",
    after_help = "Examples:\n  bkfs snapshots\n  bkfs snapshots --host alpha --tag nightly\n  \
        bkfs snapshots --json | jq -r '.[-1].id'\n  \
        bkfs snapshots --trash    # what `bkfs unforget` can bring back"
)]
pub struct SnapshotsArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// List the snapshots in the trash instead
    #[arg(long)]
    trash: bool,
    #[command(flatten)]
    filters: Filters,
}

/// A snapshot as JSON.
#[derive(Serialize)]
struct SnapshotJson<'a> {
    id: String,
    time: String,
    received: String,
    host: &'a str,
    user: &'a str,
    target: &'a str,
    paths: Vec<String>,
    tags: &'a [String],
    client: String,
    /// The label of the client, as in `bkfs key list`.
    client_label: Option<&'a str>,
    program: &'a str,
    files: u64,
    dirs: u64,
    others: u64,
    bytes: u64,
    added: AddedJson,
    /// When it went to the trash.
    #[serde(skip_serializing_if = "Option::is_none")]
    forgotten: Option<String>,
    /// Until when the server keeps it in the trash, whatever a client asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<String>,
}

/// What the push did, as JSON.
#[derive(Serialize)]
struct AddedJson {
    files_new: u64,
    files_changed: u64,
    files_unchanged: u64,
    chunks: u64,
    bytes: u64,
    bytes_stored: u64,
    bytes_read: u64,
    duration_ms: u64,
    errors: u64,
}

/// Runs `bkfs snapshots`.
pub fn run(context: &Context, args: SnapshotsArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    let catalog = Catalog::open(context, &session, "listing snapshots")?;
    // Until when a snapshot must stay in the trash; none if the store has no floor.
    let (now, protect_secs) = (session.opened.time, session.opened.protect_secs);
    let kept_until = |since| (protect_secs > 0).then(|| fate::kept_until(since, now, protect_secs));
    let all: Vec<(&SnapshotInfo, Option<Time>)> = match args.trash {
        true => catalog.trash.iter().map(|trashed| (&trashed.info, Some(trashed.since))).collect(),
        false => catalog.snapshots.iter().map(|info| (info, None)).collect(),
    };
    if args.trash {
        for broken in catalog.unreadable.iter().filter(|broken| broken.is_trashed) {
            let (client, received) = (catalog.clients.name(broken.client), output::time_local(broken.received));
            let id = broken.id.short();
            output::note(format!("in the trash: snapshot {id} of {client}, received {received}: {}", broken.reason));
        }
    }
    let filter = args.filters.filter(&catalog.clients)?;
    let chosen: Vec<_> = all.iter().filter(|(info, _)| filter.matches(info.client, &info.snapshot)).collect();
    if context.json {
        let rows = chosen.iter().map(|(info, since)| row(info, &catalog.clients, *since, since.and_then(kept_until)));
        output::json_list(&rows.collect::<Vec<_>>())?;
        return Ok(Exit::Success);
    }
    if chosen.is_empty() {
        let what = match (all.is_empty(), args.trash) {
            (true, true) => "the trash is empty",
            (true, false) => "no snapshots yet",
            (false, _) => "no snapshot passes the filters",
        };
        output::note(what);
        return Ok(Exit::Success);
    }
    let mut head = vec!["ID", "TIME", "FILES", "SIZE", "ADDED", "TAGS", "TARGET"];
    // Any client can use any name for its targets and its host.
    let shows_client = chosen.iter().map(|(info, _)| info.client).collect::<BTreeSet<_>>().len() > 1;
    if shows_client {
        head.push("CLIENT");
    }
    if args.trash {
        head.extend(["FORGOTTEN", "KEPT UNTIL"]);
    }
    let mut table = Table::new(&head, &[2, 3, 4]);
    for (info, since) in chosen {
        let snapshot = &info.snapshot;
        let totals = totals(info);
        let mut cells = vec![
            info.id.short(),
            output::time_local(snapshot.time),
            totals.files.to_string(),
            output::size(totals.bytes),
            output::size(snapshot.stats.bytes_stored),
            output::name(snapshot.tags.join(",").as_bytes()),
            output::name(snapshot.target.as_bytes()),
        ];
        if shows_client {
            let label = catalog.clients.label(info.client).unwrap_or_default();
            cells.push(format!("{} {}", info.client.short(), output::name(label.as_bytes())));
        }
        if let Some(since) = since {
            cells.push(output::time_local(*since));
            cells.push(kept_until(*since).map_or_else(|| "prune".into(), output::time_local));
        }
        table.row(cells);
    }
    table.print()?;
    Ok(Exit::Success)
}

fn totals(info: &SnapshotInfo) -> bkfs_store::format::tree::Totals {
    info.snapshot.root.subtree.map(|s| s.totals).unwrap_or_default()
}

fn row<'a>(
    info: &'a SnapshotInfo,
    clients: &'a Clients,
    since: Option<Time>,
    kept_until: Option<Time>,
) -> SnapshotJson<'a> {
    let snapshot = &info.snapshot;
    let (totals, stats) = (totals(info), &snapshot.stats);
    SnapshotJson {
        id: info.id.to_string(),
        time: output::time_json(snapshot.time),
        received: output::time_json(info.received),
        host: &snapshot.host,
        user: &snapshot.user,
        target: &snapshot.target,
        paths: snapshot.paths.iter().map(|PathBytes(p)| String::from_utf8_lossy(p).into_owned()).collect(),
        tags: &snapshot.tags,
        client: info.client.to_string(),
        client_label: clients.label(info.client),
        program: &snapshot.program,
        files: totals.files,
        dirs: totals.dirs,
        others: totals.others,
        bytes: totals.bytes,
        added: AddedJson {
            files_new: stats.files_new,
            files_changed: stats.files_changed,
            files_unchanged: stats.files_unchanged,
            chunks: stats.chunks_new,
            bytes: stats.bytes_new,
            bytes_stored: stats.bytes_stored,
            bytes_read: stats.bytes_read,
            duration_ms: stats.duration_ms,
            errors: stats.errors,
        },
        forgotten: since.map(output::time_json),
        kept_until: kept_until.map(output::time_json),
    }
}
