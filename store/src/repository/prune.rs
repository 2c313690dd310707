//! The store's half of a prune.

pub mod condemned;
pub mod plan;
