//! How well this machine is protected, by what runs and watches wrote down: no repository is opened and no key is
//! needed, so the answer comes at once and also without a network.

use std::time::Duration;

use bkfs_store::base::time::Time;

use crate::{
    config::{RunRecord, RunResult, WatchState},
    notify::overdue_for,
    output,
    place::Place,
    profile::Profile,
};

/// A watch that has said nothing for this long has died.
const SILENT: u64 = 120;
/// Changes that wait for this long in a watch are overdue, unless the profile says otherwise.
const WATCH_OVERDUE: Duration = Duration::from_secs(86_400);

/// How one repository of a profile, or of a watch, is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// All is well.
    Fine,
    /// The last run left something out.
    Partly,
    /// Nothing was ever stored.
    Never,
    /// The last success is too old.
    Overdue,
    /// The last run failed, or the watch has died.
    Failed,
}

impl Health {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Partly => "partly",
            Self::Never => "never",
            Self::Overdue => "overdue",
            Self::Failed => "failed",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_alarming(self) -> bool {
        matches!(self, Self::Overdue | Self::Failed)
    }
}

/// How a watch is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchStatus {
    /// Whether it runs.
    pub is_running: bool,
    /// Snapshots that it has made since it began.
    pub snapshots: u64,
    /// When it last looked at everything, in seconds since 1970.
    pub last_scan: Option<i64>,
    /// What it cannot watch: paths, and why.
    pub unwatched: Vec<(String, String)>,
}

/// How one repository of a profile, or of a watch, is doing. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The profile; none for a watch without one.
    pub profile: Option<String>,
    /// The repository, by the name that the profile or the watch gives it.
    pub repository: String,
    /// The series.
    pub target: String,
    /// How it is doing.
    pub health: Health,
    /// What is wrong, for a person.
    pub problems: Vec<String>,
    /// When everything was last stored.
    pub last_success: Option<i64>,
    /// Since when changes may be unprotected; none if none are known to be.
    pub unprotected_since: Option<i64>,
    /// The last snapshot.
    pub last_snapshot: Option<String>,
    /// When it was last checked.
    pub last_check: Option<i64>,
    /// When it was last pruned.
    pub last_prune: Option<i64>,
    /// When the next run is due.
    pub next_run: Option<i64>,
    /// How many files the last snapshot holds.
    pub files: Option<u64>,
    /// How many bytes they have.
    pub bytes: Option<u64>,
    /// How much the last push stored.
    pub bytes_stored: Option<u64>,
    /// The watch, if there is one.
    pub watch: Option<WatchStatus>,
}

impl Status {
    /// For how long changes may be unprotected, in seconds; none if nothing was ever stored.
    pub fn unprotected_secs(&self, now: i64) -> Option<u64> {
        match self.unprotected_since {
            Some(since) => Some(u64::try_from(now.saturating_sub(since)).unwrap_or(0)),
            None => self.last_success.map(|_| 0),
        }
    }
}

/// A profile with what its runs wrote down.
pub struct Ran<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// What its runs did; none if it never ran.
    pub record: Option<RunRecord>,
    /// The name of its series.
    pub target: String,
    /// Whether a run of it is under way.
    pub is_running: bool,
}

/// Judges profiles and watches at a time.
pub fn judge(profiles: &[Ran<'_>], watches: &[WatchState], now: i64) -> Vec<Status> {
    let mut all = Vec::new();
    let mut seen = vec![false; watches.len()];
    for ran in profiles {
        for repository in ran.profile.repositories() {
            let name = place_name(repository);
            let watch = watches.iter().position(|watch| watch.repository == name && watch.target == ran.target);
            if let Some(at) = watch {
                seen[at] = true;
            }
            all.push(of_profile(ran, repository, watch.map(|at| &watches[at]), now));
        }
    }
    let others = watches.iter().zip(seen).filter(|(_, is_seen)| !is_seen);
    all.extend(others.map(|(watch, _)| of_watch(watch, now)));
    all
}

/// The name by which a watch writes down a repository.
fn place_name(repository: &str) -> String {
    Place::parse(Some(repository)).map_or_else(|_| repository.to_owned(), |place| place.to_string())
}

fn of_profile(ran: &Ran<'_>, repository: &str, watch: Option<&WatchState>, now: i64) -> Status {
    let settings = &ran.profile.settings;
    let record = ran.record.as_ref();
    let own = record.and_then(|record| record.repositories.get(repository)).cloned().unwrap_or_default();
    let mut status = Status {
        profile: Some(ran.profile.name.clone()),
        repository: repository.to_owned(),
        target: ran.target.clone(),
        health: Health::Fine,
        problems: Vec::new(),
        last_success: own.succeeded_secs,
        unprotected_since: own.pushed_secs,
        last_snapshot: own.snapshot.clone(),
        last_check: own.checked_secs,
        last_prune: own.pruned_secs,
        next_run: None,
        files: own.files,
        bytes: own.bytes,
        bytes_stored: own.bytes_stored,
        watch: None,
    };
    if let (Some(schedule), Some(record)) = (&settings.schedule, record) {
        status.next_run = schedule.get().next_after(record.started_secs, now);
    }
    let was_cut_off = own.result == RunResult::Running && own.started_secs != 0 && !ran.is_running;
    match own.result {
        RunResult::Failed | RunResult::Interrupted => {
            let error = own.error.clone().unwrap_or_else(|| "no reason was written down".to_owned());
            raise(&mut status, Health::Failed, format!("the last run failed: {error}"));
        }
        RunResult::Partly => {
            let error = own.error.clone().unwrap_or_default();
            raise(&mut status, Health::Partly, format!("the last run left something out: {error}"));
        }
        RunResult::Running if was_cut_off => {
            raise(
                &mut status,
                Health::Failed,
                "the last run did not end: the machine or the program was stopped".into(),
            );
        }
        RunResult::Running | RunResult::Success => {}
    }
    if let Some(age) = record.and_then(|record| overdue_for(ran.profile, record, now)) {
        let age = output::duration(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        raise(&mut status, Health::Overdue, format!("the last success is {age} ago"));
    }
    if let Some(watch) = watch {
        let limit = settings.notify.as_ref().and_then(|notify| notify.overdue_after.as_ref()).map(|after| *after.get());
        add_watch(&mut status, watch, limit.unwrap_or(WATCH_OVERDUE), now);
    }
    if status.last_snapshot.is_none() {
        raise(&mut status, Health::Never, "nothing was stored yet".into());
    }
    status
}

fn of_watch(watch: &WatchState, now: i64) -> Status {
    let mut status = Status {
        profile: None,
        repository: watch.repository.clone(),
        target: watch.target.clone(),
        health: Health::Fine,
        problems: Vec::new(),
        last_success: None,
        unprotected_since: None,
        last_snapshot: None,
        last_check: None,
        last_prune: None,
        next_run: None,
        files: None,
        bytes: None,
        bytes_stored: None,
        watch: None,
    };
    add_watch(&mut status, watch, WATCH_OVERDUE, now);
    if status.last_snapshot.is_none() {
        raise(&mut status, Health::Never, "nothing was stored yet".into());
    }
    status
}

/// Adds what a watch wrote down. What is newer counts.
fn add_watch(status: &mut Status, watch: &WatchState, limit: Duration, now: i64) {
    let secs = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    let is_silent = now.saturating_sub(secs(watch.alive)) > i64::try_from(SILENT).unwrap_or(i64::MAX);
    let is_running = !watch.ended && !is_silent;
    let last_success = watch.last_success.map(secs);
    if last_success > status.last_success {
        status.last_success = last_success;
        status.last_snapshot = watch.last_snapshot.clone().or(status.last_snapshot.take());
        (status.files, status.bytes, status.bytes_stored) = (watch.files, watch.bytes, watch.bytes_stored);
    }
    status.unprotected_since = match is_running {
        true => watch.unprotected_since.map(secs),
        // Whatever changed since then, nobody knows of it.
        false => status.unprotected_since.max(last_success),
    };
    if !watch.ended && is_silent {
        let since = output::time_local(Time { secs: secs(watch.alive), nanos: 0 });
        raise(status, Health::Failed, format!("the watch has died; its last word was at {since}"));
    }
    if let Some(error) = watch.error.as_ref().filter(|_| is_running) {
        raise(status, Health::Partly, format!("the watch cannot push: {error}"));
    }
    if is_running && status.unprotected_secs(now).is_some_and(|secs| Duration::from_secs(secs) > limit) {
        raise(status, Health::Overdue, "changes have waited for too long".into());
    }
    if let Some(alarm) = &watch.alarm {
        raise(status, Health::Failed, alarm.clone());
    }
    if watch.unreadable > 0 {
        let parts = output::count(watch.unreadable, "part");
        raise(status, Health::Partly, format!("{parts} of the source cannot be read"));
    }
    status.watch = Some(WatchStatus {
        is_running,
        snapshots: watch.snapshots,
        last_scan: watch.last_scan.map(secs),
        unwatched: watch.unwatched.iter().map(|part| (part.path.clone(), part.reason.clone())).collect(),
    });
}

fn raise(status: &mut Status, health: Health, problem: String) {
    status.health = status.health.max(health);
    status.problems.push(problem);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RepositoryRecord;

    const NOW: i64 = 1_000_000;

    fn watch() -> WatchState {
        WatchState {
            repository: "/r".into(),
            target: "t".into(),
            alive: NOW as u64 - 10,
            last_success: Some(NOW as u64 - 100),
            last_snapshot: Some("ab".into()),
            ..WatchState::default()
        }
    }

    #[test]
    fn a_watch_that_runs_knows_what_is_unprotected_and_one_that_died_does_not() {
        let one = |watch: WatchState| judge(&[], &[watch], NOW).remove(0);
        let status = one(watch());
        assert_eq!((status.health, status.unprotected_secs(NOW)), (Health::Fine, Some(0)));
        let status = one(WatchState { unprotected_since: Some(NOW as u64 - 25), ..watch() });
        assert_eq!((status.health, status.unprotected_secs(NOW)), (Health::Fine, Some(25)));
        let status = one(WatchState { unprotected_since: Some(NOW as u64 - 90_000), ..watch() });
        assert_eq!((status.health, status.unprotected_secs(NOW)), (Health::Overdue, Some(90_000)));
        let status = one(WatchState { alive: NOW as u64 - 500, ..watch() });
        assert_eq!((status.health, status.unprotected_secs(NOW)), (Health::Failed, Some(100)));
        let status = one(WatchState { ended: true, alive: NOW as u64 - 500, ..watch() });
        assert_eq!((status.health, status.unprotected_secs(NOW)), (Health::Fine, Some(100)));
        let status = one(WatchState { error: Some("away".into()), ..watch() });
        assert!(status.health == Health::Partly && status.problems[0].contains("away"));
        let status = one(WatchState { last_success: None, last_snapshot: None, ..watch() });
        assert_eq!((status.health, status.unprotected_secs(NOW)), (Health::Never, None));
    }

    #[test]
    fn the_runs_of_a_profile_are_judged() {
        let text = "[profile.a]\nrepositories = '/r'\nsources = '/s'\nschedule = 'every 1h'\n";
        let profile = Profile::from_text(text);
        let judged = |result, secs_ago: i64, is_running| {
            let own = RepositoryRecord {
                result,
                started_secs: NOW - secs_ago,
                pushed_secs: Some(NOW - secs_ago),
                succeeded_secs: Some(NOW - secs_ago),
                snapshot: Some("ab".into()),
                error: Some("why".into()),
                ..RepositoryRecord::default()
            };
            let record = RunRecord {
                result,
                started_secs: NOW - secs_ago,
                succeeded_secs: Some(NOW - secs_ago),
                repositories: [("/r".to_owned(), own)].into(),
                ..RunRecord::default()
            };
            let ran = Ran { profile: &profile, record: Some(record), target: "t".into(), is_running };
            judge(&[ran], &[], NOW).remove(0)
        };
        let fine = judged(RunResult::Success, 600, false);
        assert_eq!(
            (fine.health, fine.unprotected_secs(NOW), fine.next_run),
            (Health::Fine, Some(600), Some(NOW + 3000))
        );
        assert_eq!(judged(RunResult::Success, 8000, false).health, Health::Overdue);
        assert_eq!(judged(RunResult::Failed, 600, false).health, Health::Failed);
        assert_eq!(judged(RunResult::Partly, 600, false).health, Health::Partly);
        assert_eq!(judged(RunResult::Running, 600, true).health, Health::Fine);
        assert_eq!(judged(RunResult::Running, 600, false).health, Health::Failed);
        let never = Ran { profile: &profile, record: None, target: "t".into(), is_running: false };
        let never = judge(&[never], &[], NOW).remove(0);
        assert_eq!((never.health, never.unprotected_secs(NOW)), (Health::Never, None));
    }

    #[test]
    fn a_watch_of_a_profile_is_told_with_it() {
        let profile = Profile::from_text("[profile.a]\nrepositories = '/r'\nsources = '/s'\n");
        let ran = Ran { profile: &profile, record: None, target: "t".into(), is_running: false };
        let all = judge(&[ran], &[watch(), WatchState { target: "other".into(), ..watch() }], NOW);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].profile.as_deref(), all[0].health), (Some("a"), Health::Fine));
        assert!(all[0].watch.as_ref().unwrap().is_running && all[1].profile.is_none());
    }
}
