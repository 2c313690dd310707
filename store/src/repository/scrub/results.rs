//! The results of the last scrub, as they are kept with a repository. There is one copy: a scrub can be run again.

use std::path::Path;

use super::report::ScrubReport;
use crate::{
    base::{codec::Header, error::Result},
    repository::backend::{Backend, LocalBackend},
};

pub(super) const HEADER: Header = Header { what: "the last scrub's results", magic: *b"bkfsscrb", version: 1 };
const NAME: &str = "scrub";

/// The results of the last scrub of the repository in a folder. The repository is not opened.
pub fn last_scrub_in(folder: &Path) -> Result<Option<ScrubReport>> {
    read(&LocalBackend::new(folder))
}

/// The kept results; none if there are none, or they cannot be read.
pub(super) fn read(backend: &dyn Backend) -> Result<Option<ScrubReport>> {
    let read = match backend.get(NAME) {
        Err(error) if !error.is_unreadable() => return Err(error),
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => HEADER.decode(&bytes),
        Err(error) => Err(error),
    };
    match read {
        Ok(report) => Ok(Some(report)),
        Err(error) => {
            tracing::warn!(%error, "the results of the last scrub cannot be read and are ignored");
            Ok(None)
        }
    }
}

/// Keeps results.
pub(super) fn write(backend: &dyn Backend, report: &ScrubReport) -> Result<()> {
    backend.put(NAME, &HEADER.encode(report))
}
