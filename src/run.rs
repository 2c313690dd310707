//! A run of a profile: hooks, and in each repository a push and what follows it. What happened is kept in the record of
//! the profile ([`crate::config::RunRecord`]).
//!
//! One repository that fails does not stop the others. Sources are read for each repository: the chunks of each have
//! other boundaries and other names, because both depend on its keys.

mod hooks;
mod outcome;
mod repository;
mod thin;
mod upkeep;

pub use outcome::{ProfileOutcome, RepositoryOutcome, Trouble, combined};

use std::{sync::Arc, time::Instant};

use anyhow::Result;

use self::hooks::Hook;
use crate::{
    config::{RepositoryRecord, RunRecord, RunResult, Runs},
    context::Context,
    environment,
    notify::{self, Ended},
    output,
    profile::Profile,
    shell::Environment,
    signals,
};

/// Runs a profile. `on_repository` is called before each repository and with what was done there.
pub fn run(
    context: &Context,
    profile: Arc<Profile>,
    on_repository: &mut dyn FnMut(&str, Option<&RepositoryOutcome>),
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
    let environment = environment::of(&profile);
    // The first signal stops the run between two steps, so that the hooks after it run. Long steps name more.
    signals::on_stop(|| ());
    match hooks::run(Hook::Before, hooks.before.as_ref(), &environment) {
        Ok(()) => {
            for name in profile.repositories() {
                if signals::is_stopping() {
                    break;
                }
                on_repository(name, None);
                let started_secs = output::now().secs;
                let known = before.repositories.get(name).cloned().unwrap_or_default();
                let done = repository::run(&context, &profile, name, &known);
                keep(&runs, |record| remember(record, name, repository::record(&known, &done, started_secs)));
                on_repository(name, Some(&done));
                outcome.repositories.push(done);
            }
        }
        Err(error) => outcome.fail(&error),
    }
    outcome.is_interrupted = signals::is_stopping();
    let environment = environment_after(environment, &outcome);
    let (hook, commands) = match outcome.result() {
        RunResult::Success => (Hook::After, hooks.after.as_ref()),
        _ => (Hook::Failed, hooks.failed.as_ref()),
    };
    if let Err(error) = hooks::run(hook, commands, &environment) {
        outcome.fail(&error);
    }
    let environment = environment_after(environment, &outcome);
    if let Err(error) = hooks::run(Hook::Finally, hooks.finally.as_ref(), &environment) {
        outcome.fail(&error);
    }
    outcome.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let ended = Ended {
        result: outcome.result(),
        error: outcome.error().unwrap_or_default(),
        environment: environment_after(environment, &outcome),
    };
    keep(&runs, |record| {
        let now = output::now().secs;
        (record.result, record.ended_secs) = (ended.result, Some(now));
        record.error = outcome.error();
        if ended.result == RunResult::Success {
            record.succeeded_secs = Some(now);
        }
    });
    notify::ended(&profile, ended, &runs);
    Ok(outcome)
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

/// What hooks learn after the pushes.
fn environment_after(environment: Environment, outcome: &ProfileOutcome) -> Environment {
    let pushed = outcome.repositories.iter().filter_map(|done| done.pushed.as_ref()?.report.snapshot);
    let snapshots: Vec<String> = pushed.map(|id| id.to_string()).collect();
    let failed = outcome.repositories.iter().filter(|done| done.result() != RunResult::Success);
    let failed: Vec<&str> = failed.map(|done| done.repository.as_str()).collect();
    environment
        .with("BKFS_SNAPSHOT", snapshots.join("\n"))
        .with("BKFS_FAILED", failed.join("\n"))
        .with("BKFS_EXIT", (outcome.result().exit() as u8).to_string())
        .with("BKFS_ERROR", outcome.error().unwrap_or_default())
}
