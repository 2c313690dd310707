//! Scrubbing in the background: each repository when its turn has come, at a bounded rate.
//!
//! When that is follows from the results that are kept with the repository. So a server that is often restarted scrubs
//! all the same, and continues where it stopped. A repository that was never scrubbed is due when it is old enough.

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
    let age = |time: SystemTime| now.duration_since(time).unwrap_or_default();
    let at = |secs: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(secs.max(0) as u64);
    Ok(match last_scrub_in(folder)? {
        Some(last) => match last.ended {
            Some(ended) => age(at(ended.secs)) >= every,
            None => age(at(last.kept.secs)) >= ABANDONED_AFTER.min(every),
        },
        None => {
            std::fs::metadata(folder.join("config")).and_then(|m| m.modified()).is_ok_and(|made| age(made) >= every)
        }
    })
}
