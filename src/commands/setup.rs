//! `bkfs setup`: from nothing to the first backup.
//!
//! All questions that need no repository come first ([`questions`]), then one summary, and then the steps. Each step
//! first looks whether it was done already, so that a setup that was interrupted goes on when it is run again.

mod args;
mod profile_file;
mod questions;
mod repository;

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use serde::Serialize;

pub use self::args::SetupArgs;
use self::questions::{Answers, Recovery};
use super::{run::once, schedule::install::Plan};
use crate::{
    ask,
    config::RunResult,
    context::Context,
    failure::{Exit, describe},
    output,
    profile::{Profile, Profiles},
    schedule::{Job, Kind},
};

#[derive(Serialize)]
struct SetupJson {
    profile: String,
    file: String,
    repository: String,
    /// Whether the repository is new.
    created: bool,
    recovery: Option<PathBuf>,
    /// Whether the system runs the profile.
    scheduled: bool,
    /// How the first backup ended; `null` if there was none.
    result: Option<RunResult>,
}

/// Runs `bkfs setup`.
pub fn run(context: &Context, args: &SetupArgs) -> Result<Exit> {
    let answers = Answers::collect(context, args)?;
    let file = context.folders.config.join(format!("{}.toml", answers.name));
    // What cannot be known before a server was joined is looked at again then.
    if let Some(place) = answers.to.known_place(context)? {
        profile_file::check(context, &file, &answers, &place.to_string())?;
    }
    if !args.yes {
        ask::confirm(context, &summary(&answers), "Do all this?", "--yes")?;
    }
    let place = repository::reach(context, &answers.to, args.push_key.as_deref())?;
    profile_file::check(context, &file, &answers, &place.to_string())?;
    let ready = repository::open_or_create(context, &place, &answers.recovery)?;
    let is_new = profile_file::write(context, &file, &answers, &place.to_string())?;
    say(context, format!("the profile {} is {}", answers.name, if is_new { "written" } else { "there already" }))?;
    let profile = Arc::new(Profiles::load(&context.folders).get(&answers.name)?);
    let mut scheduled = schedule(context, args, &answers, &profile);
    let result = if args.no_push { None } else { once(context, profile.clone())? };
    if answers.watch && matches!(scheduled, Ok(true)) && result != Some(RunResult::Interrupted) {
        let installed = install(context, args, &profile, Kind::Watch);
        scheduled = installed.inspect_err(|error| print_failure(error, &profile)).map(|()| true);
    }
    let exit = match (&scheduled, result) {
        (_, Some(result)) if result.exit() != Exit::Success => result.exit(),
        (Err(_), _) => Exit::Incomplete,
        _ => Exit::Success,
    };
    if context.json {
        output::json_pretty(&SetupJson {
            profile: answers.name,
            file: file.display().to_string(),
            repository: place.to_string(),
            created: ready.is_new,
            recovery: answers.recovery.file().cloned(),
            scheduled: scheduled.unwrap_or(false),
            result,
        })?;
        return Ok(exit);
    }
    if let Some(sheet) = ready.sheet.filter(|_| answers.recovery == Recovery::Terminal) {
        output::line(format!("\n{}\n", sheet.as_str()))?;
    }
    if !context.quiet {
        output::line(next_steps(&answers, &file, result, scheduled.as_ref().copied().unwrap_or(false)))?;
    }
    Ok(exit)
}

/// Says what will be done.
fn summary(answers: &Answers) -> String {
    let sources: Vec<String> =
        answers.sources.iter().map(|path| output::name(path.as_os_str().as_encoded_bytes())).collect();
    let when = match (&answers.schedule, answers.watch) {
        (Some(schedule), true) => format!("whenever files change, and {schedule}"),
        (Some(schedule), false) => schedule.clone(),
        (None, _) => "by hand".to_owned(),
    };
    format!(
        "this is what will be set up\n      to:      {}\n      what:    {}{}\n      when:    {when}\n      \
         keep:    {}\n      profile: {}",
        answers.to.describe(),
        sources.join(", "),
        if answers.with_caches { "" } else { ", without caches" },
        profile_file::RETENTION_TEXT,
        answers.name,
    )
}

fn say(context: &Context, text: String) -> Result<()> {
    if context.quiet || context.json { Ok(()) } else { output::line(text) }
}

/// Lets the system run the profile, if a person agrees. Returns whether it does, or will when the first backup is made:
/// a watch that starts earlier would make the same one. A failure is printed, and does not prevent the first backup.
fn schedule(context: &Context, args: &SetupArgs, answers: &Answers, profile: &Arc<Profile>) -> Result<bool> {
    let kinds = [(Kind::Run, answers.schedule.is_some()), (Kind::Watch, answers.watch)];
    let kinds: Vec<Kind> = kinds.into_iter().filter_map(|(kind, is_wanted)| is_wanted.then_some(kind)).collect();
    if args.no_schedule || kinds.is_empty() {
        return Ok(false);
    }
    let install = || {
        let jobs = kinds.iter().map(|kind| Job { profile: profile.clone(), kind: *kind });
        let all = Plan::new(context, jobs.collect(), args.manager)?;
        if !context.json && !context.quiet {
            all.show()?;
        }
        if !args.yes && !ask::agrees(context, "Let the system run it like this?", true)? {
            return Ok(false);
        }
        if kinds.contains(&Kind::Run) {
            install(context, args, profile, Kind::Run)?;
        }
        Ok(true)
    };
    install().inspect_err(|error| print_failure(error, profile))
}

/// Lets the system run the profile in one way, that a person has agreed to.
fn install(context: &Context, args: &SetupArgs, profile: &Arc<Profile>, kind: Kind) -> Result<()> {
    let plan = Plan::new(context, vec![Job { profile: profile.clone(), kind }], args.manager)?;
    plan.apply(context)?;
    if context.json { Ok(()) } else { plan.tell(context) }
}

fn print_failure(error: &anyhow::Error, profile: &Profile) {
    let described = describe(error);
    let hint = format!("the setup goes on; `bkfs schedule install {}` tries again", profile.name);
    output::note(format!("{}\n      {}\n      {hint}", described.message, described.hint));
}

/// Says what to do from now on.
fn next_steps(answers: &Answers, file: &std::path::Path, result: Option<RunResult>, is_scheduled: bool) -> String {
    let name = &answers.name;
    let done = match result {
        Some(RunResult::Success) => "The first backup is done.",
        Some(RunResult::Partly) => "The first backup is done, but not all of it: see above.",
        Some(_) => "The first backup FAILED: see above.",
        None => "No backup was made yet.",
    };
    let mut lines = vec![done.to_owned()];
    if !is_scheduled {
        lines.push(format!("Nothing runs by itself: `bkfs run {name}` makes a backup."));
    }
    lines.extend([
        "  bkfs status                    # how well this machine is protected".to_owned(),
        format!("  bkfs mount -P {name} MOUNTPOINT   # every version as folders; restore with cp"),
        format!("  bkfs config show {name}          # what is backed up; change it in {}", file.display()),
    ]);
    if !questions::keeps_passphrase(answers) {
        lines.push(
            "Old snapshots are kept until a run has the passphrase: `password-file` or `password-command` in the \
             profile."
                .to_owned(),
        );
    }
    lines.push(match &answers.recovery {
        Recovery::None => {
            format!(
                "Without the passphrase all is lost. Print `bkfs key recovery -P {name}`, and keep it in a safe place."
            )
        }
        Recovery::Terminal => "Keep the recovery sheet above on paper, in a safe place. Anyone who has it can read \
            everything."
            .to_owned(),
        Recovery::File(path) => format!(
            "Print {}, keep it in a safe place, and delete the file. Anyone who has it can read everything.",
            path.display()
        ),
    });
    lines.join("\n")
}
