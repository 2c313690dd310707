//! `bkfs schedule remove`: takes back what `bkfs schedule install` wrote.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::manager::{Manager, ManagerArgs};
use crate::{
    ask, completion,
    context::Context,
    failure::Failure,
    output,
    schedule::{Cron, Kind, main_unit},
};

/// Arguments of `schedule remove`.
#[derive(Debug, Args)]
#[command(
    about = "Let the system run profiles no longer",
    long_about = "Let the system run profiles no longer: stop and remove what `bkfs schedule install` wrote, and \
        nothing else. Without names, for all profiles. The profile itself may be gone.",
    after_help = "Examples:\n  bkfs schedule remove home\n  bkfs schedule remove --watch home    # its timer stays\n  \
        bkfs schedule remove --yes"
)]
pub struct RemoveArgs {
    /// The profiles [default: all that are installed]
    #[arg(value_name = "PROFILE", add = completion::profile())]
    profiles: Vec<String>,
    /// Only the service that watches
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    manager: ManagerArgs,
    /// Only show what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct RemoveJson {
    by: &'static str,
    dry_run: bool,
    removed: Vec<RemovedJson>,
}

#[derive(Serialize)]
struct RemovedJson {
    profile: String,
    kind: Kind,
}

/// Runs `bkfs schedule remove`.
pub fn run(context: &Context, args: &RemoveArgs) -> Result<()> {
    let manager = args.manager.find()?;
    let mut all: Vec<(String, Kind)> = match &manager {
        Manager::Systemd(systemd) => {
            systemd.installed()?.into_iter().map(|found| (found.profile, found.kind)).collect()
        }
        Manager::Cron => Cron.read()?.entries.into_iter().map(|entry| (entry.profile, entry.kind)).collect(),
    };
    all.dedup();
    all.retain(|(_, kind)| !args.watch || *kind == Kind::Watch);
    if let Some(name) = args.profiles.iter().find(|name| all.iter().all(|(profile, _)| profile != *name)) {
        let what = format!("nothing is installed for the profile {name}");
        return Err(Failure::new(what, "`bkfs schedule list` shows what is; nothing was changed").into());
    }
    all.retain(|(profile, _)| args.profiles.is_empty() || args.profiles.contains(profile));
    if !all.is_empty() && !args.dry_run && !args.yes {
        let names: Vec<String> = all.iter().map(|(profile, kind)| format!("{profile} ({kind})")).collect();
        ask::confirm(context, &format!("the system will no longer run {}", names.join(", ")), "Remove?", "--yes")?;
    }
    if !args.dry_run && !all.is_empty() {
        remove(&manager, &all)?;
    }
    if context.json {
        let removed = all.into_iter().map(|(profile, kind)| RemovedJson { profile, kind }).collect();
        return output::json_pretty(&RemoveJson { by: manager.name(), dry_run: args.dry_run, removed });
    }
    if !args.dry_run && !context.shows_summary() {
        return Ok(());
    }
    let what = if args.dry_run { "would be removed" } else { "is removed" };
    all.iter().try_for_each(|(profile, kind)| output::line(format!("{profile}: {kind} {what}")))?;
    if all.is_empty() { output::line("nothing is installed") } else { Ok(()) }
}

fn remove(manager: &Manager, all: &[(String, Kind)]) -> Result<()> {
    match manager {
        Manager::Systemd(systemd) => {
            all.iter().try_for_each(|(profile, kind)| systemd.check_own(profile, *kind))?;
            for (profile, kind) in all {
                systemd.run(&["disable", "--now", &main_unit(profile, *kind)], "nothing was removed")?;
                systemd.remove(profile, *kind)?;
            }
            systemd.run(&["daemon-reload"], "the units are removed")
        }
        Manager::Cron => {
            let mut crontab = Cron.read()?;
            all.iter().for_each(|(profile, kind)| crontab.set(profile, *kind, Vec::new()));
            Cron.write(&crontab)
        }
    }
}
