//! `bkfs forget --broken`: forgets snapshots that cannot be read, so that prunes can go on.
//!
//! A client can commit a snapshot that nobody can read, and damage makes others unreadable. Which is which, and whether
//! the data can still come back, is for a person to decide. So all that is known is shown, and nothing is forgotten
//! without a yes.

use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering};

use anyhow::Result;
use bkfs_store::{
    base::id::{ClientId, SnapshotId},
    owner::{
        prune::{BlockingSnapshot, BrokenPart, PruneProgress, find_blocking},
        reader::Reader,
    },
};

use super::{
    ForgetArgs,
    execute::{Chosen, Executor, Outcome},
    report,
};
use crate::{
    ask,
    catalog::Catalog,
    clients::Clients,
    context::Context,
    failure::{Exit, Failure},
    output,
    progress::ProgressView,
    selector::SnapshotName,
    work::Work,
};

/// How many snapshots are listed one by one for people.
const LISTED_MAX: usize = 50;

/// Runs `bkfs forget --broken`.
pub(super) fn run(context: &Context, args: &ForgetArgs, catalog: &Catalog, executor: &Executor<'_>) -> Result<Exit> {
    let mut broken = find(context, &catalog.reader, &context.folders.cache)?;
    if !args.snapshots.is_empty() {
        broken = args.snapshots.iter().map(|name| named(&broken, name)).collect::<Result<_>>()?;
    }
    list_broken(&broken, &catalog.clients);
    if broken.is_empty() {
        return report::broken(context, &[], Some(&Outcome::default())).map(|()| Exit::Success);
    }
    if args.dry_run {
        return report::broken(context, &broken, None).map(|()| Exit::Success);
    }
    if !args.confirm {
        let what = format!("{}; nothing was forgotten", what_is_lost(broken.len()));
        ask::confirm(context, &what, "Forget them as broken?", "--broken --confirm")?;
    }
    let outcome = execute(&broken, executor, args.now)?;
    report::broken(context, &broken, Some(&outcome))?;
    Ok(Exit::Success)
}

/// Says what forgetting so many snapshots as broken means.
fn what_is_lost(count: usize) -> String {
    format!(
        "{} cannot be read; forgotten as broken, prunes keep only what can be read of them, although a disk that is \
         missing or `bkfs repair packs` might bring the rest back",
        output::count(count as u64, "snapshot")
    )
}

/// Asks whether to forget snapshots as broken, and does it. For a prune that they stopped.
pub fn forget_broken(context: &Context, broken: &[BlockingSnapshot], executor: &Executor<'_>) -> Result<()> {
    let what = format!("{}; nothing was pruned", what_is_lost(broken.len()));
    if !ask::has_person(context) {
        let hint = "`bkfs forget --broken` forgets them, and the next prune goes on; a client that goes on to push \
                    such snapshots can be ended with `bkfs client revoke`";
        return Err(Failure::new(what, hint).into());
    }
    ask::confirm(context, &what, "Forget them as broken, and go on?", "--broken")?;
    execute(broken, executor, false).map(drop)
}

fn execute(broken: &[BlockingSnapshot], executor: &Executor<'_>, now: bool) -> Result<Outcome> {
    let chosen: Vec<Chosen> = broken.iter().map(|snapshot| (snapshot.id, Some(snapshot.received))).collect();
    executor.forget(&chosen, now)
}

fn find(context: &Context, reader: &Reader, cache: &Path) -> Result<Vec<BlockingSnapshot>> {
    let work = Work::new(context, |progress: &PruneProgress| progress.stop.store(true, Ordering::Relaxed));
    let view = |progress: &PruneProgress| {
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (done, total) = (load(&progress.snapshots), load(&progress.snapshots_total));
        let text = format!("snapshots: {done} of {total}, {} tree pages", load(&progress.pages));
        ProgressView { done: Some((done, total)), moved: None, text }
    };
    Ok(work.run(view, |progress| find_blocking(reader, cache, progress))?)
}

/// Returns the broken snapshot with this id.
fn named(broken: &[BlockingSnapshot], name: &SnapshotName) -> Result<BlockingSnapshot> {
    let fits = |id: &SnapshotId| matches!(name, SnapshotName::Id(prefix) if id.to_string().starts_with(prefix));
    let mut found = broken.iter().filter(|snapshot| fits(&snapshot.id));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(_), Some(_)) => {
            let message = format!("{} fits several broken snapshots", name.text());
            Err(Failure::new(message, "give more digits of the id").into())
        }
        (None, _) => {
            let message = format!("{} is not the id of a broken snapshot", name.text());
            let hint =
                "`bkfs forget --broken --dry-run` lists them; one that can be read is forgotten without --broken";
            Err(Failure::new(message, hint).into())
        }
    }
}

/// Prints on standard error which snapshots cannot be read, and why.
pub fn list_broken(broken: &[BlockingSnapshot], clients: &Clients) {
    for snapshot in broken.iter().take(LISTED_MAX) {
        output::note(describe(snapshot, clients));
    }
    if broken.len() > LISTED_MAX {
        let mut counts: BTreeMap<ClientId, u64> = BTreeMap::new();
        for snapshot in &broken[LISTED_MAX..] {
            *counts.entry(snapshot.client).or_default() += 1;
        }
        for (client, count) in counts {
            output::note(format!("... and {count} more of {}", clients.name(client)));
        }
    }
}

fn describe(snapshot: &BlockingSnapshot, clients: &Clients) -> String {
    let since = match &snapshot.problem {
        BrokenPart::Record(_) => String::new(),
        BrokenPart::Page { lost_at: Some(at), .. } => {
            format!("; the repository lost it on {}: it was stored before", output::time_local(*at))
        }
        BrokenPart::Page { lost_at: None, .. } => {
            "; the log records no loss of it: it was never stored, or it is missing only now".to_owned()
        }
    };
    let trash = if snapshot.is_trashed { ", in the trash" } else { "" };
    let (client, received) = (clients.name(snapshot.client), output::time_local(snapshot.received));
    format!("snapshot {} of {client}, received {received}{trash}: {}{since}", snapshot.id.short(), snapshot.problem)
}
