//! The real program, many at the same time: machines of one account push changing trees, restore, forget and unforget;
//! prunes overlap; a mount is open all the time; checks run; and a keeper damages packs, scrubs, and kills the server.
//! All of it goes over QUIC on loopback and is compared with a model of what must come back.
//!
//! A snapshot that was acknowledged and not forgotten restores to exactly the tree that was pushed: names, kinds,
//! modes, times, contents, link targets and hard links. So does a snapshot that was not acknowledged, if it is there.
//! Without kills no command fails, except a prune that another one overtook (exit code 11) or that found a damaged
//! pack.
//!
//! The choices of each actor follow from `BKFS_MANY_SEED`, but how the actors interleave does not. A failure prints the
//! seed and what every actor did. `BKFS_MANY_STEPS` and `BKFS_MANY_ROUNDS` make the test longer:
//!
//! `BKFS_MANY_ROUNDS=50 BKFS_MANY_STEPS=40 cargo test --test cli many -- --nocapture`
//!
//! `store/tests/many.rs` does the same with the library alone. It is faster and harsher.

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
        let outcome = run_actors(&site, steps).and_then(|()| site.end());
        println!("  {}", site.model.lock().unwrap().summary());
        if let Err(problem) = outcome {
            panic!("seed {seed}, {scenario:?}: {problem}\n{}", site.journal.text());
        }
    }
}

fn run_actors(site: &Site, steps: u64) -> Result<(), String> {
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
fn many_at_the_same_time() {
    run(Scenario { protect: "0d", kills: false, damage: true });
}

#[test]
fn many_at_the_same_time_while_server_and_clients_are_killed() {
    run(Scenario { protect: "2s", kills: true, damage: false });
}
