//! The newest roster that the index has read from the log.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    base::error::{Error, Result},
    format::roster::{Domains, Roster, verify_roster},
    repository::{index::Index, objects::Objects},
};

/// Finds the newest roster.
#[derive(Debug)]
pub struct Rosters {
    index: Arc<Index>,
    objects: Arc<Objects>,
    /// The roster that was verified last. It is asked for with each question about chunks.
    verified: Mutex<Option<Verified>>,
}

#[derive(Debug, Clone)]
struct Verified {
    signed: Arc<[u8]>,
    roster: Arc<Roster>,
    domains: Arc<Domains>,
}

impl Rosters {
    pub fn new(index: Arc<Index>, objects: Arc<Objects>) -> Self {
        Self { index, objects, verified: Mutex::default() }
    }

    /// The newest roster's signed bytes.
    pub fn signed(&self) -> Result<Vec<u8>> {
        self.index.log().roster()?.ok_or_else(|| Error::damaged("the log", "it holds no roster"))
    }

    /// The newest roster, verified.
    pub fn newest(&self) -> Result<Arc<Roster>> {
        self.verified().map(|verified| verified.roster)
    }

    /// The trust domains of the clients on the newest roster.
    pub fn domains(&self) -> Result<Arc<Domains>> {
        self.verified().map(|verified| verified.domains)
    }

    fn verified(&self) -> Result<Verified> {
        let signed = self.signed()?;
        let mut verified = self.verified.lock();
        match &*verified {
            Some(known) if known.signed[..] == signed[..] => Ok(known.clone()),
            _ => {
                let config = self.objects.config()?;
                let roster = verify_roster(&signed, &config.admin, config.config.repo)?;
                let domains = Arc::new(Domains::new(&roster));
                Ok(verified.insert(Verified { signed: signed.into(), roster: Arc::new(roster), domains }).clone())
            }
        }
    }
}
