//! `bkfs schedule list`: what the system runs, and what it should.

use anyhow::Result;
use bkfs_store::base::time::Time;
use clap::Args;
use serde::Serialize;

use super::manager::{Manager, ManagerArgs, local, spread};
use crate::{
    context::Context,
    output,
    profile::{Profile, Profiles},
    schedule::{Cron, Kind, Times, main_unit},
};

/// Arguments of `schedule list`.
#[derive(Debug, Args)]
#[command(
    about = "Show which profiles the system runs, and when",
    long_about = "Show which profiles the system runs, and when. Also show which profiles have a schedule that is not \
        installed, or that has changed since it was.",
    after_help = "Examples:\n  bkfs schedule list\n  bkfs schedule list --json"
)]
pub struct ListArgs {
    #[command(flatten)]
    manager: ManagerArgs,
}

#[derive(Serialize)]
struct ListJson {
    by: &'static str,
    schedules: Vec<RowJson>,
}

#[derive(Serialize)]
struct RowJson {
    profile: String,
    kind: Kind,
    installed: bool,
    /// Whether the times are those of the profile.
    current: bool,
    place: Option<String>,
    schedule: Option<String>,
    next: Option<String>,
    #[serde(skip)]
    next_secs: Option<i64>,
}

/// Runs `bkfs schedule list`.
pub fn run(context: &Context, args: &ListArgs) -> Result<()> {
    let manager = args.manager.find()?;
    let loaded = Profiles::load(&context.folders);
    let profiles: Vec<Profile> = loaded.names().filter_map(|name| loaded.resolve(name).ok()).collect();
    let mut rows = installed(&manager, &profiles)?;
    for profile in profiles.iter().filter(|profile| profile.is_runnable() && profile.settings.schedule.is_some()) {
        if rows.iter().any(|row| row.profile == profile.name && row.kind == Kind::Run) {
            continue;
        }
        rows.push(RowJson {
            profile: profile.name.clone(),
            kind: Kind::Run,
            installed: false,
            current: false,
            place: None,
            schedule: schedule(profile),
            next: None,
            next_secs: None,
        });
    }
    rows.sort_by(|a, b| (&a.profile, a.kind).cmp(&(&b.profile, b.kind)));
    match context.json {
        true => output::json_pretty(&ListJson { by: manager.name(), schedules: rows }),
        false => print(context, &rows),
    }
}

/// Returns what is installed.
fn installed(manager: &Manager, profiles: &[Profile]) -> Result<Vec<RowJson>> {
    let mut found: Vec<(String, Kind, Vec<String>)> = Vec::new();
    match manager {
        Manager::Systemd(systemd) => {
            found.extend(systemd.installed()?.into_iter().map(|unit| (unit.profile, unit.kind, unit.when)));
        }
        Manager::Cron => {
            for entry in Cron.read()?.entries {
                let when = entry.when();
                match found.iter_mut().find(|row| (&row.0, row.1) == (&entry.profile, entry.kind)) {
                    Some(row) => row.2.push(when),
                    None => found.push((entry.profile, entry.kind, vec![when])),
                }
            }
        }
    }
    let row = |(name, kind, when): (String, Kind, Vec<String>)| {
        let profile = profiles.iter().find(|profile| profile.name == name);
        let unit = main_unit(&name, kind);
        let times = profile.and_then(|profile| profile.settings.schedule.as_ref()).map(|text| Times::of(*text.get()));
        let wanted = times.map(|times| match manager {
            Manager::Systemd(_) => times.on_calendar(),
            Manager::Cron => times.cron(spread(&name)),
        });
        let (place, next_secs) = match manager {
            Manager::Systemd(systemd) => {
                (systemd.folder.join(&unit).display().to_string(), systemd.next(&unit).filter(|_| kind == Kind::Run))
            }
            Manager::Cron => ("crontab".to_owned(), None),
        };
        RowJson {
            installed: true,
            current: profile.is_some_and(Profile::is_runnable) && (kind == Kind::Watch || wanted == Some(when)),
            place: Some(place),
            schedule: profile.and_then(schedule).filter(|_| kind == Kind::Run),
            next: next_secs.map(|secs| output::time_json(Time { secs, ..Time::default() })),
            next_secs,
            profile: name,
            kind,
        }
    };
    Ok(found.into_iter().map(row).collect())
}

fn schedule(profile: &Profile) -> Option<String> {
    profile.settings.schedule.as_ref().map(ToString::to_string)
}

fn print(context: &Context, rows: &[RowJson]) -> Result<()> {
    if rows.is_empty() {
        return output::line("the system runs no profile, and none has a schedule");
    }
    let mut table = output::Table::new(&["PROFILE", "KIND", "SCHEDULE", "NEXT", "WHERE"], &[]);
    for row in rows {
        let place = match (&row.place, row.current) {
            (None, _) => "not installed".to_owned(),
            (Some(place), true) => place.clone(),
            (Some(place), false) => format!("{place} (not as the profile says)"),
        };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let next = or_dash(row.next_secs.map(local));
        table.row([row.profile.clone(), row.kind.to_string(), or_dash(row.schedule.clone()), next, place]);
    }
    table.print()?;
    let missing: Vec<&str> =
        rows.iter().filter(|row| !row.installed || !row.current).map(|row| row.profile.as_str()).collect();
    if !missing.is_empty() && !context.quiet {
        let names = missing.join(" ");
        output::note(format!("`bkfs schedule install {names}` installs what the profiles say; `remove` removes it"));
    }
    Ok(())
}
