//! Modified clients and servers: what they can do, and what nobody notices but the store and its owner.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod audit;
mod challenges;
mod crowd;
mod figures;
mod freeze;
mod junk;
mod liar;
mod lists;
mod logs;
mod memory;
mod names;
mod opened;
mod peer;
mod planted;
mod poison;
mod rotation;
mod slots;
mod texts;
mod wire;
