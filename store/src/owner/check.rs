//! Checking a repository with its full key: that every snapshot can reach all that it needs and, on request, that every
//! stored byte is right.
//!
//! A check has three parts:
//!
//! - *History*: the log's chain of hashes, the rosters in it, the snapshots and their chains; and that the store
//!   withholds no committed snapshot.
//! - *Packs*: those whose files are missing or have a wrong length and, on request, all of them or some ([`ReadData`]).
//!   Each of these is read whole. Its id, table and signature are
//!   verified, every frame is opened, and every chunk is compared with its id. Whether the frames hold what they should
//!   is recorded as a signed [verdict](crate::format::verdict).
//! - *Trees*: every page that a snapshot reaches is loaded, and the store is asked for the chunks that files need.
//!   Chunks that the store lacks or that are in a bad frame are read, so that the report names the damaged files.
//!
//! Problems do not end a check: all of them are reported. A check changes no data, but it has the store mend
//! packs that parity can mend, and [quarantine](crate::format::loss) those that it cannot. Memory is bounded, except
//! for 16 bytes for each tree page and 32 for each chunk in a bad frame: the store is asked for chunks of data in
//! batches, and asked again rather than remembered.
//!
//! **Concurrency.** Others push, forget, prune, mend and enrol clients during a check. What they remove is not a
//! problem. So when something is missing, the check looks again whether its snapshot has gone since, or its pack is no
//! longer listed. A damaged pack is read again if the store reports it as whole.

mod context;
mod findings;
mod history;
mod options;
mod packs;
mod progress;
mod report;
mod subset;
mod tree_path;
mod trees;

pub use options::CheckOptions;
pub use progress::CheckProgress;
pub use report::{CheckReport, Problem};
pub use subset::{ReadData, Share};

use self::{context::CheckContext, findings::Findings};
use crate::{
    access::{Access, Opened},
    base::error::Result,
    owner::reader::Reader,
};

/// Checks a repository. `access` is the store that `reader` reads from, and `opened` its reply to opening it: the check
/// covers the log up to that moment. Returns an error only if the check cannot continue; problems are in the report.
pub fn check(
    reader: &Reader,
    access: &dyn Access,
    opened: &Opened,
    options: &CheckOptions,
    progress: &CheckProgress,
) -> Result<CheckReport> {
    let findings = Findings::default();
    let check = CheckContext { reader, access, progress, findings: &findings };
    let mut report = CheckReport::default();
    let snapshots = history::check(&check, opened, &mut report)?;
    let bad = packs::check(&check, options, &mut report)?;
    trees::check(&check, &snapshots, &bad, &mut report)?;
    (report.problems, report.problems_total) = findings.into_parts();
    Ok(report)
}
