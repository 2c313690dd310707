//! What the store's operator has settled for a repository. The settings are not part of the signed configuration: how
//! far disks are trusted and what space costs is the operator's business, it may change, and it means nothing to
//! clients.

use minicbor::{Decode, Encode};

use super::Objects;
use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
    },
    format::erasure::Parity,
    repository::layout,
};

const HEADER: Header = Header { what: "the store's settings", magic: *b"bkfsstst", version: 1 };

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Settings {
    /// Parity in percent; 0 stands for none.
    #[n(0)]
    parity: u8,
}

impl Objects {
    /// Sets the parity that [`Objects::put_settings`] writes.
    pub fn set_parity_at_init(&self, parity: Option<Parity>) {
        *self.parity_at_init.lock() = parity;
    }

    /// Stores the settings of a new repository.
    pub fn put_settings(&self) -> Result<()> {
        let settings = Settings { parity: self.parity_at_init.lock().map_or(0, Parity::get) };
        self.put(layout::SETTINGS, &HEADER.encode(&settings))
    }

    /// Reads the parity from the settings. A repository that has no settings or has lost both copies gets the default:
    /// a missing setting must not stop work, and too much parity does less harm than none.
    pub(super) fn read_parity(&self) -> Result<Option<Parity>> {
        match self.get(layout::SETTINGS, check_settings) {
            Ok(Some(bytes)) => decode(&bytes),
            Ok(None) => Ok(Some(Parity::default())),
            Err(error @ Error::NewerVersion { .. }) => Err(error),
            Err(error @ Error::Io { .. }) if !error.is_unreadable() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "both copies of the store's settings are damaged; the defaults are used");
                Ok(Some(Parity::default()))
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Option<Parity>> {
    let settings: Settings = HEADER.decode(bytes)?;
    match (settings.parity, Parity::percent(settings.parity)) {
        (0, _) => Ok(None),
        (_, Some(parity)) => Ok(Some(parity)),
        _ => Err(Error::damaged(HEADER.what, format!("a parity of {} percent", settings.parity))),
    }
}

/// Checks that these are settings.
pub fn check_settings(bytes: &[u8]) -> Result<()> {
    decode(bytes).map(drop)
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
