//! What whoever keeps the store has settled for a repository. It is no part of the signed configuration: how well disks
//! are trusted and what space costs is the keeper's business, it may change, and it means nothing to clients.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
    },
    format::erasure::Parity,
    repository::{Repository, layout},
};

const HEADER: Header = Header { what: "the store's settings", magic: *b"bkfsstst", version: 1 };

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Settings {
    /// Parity in percent; 0: none.
    #[n(0)]
    parity: u8,
}

fn decode(bytes: &[u8]) -> Result<Option<Parity>> {
    let settings: Settings = HEADER.decode(bytes)?;
    match (settings.parity, Parity::percent(settings.parity)) {
        (0, _) => Ok(None),
        (_, Some(parity)) => Ok(Some(parity)),
        _ => Err(Error::damaged(HEADER.what, format!("a parity of {} percent", settings.parity))),
    }
}

/// Whether these are settings.
pub(in crate::repository) fn check(bytes: &[u8]) -> Result<()> {
    decode(bytes).map(drop)
}

impl Repository {
    /// Says how much parity a repository gets that [`crate::access::Access::init`] makes; without this, the default.
    pub fn with_parity(mut self, parity: Option<Parity>) -> Self {
        self.parity_at_init = parity;
        self
    }

    /// How much parity packs get.
    pub fn parity(&self) -> Result<Option<Parity>> {
        Ok(self.state()?.parity)
    }

    pub(in crate::repository) fn put_settings(&self, parity: Option<Parity>) -> Result<()> {
        let settings = Settings { parity: parity.map_or(0, Parity::get) };
        self.put_object(layout::SETTINGS, &HEADER.encode(&settings))
    }

    /// The settings as stored. Repositories without them, and those that lost both copies, have the default: they keep
    /// nothing back from working, and too much parity hurts less than none.
    pub(in crate::repository) fn load_parity(&self) -> Result<Option<Parity>> {
        match self.get_object(layout::SETTINGS, check) {
            Ok(Some(bytes)) => decode(&bytes),
            Ok(None) => Ok(Some(Parity::default())),
            Err(error @ Error::NewerVersion { .. }) => Err(error),
            Err(error @ Error::Io { .. }) if !error.is_unreadable() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "both copies of the store's settings are damaged; the defaults serve");
                Ok(Some(Parity::default()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes: these are never edited.
    #[test]
    fn golden_settings() {
        let bytes = HEADER.encode(&Settings { parity: 5 });
        assert_eq!(bytes, b"bkfsstst\x01\x00\xa1\x00\x05");
        assert_eq!(decode(&bytes).unwrap(), Some(Parity::default()));
        assert_eq!(decode(b"bkfsstst\x01\x00\xa1\x00\x00").unwrap(), None);
        assert!(decode(b"bkfsstst\x01\x00\xa1\x00\x18\x65").is_err(), "101 percent");
        assert!(decode(b"").is_err());
    }
}
