//! Scrubbing in the background: each repository when its turn has come, at a bounded rate.
//!
//! When that is follows from the results that are kept with the repository. So a server that is often restarted scrubs
//! all the same, and continues where it stopped. A repository that was never scrubbed is due when it is old enough.
//!
//! A result from the future was stamped by a clock that was wrong, and nobody knows how long ago. Then the scrub is due
//! now: one too many costs little.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use bkfs_store::{
    Result,
    repository::scrub::{ScrubOptions, ScrubProgress, last_scrub_in},
};

use super::{layout, options::ScrubSchedule, state::ServerState};
use crate::url::Name;

/// A scrub that has not ended, and has not recorded its progress for this long, is not running any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(300);
/// By how much a stamp may lie in the future although the clock was right.
const SKEW: Duration = Duration::from_secs(600);

/// Scrubs a repository if its turn has come.
pub(super) fn scrub_if_due(
    state: &ServerState,
    schedule: ScrubSchedule,
    progress: &ScrubProgress,
    account: &Name,
    name: &Name,
) -> Result<()> {
    if !is_due(&layout::folder(&state.data, account, name), schedule.every)? {
        return Ok(());
    }
    let options = ScrubOptions { bytes_per_second: Some(schedule.bytes_per_second), resume: true };
    let report = state.background_repository(account, name)?.scrub(&options, progress)?;
    if report.ended.is_some() {
        let (packs, bytes, mended) = (report.packs, report.bytes, report.packs_mended);
        let problems = report.problems_total;
        tracing::info!(%account, repository = %name, packs, bytes, mended, problems, "scrubbed");
    }
    Ok(())
}

fn is_due(folder: &Path, every: Duration) -> Result<bool> {
    let now = SystemTime::now();
    let at = |secs: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(secs.max(0) as u64);
    Ok(match last_scrub_in(folder)? {
        Some(last) => match last.ended {
            Some(ended) => is_past(at(ended.secs), every, now),
            None => is_past(at(last.kept.secs), ABANDONED_AFTER.min(every), now),
        },
        None => {
            let made = std::fs::metadata(folder.join("config")).and_then(|meta| meta.modified());
            made.is_ok_and(|made| is_past(made, every, now))
        }
    })
}

/// Whether something was stamped that long ago, or by a clock that was wrong.
fn is_past(stamp: SystemTime, age: Duration, now: SystemTime) -> bool {
    match now.duration_since(stamp) {
        Ok(since) => since >= age,
        Err(ahead) => ahead.duration() > SKEW,
    }
}

#[cfg(test)]
mod tests {
    use bkfs_store::{
        access::{InitRequest, Manage as _},
        base::{
            id::{DomainId, RepoId},
            time::Time,
        },
        format::{config::ChunkerParams, keys::FullKey, roster::Roster},
        repository::Repository,
    };

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn what_is_stamped_in_the_future_is_past() {
        let now = SystemTime::now();
        for (stamp, is_expected) in [
            (now - DAY, true),
            (now - DAY / 2, false),
            (now, false),
            (now + SKEW, false),
            (now + SKEW * 2, true),
            (now + DAY * 3650, true),
        ] {
            assert_eq!(is_past(stamp, DAY, now), is_expected, "{stamp:?}");
        }
    }

    fn now() -> Time {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Time { secs: since.as_secs() as i64, nanos: since.subsec_nanos() }
    }

    #[test]
    fn a_scrub_that_is_stamped_in_the_future_is_run_again_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        let scrub = |clock: fn() -> Time| {
            let repository = Repository::local(&store, &folder.path().join("index")).unwrap().with_clock(clock);
            repository.scrub(&ScrubOptions::default(), &ScrubProgress::default()).unwrap();
        };
        let (full, made) = (FullKey::random(RepoId([1; 16])), now());
        let (_, client) = full.new_client("laptop", None, DomainId::OWNER, made);
        let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: vec![client] });
        let config = full.config(made, ChunkerParams::default());
        let request = InitRequest { config, roster, slots: vec![] };
        // A repository that was just made.
        Repository::local(&store, &folder.path().join("index")).unwrap().init(&request).unwrap();
        assert!(!is_due(&store, DAY).unwrap());
        scrub(|| Time { secs: now().secs + 10 * 365 * 86_400, ..now() });
        assert!(is_due(&store, DAY).unwrap());
        scrub(now);
        assert!(!is_due(&store, DAY).unwrap());
    }
}
