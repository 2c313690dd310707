//! The caller of a request that may take long.

use crate::base::error::{Error, Result};

/// Tells whether the caller of a request still waits for the reply. Long steps ask now and then, and end if it does
/// not: they hold up the requests of others.
#[derive(Clone, Copy)]
pub struct Caller<'a>(&'a dyn Fn() -> bool);

impl<'a> Caller<'a> {
    /// A caller that waits until `is_gone` returns true.
    pub fn new(is_gone: &'a dyn Fn() -> bool) -> Self {
        Self(is_gone)
    }

    /// A caller that waits for the reply whatever happens.
    pub fn staying() -> Self {
        Self(&|| false)
    }

    pub(super) fn is_gone(self) -> bool {
        (self.0)()
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
    Error::Unreachable("the client is gone".into())
}
