//! Having damaged packs mended by the store.
//!
//! A frame that does not open is the one sure sign of damage for a store that has no keys. A pack that was asked for is left
//! alone for a while, so that a mount full of damaged files does not keep a server busy; its frames are read once more all
//! the same, since another thread may just have had the pack mended.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Reader;
use crate::{
    access::Mending,
    base::{
        error::{Error, ErrorKind},
        id::PackId,
    },
};

/// How long a pack that could not be mended is left alone.
const LEAVE: Duration = Duration::from_secs(300);
/// How long one that was: whoever met the same damage asks within this time.
const LEAVE_MENDED: Duration = Duration::from_secs(2);
/// So many packs are remembered; beyond that, all are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// Until when which packs are left alone. Held while one is asked for, so whoever comes meanwhile finds it mended.
#[derive(Default)]
pub(super) struct Mender(Mutex<HashMap<PackId, Instant>>);

impl Reader {
    /// Has the packs mended of which frames failed so. Returns whether it may help to read once more.
    pub(super) fn mend(&self, damaged: &[(PackId, Error)]) -> bool {
        let mut is_hopeful = false;
        for (pack, error) in damaged.iter().filter(|(_, error)| error.kind() == ErrorKind::Damaged) {
            is_hopeful = true;
            let mut asked = self.mender.0.lock();
            if asked.get(pack).is_some_and(|until| Instant::now() < *until) {
                continue;
            }
            let mending = self.access.mend(*pack);
            let leave = if matches!(mending, Ok(Mending::Mended(_))) { LEAVE_MENDED } else { LEAVE };
            match mending {
                Ok(Mending::Mended(shards)) => tracing::warn!(%pack, shards, %error, "damage was met, and mended"),
                Ok(Mending::Whole) => tracing::warn!(%pack, %error, "damage was met where the store finds none"),
                Ok(Mending::Lost(spans)) => {
                    tracing::warn!(%pack, ?spans, %error, "damage was met, more than is mended")
                }
                Ok(Mending::NoParity) => tracing::warn!(%pack, %error, "damage was met, without parity to mend it"),
                Err(failure) => tracing::warn!(%pack, %error, %failure, "damage was met, and could not be mended"),
            }
            if asked.len() >= REMEMBERED_MAX {
                asked.clear();
            }
            asked.insert(*pack, Instant::now() + leave);
        }
        is_hopeful
    }
}
