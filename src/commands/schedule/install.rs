//! `bkfs schedule install`: a plan of what to write, which a person sees first, and then the writing.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::manager::{Manager, ManagerArgs, local, spread};
use crate::{
    ask,
    commands::run::runnable,
    completion,
    context::{Context, user_name},
    failure::Failure,
    output,
    profile::{Profile, Profiles},
    schedule::{Cron, Crontab, Entry, Job, Kind, Program, Times, Unit, main_unit, units},
};

/// Arguments of `schedule install`.
#[derive(Debug, Args)]
#[command(
    about = "Let the system run profiles when their schedules say",
    long_about = "Let the system run profiles: `bkfs run` at the times of `schedule`, or with --watch `bkfs watch` all \
        the time. Without names, all profiles that `bkfs run` runs and that have a schedule; with --watch those that \
        have a [watch] table.\n\n\
        With systemd, these are a timer and a service for each profile: units of this user, or for root those of the \
        system. Runs that were missed while the machine was off or asleep are caught up, and not all machines start \
        at the same second. Elsewhere, these are lines in the user's crontab between two markers.\n\n\
        All that is written is shown first. Installing again after a change of the profile replaces it. \
        docs/PROFILES.md tells more.",
    after_help = "Examples:\n  bkfs schedule install --dry-run\n  bkfs schedule install home\n  \
        bkfs schedule install --watch home\n  sudo bkfs schedule install --yes    # profiles in /etc/bkfs"
)]
pub struct InstallArgs {
    /// The profiles [default: all that run and have a schedule]
    #[arg(value_name = "PROFILE", add = completion::profile())]
    profiles: Vec<String>,
    /// Install `bkfs watch` as a service
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    manager: ManagerArgs,
    /// Only show what would be written
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct InstallJson {
    by: &'static str,
    dry_run: bool,
    installed: Vec<JobJson>,
    files: Vec<FileJson>,
}

#[derive(Serialize)]
struct JobJson {
    profile: String,
    kind: Kind,
}

#[derive(Serialize)]
struct FileJson {
    path: String,
    text: String,
}

/// What an installation writes.
pub struct Plan {
    manager: Manager,
    jobs: Vec<Job>,
    /// All units, with systemd.
    units: Vec<Unit>,
    /// Services that run already, by another text than the new one.
    outdated: Vec<String>,
    /// The crontab as it will be, with cron.
    crontab: Crontab,
}

/// Runs `bkfs schedule install`.
pub fn run(context: &Context, args: &InstallArgs) -> Result<()> {
    let kind = if args.watch { Kind::Watch } else { Kind::Run };
    let plan = Plan::new(context, jobs(context, &args.profiles, kind)?, args.manager)?;
    let json = || {
        output::json_pretty(&InstallJson {
            by: plan.manager.name(),
            dry_run: args.dry_run,
            installed: plan
                .jobs
                .iter()
                .map(|job| JobJson { profile: job.profile.name.clone(), kind: job.kind })
                .collect(),
            files: plan.files().map(|(path, text)| FileJson { path, text: text.to_owned() }).collect(),
        })
    };
    if args.dry_run {
        return if context.json { json() } else { plan.show() };
    }
    if !context.json && !context.quiet {
        plan.show()?;
    }
    if !args.yes {
        plan.confirm(context)?;
    }
    plan.apply(context)?;
    if context.json { json() } else { plan.tell(context) }
}

/// Returns what to install.
fn jobs(context: &Context, names: &[String], kind: Kind) -> Result<Vec<Job>> {
    let profiles = Profiles::load(&context.folders);
    let names: Vec<&str> = match names.is_empty() {
        true => context.profile_name.as_deref().into_iter().collect(),
        false => names.iter().map(String::as_str).collect(),
    };
    let job = |profile: Arc<Profile>| Job { profile, kind };
    if !names.is_empty() {
        return names.iter().map(|name| runnable(&profiles, name).map(job)).collect();
    }
    let mut found = Vec::new();
    for name in profiles.names() {
        let profile = profiles.get(name)?;
        let is_wanted = match kind {
            Kind::Run => profile.settings.schedule.is_some(),
            Kind::Watch => profile.settings.watch.is_some(),
        };
        if profile.is_runnable() && is_wanted {
            found.push(job(Arc::new(profile)));
        }
    }
    if found.is_empty() {
        profiles.problems().iter().for_each(output::note);
        let (what, hint) = match kind {
            Kind::Run => ("no profile has a schedule", "write one like schedule = \"daily 03:00\" into a profile"),
            Kind::Watch => ("no profile has a [watch] table", "name the profiles to watch"),
        };
        return Err(Failure::new(format!("{what}; there is nothing to install"), hint).into());
    }
    Ok(found)
}

/// Returns the times of a job; none for a watch. Fails if its profile has no schedule.
fn times(job: &Job) -> Result<Option<Times>> {
    let profile = &job.profile;
    match (job.kind, &profile.settings.schedule) {
        (Kind::Watch, _) => Ok(None),
        (Kind::Run, Some(schedule)) => Ok(Some(Times::of(*schedule.get()))),
        (Kind::Run, None) => {
            let (file, line) = profile.place().unwrap_or((std::path::Path::new("its file"), 0));
            let hint = format!(
                "write one like schedule = \"daily 03:00\" below line {line} of {}; or use --watch",
                file.display()
            );
            Err(Failure::new(format!("the profile {} has no schedule", profile.name), hint).into())
        }
    }
}

/// Returns the lines of a crontab for a job.
fn entries(job: &Job, times: Option<&Times>, program: &Program) -> Vec<Entry> {
    let name = &job.profile.name;
    let entry = |when: &str| Entry::new(name, job.kind, when, program);
    match times {
        Some(times) => times.cron(spread(name)).iter().map(|when| entry(when)).collect(),
        None => vec![entry("@reboot")],
    }
}

impl Plan {
    /// Finds out what to write. Changes nothing.
    pub fn new(context: &Context, jobs: Vec<Job>, manager: ManagerArgs) -> Result<Self> {
        let mut plan = Self {
            manager: manager.find()?,
            jobs,
            units: Vec::new(),
            outdated: Vec::new(),
            crontab: Crontab::default(),
        };
        match &plan.manager {
            Manager::Systemd(systemd) => {
                let program = Program::running(context, systemd.scope == crate::schedule::Scope::System)?;
                for job in &plan.jobs {
                    let name = &job.profile.name;
                    for unit in units(job, times(job)?.as_ref(), &program, systemd.scope) {
                        let before = systemd.read(&unit.name, name)?;
                        if job.kind == Kind::Watch && before.is_some_and(|before| before != unit.text) {
                            plan.outdated.push(unit.name.clone());
                        }
                        plan.units.push(unit);
                    }
                }
            }
            Manager::Cron => {
                let program = Program::running(context, false)?;
                plan.crontab = Cron.read().map_err(|error| without_cron(error, &plan.jobs))?;
                for job in &plan.jobs {
                    plan.crontab.set(&job.profile.name, job.kind, entries(job, times(job)?.as_ref(), &program));
                }
            }
        }
        Ok(plan)
    }

    /// Returns the paths of what is written, and the texts.
    fn files(&self) -> impl Iterator<Item = (String, String)> {
        let of_systemd = match &self.manager {
            Manager::Systemd(systemd) => Some(&systemd.folder),
            Manager::Cron => None,
        };
        let units = self
            .units
            .iter()
            .filter_map(move |unit| Some((of_systemd?.join(&unit.name).display().to_string(), unit.text.clone())));
        let crontab = of_systemd.is_none().then(|| ("crontab".to_owned(), self.crontab.block()));
        units.chain(crontab)
    }

    /// Prints what will be written.
    pub fn show(&self) -> Result<()> {
        self.files().try_for_each(|(path, text)| match &self.manager {
            Manager::Systemd(_) => output::line(format!("==> {path}\n{text}")),
            Manager::Cron => output::line(format!("==> in the crontab of {}\n{text}", user_name())),
        })
    }

    /// Asks whether to write it.
    pub fn confirm(&self, context: &Context) -> Result<()> {
        let (what, question) = match &self.manager {
            Manager::Systemd(systemd) => (
                format!(
                    "this writes {} to {} and starts {}",
                    output::count(self.units.len() as u64, "unit"),
                    systemd.folder.display(),
                    self.enabled().join(" ")
                ),
                "Write them?",
            ),
            Manager::Cron => ("this writes the lines above to the crontab".to_owned(), "Write them?"),
        };
        ask::confirm(context, &what, question, "--yes")
    }

    /// The names of what systemd starts.
    fn enabled(&self) -> Vec<String> {
        self.jobs.iter().map(|job| main_unit(&job.profile.name, job.kind)).collect()
    }

    /// Writes it, and starts it.
    pub fn apply(&self, context: &Context) -> Result<()> {
        let Manager::Systemd(systemd) = &self.manager else { return Cron.write(&self.crontab) };
        systemd.write(&self.units)?;
        let done = "the units are written";
        systemd.run(&["daemon-reload"], done)?;
        let enabled = self.enabled();
        let enabled: Vec<&str> = enabled.iter().map(String::as_str).collect();
        systemd.run(&[&["enable", "--now"], &enabled[..]].concat(), done)?;
        if !self.outdated.is_empty() {
            let outdated: Vec<&str> = self.outdated.iter().map(String::as_str).collect();
            systemd.run(&[&["restart"], &outdated[..]].concat(), "the units are written and enabled")?;
        }
        if systemd.lacks_lingering(&user_name()) && !context.quiet {
            output::note(format!(
                "note: units of a user run only while that user is logged in; `loginctl enable-linger {}` lets them \
                 run always",
                user_name()
            ));
        }
        Ok(())
    }

    /// Says what was done, to a person who watches.
    pub fn tell(&self, context: &Context) -> Result<()> {
        for job in self.jobs.iter().filter(|_| !context.quiet) {
            let (name, repositories) = (&job.profile.name, job.profile.repositories().len());
            if job.kind == Kind::Watch && repositories > 1 {
                output::note(format!(
                    "note: {name}: a watch pushes only to the first of its {repositories} repositories"
                ));
            }
            if matches!(self.manager, Manager::Cron) && job.kind == Kind::Watch {
                output::note(format!("note: {name}: cron starts the watch when the machine starts next"));
            }
        }
        if !context.shows_summary() {
            return Ok(());
        }
        for job in &self.jobs {
            let unit = main_unit(&job.profile.name, job.kind);
            let when = match &self.manager {
                Manager::Systemd(systemd) => systemd.next(&unit).filter(|_| job.kind == Kind::Run),
                Manager::Cron => None,
            };
            let when = when.map_or(String::new(), |secs| format!(", next {}", local(secs)));
            output::line(format!("{}: {} is installed{when}", job.profile.name, job.kind))?;
        }
        Ok(())
    }
}

/// Returns the error for a machine on which nothing runs anything.
fn without_cron(error: anyhow::Error, jobs: &[Job]) -> anyhow::Error {
    let name = jobs.first().map_or("NAME", |job| job.profile.name.as_str());
    let hint = format!(
        "there is no systemd here, so the crontab is used: install cron, or let what starts programs on this machine \
         run `bkfs run {name}`"
    );
    match error.downcast_ref::<Failure>() {
        Some(failure) if failure.message.starts_with("cannot run") => {
            Failure::new(failure.message.clone(), hint).into()
        }
        _ => error,
    }
}
