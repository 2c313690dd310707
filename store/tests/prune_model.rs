//! The protocol of pruning (`docs/design/0012-condemn-at-once.md`), model-checked: every order in which clients,
//! pruners and the store can take their steps in some small worlds, with every message late, lost or repeated, and
//! every party dead at any moment. In a sound world, all invariants hold in every state. In a broken world, one rule of
//! the protocol is left out, and the search must find how data is lost. Otherwise the rule would serve no purpose.
//!
//! **Modelled** are open, which tells what was lost since; has; put, which revives; pins, which the store may forget;
//! commits, which name a generation and may be under way while their session dies; sessions that open again after a
//! refusal, and continue or start over; known-sets and file caches, which outlive their clients and may be shared by
//! two; snapshots, which expire at any time; several pruners at a time; mark, with filters that hold too much;
//! snapshots that are marked later; a choice of packs that is worked out before the lock is taken; condemn; sweep, pack
//! by pack, with copying; the grave; abort at any time; condemn messages that come late or again; pruners that never
//! come back; and a store that forgets marks and pins, and perhaps its whole index.
//!
//! **Not modelled** are: that a step of the store is one transaction (the crash tests check that); a store that lies or
//! is rolled back (incarnation and log head are for that); damage; trust domains; forget and unforget, because the
//! trash is a root like any other; what is inside a mark, because trees never change, and a tree that cannot be read
//! ends the mark; and times (7 days of a pin, the floor of the grave): here each time may be over at any moment, and no
//! invariant needs it to last.
//!
//! **Which rule is which.** These rules must not be dropped, and each has a broken world: *the delta at open* is
//! `NoDeltaAtOpen`; *the wait* is here a commit's check of the generation (`CommitWithoutGeneration`), together with
//! the *compare-and-swap* of two prunes (`NoCompareAndSwap`); *the re-mark* is here that condemn looks for commits
//! since the mark (`NoLookForCommits`); *the fixed set* is `SweepOutsideFilter`; and *the put of a condemned pack* is
//! `AlreadyHaveIt`.
//!
//! **Worlds** have one or two chunks, up to five packs, two clients or two sessions, and up to three prunes. They are
//! searched to the end. The bound on the depth is there only to end a search whose world was made larger.
//!
//! `cargo test -p bkfs-store --test prune_model -- --nocapture` prints how many states there were, and each way of
//! losing data. `--ignored` searches larger worlds.

#![allow(clippy::unwrap_used)]

#[path = "prune_model/search.rs"]
mod search;
#[path = "prune_model/state.rs"]
mod state;
#[path = "prune_model/store.rs"]
mod store;
#[path = "prune_model/world.rs"]
mod world;

use search::{KEPT, Step, search};
use state::Set;
use world::{Broken, World};

/// More steps in a row than any of the worlds has.
const DEPTH: usize = 50;

#[track_caller]
fn holds(world: World) {
    let found = search(world, DEPTH);
    println!("{} states, up to {} steps away", found.states, found.depth);
    assert_eq!(found.violation, None);
    assert_eq!(found.unmet, [""; 0], "never happened");
    assert!(found.states > 1_000 && found.depth < DEPTH, "searched to the end: {found:?}");
}

/// Searches a world that is broken in this way, and returns the shortest way in which it loses data.
#[track_caller]
fn loses(world: World, broken: Broken) -> Vec<Step> {
    let found = search(world.but(broken), DEPTH);
    let (violated, steps) = found.violation.expect("the search finds how data is lost");
    println!("{broken:?}, after {} states:\n  {steps:?}", found.states);
    assert_eq!(violated, KEPT);
    steps
}

/// One client that knows what is stored, and one prune.
fn knowing() -> World {
    World::two_clients().with([1, 0], 1)
}

/// One client that knows nothing, and one prune.
fn ignorant() -> World {
    World::two_clients().with([0, 1], 1)
}

#[test]
fn two_clients_and_two_prunes() {
    holds(World::two_clients());
}

#[test]
fn two_sessions_with_one_known_set() {
    holds(World::one_machine().with([1, 1], 3));
}

#[test]
fn two_targets_of_one_machine() {
    holds(World::two_targets().with([1, 1], 2));
}

#[test]
fn commits_that_dead_sessions_left_behind() {
    holds(World::leftovers().with([2, 0], 3));
}

#[test]
fn trees_that_are_reused_from_a_cache() {
    holds(World::tree().with([2, 0], 3));
}

#[test]
fn packs_that_are_repacked() {
    holds(World::repack().with([2, 0], 2));
}

#[test]
fn frames_that_a_key_holder_rewrites() {
    holds(World::mixed(Set(0b10)).with([2, 0], 2));
    holds(World::mixed(Set(0b11)).with([1, 0], 2));
}

#[test]
fn two_copies_of_one_chunk() {
    holds(World::two_copies().with([1, 0], 2));
}

/// Pins save work, not data: when a session opens again, it is told what was condemned of its packs.
#[test]
fn two_clients_without_pins() {
    holds(World { pins: false, ..World::two_clients() });
}

/// Replies to puts and commits are lost, so the same is requested again.
#[test]
fn lost_replies() {
    holds(World { lossy: true, ..World::two_clients() }.with([1, 0], 2));
}

#[test]
#[ignore = "half a minute on an idle machine"]
fn two_clients_with_lost_replies() {
    holds(World { lossy: true, ..World::two_clients() }.with([1, 1], 2));
}

#[test]
#[ignore = "half a minute on an idle machine"]
fn two_clients_and_three_prunes() {
    holds(World::two_clients().with([1, 1], 3));
}

#[test]
#[ignore = "half a minute on an idle machine"]
fn two_clients_that_push_twice() {
    holds(World::two_clients().with([2, 2], 2));
}

#[test]
#[ignore = "half a minute on an idle machine"]
fn two_clients_with_leftovers() {
    holds(World { late: true, ..World::two_clients() }.with([2, 1], 2));
}

#[test]
fn loses_data_without_the_delta_at_open() {
    loses(knowing(), Broken::NoDeltaAtOpen);
}

#[test]
fn loses_data_if_a_commit_does_not_check_the_generation() {
    let steps = loses(knowing(), Broken::CommitWithoutGeneration);
    assert!(!steps.contains(&Step::Reopen(0)));
}

#[test]
fn loses_data_if_condemn_does_not_look_for_commits_since_the_mark() {
    let steps = loses(knowing(), Broken::NoLookForCommits);
    let place = |wanted: Step| steps.iter().position(|step| *step == wanted);
    assert!(place(Step::Commit(0)) < place(Step::Condemn(0)));
}

#[test]
fn loses_data_without_compare_and_swap() {
    let steps = loses(World::two_copies().with([1, 0], 2), Broken::NoCompareAndSwap);
    assert!(steps.contains(&Step::Condemn(0)) && steps.contains(&Step::Condemn(1)));
}

#[test]
fn loses_data_if_everything_outside_the_filter_is_swept() {
    loses(knowing(), Broken::SweepOutsideFilter);
}

#[test]
fn loses_data_if_a_put_of_a_condemned_pack_changes_nothing() {
    let steps = loses(ignorant(), Broken::AlreadyHaveIt);
    assert_eq!(steps.iter().filter(|step| **step == Step::Put(1, 0)).count(), 2);
}

#[test]
fn loses_data_if_a_revival_is_not_logged() {
    let steps = loses(ignorant(), Broken::RevivalNotLogged);
    assert!(steps.contains(&Step::StoreCrashes));
}

#[test]
fn loses_data_if_a_repack_copies_nothing() {
    loses(World::repack(), Broken::RepackWithoutCopy);
}

#[test]
fn loses_data_if_a_claim_to_have_moved_chunks_is_believed() {
    let steps = loses(World::mixed(Set(0b10)), Broken::MovedWithoutCopy);
    assert!(steps.contains(&Step::SayMoved(0)));
}

#[test]
fn loses_data_if_moved_frames_are_not_looked_at_again() {
    let steps = loses(World::mixed(Set(0b10)), Broken::MovedForEver);
    assert!(steps.contains(&Step::Rewrite(0)) && steps.contains(&Step::MarkMore(0)));
}

#[test]
fn loses_data_if_a_shared_known_set_is_not_guarded() {
    loses(World::one_machine(), Broken::SharedSetUnguarded);
}

#[test]
fn loses_data_if_a_push_records_as_seen_what_it_has_not_recorded_as_lost() {
    let steps = loses(World::two_targets(), Broken::SeenMovesOn);
    assert!(steps.iter().any(|step| matches!(step, Step::Reopen(_))));
}

#[test]
fn loses_data_if_trees_are_reused_by_their_ids() {
    loses(World::tree(), Broken::TreesById);
}

#[test]
fn loses_data_if_a_push_that_opens_again_trusts_its_cache() {
    let steps = loses(World::tree(), Broken::ReopenTrustsTheCache);
    assert!(steps.contains(&Step::Reopen(0)));
}
