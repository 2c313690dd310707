//! A circuit breaker: requests wait once for an unreachable store, not once each.
//!
//! A remote store waits a bounded time for its server before it returns [`Error::Unreachable`]. A program that reads a
//! thousand files of a mount would wait that long a thousand times. A [`Breaker`] remembers a failure for
//! [`COOL_DOWN`]: calls fail immediately, except one at a time that tries. After the first success, all calls go
//! through again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::{
    Error, ErrorKind, Result,
    access::{Mending, Open, OpenRequest, Opened, Read, ReadReply, ReadRequest},
    base::id::{ChunkId, KeyId, PackId},
    crypto::Wrap,
    format::snapshot::SnapshotObject,
};
use bytes::Bytes;
use parking_lot::Mutex;

/// How long a failure is remembered. A person hardly notices the delay when the store comes back.
const COOL_DOWN: Duration = Duration::from_secs(2);

/// What is known about the store. Pure: the caller passes the time.
#[derive(Debug, Default)]
struct Health {
    /// None while the store is reachable.
    away: Option<Away>,
}

#[derive(Debug)]
struct Away {
    why: String,
    /// When the next call may try.
    until: Instant,
}

impl Health {
    /// Returns whether a call may be made now, or why not. While the store is unreachable, the call that is let through
    /// is the one that tries; the next may try only after another cool-down.
    fn may_call(&mut self, now: Instant) -> Result<(), String> {
        match &mut self.away {
            Some(away) if now < away.until => Err(away.why.clone()),
            Some(away) => {
                away.until = now + COOL_DOWN;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Records the result of a call.
    fn record(&mut self, now: Instant, unreachable: Option<String>) {
        self.away = unreachable.map(|why| Away { why, until: now + COOL_DOWN });
    }
}

/// A store that fails fast while it is unreachable.
pub struct Breaker {
    access: Arc<dyn Read>,
    health: Mutex<Health>,
}

impl Breaker {
    /// Wraps a store.
    pub fn new(access: Arc<dyn Read>) -> Arc<Self> {
        Arc::new(Self { access, health: Mutex::default() })
    }

    fn call<T>(&self, call: impl FnOnce(&dyn Read) -> Result<T>) -> Result<T> {
        self.health.lock().may_call(Instant::now()).map_err(Error::Unreachable)?;
        let result = call(&*self.access);
        let unreachable = match &result {
            Err(error) if error.kind() == ErrorKind::Unreachable => Some(error.to_string()),
            _ => None,
        };
        self.health.lock().record(Instant::now(), unreachable);
        result
    }
}

impl Open for Breaker {
    fn open(&self, request: &OpenRequest) -> Result<Opened> {
        self.call(|access| access.open(request))
    }

    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64> {
        self.call(|access| access.wait_log(len, timeout))
    }
}

impl Read for Breaker {
    fn read(&self, request: &ReadRequest) -> Result<ReadReply> {
        self.call(|access| access.read(request))
    }

    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        self.call(|access| access.wraps(keys))
    }

    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        self.call(|access| access.places(ids))
    }

    fn snapshots(&self, from: u64, limit: u32) -> Result<Vec<SnapshotObject>> {
        self.call(|access| access.snapshots(from, limit))
    }

    fn log(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>> {
        self.call(|access| access.log(from, limit))
    }

    fn mend(&self, id: PackId) -> Result<Mending> {
        self.call(|access| access.mend(id))
    }

    fn read_pack(&self, id: PackId) -> Result<Bytes> {
        self.call(|access| access.read_pack(id))
    }

    fn judge(&self, verdict: &[u8]) -> Result<()> {
        self.call(|access| access.judge(verdict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_at_a_time_tries_while_the_store_is_unreachable() {
        let (mut health, start) = (Health::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(health.may_call(at(0)), Ok(()));
        health.record(at(10), Some("away".into()));
        assert_eq!(health.may_call(at(20)), Err("away".into()));
        assert_eq!(health.may_call(at(2009)), Err("away".into()));
        assert_eq!(health.may_call(at(2010)), Ok(()), "one tries");
        assert_eq!(health.may_call(at(2011)), Err("away".into()), "other calls do not wait for it");
        health.record(at(2500), Some("still away".into()));
        assert_eq!(health.may_call(at(2600)), Err("still away".into()));
        assert_eq!(health.may_call(at(4500)), Ok(()));
        health.record(at(4600), None);
        assert_eq!([health.may_call(at(4601)), health.may_call(at(4602))], [Ok(()), Ok(())], "reachable again");
    }
}
