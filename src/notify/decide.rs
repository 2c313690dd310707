//! Whether anybody is told.

use std::time::Duration;

use serde::Serialize;

use crate::{
    config::{RunRecord, RunResult, Told},
    profile::Profile,
};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A run failed, or a part of it.
    Failed,
    /// The last success is too long ago.
    Overdue,
    /// A run succeeded after people were told of something bad.
    Recovered,
    /// A person wants to know whether it arrives.
    Test,
}

/// What was told of an overdue profile.
const OVERDUE: &str = "overdue";

/// What to tell, and what to remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// What to tell now.
    pub event: Option<Event>,
    /// What is told that is not over yet.
    pub told: Option<Told>,
}

/// Decides after a run. `told` is what people were told before.
pub(super) fn after_run(
    told: Option<&Told>,
    result: RunResult,
    error: &str,
    now_secs: i64,
    repeat: Duration,
) -> Decision {
    match result {
        RunResult::Success => Decision { event: told.map(|_| Event::Recovered), told: None },
        // Somebody stopped it, and knows.
        RunResult::Interrupted | RunResult::Running => Decision { event: None, told: told.cloned() },
        RunResult::Partly | RunResult::Failed => once(told, Event::Failed, error, now_secs, repeat),
    }
}

/// Decides for a profile that is overdue. Of one that failed, people know that already.
pub(super) fn when_overdue(told: Option<&Told>, now_secs: i64, repeat: Duration) -> Decision {
    let what = told.map_or(OVERDUE, |told| told.what.as_str());
    once(told, Event::Overdue, what, now_secs, repeat)
}

/// Tells something, unless the same was told less than `repeat` ago.
fn once(told: Option<&Told>, event: Event, what: &str, now_secs: i64, repeat: Duration) -> Decision {
    let is_recent = |told: &&Told| {
        let age = now_secs.checked_sub(told.at_secs).and_then(|age| u64::try_from(age).ok());
        told.what == what && age.is_some_and(|age| age < repeat.as_secs())
    };
    match told.filter(is_recent) {
        Some(told) => Decision { event: None, told: Some(told.clone()) },
        None => Decision { event: Some(event), told: Some(Told { what: what.to_owned(), at_secs: now_secs }) },
    }
}

/// Returns the age of the last success of a profile, if it is overdue: older than `notify.overdue-after`, or else than
/// twice the time between two runs of the schedule. One that never succeeded counts from its last beginning.
pub fn overdue_for(profile: &Profile, record: &RunRecord, now_secs: i64) -> Option<Duration> {
    let settings = &profile.settings;
    let after = settings.notify.as_ref().and_then(|notify| notify.overdue_after.as_ref()).map(|after| *after.get());
    let scheduled = || settings.schedule.as_ref().map(|schedule| schedule.get().interval().saturating_mul(2));
    let limit = after.or_else(scheduled)?;
    let age = now_secs.checked_sub(record.succeeded_secs.unwrap_or(record.started_secs))?;
    let age = Duration::from_secs(u64::try_from(age).ok()?);
    (age > limit).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn told(what: &str, at_secs: i64) -> Told {
        Told { what: what.into(), at_secs }
    }

    #[test]
    fn the_same_failure_is_told_once_a_day_and_recovery_always() {
        use RunResult::{Failed, Interrupted, Partly, Success};
        let at = |before: Option<Told>, result, error: &str, now| {
            let Decision { event, told } = after_run(before.as_ref(), result, error, now, DAY);
            (event, told)
        };
        let x = told("x", 100);
        assert_eq!(at(None, Failed, "x", 100), (Some(Event::Failed), Some(x.clone())));
        assert_eq!(at(Some(x.clone()), Failed, "x", 100 + 86_399), (None, Some(x.clone())));
        assert_eq!(at(Some(x.clone()), Failed, "x", 86_500), (Some(Event::Failed), Some(told("x", 86_500))));
        assert_eq!(at(Some(x.clone()), Partly, "y", 200), (Some(Event::Failed), Some(told("y", 200))));
        assert_eq!(at(Some(x.clone()), Interrupted, "z", 200), (None, Some(x.clone())));
        assert_eq!(at(Some(x.clone()), Success, "", 101), (Some(Event::Recovered), None));
        assert_eq!(at(None, Success, "", 101), (None, None));
        // The clock was put back.
        assert_eq!(at(Some(x), Failed, "x", 50), (Some(Event::Failed), Some(told("x", 50))));
    }

    #[test]
    fn a_profile_is_overdue_after_two_missed_runs_or_the_given_time() {
        let age = |text: &str, succeeded_secs: Option<i64>| {
            let profile = Profile::from_text(&format!("[profile.a]\n{text}"));
            let record = RunRecord { started_secs: 1000, succeeded_secs, ..RunRecord::default() };
            overdue_for(&profile, &record, 200_000).map(|age| age.as_secs())
        };
        assert_eq!(age("schedule = 'daily 03:00'", Some(20_000)), Some(180_000));
        assert_eq!(age("schedule = 'daily 03:00'", Some(40_000)), None);
        assert_eq!(age("schedule = 'daily'\n[profile.a.notify]\noverdue-after = '1d'", Some(40_000)), Some(160_000));
        // It never succeeded; it has no schedule; the clock was put back.
        assert_eq!(age("schedule = 'daily'", None), Some(199_000));
        assert_eq!(age("", Some(1)), None);
        assert_eq!(age("schedule = 'daily'", Some(300_000)), None);
    }

    #[test]
    fn of_an_overdue_profile_that_failed_people_know() {
        let event = |before: Option<Told>, now| when_overdue(before.as_ref(), now, DAY).event;
        assert_eq!(event(None, 100), Some(Event::Overdue));
        assert_eq!(event(Some(told(OVERDUE, 100)), 200), None);
        assert_eq!(event(Some(told("x", 100)), 200), None);
        assert_eq!(event(Some(told("x", 100)), 90_000), Some(Event::Overdue));
    }
}
