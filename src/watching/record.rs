//! Writing down what the watch does, for others to read.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use bkfs_fs::watch::Watch;

use super::shown::shown;
use crate::{
    args::RepoArgs,
    config::{UnwatchedPart, WatchFile, WatchState},
    context::Context,
    place::Place,
    push_job::{Pushed, alarm_text},
};

/// How often the watch says that it runs.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
/// Unwatched parts that are written down.
const PARTS_MAX: usize = 100;

/// The file that says what a watch does.
pub struct WatchRecord {
    file: WatchFile,
    state: WatchState,
    written: Instant,
}

impl WatchRecord {
    /// Writes that the watch has begun. Fails if that cannot be written: nobody could see whether it works.
    pub fn begin(context: &Context, repo: &RepoArgs, target: &str) -> Result<Self> {
        // A folder is the same whichever way it is named.
        let repository = match Place::parse(repo.repository.as_deref()) {
            Ok(place) => place.to_string(),
            Err(_) => repo.repository.clone().unwrap_or_default(),
        };
        let file = context.folders.watch(&repository, target);
        let earlier = context.folders.watches().into_iter().find(|s| s.repository == repository && s.target == target);
        let earlier = earlier.unwrap_or_default();
        let now = seconds(SystemTime::now());
        let state = WatchState {
            repository,
            target: target.to_owned(),
            process: std::process::id(),
            started: now,
            alive: now,
            // What happened while nothing watched is not known: it may be anything.
            unprotected_since: earlier.unprotected_since.or(earlier.last_success).or(Some(now)),
            last_success: earlier.last_success,
            last_snapshot: earlier.last_snapshot,
            last_scan: earlier.last_scan,
            ..WatchState::default()
        };
        file.write(&state)?;
        Ok(Self { file, state, written: Instant::now() })
    }

    /// Notes since when the oldest change waits. The first push ends the time before the watch began.
    pub fn unprotected_since(&mut self, since: Option<SystemTime>) {
        let since = since.map(seconds);
        let is_first = self.state.snapshots == 0 && self.state.error.is_none() && since.is_some();
        if is_first || self.state.unprotected_since == since {
            return;
        }
        // An older change that could not be pushed stays the oldest.
        self.state.unprotected_since = match (self.state.unprotected_since, since) {
            (Some(before), Some(since)) => Some(before.min(since)),
            (_, since) => since,
        };
        self.write();
    }

    /// Notes a push.
    pub fn pushed(&mut self, pushed: &Pushed, watch: &Watch) {
        let now = seconds(SystemTime::now());
        let report = &pushed.report;
        let state = &mut self.state;
        state.unprotected_since = watch.noted().map(|noted| seconds(noted.first_time));
        state.last_success = Some(now);
        state.error = None;
        if let Some(alarm) = &report.alarm {
            state.alarm = Some(alarm_text(alarm));
        }
        state.unreadable = report.stats.errors;
        if let Some(snapshot) = report.snapshot {
            state.last_snapshot = Some(snapshot.to_string());
            state.snapshots += 1;
            (state.files, state.bytes) = (Some(report.totals.files), Some(report.totals.bytes));
            state.bytes_stored = Some(report.stats.bytes_stored);
        }
        if report.looked_at_everything {
            state.last_scan = Some(now);
        }
        state.folders = watch.folders() as u64;
        state.overflows = watch.overflows();
        state.file_systems = watch.file_systems() as u64;
        let parts = watch.unwatched().into_iter().take(PARTS_MAX);
        state.unwatched = parts.map(|part| UnwatchedPart { path: shown(&part.path), reason: part.reason }).collect();
        self.write();
    }

    /// Notes a push that failed.
    pub fn failed(&mut self, error: &anyhow::Error) {
        self.state.error = Some(format!("{error:#}"));
        self.write();
    }

    /// Says that the watch runs, if that was not said for a while.
    pub fn alive(&mut self) {
        if self.written.elapsed() >= ALIVE_EVERY {
            self.write();
        }
    }

    /// Says that the watch has ended.
    pub fn ended(&mut self) {
        self.state.ended = true;
        self.write();
    }

    fn write(&mut self) {
        self.written = Instant::now();
        self.state.alive = seconds(SystemTime::now());
        if let Err(error) = self.file.write(&self.state) {
            tracing::warn!("cannot write down what the watch does: {error:#}");
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
