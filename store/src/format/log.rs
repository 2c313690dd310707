//! The log of a repository: its records, their encoding in a file, and the recovery of a damaged log.

pub mod file;
mod record;
pub mod salvage;

pub use record::{Event, LogRecord};
