//! What a server does by itself, one thing at a time in one thread: once a day it lets go what is due in trashes and graves, and it
//! scrubs each repository whose turn has come.
//!
//! Trees cannot be read here, so nothing is pruned: that takes somebody with a key. A scrub under way is not interrupted for
//! anything else; what is due waits for it.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bkfs_store::{
    Result,
    repository::{Tidied, scrub::ScrubProgress},
};

use super::{Host, repositories, scrub};
use crate::url::Name;

/// How often it is looked what is to be done; more often if something comes more often.
const LOOK: Duration = Duration::from_secs(60);
const LOOK_OFTEN: Duration = Duration::from_secs(1);
/// A server that was just started has other things to do first.
const FIRST: Duration = Duration::from_secs(600);

/// Works until it is dropped.
pub(super) struct Background {
    progress: Arc<ScrubProgress>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub fn start(host: Arc<Host>) -> std::io::Result<Self> {
        let progress = Arc::new(ScrubProgress::default());
        let told = progress.clone();
        let thread = std::thread::Builder::new().name("bkfs-background".into()).spawn(move || work(&host, &told))?;
        Ok(Self { progress, thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to tell that is not in the log.
            let _ = thread.join();
        }
    }
}

fn work(host: &Host, progress: &ScrubProgress) {
    let (every, schedule) = (host.options.tidy_every, host.options.scrub);
    let look = schedule.map_or(every, |schedule| schedule.every.min(every)).clamp(LOOK_OFTEN, LOOK);
    let begun = Instant::now();
    let mut tidied: Option<Instant> = None;
    while !progress.stop.load(Ordering::Relaxed) {
        let is_due = tidied.map_or(begun.elapsed() >= FIRST.min(every), |last| last.elapsed() >= every);
        if is_due {
            tidied = Some(Instant::now());
            if let Err(error) = tidy_all(host, progress) {
                tracing::warn!(%error, "what is due could not be let go");
            }
        }
        if let Some(schedule) = schedule
            && let Err(error) = scrub::round(host, schedule, progress)
        {
            tracing::warn!(%error, "scrubbing in the background failed");
        }
        std::thread::park_timeout(look);
    }
}

fn tidy_all(host: &Host, progress: &ScrubProgress) -> Result<()> {
    for (account, name) in repositories(&host.data)? {
        if progress.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        match tidy(host, &account, &name) {
            Ok(Tidied { expired: 0, buried: 0, .. }) => {}
            Ok(Tidied { expired, buried, bytes }) => {
                tracing::info!(%account, repository = %name, expired, buried, bytes, "let go what was due");
            }
            Err(error) => {
                tracing::warn!(%account, repository = %name, %error, "what is due could not be let go");
            }
        }
    }
    Ok(())
}

fn tidy(host: &Host, account: &Name, name: &Name) -> Result<Tidied> {
    // Repositories that nobody uses are not kept open.
    match host.opened(account, name) {
        Some(hosted) => hosted.repository.tidy(),
        None => host.open(account, name)?.tidy(),
    }
}
