//! `bkfs status`: how well this machine is protected.

use std::fmt::Write as _;

use anyhow::Result;
use bkfs_store::base::time::Time;
use clap::Args;
use serde::Serialize;

use crate::{
    commands::config::none,
    completion,
    context::Context,
    failure::Exit,
    notify, output,
    profile::{Profile, Profiles},
    push_job::PushJob,
    status::{Ran, Status, judge},
};

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(
    about = "Show how well this machine is protected",
    long_about = "Show how well this machine is protected: for each repository of each profile, and for each `bkfs \
        watch`, the last success, since when changes are unprotected, what is wrong, and when the next run is due.\n\n\
        It reads only what runs and watches wrote down. It opens no repository and needs neither passphrase nor \
        network.\n\n\
        The exit code is for monitoring: 0 if nothing is overdue and nothing failed, otherwise 1.",
    after_help = "Examples:\n  bkfs status\n  bkfs status home --json\n  \
        bkfs status --metrics > /var/lib/node_exporter/bkfs.prom\n\n\
        A line for cron that tells when a profile is overdue:\n  0 * * * *  bkfs status --notify -q"
)]
pub struct StatusArgs {
    /// The profiles to show [default: all, and all watches]
    #[arg(value_name = "PROFILE", add = completion::profile())]
    profiles: Vec<String>,
    /// Print metrics in the text format of Prometheus
    #[arg(long, conflicts_with = "json")]
    metrics: bool,
    /// Tell of profiles that are overdue, as `notify` of the profile says
    #[arg(long)]
    notify: bool,
}

#[derive(Serialize)]
struct StatusJson {
    healthy: bool,
    status: Vec<RowJson>,
}

#[derive(Serialize)]
struct RowJson {
    profile: Option<String>,
    repository: String,
    target: String,
    health: &'static str,
    problems: Vec<String>,
    last_success: Option<String>,
    unprotected_seconds: Option<u64>,
    last_snapshot: Option<String>,
    last_check: Option<String>,
    last_prune: Option<String>,
    next_run: Option<String>,
    files: Option<u64>,
    bytes: Option<u64>,
    bytes_stored: Option<u64>,
    watch: Option<WatchJson>,
}

#[derive(Serialize)]
struct WatchJson {
    running: bool,
    snapshots: u64,
    last_scan: Option<String>,
    unwatched: Vec<UnwatchedJson>,
}

#[derive(Serialize)]
struct UnwatchedJson {
    path: String,
    reason: String,
}

/// Runs `bkfs status`.
pub fn run(context: &Context, args: &StatusArgs) -> Result<Exit> {
    let loaded = Profiles::load(&context.folders);
    let named = args.profiles.iter().chain(context.profile_name.iter().filter(|_| args.profiles.is_empty()));
    let named: Vec<&str> = named.map(String::as_str).collect();
    let (mut profiles, mut problems) = (Vec::new(), loaded.problems().to_vec());
    match named.is_empty() {
        true => {
            for name in loaded.names() {
                match loaded.resolve(name) {
                    Ok(profile) => profiles.extend(Some(profile).filter(Profile::is_runnable)),
                    Err(found) => problems.extend(found),
                }
            }
        }
        false => {
            for name in &named {
                profiles.push(loaded.get(name)?);
            }
        }
    }
    let mut watches = context.folders.watches();
    let ran: Vec<Ran<'_>> = profiles.iter().map(|profile| ran(context, profile)).collect::<Result<_>>()?;
    if !named.is_empty() {
        watches.retain(|watch| ran.iter().any(|ran| ran.target == watch.target));
    }
    let now = output::now().secs;
    let mut all = judge(&ran, &watches, now);
    if !named.is_empty() {
        all.retain(|status| status.profile.is_some());
    }
    if all.is_empty() && problems.is_empty() {
        return Err(none(&loaded).into());
    }
    for problem in &problems {
        output::note(format!("warning: {problem}"));
    }
    if args.notify {
        for profile in &profiles {
            notify::overdue(context, profile)?;
        }
    }
    let is_healthy = !all.iter().any(|status| status.health.is_alarming()) && problems.is_empty();
    if args.metrics {
        output::line(metrics(&all, now).trim_end())?;
    } else if context.json {
        output::json_pretty(&StatusJson { healthy: is_healthy, status: all.iter().map(|s| json(s, now)).collect() })?;
    } else if !context.quiet {
        print(&all, now)?;
    }
    Ok(if is_healthy { Exit::Success } else { Exit::Error })
}

fn ran<'a>(context: &Context, profile: &'a Profile) -> Result<Ran<'a>> {
    let runs = context.folders.runs(&profile.name);
    let record = runs.read()?;
    // A profile whose sources cannot be resolved is shown all the same.
    let target = PushJob::of(profile).target().unwrap_or_default();
    let is_running = record.is_some() && runs.lock()?.is_none();
    Ok(Ran { profile, record, target, is_running })
}

fn time(secs: i64) -> Time {
    Time { secs, nanos: 0 }
}

/// An age, as exact as a person wants it.
fn ago(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

fn print(all: &[Status], now: i64) -> Result<()> {
    let mut table =
        output::Table::new(&["PROFILE", "TARGET", "HEALTH", "LAST SUCCESS", "UNPROTECTED", "REPOSITORY"], &[4]);
    for status in all {
        let age = |since: i64| format!("{} ago", ago(u64::try_from(now.saturating_sub(since)).unwrap_or(0)));
        let is_watched = status.watch.as_ref().is_some_and(|watch| watch.is_running);
        let unprotected = match status.unprotected_secs(now) {
            Some(0) if is_watched => "nothing".to_owned(),
            // What happened since is not known.
            Some(secs) if !is_watched => format!("up to {}", ago(secs)),
            Some(secs) => ago(secs),
            None => "everything".to_owned(),
        };
        table.row([
            status.profile.clone().unwrap_or_else(|| "(watch)".to_owned()),
            output::name(status.target.as_bytes()),
            status.health.word().to_owned(),
            status.last_success.map_or_else(|| "never".to_owned(), age),
            unprotected,
            output::name(status.repository.as_bytes()),
        ]);
    }
    table.print()?;
    for status in all {
        let name = status.profile.clone().unwrap_or_else(|| output::name(status.target.as_bytes()));
        for problem in &status.problems {
            output::line(format!("{name}: {problem}"))?;
        }
        for (path, reason) in status.watch.iter().flat_map(|watch| &watch.unwatched) {
            output::line(format!("{name}: not watched, only scanned: {path}: {reason}"))?;
        }
        if let (Some(files), Some(bytes)) = (status.files, status.bytes) {
            let checked = status.last_check.map_or_else(|| "never".to_owned(), |at| output::time_local(time(at)));
            let next = status.next_run.map(|at| format!(", next run {}", output::time_local(time(at))));
            output::line(format!(
                "{name}: {}, {}; last checked {checked}{}",
                output::count(files, "file"),
                output::size(bytes),
                next.unwrap_or_default()
            ))?;
        }
    }
    Ok(())
}

fn json(status: &Status, now: i64) -> RowJson {
    let at = |secs: Option<i64>| secs.map(|secs| output::time_json(time(secs)));
    RowJson {
        profile: status.profile.clone(),
        repository: status.repository.clone(),
        target: status.target.clone(),
        health: status.health.word(),
        problems: status.problems.clone(),
        last_success: at(status.last_success),
        unprotected_seconds: status.unprotected_secs(now),
        last_snapshot: status.last_snapshot.clone(),
        last_check: at(status.last_check),
        last_prune: at(status.last_prune),
        next_run: at(status.next_run),
        files: status.files,
        bytes: status.bytes,
        bytes_stored: status.bytes_stored,
        watch: status.watch.as_ref().map(|watch| WatchJson {
            running: watch.is_running,
            snapshots: watch.snapshots,
            last_scan: at(watch.last_scan),
            unwatched: watch
                .unwatched
                .iter()
                .map(|(path, reason)| UnwatchedJson { path: path.clone(), reason: reason.clone() })
                .collect(),
        }),
    }
}

/// One figure of each repository: its name, what it is, and its value; none if there is none.
type Metric = (&'static str, &'static str, fn(&Status, i64) -> Option<i64>);

const METRICS: [Metric; 7] = [
    ("bkfs_unprotected_seconds", "For how long the oldest change may be unprotected.", |status, now| {
        status.unprotected_secs(now).map(|secs| i64::try_from(secs).unwrap_or(i64::MAX))
    }),
    ("bkfs_last_success_timestamp_seconds", "When everything was last stored.", |status, _| status.last_success),
    ("bkfs_last_check_timestamp_seconds", "When the repository was last checked.", |status, _| status.last_check),
    ("bkfs_healthy", "1 if nothing is overdue and nothing failed.", |status, _| {
        Some(i64::from(!status.health.is_alarming()))
    }),
    ("bkfs_problems", "How many things are wrong.", |status, _| i64::try_from(status.problems.len()).ok()),
    ("bkfs_source_files", "Files in the last snapshot.", |status, _| i64::try_from(status.files?).ok()),
    ("bkfs_source_bytes", "Bytes of these files.", |status, _| i64::try_from(status.bytes?).ok()),
];

fn metrics(all: &[Status], now: i64) -> String {
    let mut text = String::new();
    for (name, help, value) in METRICS {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for status in all {
            if let Some(value) = value(status, now) {
                let profile = label(status.profile.as_deref().unwrap_or_default());
                let (repository, target) = (label(&status.repository), label(&status.target));
                let labels = format!("profile=\"{profile}\",repository=\"{repository}\",target=\"{target}\"");
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
        }
    }
    text
}

/// The value of a label: backslash, quote and line feed are escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_one_unit() {
        let told = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(ago);
        assert_eq!(told, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]);
    }

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(label("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
        assert!(metrics(&[], 0).lines().all(|line| line.starts_with("# ")));
    }
}
