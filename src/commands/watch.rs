//! `bkfs watch`: keeps a series current.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use bkfs_fs::watch::Pace;
use clap::{Args, ValueEnum};

use super::push::SourceArgs;
use crate::{
    args::{RepoArgs, parse_duration},
    context::Context,
    failure::{Exit, Failure},
    output,
    profile::{Profile, Text},
    push_job::PushJob,
    watching::{self, Method, WatchPlan},
};

/// How often everything is looked at.
const RESCAN: Duration = Duration::from_secs(24 * 3600);
/// How often what the kernel does not watch is looked at.
const RESCAN_UNWATCHED: Duration = Duration::from_secs(600);

/// Arguments of `watch`.
#[derive(Debug, Args)]
#[command(
    about = "Back up files and folders whenever they change",
    long_about = "Back up files and folders whenever they change, until a signal ends it. The first push looks at \
        everything; each later one only at what the kernel reported as changed.\n\n\
        A push comes when changes have settled, at the latest some time after the first of them, and not too often. \
        Its snapshots have the tag `watch`. While the repository cannot be reached nothing is forgotten: the next push \
        that succeeds holds everything.\n\n\
        As root, whole file systems are watched. Otherwise each folder takes one of the user's inotify watches; what \
        is beyond their number, and what is on a network file system, is looked at every now and then. Changes that \
        the kernel does not report at all (through memory maps, below an overlay, by another machine) are found by \
        the full scan once a day.\n\n\
        SIGHUP reads the profile again and looks at everything. SIGTERM takes a last snapshot of what has changed and \
        ends the program within ten seconds. With systemd, use Type=notify.",
    after_help = "Examples:\n  bkfs watch -r bkfs://nas:7443/alice ~\n  \
        bkfs watch --target home --exclude-caches --settle 5s --at-most 1m ~ /etc\n  \
        bkfs watch -P home    # what the profile says, its [watch] section included\n  \
        bkfs watch --json -r /media/usb/repo ~/work    # a line of JSON for each snapshot"
)]
pub struct WatchArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Push when nothing has changed for this long [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    settle: Option<Duration>,
    /// Push this long after the first change at the latest, even if changes go on [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    at_most: Option<Duration>,
    /// Let this much time pass from one push to the next [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    at_least: Option<Duration>,
    /// Look at everything this often [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    rescan: Option<Duration>,
    /// Look this often at what the kernel does not watch [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    rescan_unwatched: Option<Duration>,
    /// How to watch
    #[arg(long, value_enum, default_value_t)]
    method: MethodArg,
    /// Wait while the machine runs on its battery
    #[arg(long)]
    skip_on_battery: bool,
    /// Wait while the network is metered, as NetworkManager says
    #[arg(long)]
    skip_on_metered: bool,
    /// Run with the ordinary priority, not at idle priority
    #[arg(long)]
    normal_priority: bool,
    /// Cannot be watched: only to say so
    #[arg(long, value_name = "NAME", hide = true)]
    stdin: Option<PathBuf>,
    /// Cannot be watched: only to say so
    #[arg(long, value_name = "NAME=COMMAND", hide = true)]
    command: Vec<String>,
    /// Cannot be watched: only to say so
    #[arg(long, hide = true)]
    devices: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// How the kernel is asked for changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum MethodArg {
    /// Whole file systems where that is allowed, else folders
    #[default]
    Auto,
    /// Folder by folder
    Inotify,
    /// Not at all: look at everything every --rescan-unwatched
    Scan,
}

/// Runs `bkfs watch`.
pub fn run(context: &Context, args: WatchArgs) -> Result<Exit> {
    watching::run(context, &|context| {
        let plan = args.plan(context.profile.as_deref())?;
        let repository = context.repository(&args.repo).map(str::to_owned);
        Ok((args.job(context.profile.as_deref())?, RepoArgs { repository }, plan))
    })
}

impl WatchArgs {
    /// Returns what to push: only what can be watched.
    fn job(&self, profile: Option<&Profile>) -> Result<PushJob> {
        for (option, is_given) in
            [("--stdin", self.stdin.is_some()), ("--command", !self.command.is_empty()), ("--devices", self.devices)]
        {
            if is_given {
                let what = format!("`bkfs watch` takes no {option}: nothing tells when what it would read has changed");
                return Err(Failure::new(what, format!("use `bkfs push {option}`, from a timer")).into());
            }
        }
        let mut job = self.source.job(profile, Vec::new())?;
        let name = profile.map_or("", |profile| profile.name.as_str());
        if !job.streams.is_empty() {
            if job.paths.is_empty() {
                let what = format!("the profile {name} has only commands, and no sources that can be watched");
                return Err(Failure::new(what, format!("use `bkfs run {name}`, from a timer")).into());
            }
            let commands = output::count(job.streams.len() as u64, "command");
            output::note(format!(
                "note: {commands} of the profile {name} left out: only `bkfs push` and `bkfs run` run commands"
            ));
            job.streams.clear();
        }
        if std::mem::take(&mut job.reads_devices) {
            output::note(format!(
                "note: the profile {name} has devices = true: only `bkfs push` and `bkfs run` read devices"
            ));
        }
        Ok(job)
    }

    /// Returns how to watch: what the options say, and otherwise what the profile says.
    fn plan(&self, profile: Option<&Profile>) -> Result<WatchPlan> {
        let of_profile = profile.and_then(|profile| profile.settings.watch.clone()).unwrap_or_default();
        let pick = |given: Option<Duration>, of_profile: &Option<Text<Duration>>, default: Duration| {
            given.or(of_profile.as_ref().map(|time| *time.get())).unwrap_or(default)
        };
        let pace = Pace::default();
        let plan = WatchPlan {
            pace: Pace {
                settle: pick(self.settle, &of_profile.settle, pace.settle),
                at_most: pick(self.at_most, &of_profile.at_most, pace.at_most),
                at_least: pick(self.at_least, &of_profile.at_least, pace.at_least),
            },
            rescan: pick(self.rescan, &of_profile.rescan, RESCAN),
            rescan_unwatched: pick(self.rescan_unwatched, &of_profile.rescan_unwatched, RESCAN_UNWATCHED),
            method: match self.method {
                MethodArg::Auto => Method::Auto,
                MethodArg::Inotify => Method::Folders,
                MethodArg::Scan => Method::Scan,
            },
            skips_on_battery: self.skip_on_battery || of_profile.skip_on_battery == Some(true),
            skips_on_metered: self.skip_on_metered || of_profile.skip_on_metered == Some(true),
            is_idle: !self.normal_priority,
        };
        let intervals = [
            ("--at-most", plan.pace.at_most),
            ("--rescan", plan.rescan),
            ("--rescan-unwatched", plan.rescan_unwatched),
        ];
        match intervals.iter().find(|(_, interval)| interval.is_zero()) {
            Some((name, _)) => {
                Err(Failure::new(format!("{name} is 0: it would never rest"), "give at least 1s").into())
            }
            None => Ok(plan),
        }
    }
}
