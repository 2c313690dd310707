//! A run in one repository: push, then what the profile says about old snapshots, space and damage.

use std::{sync::atomic::Ordering::Release, time::Instant};

use anyhow::Result;
use bkfs_fs::push::PushProgress;

use super::{outcome::RepositoryOutcome, upkeep};
use crate::{
    args::RepoArgs,
    commands::push,
    config::{RepositoryRecord, RunResult},
    context::Context,
    limits, output,
    profile::Profile,
    push_job::{PushJob, PushSession, Pushed},
    work::Work,
};

/// Runs a profile in one repository. `record` is what was done there before.
pub fn run(context: &Context, profile: &Profile, repository: &str, record: &RepositoryRecord) -> RepositoryOutcome {
    let begun = Instant::now();
    let mut outcome = RepositoryOutcome::new(repository);
    let repo = RepoArgs { repository: Some(repository.to_owned()) };
    let pushed = push(context, profile, &repo).map(|pushed| outcome.pushed = Some(pushed));
    match pushed {
        // In a history whose newest part is missing, nothing is forgotten.
        Ok(()) if outcome.pushed.as_ref().is_some_and(|pushed| pushed.rollback.is_some()) => {}
        Ok(()) => upkeep::run(context, profile, &repo, record, &mut outcome),
        Err(error) => outcome.fail("", &error),
    }
    outcome.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    outcome
}

fn push(context: &Context, profile: &Profile, repo: &RepoArgs) -> Result<Pushed> {
    let job = PushJob::of(profile);
    let mut session = PushSession::open(context, repo, &job)?;
    let _limits = limits::follow(context, &session.session);
    let work = Work::new(context, |progress: &PushProgress| progress.stop.store(true, Release));
    work.run(push::view, |progress| session.push(context, &job, progress, None))
}

/// Returns the record after a run that began at `started_secs`.
pub fn record(before: &RepositoryRecord, outcome: &RepositoryOutcome, started_secs: i64) -> RepositoryRecord {
    let now = output::now().secs;
    let result = outcome.result();
    let report = outcome.pushed.as_ref().map(|pushed| &pushed.report).filter(|report| report.snapshot.is_some());
    let snapshot = report.and_then(|report| report.snapshot);
    let is_sound = outcome.checked.as_ref().is_some_and(|report| report.problems_total == 0);
    let when = |is_done: bool, before: Option<i64>| if is_done { Some(now) } else { before };
    RepositoryRecord {
        result,
        started_secs,
        duration_ms: outcome.duration_ms,
        pushed_secs: when(snapshot.is_some(), before.pushed_secs),
        succeeded_secs: when(result == RunResult::Success, before.succeeded_secs),
        pruned_secs: when(outcome.pruned.is_some(), before.pruned_secs),
        checked_secs: when(is_sound, before.checked_secs),
        snapshot: snapshot.map(|id| id.to_string()).or_else(|| before.snapshot.clone()),
        files: report.map(|report| report.totals.files).or(before.files),
        bytes: report.map(|report| report.totals.bytes).or(before.bytes),
        bytes_stored: report.map(|report| report.stats.bytes_stored).or(before.bytes_stored),
        error: outcome.error(),
    }
}
