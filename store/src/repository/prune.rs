//! The store's half of a prune.

pub mod condemned;
pub(in crate::repository) mod marking;
pub mod plan;
pub(in crate::repository) mod reframe;
pub(in crate::repository) mod sets;
mod sweep;

pub use sweep::{Revived, Tidied};
