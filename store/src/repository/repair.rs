//! Repairing a repository: rebuilding its index, and dropping packs that are damaged beyond mending. (The log is
//! repaired by [`super::log::repair_log`].)

pub(super) mod drop;
pub(super) mod index_report;
mod rebuild;

pub use index_report::IndexReport;
pub use rebuild::rebuild_index;
