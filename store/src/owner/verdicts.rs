//! Collecting verdicts, signing them, and sending them to the store.
//!
//! A store that cannot record a verdict, as on a medium that can only be read, loses nothing but the verdict: what is
//! wrong is found again.

use parking_lot::Mutex;

use super::packs::PackFindings;
use crate::{
    access::Read,
    base::{
        error::ErrorKind,
        id::{ClientId, PackId},
    },
    format::{
        keys::FullKey,
        loss::FrameBits,
        roster::Roster,
        verdict::{Refused, Verdict},
    },
};

/// Verdicts that are sent many at a time.
pub(crate) struct Verdicts<'a> {
    access: &'a dyn Read,
    full: &'a FullKey,
    pending: Mutex<Verdict>,
}

impl<'a> Verdicts<'a> {
    pub fn new(access: &'a dyn Read, full: &'a FullKey) -> Self {
        Self { access, full, pending: Mutex::new(empty(full)) }
    }

    /// Adds what was found of a whole pack with a number of frames. Returns whether frames are refused. If a frame
    /// could not be judged, as when the store went away, nothing is said of the pack.
    pub fn add(&self, pack: PackId, found: &PackFindings, frames: usize) -> bool {
        if !found.has_opened_frames || found.errors.iter().any(|error| error.kind() != ErrorKind::Damaged) {
            return false;
        }
        if found.bad_frames.is_empty() && found.errors.is_empty() {
            self.verify(pack);
            return false;
        }
        let mut bits = FrameBits::none(frames);
        found.bad_frames.iter().for_each(|frame| bits.set(*frame));
        if bits.is_empty() {
            return false;
        }
        let mut pending = self.pending.lock();
        pending.refused.push(Refused { pack, frames: bits });
        let bytes: usize = pending.refused.iter().map(|refused| refused.frames.as_bytes().len()).sum();
        // The frames of one pack take at most 8 KiB.
        if pending.refused.len() == Verdict::PACKS_MAX || bytes >= Verdict::FRAMES_BYTES_MAX {
            self.send(&mut pending);
        }
        true
    }

    /// Adds a pack whose frames all hold what they should.
    pub fn verify(&self, pack: PackId) {
        let mut pending = self.pending.lock();
        pending.verified.push(pack);
        if pending.verified.len() == Verdict::PACKS_MAX {
            self.send(&mut pending);
        }
    }

    /// Sends what was added.
    pub fn finish(&self) {
        let mut pending = self.pending.lock();
        if !pending.verified.is_empty() || !pending.refused.is_empty() {
            self.send(&mut pending);
        }
    }

    fn send(&self, pending: &mut Verdict) {
        let verdict = std::mem::replace(pending, empty(self.full));
        if let Err(error) = self.access.judge(&verdict.sign(self.full)) {
            tracing::warn!(%error, "the store cannot record what was found of packs");
        }
    }
}

fn empty(full: &FullKey) -> Verdict {
    Verdict { repo: full.repo, verified: Vec::new(), refused: Vec::new() }
}

/// Names the client that made a pack: by its id, and by its label if that can be read.
pub(crate) fn maker(full: &FullKey, roster: &Roster, client: ClientId) -> String {
    let label = roster.client(client).and_then(|client| full.open_label(client).ok());
    match label {
        Some(label) => format!("client {} ({})", client.short(), label.escape_default()),
        None => format!("client {}", client.short()),
    }
}
