//! What a server does by itself, in a thread for each kind of work: once a day it removes what is due from trashes and
//! graves, it scrubs each repository whose turn has come, one at a time, it closes repositories that nobody uses, and
//! it removes uploads that nobody continues.
//!
//! A server cannot read trees, so it does not prune: that takes a key.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bkfs_store::{Result, repository::scrub::ScrubProgress};

use super::{layout, options::Options, scrub, state::ServerState, tidy};
use crate::url::Name;

/// The longest and the shortest pause between two looks at what is due. In between, the pause is as long as the
/// interval of the work.
const PAUSE_MAX: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// How often to look whether the operator has changed what clients may do. Requests look for themselves: this ends what
/// runs already.
const RIGHTS_PAUSE: Duration = Duration::from_millis(250);
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
        let (mut last, mut is_first) = (Instant::now(), true);
        let mut losses = losses_and_removals(state);
        work.spawn("bkfs-rights", state, |_| RIGHTS_PAUSE, move |state, _| watch_rights(state, &mut losses))?;
        work.spawn(
            "bkfs-tidy",
            state,
            |options| pause(options.tidy_every),
            move |state, progress| {
                let every = state.options().tidy_every;
                if last.elapsed() >= if is_first { every.min(FIRST_TIDY_WAIT_MAX) } else { every } {
                    (last, is_first) = (Instant::now(), false);
                    if let Err(error) = layout::remove_leftovers(&state.data) {
                        state.notices.work_failed("removing", &"what is left of removed accounts", &error);
                    }
                    for_each_repository("tidying", state, progress, |account, name| tidy::tidy(state, account, name));
                    state.ledger.changed_everywhere();
                }
            },
        )?;
        work.spawn(
            "bkfs-close",
            state,
            |options| pause(options.close_after),
            |state, _| {
                state.open_repositories.close_idle(state.options().close_after);
                if let Err(error) = state.uploads.clean() {
                    state.notices.work_failed("removing old uploads", &"the folder of uploads", &error);
                }
            },
        )?;
        let scrub_pause = |options: &Options| options.scrub.map_or(PAUSE_MAX, |schedule| pause(schedule.every));
        work.spawn("bkfs-scrub", state, scrub_pause, |state, progress| {
            let Some(schedule) = state.options().scrub else { return };
            for_each_repository("scrubbing", state, progress, |account, name| {
                scrub::scrub_if_due(state, schedule, progress, account, name)
            });
        })?;
        Ok(work)
    }

    /// Asks the threads to stop, and does not wait for them.
    pub fn ask_to_stop(&self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
    }

    /// Starts a thread that calls `look` again and again, with a pause in between.
    fn spawn(
        &mut self,
        thread_name: &str,
        state: &Arc<ServerState>,
        pause: impl Fn(&Options) -> Duration + Send + 'static,
        mut look: impl FnMut(&ServerState, &ScrubProgress) + Send + 'static,
    ) -> std::io::Result<()> {
        let (state, progress) = (state.clone(), self.progress.clone());
        let thread = std::thread::Builder::new().name(thread_name.into()).spawn(move || {
            while !progress.stop.load(Ordering::Relaxed) {
                look(&state, &progress);
                std::thread::park_timeout(pause(&state.options()));
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for BackgroundWork {
    fn drop(&mut self) {
        self.ask_to_stop();
        for thread in self.threads.drain(..) {
            // The thread has no result. Its errors are in the log.
            let _ = thread.join();
        }
    }
}

/// The pause between two looks at what is due, for work that is done this often.
fn pause(every: Duration) -> Duration {
    every.clamp(PAUSE_MIN, PAUSE_MAX)
}

/// Reads what the operator has recorded in another process, and ends what clients do that they may not do any more.
fn watch_rights(state: &ServerState, seen: &mut (u64, u64)) {
    if let Err(error) = state.registry.follow() {
        return state.notices.work_failed("reading", &"the server's log", &error);
    }
    let now = losses_and_removals(state);
    if std::mem::replace(seen, now) != now {
        state.close_sessions();
    }
}

/// How often clients have lost a right, and how many accounts were removed.
fn losses_and_removals(state: &ServerState) -> (u64, u64) {
    state.registry.ask(|accounts| (accounts.losses(), accounts.removals()))
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
        Err(error) => return state.notices.work_failed(work_name, &"the list of repositories", &error),
    };
    for (account, name) in repositories {
        if progress.stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = work(&account, &name) {
            let place = format!("account {account}, repository {name}");
            state.notices.work_failed(work_name, &place, &error);
        }
    }
}
