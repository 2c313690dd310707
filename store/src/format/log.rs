//! The log of a repository: its records, how a file frames them, and what can be salvaged of a damaged log.

pub mod file;
mod record;
pub mod salvage;

pub use record::{Event, LogRecord};
