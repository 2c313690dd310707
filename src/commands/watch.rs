//! `bkfs watch`: keeps a series current.

use std::time::Duration;

use anyhow::Result;
use bkfs_fs::watch::Pace;
use clap::{Args, ValueEnum};

use super::push::SourceArgs;
use crate::{
    args::{RepoArgs, parse_duration},
    context::Context,
    failure::{Exit, Failure},
    watching::{self, Method, WatchPlan},
};

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
        SIGTERM takes a last snapshot of what has changed and ends the program within ten seconds. With systemd, use \
        Type=notify.",
    after_help = "Examples:\n  bkfs watch -r bkfs://nas:7443/alice ~\n  \
        bkfs watch --target home --exclude-caches --settle 5s --at-most 1m ~ /etc\n  \
        bkfs watch --json -r /media/usb/repo ~/work    # a line of JSON for each snapshot"
)]
pub struct WatchArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Push when nothing has changed for this long
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    settle: Duration,
    /// Push this long after the first change at the latest, even if changes go on
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    at_most: Duration,
    /// Let this much time pass from one push to the next
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    at_least: Duration,
    /// Look at everything this often
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
    rescan: Duration,
    /// Look this often at what the kernel does not watch
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    rescan_unwatched: Duration,
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
    let intervals =
        [("--at-most", args.at_most), ("--rescan", args.rescan), ("--rescan-unwatched", args.rescan_unwatched)];
    if let Some((name, _)) = intervals.iter().find(|(_, interval)| interval.is_zero()) {
        return Err(Failure::new(format!("{name} is 0: it would never rest"), "give at least 1s").into());
    }
    let plan = WatchPlan {
        pace: Pace { settle: args.settle, at_most: args.at_most, at_least: args.at_least },
        rescan: args.rescan,
        rescan_unwatched: args.rescan_unwatched,
        method: match args.method {
            MethodArg::Auto => Method::Auto,
            MethodArg::Inotify => Method::Folders,
            MethodArg::Scan => Method::Scan,
        },
        skips_on_battery: args.skip_on_battery,
        skips_on_metered: args.skip_on_metered,
        is_idle: !args.normal_priority,
    };
    watching::run(context, &args.repo, args.source.job(), &plan)
}
