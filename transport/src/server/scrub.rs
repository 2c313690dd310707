//! Scrubbing a server's repositories in the background: each when its turn has come, one at a time, at a bounded rate.
//!
//! When a repository's turn is follows from the results that are kept with it, so a server that is often restarted scrubs
//! all the same, and goes on where it stopped. A repository that was never scrubbed is due when it is old enough.

use std::{
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use super::{Host, folder, repositories};
use crate::url::Name;
use bkfs_store::{
    Result,
    repository::scrub::{ScrubOptions, ScrubProgress, last_scrub_in},
};

/// A scrub that was not through and of which nothing was heard for so long does not run any more.
const SILENT: Duration = Duration::from_secs(300);

/// When and how fast a server scrubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// From the end of a scrub to the next one of the same repository.
    pub every: Duration,
    /// Read at most.
    pub bytes_per_second: u64,
}

impl Default for Schedule {
    /// Once a month; a terabyte takes 14 hours.
    fn default() -> Self {
        Self { every: Duration::from_secs(30 * 86_400), bytes_per_second: 20 << 20 }
    }
}

/// Scrubs every repository whose turn it is.
pub(super) fn round(host: &Host, schedule: Schedule, progress: &ScrubProgress) -> Result<()> {
    for (account, name) in repositories(&host.data)? {
        if progress.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if is_due(&folder(&host.data, &account, &name), schedule.every)?
            && let Err(error) = scrub(host, schedule, progress, &account, &name)
        {
            tracing::warn!(%account, repository = %name, %error, "a repository could not be scrubbed");
        }
    }
    Ok(())
}

fn is_due(folder: &Path, every: Duration) -> Result<bool> {
    let now = SystemTime::now();
    let age = |time: SystemTime| now.duration_since(time).unwrap_or_default();
    Ok(match last_scrub_in(folder)? {
        Some(last) => {
            let ended = last.ended.map(|ended| SystemTime::UNIX_EPOCH + Duration::from_secs(ended.secs.max(0) as u64));
            let kept = SystemTime::UNIX_EPOCH + Duration::from_secs(last.kept.secs.max(0) as u64);
            match ended {
                Some(ended) => age(ended) >= every,
                None => age(kept) >= SILENT.min(every),
            }
        }
        None => {
            std::fs::metadata(folder.join("config")).and_then(|m| m.modified()).is_ok_and(|made| age(made) >= every)
        }
    })
}

fn scrub(host: &Host, schedule: Schedule, progress: &ScrubProgress, account: &Name, name: &Name) -> Result<()> {
    let options = ScrubOptions { bytes_per_second: Some(schedule.bytes_per_second), resume: true };
    // Repositories that nobody uses are not kept open.
    let report = match host.opened(account, name) {
        Some(hosted) => hosted.repository.scrub(&options, progress)?,
        None => host.open(account, name)?.scrub(&options, progress)?,
    };
    if report.ended.is_some() {
        let (packs, bytes, mended) = (report.packs, report.bytes, report.packs_mended);
        let problems = report.problems_total;
        tracing::info!(%account, repository = %name, packs, bytes, mended, problems, "scrubbed");
    }
    Ok(())
}
