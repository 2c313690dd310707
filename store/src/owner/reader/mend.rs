//! Asks the store to mend packs in which a reader found damage.
//!
//! A frame that does not open is the only sure sign of damage that a store without keys cannot find by itself. After a
//! request, the pack is left alone for a while, so that a mount full of damaged files does not keep a server busy. Its
//! frames are read once more all the same, because another thread may just have had the pack mended.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    access::{Mending, Read},
    base::{
        error::{Error, ErrorKind},
        id::PackId,
    },
};

/// How long a pack that could not be mended is left alone.
const LEAVE: Duration = Duration::from_secs(300);
/// How long a pack that was mended is left alone. Threads that met the same damage ask within this time.
const LEAVE_MENDED: Duration = Duration::from_secs(2);
/// How many packs are remembered. Beyond that, all are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// Until when each pack is left alone. The lock is held during a request: a thread that waits for it finds the pack
/// mended.
#[derive(Default)]
pub(super) struct Mender(Mutex<HashMap<PackId, Instant>>);

impl Mender {
    /// Asks the store to mend the packs of frames that failed with these errors. Returns whether it may help to read
    /// once more.
    pub fn mend(&self, access: &dyn Read, failed: &[(PackId, Error)]) -> bool {
        let mut may_help = false;
        for (pack, error) in failed.iter().filter(|(_, error)| error.kind() == ErrorKind::Damaged) {
            may_help = true;
            let mut left_until = self.0.lock();
            if left_until.get(pack).is_some_and(|until| Instant::now() < *until) {
                continue;
            }
            let mending = access.mend(*pack);
            let leave = if matches!(mending, Ok(Mending::Mended(_))) { LEAVE_MENDED } else { LEAVE };
            match mending {
                Ok(Mending::Mended(shards)) => {
                    tracing::warn!(%pack, shards, %error, "found a damaged pack and mended it")
                }
                Ok(Mending::Whole) => {
                    tracing::warn!(%pack, %error, "found damage in a pack that the store finds whole")
                }
                Ok(Mending::Lost(spans)) => {
                    tracing::warn!(%pack, ?spans, %error, "found a damaged pack; parity cannot mend all of it")
                }
                Ok(Mending::NoParity) => {
                    tracing::warn!(%pack, %error, "found a damaged pack; it has no parity to mend it with")
                }
                Err(failure) => tracing::warn!(%pack, %error, %failure, "found a damaged pack; mending it failed"),
            }
            if left_until.len() >= REMEMBERED_MAX {
                left_until.clear();
            }
            left_until.insert(*pack, Instant::now() + leave);
        }
        may_help
    }
}
