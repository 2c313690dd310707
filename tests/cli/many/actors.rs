//! The actors. Each call does one step and returns what went wrong.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use super::{
    manifest::{change, manifest},
    model::{Random, SnapshotState},
    site::{MACHINES, Site, compare},
};
use crate::text;

type Outcome = Result<(), String>;
type Act<'a> = Box<dyn FnMut() -> Outcome + Send + 'a>;

/// Returns all actors, with their names.
pub fn all(site: &Site) -> Vec<(String, Act<'_>)> {
    let mut all: Vec<(String, Act<'_>)> = Vec::new();
    for number in 0..MACHINES {
        all.push((format!("machine{number}"), Box::new(machine(site, number))));
    }
    for number in 0..2 {
        all.push((format!("pruner{number}"), Box::new(pruner(site, number))));
    }
    all.push(("mount".into(), Box::new(mount(site))));
    all.push(("checker".into(), Box::new(checker(site))));
    all.push(("keeper".into(), Box::new(keeper(site))));
    all
}

/// A machine: changes its tree and pushes it, then restores, forgets or brings back a snapshot.
fn machine(site: &Site, number: usize) -> impl FnMut() -> Outcome {
    let (who, mut random) = (format!("machine{number}"), site.random(number as u64 + 1));
    let sources: Vec<PathBuf> = site.machines.iter().map(|machine| machine.path("src")).collect();
    let mut pushes = 0;
    move || {
        pushes += 1;
        change(&sources[number], &sources, &mut random);
        push(site, &who, number, &format!("{who}-{pushes}"), &mut random)?;
        match random.below(4) {
            0 => forget(site, &who, number, &mut random),
            1 => bring_back(site, &who, number, &mut random),
            _ => restore(site, &who, number, &mut random),
        }
    }
}

fn push(site: &Site, who: &str, number: usize, tag: &str, random: &mut Random) -> Outcome {
    let source = site.machines[number].path("src");
    site.model.lock().unwrap().pushing(tag, manifest(&source).map_err(|e| e.to_string())?);
    let is_killed = site.scenario.kills && random.below(4) == 0;
    let kill_after = is_killed.then(|| Duration::from_millis(random.below(400)));
    site.journal.note(who, format_args!("pushes {tag}, killed after {kill_after:?}"));
    let started = Instant::now();
    let args = ["push", "--json", "--tag", tag, "--target", who, "-C", source.to_str().unwrap(), "."];
    let ran = site.run(number, &args, kill_after)?;
    let took = started.elapsed().as_millis();
    let id = ran.json()["snapshot"].as_str().map(str::to_owned).filter(|_| ran.code() == Some(0));
    site.journal.note(who, format_args!("pushed {tag} in {took} ms: {id:?} {:?}", ran.code()));
    let mut model = site.model.lock().unwrap();
    model.count(if id.is_some() { "pushes" } else { "pushes cut short" });
    if !ran.is_excused {
        model.push_ms_max = model.push_ms_max.max(took);
    }
    model.pushed(tag, id.clone());
    match id {
        None if !ran.is_excused => Err(format!("a push failed: {}", ran.printed())),
        _ => Ok(()),
    }
}

fn forget(site: &Site, who: &str, number: usize, random: &mut Random) -> Outcome {
    let Some((tag, id)) = site.model.lock().unwrap().claim(random, &[SnapshotState::Counts]) else { return Ok(()) };
    let now = site.scenario.protect == "0d" && random.below(2) == 0;
    site.journal.note(who, format_args!("forgets {tag} ({id}), now: {now}"));
    let args: &[&str] = if now { &["forget", "--now", &id] } else { &["forget", &id] };
    let ran = site.run(number, args, None)?;
    let state = match ran.code() {
        Some(0) if now => SnapshotState::Gone,
        Some(0) => SnapshotState::Forgotten,
        _ => SnapshotState::Unknown,
    };
    let mut model = site.model.lock().unwrap();
    model.count("forgotten");
    model.release(&tag, state);
    site.journal.note(who, format_args!("forgot {tag}: {state:?}"));
    if ran.code() != Some(0) && !ran.is_excused { Err(format!("forgetting failed: {}", ran.printed())) } else { Ok(()) }
}

fn bring_back(site: &Site, who: &str, number: usize, random: &mut Random) -> Outcome {
    let claimed = site.model.lock().unwrap().claim(random, &[SnapshotState::Forgotten]);
    let Some((tag, id)) = claimed else { return Ok(()) };
    site.journal.note(who, format_args!("brings back {tag} ({id})"));
    let ran = site.run(number, &["unforget", &id], None)?;
    let printed = ran.printed();
    // A prune may have emptied the trash.
    let is_gone = ran.code() == Some(1) && (printed.contains("trash") || printed.contains("gone for good"));
    let state = match ran.code() {
        Some(0) => SnapshotState::Counts,
        _ if is_gone => SnapshotState::Gone,
        _ => SnapshotState::Unknown,
    };
    let mut model = site.model.lock().unwrap();
    model.count(if state == SnapshotState::Counts { "brought back" } else { "not brought back" });
    model.release(&tag, state);
    site.journal.note(who, format_args!("brought back {tag}: {state:?}"));
    if state == SnapshotState::Unknown && !ran.is_excused {
        Err(format!("bringing back failed: {printed}"))
    } else {
        Ok(())
    }
}

fn restore(site: &Site, who: &str, number: usize, random: &mut Random) -> Outcome {
    let Some((tag, id, expected)) = site.model.lock().unwrap().read(random) else { return Ok(()) };
    site.journal.note(who, format_args!("restores {tag} ({id})"));
    let outcome = site.verify(number, &id, &expected, "out");
    let mut model = site.model.lock().unwrap();
    model.count("restored");
    model.read_done(&tag);
    site.journal.note(who, format_args!("restored {tag}"));
    outcome
}

/// A pruner. There are two of them, so their prunes overlap.
fn pruner(site: &Site, number: u64) -> impl FnMut() -> Outcome {
    let (who, mut random) = (format!("pruner{number}"), site.random(number + 20));
    move || {
        let machine = random.below(MACHINES as u64) as usize;
        let is_killed = site.scenario.kills && random.below(4) == 0;
        let kill_after = is_killed.then(|| Duration::from_millis(random.below(600)));
        let args: &[&str] = match random.below(2) {
            0 => &["prune", "--yes", "--json", "--max-unused", "0"],
            _ => &["prune", "--yes", "--json"],
        };
        site.journal.note(&who, format_args!("prunes, killed after {kill_after:?}"));
        let ran = site.run(machine, args, kill_after)?;
        site.journal.note(&who, format_args!("pruned: {:?} {}", ran.code(), text(&ran.output.stdout).trim()));
        let mut model = site.model.lock().unwrap();
        match ran.code() {
            Some(0) => model.count("prunes"),
            Some(11) => model.count("prunes refused"),
            Some(1) if ran.json()["packs_damaged"].as_u64().unwrap_or(0) > 0 && site.scenario.damage => {
                model.count("prunes that met damage");
            }
            _ if ran.is_excused => model.count("prunes cut short"),
            _ => return Err(format!("a prune failed: {}", ran.printed())),
        }
        drop(model);
        std::thread::sleep(Duration::from_millis(random.below(300)));
        Ok(())
    }
}

/// A reader of one mount that is open all the time.
fn mount(site: &Site) -> impl FnMut() -> Outcome {
    let (who, mut random) = ("mount", site.random(40));
    move || {
        let Some(mount) = &site.mount else { return Ok(()) };
        let claimed = site.model.lock().unwrap().read(&mut random);
        let Some((tag, id, expected)) = claimed else {
            std::thread::sleep(Duration::from_millis(200));
            return Ok(());
        };
        site.journal.note(who, format_args!("reads {tag} ({id})"));
        let before = site.outages.load(SeqCst);
        let mut verify = || {
            // The mount shows it as soon as the mount has learned about it.
            let started = Instant::now();
            let folder = loop {
                let entries = fs::read_dir(mount.point.join("ids")).into_iter().flatten().flatten();
                let mut names = entries.map(|entry| entry.file_name());
                if let Some(name) = names.find(|name| id.starts_with(name.to_str().unwrap())) {
                    break mount.point.join("ids").join(name);
                }
                if started.elapsed() > Duration::from_secs(60) {
                    return Err("the mount does not show it".to_owned());
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            for _ in 0..2 {
                compare(&folder, &expected)?;
                std::thread::sleep(Duration::from_millis(random.below(200)));
            }
            Ok(())
        };
        let outcome = verify();
        let mut model = site.model.lock().unwrap();
        model.count("seen in the mount");
        model.read_done(&tag);
        site.journal.note(who, format_args!("has read {tag}"));
        // If the server is away for long, reads fail with EIO, and the mount recovers later.
        let is_excused = site.outages.load(SeqCst) != before || before % 2 == 1;
        outcome.or_else(|problem| {
            if is_excused && problem.contains("os error 5") { Ok(()) } else { Err(format!("{tag}: {problem}")) }
        })
    }
}

/// Checks while the others push, forget, prune and scrub. A check must never find a problem.
fn checker(site: &Site) -> impl FnMut() -> Outcome {
    let (who, mut random) = ("checker", site.random(45));
    move || {
        let machine = random.below(MACHINES as u64) as usize;
        let is_killed = site.scenario.kills && random.below(8) == 0;
        let kill_after = is_killed.then(|| Duration::from_millis(random.below(400)));
        let args: &[&str] = match random.below(3) {
            0 => &["check"],
            1 => &["check", "--read-data-subset", "1/2"],
            _ => &["check", "--read-data"],
        };
        site.journal.note(who, format_args!("{}, killed after {kill_after:?}", args.join(" ")));
        let ran = site.run(machine, args, kill_after)?;
        site.journal.note(who, format_args!("checked: {:?}", ran.code()));
        match ran.code() {
            Some(0) => site.model.lock().unwrap().count("checks"),
            _ if ran.is_excused => site.model.lock().unwrap().count("checks cut short"),
            _ => return Err(format!("a check: {}", ran.printed())),
        }
        std::thread::sleep(Duration::from_millis(random.below(300)));
        Ok(())
    }
}

/// The keeper: damages what can be mended, scrubs, and kills the server.
fn keeper(site: &Site) -> impl FnMut() -> Outcome {
    let (who, mut random) = ("keeper", site.random(50));
    let mut damaged: HashMap<PathBuf, (u64, u8)> = HashMap::new();
    move || {
        std::thread::sleep(Duration::from_millis(random.below(800)));
        if site.scenario.kills && random.below(2) == 0 {
            let without_index = random.below(4) == 0;
            site.journal.note(who, format_args!("kills the server, and its index: {without_index}"));
            site.kill_server(without_index);
            site.journal.note(who, "the server is back");
            site.model.lock().unwrap().count("servers killed");
        }
        if site.scenario.damage {
            (0..3).for_each(|_| damage(site, &mut random, &mut damaged));
        }
        if random.below(2) == 0 {
            let scrubbed = site.scrub();
            site.journal.note(who, format_args!("scrubbed: {}", text(&scrubbed.stdout).trim()));
            site.model.lock().unwrap().count("scrubs");
            if !scrubbed.status.success() {
                return Err(format!("a scrub: {}{}", text(&scrubbed.stdout), text(&scrubbed.stderr)));
            }
        }
        Ok(())
    }
}

/// Flips a bit in a pack that has parity and no other flipped bit.
fn damage(site: &Site, random: &mut Random, damaged: &mut HashMap<PathBuf, (u64, u8)>) {
    let folders = fs::read_dir(site.folder().join("packs")).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let mut packs: Vec<PathBuf> = files.map(|file| file.path()).collect();
    packs.retain(|path| PathBuf::from(path.to_str().unwrap().replace("/packs/", "/parity/")).exists());
    packs.sort();
    let Some(path) = random.choose(&packs).cloned() else { return };
    let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { return };
    let mut byte = [0];
    let is_mended = |(at, was): &(u64, u8)| {
        file.read_exact_at(&mut [0], *at).is_ok() && {
            let mut now = [0];
            file.read_exact_at(&mut now, *at).is_ok() && now[0] == *was
        }
    };
    if !damaged.get(&path).is_none_or(is_mended) {
        return;
    }
    let at = random.below(file.metadata().map_or(0, |meta| meta.len()));
    if file.read_exact_at(&mut byte, at).is_ok() {
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
        site.journal.note("keeper", format_args!("damaged {} at {at}", path.display()));
        site.model.lock().unwrap().count("packs damaged");
        damaged.insert(path, (at, byte[0]));
    }
}
