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
mod shop;

use std::sync::atomic::Ordering::SeqCst;

use shop::{Kind, Shop};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn run(kind: Kind) {
    let (seed, rounds) = (number("BKFS_MANY_SEED", 1), number("BKFS_MANY_ROUNDS", 1));
    let steps = number("BKFS_MANY_STEPS", 5);
    for seed in seed..seed + rounds {
        println!("seed {seed}, {kind:?}");
        let shop = Shop::new(kind, seed);
        let outcome = go(&shop, steps).and_then(|()| shop.end());
        println!("  {}", shop.model.lock().unwrap().summary());
        if let Err(problem) = outcome {
            panic!("seed {seed}, {kind:?}: {problem}\n{}", shop.journal.text());
        }
    }
}

fn go(shop: &Shop, steps: u64) -> Result<(), String> {
    std::thread::scope(|scope| {
        let actors: Vec<_> = actors::all(shop)
            .into_iter()
            .map(|(name, mut act)| {
                scope.spawn(move || {
                    for _ in 0..steps {
                        if shop.failed.load(SeqCst) {
                            break;
                        }
                        if let Err(problem) = act() {
                            shop.journal.note(&name, format_args!("FAILED: {problem}"));
                            shop.failed.store(true, SeqCst);
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
    run(Kind { protect: "0d", kills: false, damage: true });
}

#[test]
fn many_at_once_while_server_and_clients_are_killed() {
    run(Kind { protect: "2s", kills: true, damage: false });
}
