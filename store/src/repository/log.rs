//! The log of a repository: two files of the same records, the index that follows them, and the repair of a damaged
//! log.

mod follow;
pub mod pair;
mod relog;
mod rosters;

pub(super) use follow::Log;
pub use relog::{LogReport, repair_log, repair_log_on};
pub(super) use rosters::Rosters;
