//! The log on disk.

pub(in crate::repository) mod follow;
pub mod pair;
mod relog;

pub use relog::LogReport;
