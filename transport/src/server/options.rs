//! What can be chosen when a server starts.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bkfs_store::format::erasure::Parity;

/// The options of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The parity of repositories that are made from now on.
    pub parity: Option<Parity>,
    /// When and how fast to scrub in the background; `None` if the server does not.
    pub scrub: Option<ScrubSchedule>,
    /// How often to remove what is due from trashes and graves.
    pub tidy_every: Duration,
    /// How long a repository stays open that nobody uses.
    pub close_after: Duration,
    /// Where to record who did what; `None` if nowhere.
    pub audit: Option<AuditOptions>,
    /// The TCP address at which to answer `/metrics` and `/healthz`; `None` if nowhere.
    pub metrics: Option<SocketAddr>,
}

/// Where and how much to record of who did what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// The file.
    pub path: PathBuf,
    /// A file that would become longer is renamed, and a new one begun.
    pub bytes_max: u64,
    /// How many renamed files are kept.
    pub kept: u32,
}

impl Default for Options {
    fn default() -> Self {
        let scrub = Some(ScrubSchedule::default());
        Self {
            parity: Some(Parity::default()),
            scrub,
            tidy_every: Duration::from_secs(86_400),
            close_after: Duration::from_secs(900),
            audit: None,
            metrics: None,
        }
    }
}

/// When and how fast a server scrubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubSchedule {
    /// The time from the end of a scrub to the next one of the same repository.
    pub every: Duration,
    /// The most that a scrub reads in a second.
    pub bytes_per_second: u64,
}

impl Default for ScrubSchedule {
    /// Once a month. A terabyte takes 14 hours.
    fn default() -> Self {
        Self { every: Duration::from_secs(30 * 86_400), bytes_per_second: 20 << 20 }
    }
}
