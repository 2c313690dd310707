//! `bkfs unforget`: brings snapshots back from the trash.

use std::collections::BTreeSet;

use anyhow::Result;
use bkfs_store::{access::FORGET_MAX, base::id::SnapshotId, owner::reader::SnapshotInfo};
use clap::Args;
use serde::Serialize;

use crate::{
    args::RepoArgs,
    catalog::Catalog,
    context::Context,
    failure::{Exit, Failure},
    output,
    selector::{Filters, SnapshotName},
    session::Session,
};

/// Arguments of `unforget`.
#[derive(Debug, Args)]
#[command(
    about = "Bring snapshots back from the trash",
    long_about = "Bring snapshots back from the trash, unchanged. `bkfs snapshots --trash` lists the snapshots \
        there.\n\n\
        This needs the full key, and on a server the permission forget.",
    after_help = "Examples:\n  bkfs unforget 4f2a91c7\n  bkfs unforget 2026-11-20T090000Z\n  \
        bkfs unforget --all --host alpha"
)]
pub struct UnforgetArgs {
    /// Snapshots to bring back: ids or prefixes of ids, times, or latest for the newest one in the trash
    #[arg(value_name = "SNAPSHOT", required_unless_present = "all")]
    snapshots: Vec<SnapshotName>,
    #[command(flatten)]
    repo: RepoArgs,
    /// Bring back all snapshots in the trash that pass the filters
    #[arg(long, conflicts_with = "snapshots")]
    all: bool,
    #[command(flatten)]
    filters: Filters,
}

#[derive(Serialize)]
struct UnforgetJson {
    restored: Vec<String>,
}

/// Runs `bkfs unforget`.
pub fn run(context: &Context, args: UnforgetArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    let catalog = Catalog::open(context, &session, "bringing snapshots back")?;
    let broken = || catalog.unreadable.iter().filter(|broken| broken.is_trashed).map(|broken| broken.id);
    if catalog.trash.is_empty() && broken().next().is_none() && !args.all {
        return Err(Failure::new(
            "there is nothing in the trash",
            "`bkfs snapshots` lists the snapshots that are not forgotten",
        )
        .into());
    }
    let infos: Vec<&SnapshotInfo> = catalog.trash.iter().map(|trashed| &trashed.info).collect();
    let filter = args.filters.filter(&catalog.clients)?;
    let mut chosen: BTreeSet<SnapshotId> = BTreeSet::new();
    if args.all {
        chosen.extend(infos.iter().filter(|info| filter.matches(info.client, &info.snapshot)).map(|info| info.id));
    }
    if args.all && filter.is_empty() {
        chosen.extend(broken());
    }
    for name in &args.snapshots {
        if let SnapshotName::Id(prefix) = name
            && let Some(id) = broken().find(|id| prefix.len() == SnapshotId::LEN * 2 && id.to_string() == *prefix)
        {
            chosen.insert(id);
            continue;
        }
        let index = catalog.choose_of(&infos, &name.clone().into(), &args.filters).map_err(|error| {
            Failure::new(format!("in the trash: {error}"), "`bkfs snapshots --trash` lists the snapshots there")
        })?;
        chosen.insert(infos[index].id);
    }
    let chosen: Vec<SnapshotId> = chosen.into_iter().collect();
    for ids in chosen.chunks(FORGET_MAX) {
        session.access.unforget(ids)?;
    }
    if context.json {
        output::json(&UnforgetJson { restored: chosen.iter().map(SnapshotId::to_string).collect() })?;
    } else if context.shows_summary() || !context.quiet && !chosen.is_empty() {
        chosen.iter().try_for_each(|id| output::line(format!("{} brought back", id.short())))?;
        output::line(format!("{} brought back from the trash", output::count(chosen.len() as u64, "snapshot")))?;
    }
    Ok(Exit::Success)
}
