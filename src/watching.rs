//! The work of `bkfs watch`: push what the kernel reports, again and again, until a signal ends it.
//!
//! Changes are taken out of the [`Watch`] for a push, and put back if it fails. Nothing but an acknowledged push
//! removes them, so however often the repository cannot be reached, the first push that succeeds holds everything.

mod hold;
mod pulse;
mod record;
mod shown;
mod sleep;
mod telling;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use bkfs_fs::{
    changes::{ChangeSet, Scope},
    exclude::Excludes,
    push::{Follow, Following, PushProgress},
    walk::Roots,
    watch::{Noted, Pace, Timing, Waiting, Watch, lower_priority},
};
use parking_lot::Mutex;

use self::{
    hold::Holds,
    pulse::{Life, Pulse},
    record::WatchRecord,
    sleep::SleepDetector,
    telling::Telling,
};
use crate::{
    args::RepoArgs,
    context::Context,
    failure::Exit,
    limits,
    place::Place,
    push_job::{PushJob, PushSession, Pushed},
    signals,
};

/// The tag of a watch's snapshots.
pub const TAG: &str = "watch";
/// How long the last snapshot may take after a signal.
const LAST_PUSH: Duration = Duration::from_secs(8);
/// How long the program may take to end after a signal.
const LAST: Duration = Duration::from_secs(10);
/// How long a push waits for a lost server. The watch itself waits as long as it takes.
const RETRY: Duration = Duration::from_secs(15);
/// The longest time without a look at the clock: for the service manager's watchdog, and to notice a sleep.
const TICK: Duration = Duration::from_secs(20);

/// How the kernel is asked for changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Whole file systems where that is allowed, else folders.
    Auto,
    /// Folder by folder.
    Folders,
    /// Not at all.
    Scan,
}

/// How to watch.
#[derive(Debug, Clone)]
pub struct WatchPlan {
    /// How soon after changes a push comes.
    pub pace: Pace,
    /// How often everything is looked at.
    pub rescan: Duration,
    /// How often what the kernel does not watch is looked at.
    pub rescan_unwatched: Duration,
    /// How the kernel is asked.
    pub method: Method,
    /// Whether to wait while the machine runs on its battery.
    pub skips_on_battery: bool,
    /// Whether to wait while the network is metered.
    pub skips_on_metered: bool,
    /// Whether to leave processor and disk to others.
    pub is_idle: bool,
}

/// What the thread of the signals and the watch share.
#[derive(Default)]
struct Stop {
    is_asked: AtomicBool,
    /// Whether to read the profile again.
    is_hung_up: AtomicBool,
    /// The counters of the push that runs.
    progress: Mutex<Arc<PushProgress>>,
}

/// A watch under way.
struct Watcher<'a> {
    context: &'a Context,
    repo: &'a RepoArgs,
    plan: &'a WatchPlan,
    job: &'a PushJob,
    watch: Arc<Watch>,
    stop: Arc<Stop>,
    session: Option<PushSession>,
    following: Following,
    timing: Timing,
    /// Entries that could not be read. The next push looks at them again.
    retries: ChangeSet,
    holds: Holds,
    record: Arc<Mutex<WatchRecord>>,
    life: Arc<Mutex<Life>>,
    /// Says that the watch is alive.
    _pulse: Pulse,
    telling: Telling,
    last_scan: Instant,
    last_unwatched: Instant,
    sleep: SleepDetector,
}

/// What to push, to where, and how: from the options and the profile, which can be read again.
pub type Prepare<'a> = dyn Fn(&Context) -> Result<(PushJob, RepoArgs, WatchPlan)> + 'a;

/// Watches until a signal ends it. A hangup reads the profile again.
pub fn run(context: &Context, prepare: &Prepare<'_>) -> Result<Exit> {
    let mut context = context.clone();
    let mut prepared = prepared(&context, prepare)?;
    if prepared.plan.is_idle {
        lower_priority();
    }
    // What can only be wrong here is said at once, and not tried again and again.
    let mut session = match PushSession::open(&context, &prepared.repo, &prepared.job) {
        Ok(session) => Some(session),
        Err(error) if is_passing(&error) => {
            tracing::warn!("the repository cannot be opened yet: {error:#}");
            None
        }
        Err(error) => return Err(error),
    };
    let (stop, mut following) = (Arc::new(Stop::default()), Following::default());
    loop {
        let mut watcher = Watcher::new(&context, &prepared, session.take(), stop.clone())?;
        watcher.following = following;
        watcher.run();
        if stop.is_asked.load(Relaxed) {
            watcher.record.lock().ended();
            return Ok(signals::exit_after_stop());
        }
        following = std::mem::take(&mut watcher.following);
        drop(watcher);
        let again = context.clone().with_given_profile();
        match again.and_then(|context| Ok((self::prepared(&context, prepare)?, context))) {
            Ok((read, with)) => (prepared, context) = (read, with),
            Err(error) => tracing::error!("the profile cannot be read again, and the old one stays: {error:#}"),
        }
    }
}

/// What is watched until the profile is read again.
struct Prepared {
    job: PushJob,
    repo: RepoArgs,
    plan: WatchPlan,
    target: String,
}

fn prepared(context: &Context, prepare: &Prepare<'_>) -> Result<Prepared> {
    let (mut job, repo, plan) = prepare(context)?;
    if !job.tags.iter().any(|tag| tag == TAG) {
        job.tags.push(TAG.to_owned());
    }
    let target = job.target()?;
    // If pattern files cannot be read, that shows here, where nothing has ended yet.
    Excludes::new(&job.exclude)?;
    Ok(Prepared { job, repo, plan, target })
}

/// The folders that pushes write to. With `bkfs watch ~`, they may be among the sources.
fn own_folders(context: &Context, repo: &RepoArgs) -> Vec<PathBuf> {
    let place = repo.repository.as_deref().map(|text| Place::parse(Some(text)));
    let repository = match place {
        Some(Ok(Place::Path(path))) => Some(path),
        _ => None,
    };
    [context.folders.config.clone(), context.folders.cache.clone()].into_iter().chain(repository).collect()
}

/// Whether an error may pass by itself: the server is down, another process pushes the target, the store is full.
fn is_passing(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<bkfs_store::Error>(),
        Some(
            bkfs_store::Error::Unreachable(_)
                | bkfs_store::Error::Locked { .. }
                | bkfs_store::Error::LeaseRefused { .. }
                | bkfs_store::Error::Full { .. }
                | bkfs_store::Error::OverQuota { .. }
        )
    )
}

/// Asks the watch to end after a last snapshot, and sees to it that it does.
fn stop_soon(stop: &Arc<Stop>, watch: &Watch) {
    stop.is_asked.store(true, Relaxed);
    watch.wake();
    let stop = stop.clone();
    let see = move || {
        std::thread::sleep(LAST_PUSH);
        stop.progress.lock().stop.store(true, Relaxed);
        std::thread::sleep(LAST - LAST_PUSH);
        tracing::warn!("the last snapshot was not finished; the next push takes what is missing");
        signals::end_if_stopped();
    };
    // Without the thread, the service manager ends the program in the end.
    let _ = std::thread::Builder::new().name("stop".into()).spawn(see);
}

impl<'a> Watcher<'a> {
    fn new(
        context: &'a Context,
        prepared: &'a Prepared,
        session: Option<PushSession>,
        stop: Arc<Stop>,
    ) -> Result<Self> {
        let Prepared { job, repo, plan, target } = prepared;
        let watch = Arc::new(Watch::start(&job.exclude, &own_folders(context, repo), plan.method == Method::Auto)?);
        watch.note_all();
        signals::on_stop({
            let (stop, watch) = (stop.clone(), watch.clone());
            move || stop_soon(&stop, &watch)
        });
        signals::on_hangup({
            let (stop, watch) = (stop.clone(), watch.clone());
            move || {
                stop.is_hung_up.store(true, Relaxed);
                watch.wake();
            }
        });
        let now = Instant::now();
        let record = Arc::new(Mutex::new(WatchRecord::begin(context, repo, target)?));
        let life = Arc::new(Mutex::new(Life::new()));
        let mut watcher = Self {
            context,
            repo,
            plan,
            job,
            _pulse: Pulse::start(record.clone(), life.clone()),
            record,
            life,
            telling: Telling::new(context, target),
            watch,
            stop,
            session,
            following: Following::default(),
            timing: Timing::default(),
            retries: ChangeSet::new(),
            holds: Holds::new(plan.skips_on_battery, plan.skips_on_metered),
            last_scan: now,
            last_unwatched: now,
            sleep: SleepDetector::new(),
        };
        watcher.telling.ready();
        Ok(watcher)
    }

    /// Watches until a signal ends it, or a hangup asks to read the profile again.
    fn run(&mut self) {
        loop {
            let is_last = self.stop.is_asked.load(Relaxed);
            if self.stop.is_hung_up.swap(false, Relaxed) && !is_last {
                return;
            }
            if is_last {
                self.watch.catch_up();
            }
            self.life.lock().note(false);
            self.note_what_is_due();
            let now = Instant::now();
            let noted = self.watch.noted();
            self.record.lock().unprotected_since(noted.map(|noted| noted.first_time));
            match noted {
                Some(_) if is_last => self.push(),
                None if is_last => {}
                Some(noted) => {
                    let due = self.due(&noted);
                    if due <= now && !self.is_held() {
                        self.push();
                        continue;
                    }
                    let later = if due <= now { now + TICK } else { due.min(now + TICK) };
                    self.watch.wait(Some(later));
                }
                None => self.watch.wait(Some(self.next_scan().min(now + TICK))),
            }
            if is_last {
                return;
            }
        }
    }

    /// When the changes that wait are to be pushed. The first push comes at once.
    fn due(&self, noted: &Noted) -> Instant {
        match self.timing.last_push {
            None => noted.first,
            Some(_) => self.timing.due(&self.plan.pace, noted),
        }
    }

    fn next_scan(&self) -> Instant {
        let unwatched = self.last_unwatched + self.plan.rescan_unwatched;
        let scan = self.last_scan + self.plan.rescan;
        if self.scans() || !self.watch.unwatched().is_empty() { scan.min(unwatched) } else { scan }
    }

    fn scans(&self) -> bool {
        self.plan.method == Method::Scan
    }

    /// Notes what no event tells: the time of a scan has come, or the machine slept.
    fn note_what_is_due(&mut self) {
        let now = Instant::now();
        if self.sleep.has_slept() {
            tracing::info!("the machine slept: everything is looked at again");
            self.watch.note_all();
        }
        if now >= self.last_scan + self.plan.rescan {
            self.last_scan = now;
            self.watch.note_all();
        }
        if now >= self.last_unwatched + self.plan.rescan_unwatched {
            self.last_unwatched = now;
            match self.scans() {
                true => self.watch.note_all(),
                false => self.watch.note_unwatched(),
            }
        }
    }

    fn is_held(&mut self) -> bool {
        let held = self.holds.reason();
        self.telling.held(held);
        held.is_some()
    }

    fn push(&mut self) {
        let mut waiting = self.watch.take();
        waiting.changes.merge(&self.retries.take());
        self.life.lock().note(true);
        let result = self.try_push(&waiting);
        self.life.lock().note(false);
        self.timing.pushed(Instant::now(), result.is_ok());
        match result {
            Ok(pushed) => {
                if pushed.report.looked_at_everything {
                    self.last_scan = Instant::now();
                }
                self.retry_later(&pushed);
                self.record.lock().pushed(&pushed, &self.watch);
                self.telling.pushed(&pushed, &self.watch);
            }
            Err(error) => {
                self.watch.put_back(&waiting);
                // A connection that broke may not come back by itself, and a rollback must be seen again.
                self.session = None;
                self.record.lock().failed(&error);
                self.telling.failed(&error);
            }
        }
    }

    fn try_push(&mut self, waiting: &Waiting) -> Result<Pushed> {
        let progress = Arc::new(PushProgress::default());
        *self.stop.progress.lock() = progress.clone();
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(PushSession::open(self.context, self.repo, self.job)?),
        };
        if let Some(remote) = &session.session.remote {
            remote.set_retry_timeout(RETRY);
        }
        let follow = Follow { following: &self.following, changes: waiting.changes.clone(), skips_unchanged: true };
        let observer: Arc<dyn bkfs_fs::walk::Observer> = match self.plan.method {
            Method::Scan => Arc::new(Nobody),
            _ => self.watch.observer(),
        };
        let _limits = limits::follow(self.context, &session.session);
        session.push_watched(self.context, self.job, &progress, follow, observer)
    }

    /// Remembers what could not be read, or only in part. If there is more than was listed, everything is looked at.
    fn retry_later(&mut self, pushed: &Pushed) {
        let report = &pushed.report;
        if report.stats.errors > report.problems.len() as u64 {
            self.retries = ChangeSet::all();
            return;
        }
        let Ok(roots) = Roots::new(self.job.base.as_deref(), &self.job.paths) else { return };
        for (path, _) in &report.problems {
            match path.strip_prefix(&roots.base) {
                Ok(below) => self.retries.note(below.as_os_str().as_encoded_bytes(), Scope::All),
                Err(_) => self.retries = ChangeSet::all(),
            }
        }
    }
}

/// Sees nothing.
struct Nobody;

impl bkfs_fs::walk::Observer for Nobody {
    fn entering(&self, _: &bkfs_fs::walk::SourceDir) {}
}
