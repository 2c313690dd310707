//! The log on disk.

pub mod pair;
