//! What a server does by itself, in a thread for each: once a day it lets go what is due in trashes and graves, and it scrubs each
//! repository whose turn has come, one after the other.
//!
//! Trees cannot be read here, so nothing is pruned: that takes somebody with a key.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bkfs_store::{
    Result,
    repository::{Tidied, scrub::ScrubProgress},
};

use super::{
    Host, repositories,
    scrub::{self, Schedule},
};
use crate::url::Name;

/// How often it is looked what is to be done; more often if something comes more often.
const LOOK: Duration = Duration::from_secs(60);
const LOOK_OFTEN: Duration = Duration::from_secs(1);
/// A server that was just started has other things to do first.
const FIRST: Duration = Duration::from_secs(600);

/// Works until it is dropped.
pub(super) struct Background {
    progress: Arc<ScrubProgress>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    pub fn start(host: Arc<Host>) -> std::io::Result<Self> {
        let mut background = Self { progress: Arc::default(), threads: Vec::new() };
        background.spawn("bkfs-tidy", host.clone(), tidy_now_and_then)?;
        if let Some(schedule) = host.options.scrub {
            background.spawn("bkfs-scrub", host, move |host, progress| scrub_now_and_then(host, schedule, progress))?;
        }
        Ok(background)
    }

    fn spawn(
        &mut self,
        name: &str,
        host: Arc<Host>,
        work: impl FnOnce(&Host, &ScrubProgress) + Send + 'static,
    ) -> std::io::Result<()> {
        let progress = self.progress.clone();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(&host, &progress))?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // It has nothing to tell that is not in the log.
            let _ = thread.join();
        }
    }
}

/// How long to wait between two looks.
fn look(every: Duration) -> Duration {
    every.clamp(LOOK_OFTEN, LOOK)
}

fn tidy_now_and_then(host: &Host, progress: &ScrubProgress) {
    let (every, begun) = (host.options.tidy_every, Instant::now());
    let mut tidied: Option<Instant> = None;
    while !progress.stop.load(Ordering::Relaxed) {
        let is_due = tidied.map_or(begun.elapsed() >= FIRST.min(every), |last| last.elapsed() >= every);
        if is_due {
            tidied = Some(Instant::now());
            if let Err(error) = tidy_all(host, progress) {
                tracing::warn!(%error, "what is due could not be let go");
            }
        }
        std::thread::park_timeout(look(every));
    }
}

fn scrub_now_and_then(host: &Host, schedule: Schedule, progress: &ScrubProgress) {
    while !progress.stop.load(Ordering::Relaxed) {
        if let Err(error) = scrub::round(host, schedule, progress) {
            tracing::warn!(%error, "scrubbing in the background failed");
        }
        std::thread::park_timeout(look(schedule.every));
    }
}

fn tidy_all(host: &Host, progress: &ScrubProgress) -> Result<()> {
    for (account, name) in repositories(&host.data)? {
        if progress.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        match tidy(host, &account, &name) {
            Ok(tidied) if tidied == Tidied::default() => {}
            Ok(Tidied { expired, packs, bytes, sets }) => {
                tracing::info!(%account, repository = %name, expired, packs, bytes, sets, "let go what was due");
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
