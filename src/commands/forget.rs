//! `bkfs forget`: moves snapshots to the trash, either the ones that are named or the ones that a policy does not keep.
//!
//! A pure function decides what a policy keeps ([`bkfs_store::owner::retention`]). This file gathers its input,
//! [`mod@execute`] carries out the decision, and [`report`] prints it. Nothing is forgotten in a group that is held,
//! until a person confirms. [`broken`] forgets what cannot be read.

mod args;
mod broken;
mod execute;
mod policy;
mod report;

pub use args::ForgetArgs;
pub use broken::{forget_broken, list_broken};
pub use execute::Executor;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use bkfs_fs::select::SnapshotFilter;
use bkfs_store::{
    base::{id::SnapshotId, time::Time},
    owner::{
        reader::SnapshotInfo,
        retention::{self, Group, Grouping, LastRun, Plan, Policy, SnapshotRow},
    },
};
use jiff::tz::TimeZone;

use self::{
    execute::{Chosen, Outcome},
    policy::forgotten,
};
use crate::{
    catalog::Catalog,
    context::Context,
    failure::{Exit, Failure},
    selector::{Filters, SnapshotName},
    session::Session,
};

const OPERATION: &str = "forgetting";

/// Runs `bkfs forget`.
pub fn run(context: &Context, args: ForgetArgs) -> Result<Exit> {
    match (args.snapshots.is_empty(), args.policy.is_given()) {
        (false, true) => {
            let hint = "the --keep-* options choose snapshots themselves: either name snapshots or give a policy";
            return Err(Failure::new("both snapshots and a policy were given", hint).into());
        }
        (_, true) if args.broken => {
            let hint = "--broken chooses snapshots itself, or among those that are named";
            return Err(Failure::new("both --broken and a policy were given", hint).into());
        }
        (true, false) if args.broken => {}
        // Checked here, before anyone is asked for a passphrase.
        (true, false) if args.empty_trash => return empty(context, &args),
        (true, _) if args.policy.policy().is_empty() => return Err(retention::RetentionError::EmptyPolicy.into()),
        _ => {}
    }
    let session = Session::open(context, &args.repo)?;
    match session.rollback_failure() {
        // Nothing may be forgotten in a history whose newest part is missing.
        Some(failure) if !args.dry_run => return Err(failure.into()),
        _ => session.warn_of_rollback(),
    }
    let full = session.full_key(context, OPERATION)?;
    let catalog = Catalog::with_key(context, &session, &full)?;
    let executor = Executor {
        access: session.access.as_ref(),
        full: &full,
        log_len: catalog.log_len,
        protect_secs: session.opened.protect_secs,
        time: session.opened.time,
        is_broken: args.broken,
    };
    if args.broken {
        return broken::run(context, &args, &catalog, &executor);
    }
    match args.snapshots.is_empty() {
        true => by_policy(context, &args, &session, &catalog, &executor),
        false => by_name(context, &args, &catalog, &executor),
    }
}

fn by_policy(
    context: &Context,
    args: &ForgetArgs,
    session: &Session,
    catalog: &Catalog,
    executor: &Executor<'_>,
) -> Result<Exit> {
    let filter = args.filters.filter(&catalog.clients)?;
    let decided = decide(session, catalog, &filter, &args.policy.policy(), args.policy.grouping())?;
    let outcome = match args.dry_run {
        true => None,
        false => {
            let mut outcome = decided.carry_out(session, executor, args.now, args.confirm)?;
            if args.empty_trash {
                outcome.gone.extend(execute::empty_trash(executor.access)?);
            }
            Some(outcome)
        }
    };
    let plan = &decided.plan;
    report::policy(context, args, plan, outcome.as_ref())?;
    let is_held = !args.confirm && plan.groups.iter().any(|group| !group.holds.is_empty());
    Ok(if is_held && !args.dry_run { Exit::Incomplete } else { Exit::Success })
}

/// What a policy decides about the snapshots of a repository.
pub struct Decided {
    /// The decisions.
    pub plan: Plan,
    /// What the last runs saw of the same groups.
    runs: BTreeMap<Group, LastRun>,
    /// The time by the store's clock, which gave the snapshots their times. This machine's may differ.
    now: Time,
}

/// Applies a policy to the snapshots that pass a filter. Changes nothing.
pub fn decide(
    session: &Session,
    catalog: &Catalog,
    filter: &SnapshotFilter,
    policy: &Policy,
    grouping: Grouping,
) -> Result<Decided> {
    let rows: Vec<SnapshotRow> =
        catalog.snapshots.iter().filter(|info| filter.matches(info.client, &info.snapshot)).map(policy::row).collect();
    let now = session.opened.time;
    let groups: BTreeSet<Group> = rows.iter().map(|row| grouping.group(row)).collect();
    let runs = session.folder.retention_runs(&groups)?;
    let plan = retention::plan(&rows, policy, grouping, &TimeZone::system(), now, &runs)?;
    Ok(Decided { plan, runs, now })
}

impl Decided {
    /// Forgets what the policy does not keep, except in groups that are held, unless a person `confirmed`. With `now`,
    /// it skips the trash.
    pub fn carry_out(&self, session: &Session, executor: &Executor<'_>, now: bool, confirmed: bool) -> Result<Outcome> {
        let chosen: Vec<Chosen> = forgotten(&self.plan, confirmed).map(|row| (row.id, Some(row.received))).collect();
        let outcome = executor.forget(&chosen, now)?;
        session.folder.set_retention_runs(&self.plan.runs(&self.runs, self.now, confirmed))?;
        Ok(outcome)
    }
}

fn by_name(context: &Context, args: &ForgetArgs, catalog: &Catalog, executor: &Executor<'_>) -> Result<Exit> {
    let mut chosen: BTreeMap<SnapshotId, NamedSnapshot<'_>> = BTreeMap::new();
    for name in &args.snapshots {
        let named = named(catalog, name, &args.filters)?;
        chosen.insert(named.id, named);
    }
    let infos: Vec<&SnapshotInfo> = chosen.values().filter_map(|named| named.info).collect();
    let chosen: Vec<Chosen> = chosen.values().map(|named| (named.id, named.received)).collect();
    let outcome = match args.dry_run {
        true => None,
        false => Some(execute(args, executor, &chosen)?),
    };
    report::named(context, args, &infos, outcome.as_ref())?;
    Ok(Exit::Success)
}

/// The snapshot that a name stands for.
struct NamedSnapshot<'a> {
    id: SnapshotId,
    /// When the store received it. `None` if it is gone.
    received: Option<Time>,
    /// `None` if it cannot be read.
    info: Option<&'a SnapshotInfo>,
}

/// Returns the snapshot with this name. Only an id can name a snapshot in the trash (to delete it for good), one that
/// cannot be read, or one that the server's operator purged (to take note of the purge).
fn named<'a>(catalog: &'a Catalog, name: &SnapshotName, filters: &Filters) -> Result<NamedSnapshot<'a>> {
    if let SnapshotName::Id(prefix) = name
        && filters.is_empty()
    {
        let fits = |id: &SnapshotId| id.to_string().starts_with(prefix);
        let purged = catalog.purged.iter().map(|purged| (purged.id, None));
        let broken = catalog.unreadable.iter().map(|broken| (broken.id, Some(broken.received)));
        let mut found = purged.chain(broken).filter(|(id, _)| fits(id));
        let mut shown = catalog.snapshots.iter().chain(catalog.trash.iter().map(|t| &t.info));
        if let (Some((id, received)), None, false) = (found.next(), found.next(), shown.any(|info| fits(&info.id))) {
            return Ok(NamedSnapshot { id, received, info: None });
        }
    }
    let by_id = matches!(name, SnapshotName::Id(_));
    let trash = catalog.trash.iter().map(|trashed| &trashed.info).filter(|_| by_id);
    let mut infos: Vec<&SnapshotInfo> = catalog.snapshots.iter().chain(trash).collect();
    infos.sort_by_key(|info| info.order());
    let info = infos[catalog.choose_of(&infos, &name.clone().into(), filters)?];
    Ok(NamedSnapshot { id: info.id, received: Some(info.received), info: Some(info) })
}

fn execute(args: &ForgetArgs, executor: &Executor<'_>, chosen: &[Chosen]) -> Result<Outcome> {
    let mut outcome = executor.forget(chosen, args.now)?;
    if args.empty_trash {
        outcome.gone.extend(execute::empty_trash(executor.access)?);
    }
    Ok(outcome)
}

/// Empties the trash and does nothing else. This needs no key.
fn empty(context: &Context, args: &ForgetArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    if let Some(failure) = session.rollback_failure() {
        return Err(failure.into());
    }
    let gone = execute::empty_trash(session.access.as_ref())?;
    report::emptied(context, gone)?;
    Ok(Exit::Success)
}
