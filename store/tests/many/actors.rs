//! What the actors do. Each actor takes steps, notes what it does, and returns an error if something is wrong.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use bkfs_store::{
    Error,
    access::{Maintain, Manage, PruneRequest},
    repository::scrub,
};

use crate::{
    World,
    client::Client,
    model::{Random, State},
    process::{CLOCK, Process, is_death},
    support::world::problems,
};

type Outcome = Result<(), String>;

/// A process to work with, sometimes one that is about to die.
fn process(world: &World, random: &mut Random, slot: usize) -> Result<Arc<Process>, String> {
    for _ in 0..1000 {
        match world.site.get(slot, random.below(3) == 0) {
            Ok(process) => {
                if world.kind.deaths && random.below(12) == 0 {
                    world.model.lock().deaths += 1;
                    process.die_after(random.below(60) as usize);
                }
                return Ok(process);
            }
            Err(error) if is_death(&error) => {}
            Err(error) => return Err(format!("opening: {error}")),
        }
    }
    Err("no process stays alive".into())
}

/// One step of an actor.
type Act<'a> = Box<dyn FnMut() -> Outcome + Send + 'a>;

/// All actors, by name.
pub fn all(world: &World) -> Vec<(String, Act<'_>)> {
    let mut all: Vec<(String, Act<'_>)> = Vec::new();
    for number in 0..3 {
        all.push((format!("client{number}"), Box::new(client(world, number))));
    }
    for number in 0..2 {
        all.push((format!("pruner{number}"), Box::new(pruner(world, number))));
    }
    all.push(("mount".into(), Box::new(mount(world))));
    all.push(("checker".into(), Box::new(checker(world))));
    all.push(("keeper".into(), Box::new(keeper(world))));
    all
}

/// Pushes changes, forgets, brings back, and reads.
fn client(world: &World, number: u64) -> impl FnMut() -> Outcome {
    let (who, mut random) = (format!("client{number}"), world.random(number + 1));
    let mut client = Client::new(number);
    move || {
        let process = process(world, &mut random, number as usize)?;
        match random.below(10) {
            0..5 => push(world, &who, &mut random, &mut client, &process),
            5..7 => forget(world, &who, &mut random, &process),
            7 => bring_back(world, &who, &mut random, &process),
            _ => read(world, &who, &mut random, &process),
        }
    }
}

fn push(world: &World, who: &str, random: &mut Random, client: &mut Client, process: &Process) -> Outcome {
    for _ in 0..1 + random.below(5) {
        let name = format!("f{}", random.below(14));
        match random.below(5) {
            0 => drop(client.tree.remove(&name)),
            // Contents that others have, too, or that were there before.
            _ => drop(client.tree.insert(name, 1 + random.below(60))),
        }
    }
    world.journal.note(who, format_args!("pushes {:?}", client.tree));
    let mut tried = Vec::new();
    let mut committing = |id, tree: &_| {
        tried.push(id);
        world.model.lock().pushing(id, tree);
    };
    let pushed = client.push(&*process.repo, &mut committing);
    world.model.lock().pushed(&tried, pushed.as_ref().ok().copied());
    match pushed {
        Ok(id) => {
            world.journal.note(who, format_args!("pushed {id}"));
            Ok(())
        }
        Err(error) if process.is_dead() => {
            world.journal.note(who, format_args!("died: {error}"));
            Ok(())
        }
        Err(error) => Err(format!("a push failed: {error}")),
    }
}

fn forget(world: &World, who: &str, random: &mut Random, process: &Process) -> Outcome {
    let Some((id, state)) = world.model.lock().claim(random, &[State::Counts]) else { return Ok(()) };
    let now = random.below(2) == 0;
    world.journal.note(who, format_args!("forgets {id}, now: {now}"));
    let (state, outcome) = match world.site.forget(&process.repo, id, now) {
        Ok(()) if now => (State::Gone, Ok(())),
        Ok(()) => (State::Forgotten, Ok(())),
        Err(Error::Protected { .. }) if now => (state, Ok(())),
        Err(_) if process.is_dead() => (State::Unknown, Ok(())),
        Err(error) => (State::Unknown, Err(format!("forgetting {id} failed: {error}"))),
    };
    world.model.lock().release(id, state);
    world.journal.note(who, format_args!("forgot {id}: {state:?}"));
    outcome
}

fn bring_back(world: &World, who: &str, random: &mut Random, process: &Process) -> Outcome {
    let states = [State::Forgotten, State::Unknown];
    let Some((id, state)) = world.model.lock().claim(random, &states) else { return Ok(()) };
    world.journal.note(who, format_args!("brings back {id}"));
    let (state, outcome) = match process.repo.unforget(&[id]) {
        Ok(()) => (State::Counts, Ok(())),
        // Never committed, or gone from the trash.
        Err(Error::SnapshotNotFound(_)) => (State::Gone, Ok(())),
        Err(_) if process.is_dead() => (State::Unknown, Ok(())),
        Err(error) => (state, Err(format!("bringing back {id} failed: {error}"))),
    };
    world.model.lock().revived += u64::from(state == State::Counts);
    world.model.lock().release(id, state);
    world.journal.note(who, format_args!("brought back {id}: {state:?}"));
    outcome
}

/// Reads a snapshot with an empty cache.
fn read(world: &World, who: &str, random: &mut Random, process: &Process) -> Outcome {
    let Some((id, tree)) = world.model.lock().read(random) else { return Ok(()) };
    world.journal.note(who, format_args!("reads {id}"));
    let look = || {
        let reader = world.site.reader(&process.repo, 64 << 10);
        let infos = reader.snapshots().map_err(|e| format!("the list of snapshots: {e}"))?;
        let info = infos.iter().find(|info| info.id == id).ok_or("it is not there")?;
        world.site.verify(&reader, info, &tree)
    };
    let outcome = look().or_else(|error| if process.is_dead() { Ok(()) } else { Err(error) });
    world.model.lock().read_done(id);
    world.journal.note(who, format_args!("has read {id}"));
    outcome.map_err(|problem| format!("snapshot {id}: {problem}"))
}

/// Prunes, and is sometimes cut short. There are two pruners, which overlap.
fn pruner(world: &World, number: u64) -> impl FnMut() -> Outcome {
    let (who, mut random) = (format!("pruner{number}"), world.random(number + 20));
    move || {
        let slot = random.below(3) as usize;
        let process = process(world, &mut random, slot)?;
        let (all, all_of_it) = (random.below(2) == 0, random.below(3) > 0);
        world.journal.note(&who, format_args!("prunes, whole: {all_of_it}"));
        let emptied = if random.below(2) == 0 { world.site.empty_trash(&process.repo) } else { Ok(()) };
        let pruned = emptied.and_then(|()| match all_of_it {
            true => world.site.prune(&process.repo, all),
            false => world.site.cut_short(&process.repo, all, random.below(270)),
        });
        world.journal.note(&who, format_args!("pruned: {pruned:?}"));
        world.model.lock().prunes += 1;
        match pruned {
            Ok(_) => {}
            Err(_) if process.is_dead() => {}
            Err(Error::LeaseRefused { .. }) => world.model.lock().refused += 1,
            Err(Error::Interrupted) if !all_of_it => world.model.lock().refused += 1,
            Err(error) => return Err(format!("a prune failed: {error:?}")),
        }
        if random.below(6) == 0 {
            let aborted = process.repo.prune(&PruneRequest::Abort);
            world.journal.note(&who, "aborted what was condemned");
            if let Err(error) = aborted
                && !process.is_dead()
            {
                return Err(format!("aborting failed: {error}"));
            }
        }
        std::thread::sleep(Duration::from_millis(random.below(5)));
        Ok(())
    }
}

/// Keeps one snapshot open for a long time, with next to nothing in its cache.
fn mount(world: &World) -> impl FnMut() -> Outcome {
    let (who, mut random) = ("mount".to_owned(), world.random(40));
    move || {
        let process = process(world, &mut random, 1)?;
        let claimed = world.model.lock().read(&mut random);
        let Some((id, tree)) = claimed else {
            std::thread::sleep(Duration::from_millis(2));
            return Ok(());
        };
        world.journal.note(&who, format_args!("opens {id}"));
        let look = || {
            let infos = world.site.reader(&process.repo, 8 << 10).snapshots();
            let infos = infos.map_err(|e| format!("the list of snapshots: {e}"))?;
            let info = infos.iter().find(|info| info.id == id).ok_or("it is not there")?;
            for pass in 0..6 {
                // It keeps the snapshot open, and caches no contents.
                let reader = world.site.reader(&process.repo, 8 << 10);
                world.site.verify(&reader, info, &tree).map_err(|e| format!("pass {pass}: {e}"))?;
                world.journal.note(&who, format_args!("reads on in {id}"));
            }
            Ok(())
        };
        let outcome = look().or_else(|error: String| if process.is_dead() { Ok(()) } else { Err(error) });
        world.model.lock().read_done(id);
        outcome.map_err(|problem| format!("snapshot {id}: {problem}"))
    }
}

/// Checks while others push, forget and prune. A check must never find anything wrong.
fn checker(world: &World) -> impl FnMut() -> Outcome {
    let (who, mut random) = ("checker".to_owned(), world.random(45));
    move || {
        let slot = random.below(3) as usize;
        let process = process(world, &mut random, slot)?;
        let read_data = random.below(2) == 0;
        world.journal.note(&who, format_args!("checks, data too: {read_data}"));
        let found = problems(&world.site.reader(&process.repo, 64 << 10), &*process.repo, read_data);
        world.journal.note(&who, format_args!("checked: {found:?}"));
        match found {
            _ if process.is_dead() => {}
            Ok(found) if found.is_empty() => world.model.lock().checks += 1,
            Ok(found) => return Err(format!("a check finds {found:?}")),
            Err(error) => return Err(format!("a check failed: {error}")),
        }
        std::thread::sleep(Duration::from_millis(random.below(5)));
        Ok(())
    }
}

/// Damages what can be mended, scrubs, lets time pass, and acts as the operator.
fn keeper(world: &World) -> impl FnMut() -> Outcome {
    let (who, mut random) = ("keeper".to_owned(), world.random(50));
    let mut damaged: HashMap<PathBuf, Vec<(u64, u8)>> = HashMap::new();
    move || {
        let process = process(world, &mut random, 2)?;
        let outcome: Result<(), Error> = match random.below(8) {
            0..3 if world.kind.damage => {
                damage(world, &who, &mut random, &mut damaged);
                Ok(())
            }
            3..5 => {
                world.journal.note(&who, "scrubs");
                let options = scrub::ScrubOptions::default();
                match process.repo.scrub(&options, &scrub::ScrubProgress::default()) {
                    Ok(report) if report.problems_total > 0 && !process.is_dead() => {
                        return Err(format!("a scrub finds {:?}", report.problems));
                    }
                    scrubbed => scrubbed.map(|report| world.journal.note(&who, format_args!("scrubbed {report:?}"))),
                }
            }
            5 => {
                CLOCK.fetch_add(world.kind.floor as i64 / 3, SeqCst);
                world.journal.note(&who, "lets time pass, and tidies");
                process.repo.operator().tidy().map(drop)
            }
            6 if world.kind.floor > 0 => {
                world.journal.note(&who, "brings back what was pruned");
                process.repo.operator().revive_all().map(drop)
            }
            _ => {
                std::thread::sleep(Duration::from_millis(random.below(20)));
                Ok(())
            }
        };
        if let Err(error) = outcome
            && !process.is_dead()
        {
            return Err(error.to_string());
        }
        Ok(())
    }
}

/// Flips bits in up to two places of a pack. That can be mended, as long as a pack is mended before it is damaged
/// again.
fn damage(world: &World, who: &str, random: &mut Random, damaged: &mut HashMap<PathBuf, Vec<(u64, u8)>>) {
    let files = world.site.files(&["packs"]);
    let Some(path) = random.choose(&files).cloned() else { return };
    let parity = PathBuf::from(path.to_str().unwrap().replace("/packs/", "/parity/"));
    if path.to_str().unwrap().contains(".tmp-") || !parity.exists() {
        return;
    }
    let is_as_it_was = |(at, byte): &(u64, u8)| {
        let mut now = [0];
        let read = fs::File::open(&path).and_then(|file| file.read_exact_at(&mut now, *at));
        read.is_ok() && now[0] == *byte
    };
    if !damaged.get(&path).is_none_or(|places| places.iter().all(is_as_it_was)) {
        return;
    }
    let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { return };
    let len = file.metadata().map_or(0, |meta| meta.len());
    let mut places = Vec::new();
    for _ in 0..1 + random.below(2) {
        let (at, mut byte) = (random.below(len), [0]);
        if file.read_exact_at(&mut byte, at).is_ok() && places.iter().all(|(place, _)| *place != at) {
            file.write_all_at(&[byte[0] ^ (1 << random.below(8))], at).unwrap();
            places.push((at, byte[0]));
        }
    }
    world.model.lock().damages += 1;
    world.journal.note(who, format_args!("damaged {} at {places:?}", path.display()));
    damaged.insert(path, places);
}
