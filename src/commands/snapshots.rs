//! `bkfs snapshots`: lists them.

use anyhow::Result;
use bkfs_store::{reader::SnapshotInfo, snapshot::PathBytes};
use clap::Args;
use serde::Serialize;

use crate::{
    browse::Library,
    cli::RepoArgs,
    context::Context,
    failure::Exit,
    output::{self, Table},
    selector::Filters,
    session::Session,
};

/// Arguments of `snapshots`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bkfs snapshots\n  bkfs snapshots --host alpha --tag nightly\n  \
    bkfs snapshots --json | jq -r '.[-1].id'")]
pub struct SnapshotsArgs {
    #[command(flatten)]
    repo: RepoArgs,
    #[command(flatten)]
    filters: Filters,
}

/// A snapshot in JSON.
#[derive(Serialize)]
struct Row<'a> {
    id: String,
    time: String,
    received: String,
    host: &'a str,
    user: &'a str,
    target: &'a str,
    paths: Vec<String>,
    tags: &'a [String],
    client: String,
    program: &'a str,
    files: u64,
    dirs: u64,
    others: u64,
    bytes: u64,
    added: Added,
}

/// What the push did.
#[derive(Serialize)]
struct Added {
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

/// Runs it.
pub fn run(context: &Context, args: SnapshotsArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    let library = Library::open(context, &session, "listing snapshots")?;
    let chosen: Vec<&SnapshotInfo> = library.snapshots.iter().filter(|i| args.filters.matches(&i.snapshot)).collect();
    if context.json {
        output::json_pretty(&chosen.iter().map(|info| row(info)).collect::<Vec<_>>())?;
        return Ok(Exit::Success);
    }
    if chosen.is_empty() {
        let what = if library.snapshots.is_empty() { "no snapshots yet" } else { "no snapshot fits" };
        eprintln!("bkfs: {what}");
        return Ok(Exit::Success);
    }
    let mut table = Table::new(&["ID", "TIME", "FILES", "SIZE", "ADDED", "TAGS", "TARGET"], &[2, 3, 4]);
    for info in chosen {
        let snapshot = &info.snapshot;
        let totals = totals(info);
        table.row([
            info.id.short(),
            output::time_local(snapshot.time),
            totals.files.to_string(),
            output::size(totals.bytes),
            output::size(snapshot.stats.bytes_stored),
            output::name(snapshot.tags.join(",").as_bytes()),
            output::name(snapshot.target.as_bytes()),
        ]);
    }
    table.print()?;
    Ok(Exit::Success)
}

fn totals(info: &SnapshotInfo) -> bkfs_store::tree::Totals {
    info.snapshot.root.subtree.map(|s| s.totals).unwrap_or_default()
}

fn row(info: &SnapshotInfo) -> Row<'_> {
    let snapshot = &info.snapshot;
    let (totals, stats) = (totals(info), &snapshot.stats);
    Row {
        id: info.id.to_string(),
        time: output::time_json(snapshot.time),
        received: output::time_json(info.received),
        host: &snapshot.host,
        user: &snapshot.user,
        target: &snapshot.target,
        paths: snapshot.paths.iter().map(|PathBytes(p)| String::from_utf8_lossy(p).into_owned()).collect(),
        tags: &snapshot.tags,
        client: info.client.to_string(),
        program: &snapshot.program,
        files: totals.files,
        dirs: totals.dirs,
        others: totals.others,
        bytes: totals.bytes,
        added: Added {
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
    }
}
