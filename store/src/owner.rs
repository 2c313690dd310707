//! Above the seam: what the holder of a full key does with a repository.
//!
//! - [`keyring`] opens data keys, [`reader`] reads chunks, files and snapshots;
//! - [`retention`] decides which snapshots to keep: pure functions over plain rows;
//! - [`rotation`] replaces the seal key;
//! - [`check`] verifies a repository, [`repair`] repairs its packs, [`prune`] reclaims space.
//!
//! All of them reach the store through the traits of [`crate::access`], and trust nothing that comes back before they
//! have verified it.

pub mod check;
mod frames;
pub mod keyring;
mod packs;
mod pages;
pub mod prune;
pub mod reader;
mod references;
pub mod repair;
pub mod retention;
pub mod rotation;
mod verdicts;
mod workers;
