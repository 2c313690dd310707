//! What follows a push: forget, prune and check, as far as the profile asks for it, it is due, and key and server allow
//! it. Each step is tried, even if another one failed.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::Result;
use bkfs_fs::select::SnapshotFilter;
use bkfs_store::{
    ErrorKind,
    access::PruneLimits,
    format::keys::FullKey,
    owner::{
        check::{CheckOptions, CheckProgress, CheckReport, ReadData},
        prune::{PruneOptions, PruneProgress, PruneReport, Pruner},
    },
};

use super::{
    outcome::{Forgotten, RepositoryOutcome},
    thin,
};
use crate::{
    args::RepoArgs,
    catalog::{self, Catalog},
    commands::{
        check,
        forget::{self, Executor},
        prune,
    },
    config::{RepositoryRecord, WatchState},
    context::Context,
    failure::{Exit, Failure},
    limits, output,
    place::Place,
    profile::{Every, Profile, Retention, Text},
    push_job::PushJob,
    session::Session,
    signals,
    values::Subset,
    watching,
    work::Work,
};

/// How often to prune and to check, if the profile does not say.
const EVERY: Every = Every::After(Duration::from_secs(7 * 86_400));
/// How much data to fetch and resend when pruning, as `bkfs prune` does.
const REFRAME_BYTES: u64 = 64 << 20;

/// Does what is due, and notes it in `outcome`.
pub fn run(
    context: &Context,
    profile: &Profile,
    repo: &RepoArgs,
    record: &RepositoryRecord,
    outcome: &mut RepositoryOutcome,
) {
    let settings = &profile.settings;
    let is_due = |every: Option<&Text<Every>>, done| every.map_or(EVERY, |every| *every.get()).is_due(age(done));
    let retention = settings.retention.as_ref();
    let is_watched = is_watched(context, profile, repo);
    let forgets = retention.is_some() || is_watched;
    let prune = settings.prune.as_ref().filter(|prune| is_due(prune.every.as_ref(), record.pruned_secs));
    let check = settings.check.as_ref().filter(|check| is_due(check.every.as_ref(), record.checked_secs));
    let asked: Vec<&str> = [("forgetting", forgets), ("pruning", prune.is_some()), ("checking", check.is_some())]
        .into_iter()
        .filter_map(|(step, is_asked)| is_asked.then_some(step))
        .collect();
    if asked.is_empty() || !goes_on(outcome) {
        return;
    }
    let opened = Session::open(context, repo).and_then(|session| match session.rollback_failure() {
        Some(failure) => Err(failure.into()),
        None => Ok((session.full_key(context, "forgetting, pruning and checking")?, session)),
    });
    let (full, session) = match opened {
        Ok(opened) => opened,
        Err(error) => return note(outcome, &asked.join(", "), Err(error), |_, ()| {}),
    };
    let _limits = limits::follow(context, &session);
    if forgets {
        let forgotten = forget(context, profile, is_watched, &session, &full);
        note(outcome, "forgetting", forgotten, |outcome, done| outcome.forgotten = Some(done));
    }
    if let Some(settings) = prune.filter(|_| goes_on(outcome)) {
        let options = PruneOptions {
            limits: PruneLimits {
                unused: settings.max_unused.as_ref().map_or(PruneLimits::default().unused, |most| most.get().0),
                repack_bytes: settings.max_repack_size.as_ref().map(|size| size.get().0),
            },
            dry_run: false,
            is_confirmed: false,
            empty_trash: settings.keep_trash != Some(true),
            reframe_bytes: settings.max_reframe_size.as_ref().map_or(REFRAME_BYTES, |size| size.get().0),
            ends_pushes: false,
        };
        let pruned = self::prune(context, &session, &options);
        note(outcome, "pruning", pruned, |outcome, done| outcome.pruned = Some(done));
    }
    if let Some(settings) = check.filter(|_| goes_on(outcome)) {
        let part = settings.read_data.as_ref().map(|part| *part.get());
        let checked = self::check(context, repo, part);
        note(outcome, "checking", checked, |outcome, done| outcome.checked = Some(done));
    }
}

/// Returns whether the next step may begin. A signal may have come between two steps, where nothing notices it.
fn goes_on(outcome: &mut RepositoryOutcome) -> bool {
    outcome.is_interrupted |= signals::is_stopping();
    !outcome.is_interrupted
}

/// Notes what a step did. One that key or server do not allow is skipped: a machine that only pushes is as it should
/// be.
fn note<T>(outcome: &mut RepositoryOutcome, step: &str, done: Result<T>, keep: impl FnOnce(&mut RepositoryOutcome, T)) {
    match done {
        Ok(done) => keep(outcome, done),
        Err(error) => match error.downcast_ref::<bkfs_store::Error>() {
            Some(bkfs_store::Error::PushKeyCannotRead { .. }) => {
                outcome
                    .skipped
                    .push(format!("{step}: this needs the passphrase or the full key, and this machine has neither"));
            }
            Some(cause) if cause.kind() == ErrorKind::NoPermission => outcome.skipped.push(format!("{step}: {cause}")),
            _ => outcome.fail(step, &error),
        },
    }
}

/// Whether a watch on this machine makes snapshots of the series, or is to do so.
fn is_watched(context: &Context, profile: &Profile, repo: &RepoArgs) -> bool {
    let Ok(place) = Place::parse(repo.repository.as_deref()) else { return false };
    let (place, target) = (place.to_string(), PushJob::of(profile).target().unwrap_or_default());
    let is_it = |watch: &WatchState| watch.repository == place && watch.target == target;
    profile.settings.watch.is_some() || context.folders.watches().iter().any(is_it)
}

/// Forgets by the policy of the profile, among the snapshots of its own series. If the profile has none, only the
/// snapshots of a watch are thinned.
fn forget(
    context: &Context,
    profile: &Profile,
    is_watched: bool,
    session: &Session,
    full: &FullKey,
) -> Result<Forgotten> {
    let job = PushJob::of(profile);
    let catalog = Catalog::with_key(context, session, full)?;
    let retention = profile.settings.retention.as_ref();
    let tags = if retention.is_none() { vec![watching::TAG.to_owned()] } else { Vec::new() };
    let filter =
        SnapshotFilter { host: Some(job.host()), target: Some(job.target()?), tags, ..SnapshotFilter::default() };
    let of_profile = retention.map(Retention::policy);
    let policy = match (of_profile, is_watched) {
        (Some(policy), false) => policy,
        (policy, _) => thin::policy(policy),
    };
    let grouping = retention.map(Retention::grouping).unwrap_or_default();
    let decided = forget::decide(session, &catalog, &filter, &policy, grouping)?;
    let executor = Executor {
        access: session.access.as_ref(),
        full,
        log_len: catalog.log_len,
        protect_secs: session.opened.protect_secs,
        time: session.opened.time,
        is_broken: false,
    };
    let done = decided.carry_out(session, &executor, false, false)?;
    let holds = decided.plan.groups.iter().flat_map(|group| &group.holds).map(ToString::to_string).collect();
    Ok(Forgotten { trashed: done.trashed.len() as u64, holds })
}

/// Prunes without asking. What would need an answer is an error that names the command that asks.
fn prune(context: &Context, session: &Session, options: &PruneOptions) -> Result<PruneReport> {
    let reader = catalog::open_reader(context, session, "pruning")?;
    let work = Work::new(context, |progress: &PruneProgress| progress.stop.store(true, Ordering::Relaxed));
    let (push_key, cache) = (session.push_key(), &*context.folders.cache);
    let pruner = Pruner { reader: &reader, access: &*session.access, push_key, cache };
    let report = work.run(prune::view, |progress| pruner.run(options, progress))?;
    let place = &session.place;
    if !report.blocking.is_empty() {
        let broken = output::count(report.blocking.len() as u64, "snapshot");
        let hint = format!("`bkfs prune -r {place}` shows what is wrong with them, and asks whether to forget them");
        return Err(Failure::new(format!("{broken} cannot be read, so nothing was removed"), hint).into());
    }
    if report.is_unconfirmed {
        let (freed, bytes) = (output::size(report.stats.freed_bytes), output::size(report.stats.bytes));
        let what = format!("{freed} of {bytes} would be removed, more than half of the repository; nothing was done");
        return Err(Failure::new(what, format!("if that is right, run `bkfs prune -r {place} --yes`")).into());
    }
    match report.swept.damaged {
        0 => Ok(report),
        damaged => Err(Failure::new(
            format!("{} left unchanged", output::count(damaged, "damaged pack")),
            format!("`bkfs check -r {place} --read-data` tells more"),
        )
        .into()),
    }
}

/// Checks, with a session of its own: what was pruned and forgotten counts.
fn check(context: &Context, repo: &RepoArgs, part: Option<Subset>) -> Result<CheckReport> {
    let session = Session::open(context, repo)?;
    let reader = catalog::open_reader(context, &session, "checking")?;
    let work = Work::new(context, |progress: &CheckProgress| progress.stop.store(true, Ordering::Relaxed));
    let read_data = match part {
        Some(part) => part.read_data(session.folder.last_checked()?),
        None => ReadData::None,
    };
    let options = CheckOptions { read_data, ..CheckOptions::default() };
    let run = |progress: &std::sync::Arc<CheckProgress>| {
        bkfs_store::owner::check::check(&reader, &*session.access, &session.opened, &options, progress)
    };
    let report = work.run(check::view, run)?;
    if let (Some(Subset::Share(_)), Some(reached)) = (part, report.reached) {
        session.folder.set_last_checked(reached)?;
    }
    match session.rollback_failure() {
        Some(failure) => Err(failure.exit(Exit::RolledBack).into()),
        None => Ok(report),
    }
}

/// Returns how long ago something was done. A time in the future is no time at all: the clock was wrong.
fn age(done_secs: Option<i64>) -> Option<Duration> {
    let age = output::now().secs.checked_sub(done_secs?)?;
    u64::try_from(age).ok().map(Duration::from_secs)
}
