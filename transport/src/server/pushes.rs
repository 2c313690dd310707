//! Pushes that are going on: since when, and how much they have stored.
//!
//! This is only for the notice at the end of a push. A session is counted from its opening, and forgotten when it
//! commits or when too many others have begun. Most sessions never push.

use std::{collections::HashMap, time::Instant};

use bkfs_store::{access::Lease, base::id::Hash};
use parking_lot::Mutex;

/// The most sessions that are counted.
const SESSIONS_MAX: usize = 4096;

/// The sessions that may push, by client and session.
#[derive(Default)]
pub(super) struct Pushes(Mutex<HashMap<(Hash, u64), Tally>>);

/// What a session has done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    pub since: Instant,
    pub packs: u64,
    pub bytes: u64,
}

impl Pushes {
    /// A session begins.
    pub fn opened(&self, client: Hash, lease: Lease) {
        let mut sessions = self.0.lock();
        if sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = sessions.iter().min_by_key(|(_, tally)| tally.since).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        sessions.insert((client, lease.session), Tally { since: Instant::now(), packs: 0, bytes: 0 });
    }

    /// A session has stored a pack.
    pub fn stored(&self, client: Hash, lease: Lease, bytes: u64) {
        if let Some(tally) = self.0.lock().get_mut(&(client, lease.session)) {
            tally.packs += 1;
            tally.bytes += bytes;
        }
    }

    /// How many bytes of packs a session has stored, unless it is not known.
    pub fn bytes(&self, client: Hash, lease: Lease) -> Option<u64> {
        self.0.lock().get(&(client, lease.session)).map(|tally| tally.bytes)
    }

    /// A session has committed a snapshot. Returns what it did, unless it is not known: the server was restarted.
    pub fn committed(&self, client: Hash, lease: Lease) -> Option<Tally> {
        self.0.lock().remove(&(client, lease.session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_within_bounds() {
        let (pushes, client) = (Pushes::default(), Hash([1; 32]));
        let lease = |session| Lease { session, ..Lease::default() };
        for session in 0..2 * SESSIONS_MAX as u64 {
            pushes.opened(client, lease(session));
        }
        assert_eq!(pushes.0.lock().len(), SESSIONS_MAX);
        let newest = lease(2 * SESSIONS_MAX as u64 - 1);
        pushes.stored(client, newest, 5);
        pushes.stored(client, newest, 6);
        pushes.stored(Hash([2; 32]), newest, 7);
        let tally = pushes.committed(client, newest).unwrap();
        assert_eq!((tally.packs, tally.bytes), (2, 11));
        assert!(pushes.committed(client, newest).is_none() && pushes.committed(client, lease(0)).is_none());
    }
}
