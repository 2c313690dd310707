//! Many actors at once on one repository: clients that push, forget and bring back, pruners that overlap and are cut
//! short, a mount that keeps reading, a keeper that damages files and scrubs. Processes die in the middle of any file
//! operation, and indexes are lost. All this is compared with a model, which knows what was pushed and what was to be
//! forgotten.
//!
//! Each actor is a thread that takes a number of steps; what it chooses follows from the seed. How the threads
//! interleave does not, so a failure comes with the seed and with the log of what all actors did. A *process* is a
//! handle of the repository with its own index (as two machines or two users have on one shared folder). From the
//! moment of its death, all its file operations fail. Another process takes its place, with the index as it was left or
//! with none. What is in memory is lost with a process; what was written is not (`crash.rs` tests that).
//!
//! **What must hold.** Every snapshot that counts can be read at any moment, as it was pushed, and so can one that
//! comes back from the trash. A push fails only if its process dies. A prune is refused or completes. Neither a check
//! nor a scrub ever finds anything wrong, since all damage can be mended, and nothing goes into quarantine. No actor
//! waits for long. In the end, a check that reads everything finds nothing, and when everything is forgotten, a prune
//! leaves nothing.
//!
//! `BKFS_MANY_SEED` sets the seed, `BKFS_MANY_ROUNDS` the number of worlds to run (with consecutive seeds), and
//! `BKFS_MANY_STEPS` the number of steps that an actor takes in each:
//!
//! `BKFS_MANY_ROUNDS=1000 BKFS_MANY_STEPS=60 cargo test -p bkfs-store --test many -- --nocapture`

#![allow(clippy::unwrap_used)]

#[path = "many/actors.rs"]
mod actors;
#[path = "many/client.rs"]
mod client;
#[path = "many/model.rs"]
mod model;
#[path = "many/process.rs"]
mod process;
mod support;

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

use bkfs_store::{
    access::{ForgetRequest, Manage},
    access::{Maintain, Read},
    base::codec,
    format::{
        log::{Event, LogRecord},
        pack::Pack,
    },
    repository::{Repository, scrub},
};
use model::{Journal, Model, Random};
use process::{CLOCK, Site};
use support::world::problems;

/// If no actor does anything for this long, even on a busy machine, it counts as a deadlock.
const STUCK: Duration = Duration::from_secs(100);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What goes on in a world.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// In seconds.
    floor: u64,
    /// Processes die.
    deaths: bool,
    /// Files are damaged.
    damage: bool,
}

const KINDS: [Kind; 4] = [
    Kind { floor: 0, deaths: false, damage: false },
    Kind { floor: 0, deaths: true, damage: true },
    Kind { floor: 3_600, deaths: false, damage: true },
    Kind { floor: 3_600, deaths: true, damage: false },
];

fn run(kind: Kind) {
    let (seed, rounds) = (number("BKFS_MANY_SEED", 1), number("BKFS_MANY_ROUNDS", 1));
    let steps = number("BKFS_MANY_STEPS", 12);
    for seed in seed..seed + rounds {
        println!("seed {seed}, {kind:?}");
        let world = World::new(kind, seed);
        let outcome = world.go(steps);
        if let Err(problem) = outcome {
            panic!("seed {seed}, {kind:?}: {problem}\n{}", world.journal.text());
        }
        println!("  {}", world.model.lock().summary());
    }
}

#[test]
fn many_at_once() {
    run(KINDS[0]);
}

#[test]
fn many_at_once_with_deaths_and_damage() {
    run(KINDS[1]);
}

#[test]
fn many_at_once_above_a_floor() {
    run(KINDS[2]);
}

#[test]
fn many_at_once_above_a_floor_with_deaths() {
    run(KINDS[3]);
}

/// A repository, and what is known of it.
struct World {
    kind: Kind,
    seed: u64,
    site: Site,
    model: parking_lot::Mutex<Model>,
    journal: Journal,
    /// An actor has failed, and all others stop soon.
    failed: AtomicBool,
}

impl World {
    fn new(kind: Kind, seed: u64) -> Self {
        let (site, failed) = (Site::new(kind.floor), AtomicBool::new(false));
        Self { kind, seed, site, model: Default::default(), journal: Journal::default(), failed }
    }

    fn random(&self, actor: u64) -> Random {
        Random(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ actor.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn go(&self, steps: u64) -> Result<(), String> {
        std::thread::scope(|scope| {
            let mut actors = Vec::new();
            for (name, mut act) in actors::all(self) {
                actors.push(scope.spawn(move || {
                    for _ in 0..steps {
                        if self.failed.load(SeqCst) {
                            break;
                        }
                        if let Err(problem) = act() {
                            self.journal.note(&name, format_args!("FAILED: {problem}"));
                            self.failed.store(true, SeqCst);
                            return Err(format!("{name}: {problem}"));
                        }
                    }
                    Ok(())
                }));
            }
            self.watch(|| actors.iter().all(|actor| actor.is_finished()));
            let mut outcome = Ok(());
            for actor in actors {
                let ended = actor.join().unwrap_or_else(|panic| {
                    let text = panic.downcast_ref::<String>().cloned();
                    Err(text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default())
                });
                outcome = outcome.and(ended);
            }
            outcome
        })?;
        self.end()
    }

    /// Waits for the actors, and aborts if they wait for one another.
    fn watch(&self, is_done: impl Fn() -> bool) {
        let (mut count, mut since) = (0, Instant::now());
        while !is_done() {
            std::thread::sleep(Duration::from_millis(5));
            let now = self.journal.len();
            if now != count {
                (count, since) = (now, Instant::now());
            }
            if since.elapsed() > STUCK {
                // A thread that waits for ever cannot be joined.
                eprintln!("seed {}: no actor makes progress\n{}", self.seed, self.journal.text());
                std::process::abort();
            }
        }
    }

    /// The entries of the log that put something into quarantine.
    fn quarantined(&self, repo: &Repository) -> Result<Vec<Event>, bkfs_store::Error> {
        let (mut found, mut from) = (Vec::new(), 0);
        loop {
            let records = repo.log(from, 1024)?;
            for bytes in &records {
                let record = codec::decode::<LogRecord>("an entry of the log", bytes)?;
                found.extend(Some(record.event).filter(|event| matches!(event, Event::Quarantine { .. })));
            }
            match records.len() {
                0 => return Ok(found),
                len => from += len as u64,
            }
        }
    }

    /// Checks everything, then removes everything.
    fn end(&self) -> Result<(), String> {
        let text = |what: &'static str| move |error: bkfs_store::Error| format!("in the end, {what}: {error}");
        let process = self.site.process();
        let repo = &process.repo;
        let options = scrub::ScrubOptions::default();
        let report = repo.scrub(&options, &scrub::ScrubProgress::default()).map_err(text("scrubbing"))?;
        if report.problems_total > 0 {
            return Err(format!("in the end, a scrub finds {:?}", report.problems));
        }
        let found = problems(&self.site.reader(repo, 4 << 20), &**repo, true).map_err(text("a check"))?;
        if !found.is_empty() {
            return Err(format!("in the end, a check finds {found:?}"));
        }
        let all = self.model.lock().all();
        let reader = self.site.reader(repo, 1 << 20);
        let listed = reader.snapshots().map_err(text("the list"))?;
        for (id, must, files) in all {
            match listed.iter().find(|info| info.id == id) {
                Some(info) => self.site.verify(&reader, info, &files).map_err(|e| format!("in the end, {id}: {e}"))?,
                None if must => return Err(format!("in the end, snapshot {id} is gone")),
                None => {}
            }
        }
        let told = self.quarantined(repo).map_err(text("the log"))?;
        if !told.is_empty() {
            return Err(format!("nothing was lost, but the log says {told:?}"));
        }
        // Everything is forgotten. The store looks at its clock every day.
        let mut client = client::Client::new(0);
        for _ in 0..4 {
            for _ in 0..8 {
                CLOCK.fetch_add(86_400, SeqCst);
                repo.forget(&ForgetRequest::default()).map_err(text("a look at the clock"))?;
            }
            for info in &reader.snapshots().map_err(text("the list"))? {
                self.site.forget(repo, info.id, true).map_err(text("forgetting"))?;
            }
            client.push(&**repo, &mut |_, _| ()).map_err(text("a push of nothing"))?;
            self.site.empty_trash(repo).map_err(text("emptying the trash"))?;
            self.site.prune(repo, true).map_err(text("a prune"))?;
        }
        repo.wait_for_parity();
        repo.scrub(&options, &scrub::ScrubProgress::default()).map_err(text("scrubbing"))?;
        // What may be left is the page of an empty folder and its parity. There can be several of them if several
        // clients pushed that page at the same time, or if the operator brought it back.
        let (left, packs) = (self.site.left(), repo.packs(None, 10).map_err(text("packs"))?);
        let mut ids = HashSet::new();
        for info in &packs {
            let pack = repo.read_pack(info.id).and_then(|bytes| Pack::parse(&bytes)).map_err(text("a pack"))?;
            ids.extend(pack.table.frames.iter().flat_map(|frame| frame.ids.clone()));
        }
        if left.len() > 2 * packs.len() || packs.len() > 3 || ids.len() > 1 {
            return Err(format!("when everything is forgotten, this is left: {packs:?} with {ids:?}, {left:?}"));
        }
        drop(process);
        self.site.process().repo.packs(None, 10).map_err(text("opening")).map(drop)
    }
}
