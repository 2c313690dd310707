//! `bkfs run`: everything that profiles ask for.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::{
    commands::{
        check::CheckJson,
        config::none,
        prune::report::{self as prune_report, PruneJson},
        push::{self, PushJson},
    },
    completion,
    config::RunResult,
    context::Context,
    failure::{Exit, Failure, is_closed_pipe},
    output,
    profile::{Profile, Profiles},
    run::{self, ProfileOutcome, RepositoryOutcome, Trouble, combined},
};

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(
    about = "Do all that profiles ask for: push, forget, prune, check",
    long_about = "Do all that profiles ask for. In each repository of a profile: push its sources, move to the trash \
        what its retention does not keep, and prune and check if that is due. Without names, run every profile that \
        has sources and repositories and is not abstract.\n\n\
        A machine that has neither the passphrase nor the full key only pushes; -v says so. Nothing is ever asked. If \
        a repository fails, the others are done all the same.\n\n\
        On a terminal, print a summary. Elsewhere print nothing unless something is wrong, or -v or --json is given. \
        The exit code is 0 if all was done, 3 if a part was, and 1 if nothing was. docs/PROFILES.md explains profiles, \
        hooks and what is recorded of each run.",
    after_help = "Examples:\n  bkfs run\n  bkfs run home\n\n\
        A line for cron:\n  15 3 * * *  bkfs run"
)]
pub struct RunArgs {
    /// The profiles to run [default: all that can be]
    #[arg(value_name = "PROFILE", add = completion::profile())]
    profiles: Vec<String>,
}

#[derive(Serialize)]
struct RunJson {
    /// `null` if nothing was run.
    result: Option<RunResult>,
    exit: u8,
    profiles: Vec<ProfileJson>,
}

#[derive(Serialize)]
struct ProfileJson {
    profile: String,
    /// `null` if another run of it was under way.
    result: Option<RunResult>,
    errors: Vec<TroubleJson>,
    duration_ms: u64,
    repositories: Vec<RepositoryJson>,
}

#[derive(Serialize)]
struct RepositoryJson {
    repository: String,
    result: RunResult,
    errors: Vec<TroubleJson>,
    skipped: Vec<String>,
    push: Option<PushJson>,
    forget: Option<ForgetJson>,
    prune: Option<PruneJson>,
    check: Option<CheckJson>,
    duration_ms: u64,
}

#[derive(Serialize)]
struct ForgetJson {
    trashed_total: u64,
    holds: Vec<String>,
}

#[derive(Serialize)]
struct TroubleJson {
    message: String,
    hint: String,
}

/// Runs `bkfs run`.
pub fn run(context: &Context, args: &RunArgs) -> Result<Exit> {
    let (mut outcomes, mut printed) = (Vec::new(), Ok(()));
    for profile in chosen(context, args)? {
        let outcome = run_one(context, profile, &mut printed);
        let is_interrupted = !outcome.is_busy && outcome.result() == RunResult::Interrupted;
        outcomes.push(outcome);
        if is_interrupted {
            break;
        }
    }
    let (result, exit) = whole(&outcomes);
    match printed.and_then(|()| print_all(context, &outcomes, result, exit)) {
        // Otherwise it would count as success, whatever the run did.
        Err(error) if is_closed_pipe(&error) => Ok(exit),
        Err(error) => Err(error),
        Ok(()) => Ok(exit),
    }
}

/// Runs a profile for another command, and prints what happens. Returns `None` if another run of it is under way.
pub fn once(context: &Context, profile: Arc<Profile>) -> Result<Option<RunResult>> {
    let mut printed = Ok(());
    let outcome = run_one(context, profile, &mut printed);
    printed?;
    Ok((!outcome.is_busy).then(|| outcome.result()))
}

/// Runs a profile, and prints what happens. A failure to print is kept in `printed`: that nobody reads any more stops
/// no backup.
fn run_one(context: &Context, profile: Arc<Profile>, printed: &mut Result<()>) -> ProfileOutcome {
    let shows_summary = context.shows_summary() && !context.json;
    let name = profile.name.clone();
    let mut show = |repository: &str, done: Option<&RepositoryOutcome>| {
        let shown = match done {
            None if shows_summary => output::line(format!("{name} -> {repository}")),
            None => Ok(()),
            Some(done) => print(context, &name, done),
        };
        *printed = std::mem::replace(printed, Ok(())).and(shown);
    };
    let outcome = run::run(context, profile, &mut show).unwrap_or_else(|error| {
        let mut outcome = ProfileOutcome::new(&name);
        outcome.fail(&error);
        outcome
    });
    notes(&outcome.profile, &outcome.troubles);
    if outcome.is_busy {
        output::note(format!("{name}: another run of this profile is under way; this one did nothing"));
    }
    outcome
}

/// Returns how all profiles ended together, `None` if nothing was run; and the exit code.
fn whole(outcomes: &[ProfileOutcome]) -> (Option<RunResult>, Exit) {
    let run: Vec<&ProfileOutcome> = outcomes.iter().filter(|outcome| !outcome.is_busy).collect();
    if run.is_empty() {
        return (None, Exit::Locked);
    }
    let result = combined(run.iter().map(|outcome| outcome.result()), run.len() < outcomes.len());
    (Some(result), result.exit())
}

/// Prints what the profiles did together.
fn print_all(context: &Context, outcomes: &[ProfileOutcome], result: Option<RunResult>, exit: Exit) -> Result<()> {
    if context.json {
        let profiles = outcomes.iter().map(json).collect();
        return output::json_pretty(&RunJson { result, exit: exit as u8, profiles });
    }
    if !context.shows_summary() {
        return Ok(());
    }
    outcomes.iter().filter(|outcome| !outcome.is_busy).try_for_each(|outcome| output::line(summary(outcome)))
}

/// Returns the profiles to run. All of them are read before the first one runs.
fn chosen(context: &Context, args: &RunArgs) -> Result<Vec<Arc<Profile>>> {
    let profiles = Profiles::load(&context.folders);
    let mut names = args.profiles.clone();
    if names.is_empty() {
        names.extend(context.profile_name.clone());
    }
    if !names.is_empty() {
        return names.iter().map(|name| runnable(&profiles, name)).collect();
    }
    profiles.problems().iter().for_each(output::note);
    if profiles.names().next().is_none() {
        return Err(none(&profiles).into());
    }
    let mut found = Vec::new();
    for name in profiles.names() {
        // A profile that cannot be used might be the one that matters most.
        let profile = profiles.get(name)?;
        if profile.is_runnable() {
            found.push(Arc::new(profile));
        }
    }
    match found.is_empty() {
        true => {
            let what = "no profile has sources and repositories, or all are abstract; there is nothing to run";
            Err(Failure::new(what, "`bkfs config check` lists the profiles; `bkfs config sample` shows one").into())
        }
        false => Ok(found),
    }
}

/// Returns a profile that can be run.
pub fn runnable(profiles: &Profiles, name: &str) -> Result<Arc<Profile>> {
    let profile = profiles.get(name)?;
    let lacks = match &profile {
        profile if profile.settings.is_abstract == Some(true) => {
            "is abstract: it is only for other profiles to inherit"
        }
        profile if !profile.has_sources() => "has no sources",
        profile if profile.repositories().is_empty() => "has no repositories",
        _ => return Ok(Arc::new(profile)),
    };
    let hint = format!("`bkfs config show {name}` shows what it has; nothing was done");
    Err(Failure::new(format!("the profile {name} {lacks}"), hint).into())
}

/// Prints what is wrong in a repository and, if somebody watches, what was done there.
fn print(context: &Context, profile: &str, done: &RepositoryOutcome) -> Result<()> {
    let place = format!("{profile}: {}", done.repository);
    notes(&place, &done.troubles);
    let shows_summary = context.shows_summary() && !context.json;
    if context.verbose > 0 {
        done.skipped.iter().for_each(|skipped| output::note(format!("{place}: not done: {skipped}")));
    }
    if let Some(forgotten) = &done.forgotten {
        for hold in &forgotten.holds {
            output::note(format!("{place}: nothing is forgotten: {hold}"));
        }
        if !forgotten.holds.is_empty() {
            output::note("if all is well there, run `bkfs forget` with the same policy and --confirm");
        }
    }
    if let Some(report) = &done.checked {
        report.problems.iter().for_each(|problem| output::note(format!("{place}: {problem}")));
        if report.problems_total > 0 {
            let problems = output::count(report.problems_total, "problem");
            output::note(format!("{place}: the check found {problems}; the next push of the same files may heal them"));
        }
    }
    if let Some(pushed) = &done.pushed {
        let mut told = context.clone();
        (told.json, told.quiet) = (false, context.quiet || context.json);
        push::print(&told, pushed)?;
    }
    if !shows_summary {
        return Ok(());
    }
    if let Some(forgotten) = done.forgotten.as_ref().filter(|forgotten| forgotten.trashed > 0) {
        output::line(format!("  {} moved to the trash", output::count(forgotten.trashed, "snapshot")))?;
    }
    if let Some(report) = &done.pruned {
        prune_report::print(context, false, report)?;
    }
    match &done.checked {
        Some(report) if report.problems_total == 0 => {
            let (snapshots, packs) = (output::count(report.snapshots, "snapshot"), output::count(report.packs, "pack"));
            output::line(format!("  checked {snapshots}, read {packs} ({}): no problems", output::size(report.bytes)))
        }
        _ => Ok(()),
    }
}

fn notes(place: &str, troubles: &[Trouble]) {
    for trouble in troubles {
        let hint = if trouble.hint.is_empty() { String::new() } else { format!("\n      {}", trouble.hint) };
        output::note(format!("{place}: {}{hint}", trouble.message));
    }
}

fn summary(outcome: &ProfileOutcome) -> String {
    let all = outcome.repositories.len();
    let good = outcome.repositories.iter().filter(|done| done.result() == RunResult::Success).count();
    let how = match outcome.result() {
        RunResult::Success => "done".to_owned(),
        RunResult::Interrupted => "interrupted".to_owned(),
        RunResult::Failed | RunResult::Running => "failed".to_owned(),
        RunResult::Partly => format!("partly done, {good} of {all} repositories without a problem"),
    };
    format!("{}: {how}, in {}", outcome.profile, output::duration(outcome.duration_ms))
}

fn json(outcome: &ProfileOutcome) -> ProfileJson {
    ProfileJson {
        profile: outcome.profile.clone(),
        result: (!outcome.is_busy).then(|| outcome.result()),
        errors: troubles(&outcome.troubles),
        duration_ms: outcome.duration_ms,
        repositories: outcome.repositories.iter().map(repository_json).collect(),
    }
}

fn repository_json(done: &RepositoryOutcome) -> RepositoryJson {
    let forgotten = done.forgotten.as_ref();
    RepositoryJson {
        repository: done.repository.clone(),
        result: done.result(),
        errors: troubles(&done.troubles),
        skipped: done.skipped.clone(),
        push: done.pushed.as_ref().map(push::json),
        forget: forgotten.map(|done| ForgetJson { trashed_total: done.trashed, holds: done.holds.clone() }),
        prune: done.pruned.as_ref().map(|report| prune_report::json(false, report)),
        check: done.checked.as_ref().map(|report| CheckJson::of(report, None)),
        duration_ms: done.duration_ms,
    }
}

fn troubles(troubles: &[Trouble]) -> Vec<TroubleJson> {
    let one = |trouble: &Trouble| TroubleJson { message: trouble.message.clone(), hint: trouble.hint.clone() };
    troubles.iter().map(one).collect()
}
