//! Telling a person, a program and the service manager what the watch does.

use std::{
    collections::HashSet,
    io,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use bkfs_fs::watch::Watch;
use sd_notify::NotifyState;
use serde::Serialize;

use super::shown::shown;
use crate::{
    context::Context,
    output,
    push_job::{Pushed, alarm_text},
};

/// How often the same failure is told.
const REPEAT: Duration = Duration::from_secs(3600);
/// Unreadable entries that are told, once each. More are counted.
const PROBLEMS_MAX: usize = 1000;

/// What is printed for a push.
#[derive(Serialize)]
struct WatchJson {
    event: &'static str,
    target: String,
    snapshot: Option<String>,
    time: String,
    looked_at_everything: bool,
    files: u64,
    bytes: u64,
    files_new: u64,
    files_changed: u64,
    bytes_read: u64,
    bytes_stored: u64,
    duration_ms: u64,
    errors_total: u64,
    alarm: Option<AlarmJson>,
    unwatched: Vec<UnwatchedJson>,
    error: Option<String>,
}

#[derive(Serialize)]
struct AlarmJson {
    files: u64,
    of: u64,
}

#[derive(Serialize)]
struct UnwatchedJson {
    path: String,
    reason: String,
}

/// Tells what the watch does.
pub struct Telling {
    is_json: bool,
    shows: bool,
    target: String,
    failure: Option<(String, Instant)>,
    held: Option<&'static str>,
    problems: HashSet<PathBuf>,
    unwatched: usize,
}

/// Tells the service manager that the watch is alive.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

impl Telling {
    /// Nothing was told yet.
    pub fn new(context: &Context, target: &str) -> Self {
        Self {
            is_json: context.json,
            shows: context.shows_summary() && !context.json,
            target: output::name(target.as_bytes()),
            failure: None,
            held: None,
            problems: HashSet::new(),
            unwatched: 0,
        }
    }

    /// The watch has begun.
    pub fn ready(&mut self) {
        notify(&[NotifyState::Ready, NotifyState::Status("the first push looks at everything")]);
        if self.shows {
            print(format!("watching {}; the first push looks at everything", self.target));
        }
    }

    /// Whether there is a reason to wait.
    pub fn held(&mut self, reason: Option<&'static str>) {
        if let Some(reason) = reason.filter(|_| self.held != reason) {
            tracing::info!("waiting: {reason}");
            notify(&[NotifyState::Status(&format!("waiting: {reason}"))]);
        }
        self.held = reason;
    }

    /// A push succeeded.
    pub fn pushed(&mut self, pushed: &Pushed, watch: &Watch) {
        let report = &pushed.report;
        if self.failure.take().is_some() {
            tracing::warn!("the repository can be pushed to again");
        }
        let unwatched = watch.unwatched();
        for part in unwatched.iter().skip(self.unwatched) {
            output::note(format!("warning: not watched: {}: {}", shown(&part.path), part.reason));
        }
        self.unwatched = unwatched.len();
        // A file that came and went between two looks is no problem.
        let is_told = |error: &io::Error| report.looked_at_everything || error.kind() != io::ErrorKind::NotFound;
        for (path, error) in report.problems.iter().filter(|(_, error)| is_told(error)) {
            if self.problems.len() < PROBLEMS_MAX && self.problems.insert(path.clone()) {
                output::note(format!("warning: {}: {error}", output::name(path.as_os_str().as_bytes())));
            }
        }
        for (path, files) in &pushed.emptied {
            let path = output::name(path.as_os_str().as_bytes());
            output::note(format!(
                "warning: {path} has no files now, and had {}: is a disk not mounted?",
                output::count(*files, "file")
            ));
        }
        if let Some(alarm) = &report.alarm {
            output::note(alarm_text(alarm));
        }
        let stats = &report.stats;
        let time = output::time_local(report.time);
        let snapshot = report.snapshot.map(|id| id.short().to_string());
        let status = match &snapshot {
            Some(snapshot) => format!("snapshot {snapshot} at {time}"),
            None => format!("nothing new at {time}"),
        };
        notify(&[NotifyState::Status(&status)]);
        if self.is_json {
            let parts = unwatched.iter();
            self.print_json(WatchJson {
                event: if snapshot.is_some() { "snapshot" } else { "unchanged" },
                target: pushed.target.clone(),
                snapshot: report.snapshot.map(|id| id.to_string()),
                time: output::time_json(report.time),
                looked_at_everything: report.looked_at_everything,
                files: report.totals.files,
                bytes: report.totals.bytes,
                files_new: stats.files_new,
                files_changed: stats.files_changed,
                bytes_read: stats.bytes_read,
                bytes_stored: stats.bytes_stored,
                duration_ms: stats.duration_ms,
                errors_total: stats.errors,
                alarm: report.alarm.map(|alarm| AlarmJson { files: alarm.files, of: alarm.of }),
                unwatched: parts.map(|p| UnwatchedJson { path: shown(&p.path), reason: p.reason.clone() }).collect(),
                error: None,
            });
        } else if let Some(snapshot) = snapshot.filter(|_| self.shows) {
            print(format!(
                "{time}  snapshot {snapshot}  {} new, {} changed, {} stored  ({})",
                stats.files_new,
                stats.files_changed,
                output::size(stats.bytes_stored),
                output::duration(stats.duration_ms)
            ));
        }
    }

    /// A push failed. The same failure is told once an hour.
    pub fn failed(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        notify(&[NotifyState::Status(&format!("not protected: {text}"))]);
        let is_told = self.failure.as_ref().is_some_and(|(told, at)| *told == text && at.elapsed() < REPEAT);
        if is_told {
            return;
        }
        output::note(format!("warning: nothing was pushed, and it is tried again: {text}"));
        self.failure = Some((text.clone(), Instant::now()));
        if self.is_json {
            self.print_json(WatchJson {
                event: "failed",
                target: self.target.clone(),
                snapshot: None,
                time: output::time_json(output::now()),
                looked_at_everything: false,
                files: 0,
                bytes: 0,
                files_new: 0,
                files_changed: 0,
                bytes_read: 0,
                bytes_stored: 0,
                duration_ms: 0,
                errors_total: 0,
                alarm: None,
                unwatched: Vec::new(),
                error: Some(text),
            });
        }
    }

    fn print_json(&self, event: WatchJson) {
        // Whoever read the lines may be gone. The watch goes on.
        let _ = output::json(&event);
    }
}

/// Prints a line. The watch goes on if nobody reads the lines any more.
fn print(text: String) {
    let _ = output::line(text);
}

fn notify(states: &[NotifyState<'_>]) {
    // Without a service manager nobody needs to be told.
    let _ = sd_notify::notify(states);
}
