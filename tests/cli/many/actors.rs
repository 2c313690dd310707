//! Who does what. Each actor does one step at a time, and says what went wrong.

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
    model::{Random, State},
    shop::{MACHINES, Shop, compare},
};
use crate::text;

type Outcome = Result<(), String>;
type Act<'a> = Box<dyn FnMut() -> Outcome + Send + 'a>;

/// Everybody, by name.
pub fn all(shop: &Shop) -> Vec<(String, Act<'_>)> {
    let mut all: Vec<(String, Act<'_>)> = Vec::new();
    for number in 0..MACHINES {
        all.push((format!("machine{number}"), Box::new(machine(shop, number))));
    }
    for number in 0..2 {
        all.push((format!("pruner{number}"), Box::new(pruner(shop, number))));
    }
    all.push(("mount".into(), Box::new(mount(shop))));
    all.push(("checker".into(), Box::new(checker(shop))));
    all.push(("keeper".into(), Box::new(keeper(shop))));
    all
}

/// Changes its tree and pushes it; restores, forgets, brings back.
fn machine(shop: &Shop, number: usize) -> impl FnMut() -> Outcome {
    let (who, mut random) = (format!("machine{number}"), shop.random(number as u64 + 1));
    let sources: Vec<PathBuf> = shop.machines.iter().map(|machine| machine.path("src")).collect();
    let mut pushes = 0;
    move || {
        pushes += 1;
        change(&sources[number], &sources, &mut random);
        push(shop, &who, number, &format!("{who}-{pushes}"), &mut random)?;
        match random.below(4) {
            0 => forget(shop, &who, number, &mut random),
            1 => bring_back(shop, &who, number, &mut random),
            _ => restore(shop, &who, number, &mut random),
        }
    }
}

fn push(shop: &Shop, who: &str, number: usize, tag: &str, random: &mut Random) -> Outcome {
    let source = shop.machines[number].path("src");
    shop.model.lock().unwrap().pushing(tag, manifest(&source).map_err(|e| e.to_string())?);
    let is_killed = shop.kind.kills && random.below(4) == 0;
    let kill_after = is_killed.then(|| Duration::from_millis(random.below(400)));
    shop.journal.note(who, format_args!("pushes {tag}, killed after {kill_after:?}"));
    let begun = Instant::now();
    let args = ["push", "--json", "--tag", tag, "--target", who, "-C", source.to_str().unwrap(), "."];
    let ran = shop.run(number, &args, kill_after)?;
    let took = begun.elapsed().as_millis();
    let id = ran.json()["snapshot"].as_str().map(str::to_owned).filter(|_| ran.code() == Some(0));
    shop.journal.note(who, format_args!("pushed {tag} in {took} ms: {id:?} {:?}", ran.code()));
    let mut model = shop.model.lock().unwrap();
    model.count(if id.is_some() { "pushes" } else { "pushes cut short" });
    if !ran.is_excused {
        model.push_ms_max = model.push_ms_max.max(took);
    }
    model.pushed(tag, id.clone());
    match id {
        None if !ran.is_excused => Err(format!("a push failed: {}", ran.said())),
        _ => Ok(()),
    }
}

fn forget(shop: &Shop, who: &str, number: usize, random: &mut Random) -> Outcome {
    let Some((tag, id)) = shop.model.lock().unwrap().claim(random, &[State::Counts]) else { return Ok(()) };
    let now = shop.kind.protect == "0d" && random.below(2) == 0;
    shop.journal.note(who, format_args!("forgets {tag} ({id}), now: {now}"));
    let args: &[&str] = if now { &["forget", "--now", &id] } else { &["forget", &id] };
    let ran = shop.run(number, args, None)?;
    let state = match ran.code() {
        Some(0) if now => State::Gone,
        Some(0) => State::Forgotten,
        _ => State::Unknown,
    };
    let mut model = shop.model.lock().unwrap();
    model.count("forgotten");
    model.release(&tag, state);
    shop.journal.note(who, format_args!("forgot {tag}: {state:?}"));
    if ran.code() != Some(0) && !ran.is_excused { Err(format!("forgetting failed: {}", ran.said())) } else { Ok(()) }
}

fn bring_back(shop: &Shop, who: &str, number: usize, random: &mut Random) -> Outcome {
    let claimed = shop.model.lock().unwrap().claim(random, &[State::Forgotten]);
    let Some((tag, id)) = claimed else { return Ok(()) };
    shop.journal.note(who, format_args!("brings back {tag} ({id})"));
    let ran = shop.run(number, &["unforget", &id], None)?;
    let said = ran.said();
    // A prune may have emptied the trash.
    let is_gone = ran.code() == Some(1) && (said.contains("trash") || said.contains("gone for good"));
    let state = match ran.code() {
        Some(0) => State::Counts,
        _ if is_gone => State::Gone,
        _ => State::Unknown,
    };
    let mut model = shop.model.lock().unwrap();
    model.count(if state == State::Counts { "brought back" } else { "not brought back" });
    model.release(&tag, state);
    shop.journal.note(who, format_args!("brought back {tag}: {state:?}"));
    if state == State::Unknown && !ran.is_excused { Err(format!("bringing back failed: {said}")) } else { Ok(()) }
}

fn restore(shop: &Shop, who: &str, number: usize, random: &mut Random) -> Outcome {
    let Some((tag, id, expected)) = shop.model.lock().unwrap().read(random) else { return Ok(()) };
    shop.journal.note(who, format_args!("restores {tag} ({id})"));
    let outcome = shop.verify(number, &id, &expected, "out");
    let mut model = shop.model.lock().unwrap();
    model.count("restored");
    model.read_done(&tag);
    shop.journal.note(who, format_args!("restored {tag}"));
    outcome
}

/// Prunes; two of them overlap.
fn pruner(shop: &Shop, number: u64) -> impl FnMut() -> Outcome {
    let (who, mut random) = (format!("pruner{number}"), shop.random(number + 20));
    move || {
        let machine = random.below(MACHINES as u64) as usize;
        let is_killed = shop.kind.kills && random.below(4) == 0;
        let kill_after = is_killed.then(|| Duration::from_millis(random.below(600)));
        let args: &[&str] = match random.below(2) {
            0 => &["prune", "--yes", "--json", "--max-unused", "0"],
            _ => &["prune", "--yes", "--json"],
        };
        shop.journal.note(&who, format_args!("prunes, killed after {kill_after:?}"));
        let ran = shop.run(machine, args, kill_after)?;
        shop.journal.note(&who, format_args!("pruned: {:?} {}", ran.code(), text(&ran.output.stdout).trim()));
        let mut model = shop.model.lock().unwrap();
        match ran.code() {
            Some(0) => model.count("prunes"),
            Some(11) => model.count("prunes refused"),
            Some(1) if ran.json()["packs_damaged"].as_u64().unwrap_or(0) > 0 && shop.kind.damage => {
                model.count("prunes that met damage");
            }
            _ if ran.is_excused => model.count("prunes cut short"),
            _ => return Err(format!("a prune failed: {}", ran.said())),
        }
        drop(model);
        std::thread::sleep(Duration::from_millis(random.below(300)));
        Ok(())
    }
}

/// One mount that is open all the time, and a file in it.
fn mount(shop: &Shop) -> impl FnMut() -> Outcome {
    let (who, mut random) = ("mount", shop.random(40));
    move || {
        let Some(mount) = &shop.mount else { return Ok(()) };
        let claimed = shop.model.lock().unwrap().read(&mut random);
        let Some((tag, id, expected)) = claimed else {
            std::thread::sleep(Duration::from_millis(200));
            return Ok(());
        };
        shop.journal.note(who, format_args!("looks at {tag} ({id})"));
        let before = shop.outages.load(SeqCst);
        let mut look = || {
            // It is shown as soon as the mount has heard of it.
            let begun = Instant::now();
            let folder = loop {
                let entries = fs::read_dir(mount.point.join("ids")).into_iter().flatten().flatten();
                let mut names = entries.map(|entry| entry.file_name());
                if let Some(name) = names.find(|name| id.starts_with(name.to_str().unwrap())) {
                    break mount.point.join("ids").join(name);
                }
                if begun.elapsed() > Duration::from_secs(60) {
                    return Err("it is not shown".to_owned());
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            for _ in 0..2 {
                compare(&folder, &expected)?;
                std::thread::sleep(Duration::from_millis(random.below(200)));
            }
            Ok(())
        };
        let outcome = look();
        let mut model = shop.model.lock().unwrap();
        model.count("seen in the mount");
        model.read_done(&tag);
        shop.journal.note(who, format_args!("has looked at {tag}"));
        // A server that is away for long gives errors of input, and the mount heals.
        let is_excused = shop.outages.load(SeqCst) != before || before % 2 == 1;
        outcome.or_else(|problem| {
            if is_excused && problem.contains("os error 5") { Ok(()) } else { Err(format!("{tag}: {problem}")) }
        })
    }
}

/// Checks while the others push, forget, prune and scrub: nothing is ever wrong.
fn checker(shop: &Shop) -> impl FnMut() -> Outcome {
    let (who, mut random) = ("checker", shop.random(45));
    move || {
        let machine = random.below(MACHINES as u64) as usize;
        let is_killed = shop.kind.kills && random.below(8) == 0;
        let kill_after = is_killed.then(|| Duration::from_millis(random.below(400)));
        let args: &[&str] = match random.below(3) {
            0 => &["check"],
            1 => &["check", "--read-data-subset", "1/2"],
            _ => &["check", "--read-data"],
        };
        shop.journal.note(who, format_args!("{}, killed after {kill_after:?}", args.join(" ")));
        let ran = shop.run(machine, args, kill_after)?;
        shop.journal.note(who, format_args!("checked: {:?}", ran.code()));
        match ran.code() {
            Some(0) => shop.model.lock().unwrap().count("checks"),
            _ if ran.is_excused => shop.model.lock().unwrap().count("checks cut short"),
            _ => return Err(format!("a check: {}", ran.said())),
        }
        std::thread::sleep(Duration::from_millis(random.below(300)));
        Ok(())
    }
}

/// Damages what can be mended, scrubs, and kills the server.
fn keeper(shop: &Shop) -> impl FnMut() -> Outcome {
    let (who, mut random) = ("keeper", shop.random(50));
    let mut damaged: HashMap<PathBuf, (u64, u8)> = HashMap::new();
    move || {
        std::thread::sleep(Duration::from_millis(random.below(800)));
        if shop.kind.kills && random.below(2) == 0 {
            let without_index = random.below(4) == 0;
            shop.journal.note(who, format_args!("kills the server, and its index: {without_index}"));
            shop.kill_server(without_index);
            shop.journal.note(who, "the server is back");
            shop.model.lock().unwrap().count("servers killed");
        }
        if shop.kind.damage {
            (0..3).for_each(|_| damage(shop, &mut random, &mut damaged));
        }
        if random.below(2) == 0 {
            let scrubbed = shop.scrub();
            shop.journal.note(who, format_args!("scrubbed: {}", text(&scrubbed.stdout).trim()));
            shop.model.lock().unwrap().count("scrubs");
            if !scrubbed.status.success() {
                return Err(format!("a scrub: {}{}", text(&scrubbed.stdout), text(&scrubbed.stderr)));
            }
        }
        Ok(())
    }
}

/// Flips a bit of a pack that has its parity and none flipped yet.
fn damage(shop: &Shop, random: &mut Random, damaged: &mut HashMap<PathBuf, (u64, u8)>) {
    let folders = fs::read_dir(shop.folder().join("packs")).into_iter().flatten().flatten();
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
        shop.journal.note("keeper", format_args!("damaged {} at {at}", path.display()));
        shop.model.lock().unwrap().count("packs damaged");
        damaged.insert(path, (at, byte[0]));
    }
}
