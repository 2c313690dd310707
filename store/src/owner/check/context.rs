//! What every part of a check works with.

use super::{findings::Findings, progress::CheckProgress};
use crate::{access::Access, owner::reader::Reader};

/// The repository, and where progress and problems go.
#[derive(Clone, Copy)]
pub(super) struct CheckContext<'a> {
    pub reader: &'a Reader,
    /// The store that `reader` reads from.
    pub access: &'a dyn Access,
    pub progress: &'a CheckProgress,
    pub findings: &'a Findings,
}
