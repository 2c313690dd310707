//! The caller of a request that may take long, and much room.

use crate::base::error::{Error, Result};

/// Tells whether the caller of a request still waits for the reply, and how much room it has. Long steps ask now and
/// then, and end if it does not wait: they hold up the requests of others.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    is_gone: &'a dyn Fn() -> bool,
    copies_max: u64,
}

impl<'a> Caller<'a> {
    /// A caller that waits until `is_gone` returns true.
    pub fn new(is_gone: &'a dyn Fn() -> bool) -> Self {
        Self { is_gone, copies_max: u64::MAX }
    }

    /// The same caller, for whom a sweep copies at most so many bytes of frames; but in any case as much as the packs
    /// have more than the grave. If all that is left needs more, the sweep fails with [`Error::OverQuota`].
    pub fn copying_at_most(self, bytes: u64) -> Self {
        Self { copies_max: bytes, ..self }
    }

    /// A caller that waits for the reply whatever happens.
    pub fn staying() -> Self {
        Self::new(&|| false)
    }

    pub(super) fn copies_max(self) -> u64 {
        self.copies_max
    }

    pub(super) fn is_gone(self) -> bool {
        (self.is_gone)()
    }

    /// Fails if the caller is gone.
    pub(super) fn expect_there(self) -> Result<()> {
        match self.is_gone() {
            true => Err(gone()),
            false => Ok(()),
        }
    }
}

/// The error of a step that ended because its caller is gone.
pub(super) fn gone() -> Error {
    Error::Interrupted
}
