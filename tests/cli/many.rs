//! The real program, many at once: machines of one account that push changing trees, restore, forget and bring back, prunes that overlap, a
//! mount that is open all the time, checks, and a keeper who damages packs, scrubs, and kills the server; over QUIC on the loopback, against a model
//! of what must come back.
//!
//! A snapshot that was acknowledged and not forgotten restores to exactly the tree that was pushed: names, kinds, modes, times, contents, link
//! targets, hard links. So does one that was not acknowledged, if it is there. Without kills no command fails, but for a prune that another one
//! overtook (exit code 11) or that met a damaged pack.
//!
//! Each actor's choices follow from `BKFS_MANY_SEED`, how they interleave does not: a failure shows the seed and what everybody did. `BKFS_MANY_STEPS` and
//! `BKFS_MANY_ROUNDS` make it long:
//!
//! `BKFS_MANY_ROUNDS=50 BKFS_MANY_STEPS=40 cargo test --test cli many -- --nocapture`
//!
//! `store/tests/many.rs` does the same with the library alone, faster and meaner.

mod actors;
mod manifest;
mod model;
mod site;

use std::sync::atomic::Ordering::SeqCst;

use site::{Scenario, Site};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn run(scenario: Scenario) {
    let (seed, rounds) = (number("BKFS_MANY_SEED", 1), number("BKFS_MANY_ROUNDS", 1));
    let steps = number("BKFS_MANY_STEPS", 5);
    for seed in seed..seed + rounds {
        println!("seed {seed}, {scenario:?}");
        let site = Site::new(scenario, seed);
        let outcome = go(&site, steps).and_then(|()| site.end());
        println!("  {}", site.model.lock().unwrap().summary());
        if let Err(problem) = outcome {
            panic!("seed {seed}, {scenario:?}: {problem}\n{}", site.journal.text());
        }
    }
}

fn go(site: &Site, steps: u64) -> Result<(), String> {
    std::thread::scope(|scope| {
        let actors: Vec<_> = actors::all(site)
            .into_iter()
            .map(|(name, mut act)| {
                scope.spawn(move || {
                    for _ in 0..steps {
                        if site.failed.load(SeqCst) {
                            break;
                        }
                        if let Err(problem) = act() {
                            site.journal.note(&name, format_args!("FAILED: {problem}"));
                            site.failed.store(true, SeqCst);
                            return Err(format!("{name}: {problem}"));
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        let ended: Vec<_> = actors.into_iter().map(|actor| actor.join().expect("an actor")).collect();
        ended.into_iter().collect()
    })
}

#[test]
fn many_at_once() {
    run(Scenario { protect: "0d", kills: false, damage: true });
}

#[test]
fn many_at_once_while_server_and_clients_are_killed() {
    run(Scenario { protect: "2s", kills: true, damage: false });
}
