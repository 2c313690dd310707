//! A run of a profile: hooks, and in each repository a push and what follows it. What happened is kept in the record of
//! the profile ([`crate::config::RunRecord`]).
//!
//! One repository that fails does not stop the others. Sources are read for each repository: the chunks of each have
//! other boundaries and other names, because both depend on its keys.

mod hooks;
mod limits;
mod outcome;
mod repository;
mod upkeep;

pub use crate::shell::{Environment, how_it_failed, shell};
pub use outcome::{ProfileOutcome, RepositoryOutcome, Trouble, combined, exit};

use std::{sync::Arc, time::Instant};

use anyhow::Result;

use self::hooks::Hook;
use crate::{
    config::{RepositoryRecord, RunRecord, RunResult, Runs},
    context::Context,
    failure::describe,
    notify, output,
    profile::Profile,
};

/// Runs a profile. `on_repository` is called before each repository and with what was done there.
pub fn run(
    context: &Context,
    profile: Arc<Profile>,
    on_repository: &mut dyn FnMut(&str, Option<&RepositoryOutcome>) -> Result<()>,
) -> Result<ProfileOutcome> {
    let (begun, mut outcome) = (Instant::now(), ProfileOutcome::new(&profile.name));
    let runs = context.folders.runs(&profile.name);
    let Some(_lock) = runs.lock()? else {
        outcome.is_busy = true;
        return Ok(outcome);
    };
    let before = runs.read().unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        None
    });
    let before = before.unwrap_or_default();
    let context = context.clone().for_run(profile.clone());
    let started_secs = output::now().secs;
    keep(&runs, |record| {
        (record.result, record.started_secs, record.ended_secs) = (RunResult::Running, started_secs, None);
        record.error = None;
        // What left the profile is not asked about any more.
        record.repositories.retain(|name, _| profile.repositories().contains(name));
    });
    notify::started(&profile);
    let hooks = profile.settings.hooks.clone().unwrap_or_default();
    let environment = environment(&profile);
    match hooks::run(Hook::Before, hooks.before.as_ref(), &environment) {
        Ok(()) => {
            for name in profile.repositories() {
                on_repository(name, None)?;
                let started_secs = output::now().secs;
                let known = before.repositories.get(name).cloned().unwrap_or_default();
                let done = repository::run(&context, &profile, name, &known);
                keep(&runs, |record| remember(record, name, repository::record(&known, &done, started_secs)));
                on_repository(name, Some(&done))?;
                let is_interrupted = done.is_interrupted;
                outcome.repositories.push(done);
                if is_interrupted {
                    break;
                }
            }
        }
        Err(error) => trouble(&mut outcome, &error),
    }
    let environment = environment_after(environment, &outcome);
    let (hook, commands) = match outcome.result() {
        RunResult::Success => (Hook::After, hooks.after.as_ref()),
        _ => (Hook::Failed, hooks.failed.as_ref()),
    };
    if let Err(error) = hooks::run(hook, commands, &environment) {
        trouble(&mut outcome, &error);
    }
    let environment = environment_after(environment, &outcome);
    if let Err(error) = hooks::run(Hook::Finally, hooks.finally.as_ref(), &environment) {
        trouble(&mut outcome, &error);
    }
    outcome.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (result, error) = (outcome.result(), outcome.error());
    keep(&runs, |record| {
        let now = output::now().secs;
        (record.result, record.ended_secs, record.error) = (result, Some(now), error);
        if result == RunResult::Success {
            record.succeeded_secs = Some(now);
        }
    });
    notify::ended(&profile, &outcome, &runs);
    Ok(outcome)
}

fn trouble(outcome: &mut ProfileOutcome, error: &anyhow::Error) {
    let described = describe(error);
    outcome.troubles.push(Trouble { message: described.message, hint: described.hint });
}

/// Changes the record. A failure is only a warning: it must not prevent a backup.
fn keep(runs: &Runs, change: impl FnOnce(&mut RunRecord)) {
    if let Err(error) = runs.update(change) {
        tracing::warn!("cannot record what the run does: {error:#}");
    }
}

fn remember(record: &mut RunRecord, name: &str, of_repository: RepositoryRecord) {
    record.repositories.insert(name.to_owned(), of_repository);
}

/// What hooks learn before a run.
pub fn environment(profile: &Profile) -> Environment {
    let target = profile.job().target().unwrap_or_default();
    Environment::default()
        .with("BKFS_PROFILE", &profile.name)
        .with("BKFS_REPOSITORY", profile.repositories().join("\n"))
        .with("BKFS_TARGET", target)
}

/// What hooks learn after the pushes.
pub fn environment_after(environment: Environment, outcome: &ProfileOutcome) -> Environment {
    let pushed = outcome.repositories.iter().filter_map(|done| done.pushed.as_ref()?.report.snapshot);
    let snapshots: Vec<String> = pushed.map(|id| id.to_string()).collect();
    let failed = outcome.repositories.iter().filter(|done| done.result() != RunResult::Success);
    let failed: Vec<&str> = failed.map(|done| done.repository.as_str()).collect();
    environment
        .with("BKFS_SNAPSHOT", snapshots.join("\n"))
        .with("BKFS_FAILED", failed.join("\n"))
        .with("BKFS_EXIT", (exit(outcome.result()) as u8).to_string())
        .with("BKFS_ERROR", outcome.error().unwrap_or_default())
}
