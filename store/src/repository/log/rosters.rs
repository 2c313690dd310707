//! The newest roster that the index has read from the log.

use std::sync::Arc;

use crate::{
    base::error::{Error, Result},
    format::roster::{Roster, verify_roster},
    repository::{index::Index, objects::Objects},
};

/// Finds the newest roster.
#[derive(Debug)]
pub struct Rosters {
    index: Arc<Index>,
    objects: Arc<Objects>,
}

impl Rosters {
    pub fn new(index: Arc<Index>, objects: Arc<Objects>) -> Self {
        Self { index, objects }
    }

    /// The newest roster's signed bytes.
    pub fn signed(&self) -> Result<Vec<u8>> {
        self.index.log().roster()?.ok_or_else(|| Error::damaged("the log", "it holds no roster"))
    }

    /// The newest roster, verified.
    pub fn newest(&self) -> Result<Roster> {
        let config = self.objects.config()?;
        verify_roster(&self.signed()?, &config.admin, config.config.repo)
    }
}
