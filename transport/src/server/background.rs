//! What a server does by itself, in a thread for each kind of work: once a day it removes what is due from trashes and
//! graves, and it scrubs each repository whose turn has come, one at a time.
//!
//! A server cannot read trees, so it does not prune: that takes a key.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bkfs_store::{Result, repository::scrub::ScrubProgress};

use super::{layout, scrub, state::ServerState, tidy};
use crate::url::Name;

/// The longest and the shortest pause between two looks at what is due. In between, the pause is as long as the
/// interval of the work.
const PAUSE_MAX: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest time from the server's start to the first tidying: a server that was just started has other things to
/// do.
const FIRST_TIDY_WAIT_MAX: Duration = Duration::from_secs(600);

/// The threads that do the work. Stops them when it is dropped.
pub(super) struct BackgroundWork {
    progress: Arc<ScrubProgress>,
    threads: Vec<JoinHandle<()>>,
}

impl BackgroundWork {
    pub fn start(state: &Arc<ServerState>) -> std::io::Result<Self> {
        let mut work = Self { progress: Arc::default(), threads: Vec::new() };
        let every = state.options.tidy_every;
        let (mut last, mut wait) = (Instant::now(), every.min(FIRST_TIDY_WAIT_MAX));
        work.spawn("bkfs-tidy", every, state, move |state, progress| {
            if last.elapsed() >= wait {
                (last, wait) = (Instant::now(), every);
                for_each_repository("tidying", state, progress, |account, name| tidy::tidy(state, account, name));
            }
        })?;
        if let Some(schedule) = state.options.scrub {
            work.spawn("bkfs-scrub", schedule.every, state, move |state, progress| {
                for_each_repository("scrubbing", state, progress, |account, name| {
                    scrub::scrub_if_due(state, schedule, progress, account, name)
                });
            })?;
        }
        Ok(work)
    }

    /// Starts a thread that calls `look` again and again. `every` is the interval of the work.
    fn spawn(
        &mut self,
        thread_name: &str,
        every: Duration,
        state: &Arc<ServerState>,
        mut look: impl FnMut(&ServerState, &ScrubProgress) + Send + 'static,
    ) -> std::io::Result<()> {
        let (state, progress) = (state.clone(), self.progress.clone());
        let pause = every.clamp(PAUSE_MIN, PAUSE_MAX);
        let thread = std::thread::Builder::new().name(thread_name.into()).spawn(move || {
            while !progress.stop.load(Ordering::Relaxed) {
                look(&state, &progress);
                std::thread::park_timeout(pause);
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for BackgroundWork {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // The thread has no result. Its errors are in the log.
            let _ = thread.join();
        }
    }
}

/// Does one kind of work in each repository, until the server stops. An error is logged, and the next repository
/// follows.
fn for_each_repository(
    work_name: &str,
    state: &ServerState,
    progress: &ScrubProgress,
    work: impl Fn(&Name, &Name) -> Result<()>,
) {
    let repositories = match layout::repositories(&state.data) {
        Ok(repositories) => repositories,
        Err(error) => return tracing::warn!(%error, "{work_name} failed: cannot list the repositories"),
    };
    for (account, name) in repositories {
        if progress.stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = work(&account, &name) {
            tracing::warn!(%account, repository = %name, %error, "{work_name} failed");
        }
    }
}
