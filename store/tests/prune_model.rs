//! The protocol of forgetting and pruning (`docs/design/0008-prune-protocol.md`), model-checked: every order in which clients,
//! pruners and the store can take their steps in some small worlds, with every message late, lost or twice, and every party dead at any
//! moment. In a sound world all invariants hold in every state; in a broken one, where one rule of the protocol is left out, the search must find
//! how data is lost, or the rule would be there for nothing.
//!
//! **Modelled** are open with what was lost since, has with answers that come late, put with pins, advance with an answer that is lost,
//! commits that are under way while their session dies, leases that end at any time, bases that are pinned, known-sets that outlive their
//! clients and may be shared by two; snapshots that expire at any time; mark with filters that hold too much, condemn, wait, re-mark,
//! sweep pack by pack with repacking, the grave, abort at any time; messages of pruners that come late, again, or out of order, and pruners that
//! never come back, while others go on. Each step of the store is one transaction, so its crashes only take away what it does not write down:
//! leases.
//!
//! **Not modelled**: that a step of the store is one transaction (the crash tests are for that); a store that lies or is rolled back, which
//! incarnation and log head are for; damage; trust domains; forget and unforget, because the trash is a root like any other; what is inside a
//! mark, because trees never change, and one that cannot be read ends the mark; the times (7 days of resuming, 24 hours of a lease, 72 hours of
//! the grave): here each may be over at once, and none of the invariants needs that it is not.
//!
//! **Worlds** have one or two chunks, up to five packs, two clients or two sessions, up to three prunes. They are searched to the end,
//! so the bound on the depth is only there to end a search whose world was made larger.
//!
//! `cargo test -p bkfs-store --test prune_model -- --nocapture` prints how many states there were, and each way of losing data.
//! `--ignored` searches larger worlds.

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
use world::{Broken, World};

/// More steps than any of the worlds has in a row.
const DEPTH: usize = 50;

#[track_caller]
fn holds(world: World) {
    let found = search(world, DEPTH);
    println!("{} states, up to {} steps away", found.states, found.depth);
    assert_eq!(found.violation, None);
    assert_eq!(found.unmet, [""; 0], "was not met with");
    assert!(found.states > 1_000 && found.depth < DEPTH, "searched to the end: {found:?}");
}

/// Searches a world that is broken so, and returns the shortest way in which it loses data.
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
fn two_clients_and_three_prunes() {
    holds(World::two_clients().with([1, 1], 3));
}

#[test]
fn two_sessions_with_one_known_set() {
    holds(World::one_machine().with([1, 1], 3));
}

#[test]
fn leases_and_commits_that_dead_sessions_left() {
    holds(World::leftovers().with([2, 0], 3));
}

#[test]
fn trees_that_are_reused_from_a_base() {
    holds(World::tree().with([2, 0], 3));
}

#[test]
fn packs_that_are_repacked() {
    holds(World::repack().with([2, 0], 3));
}

/// Pins save work, not data: what is condemned of a running session it is told when it advances.
#[test]
fn two_clients_without_pins() {
    holds(World { pins: false, ..World::two_clients() });
}

#[test]
#[ignore = "half a minute on an idle machine"]
fn two_clients_that_push_twice() {
    holds(World::two_clients().with([2, 2], 2));
}

#[test]
#[ignore = "half a minute on an idle machine"]
fn two_clients_with_leftovers() {
    holds(World { late: true, leases: 2, ..World::two_clients() }.with([1, 1], 1));
}

#[test]
fn loses_data_without_the_delta_at_open() {
    loses(knowing(), Broken::NoDeltaAtOpen);
}

#[test]
fn loses_data_without_the_wait() {
    loses(knowing(), Broken::NoWait);
}

#[test]
fn loses_data_without_the_remark() {
    let steps = loses(knowing(), Broken::NoRemark);
    assert!(!steps.contains(&Step::Walk(0)));
}

#[test]
fn loses_data_if_all_outside_the_filter_is_swept() {
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
fn loses_data_if_prunes_are_not_told_apart() {
    let steps = loses(World::two_clients().with([1, 0], 2), Broken::NoFence);
    assert!(steps.contains(&Step::Condemn(1)) && !steps.contains(&Step::Walk(1)));
}

#[test]
fn loses_data_without_compare_and_swap() {
    let steps = loses(knowing(), Broken::NoCompareAndSwap);
    assert_eq!(steps.iter().filter(|step| **step == Step::Condemn(0)).count(), 2);
}

#[test]
fn loses_data_if_the_store_reckons_what_it_told() {
    let steps = loses(knowing(), Broken::DeltaFromTheStoresMemory);
    assert!(steps.contains(&Step::AdvanceUnanswered(0)));
}

#[test]
fn loses_data_if_a_commit_does_not_name_its_generation() {
    let steps = loses(knowing(), Broken::CommitWithoutGeneration);
    assert!(steps.contains(&Step::AdvanceUnanswered(0)));
}

#[test]
fn loses_data_if_an_old_yes_counts() {
    loses(ignorant(), Broken::StaleYes);
}

#[test]
fn loses_data_if_a_shared_known_set_is_not_guarded() {
    loses(World::one_machine(), Broken::SharedSetUnguarded);
}

#[test]
fn loses_data_if_a_base_is_not_pinned() {
    loses(World::tree(), Broken::BaseNotPinned);
}

#[test]
fn loses_data_if_an_expired_base_is_pinned() {
    loses(World::tree(), Broken::ExpiredBase);
}

#[test]
fn loses_data_if_the_remark_passes_over_what_has_expired() {
    loses(World::tree(), Broken::RemarkPassesOverExpired);
}

#[test]
fn loses_data_if_trees_are_reused_by_their_ids() {
    loses(World::tree(), Broken::TreesById);
}

#[test]
fn loses_data_if_a_repack_copies_nothing() {
    loses(World::repack(), Broken::RepackWithoutCopy);
}
