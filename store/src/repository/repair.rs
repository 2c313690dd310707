//! Repairing a repository: rebuilding its index, and dropping packs that are damaged beyond mending.

mod packs;
mod rebuild;

pub use rebuild::IndexReport;
