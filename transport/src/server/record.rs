//! What is recorded of a request when it has ended: counters, and an entry of the audit log if it calls for one.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::{
    Error,
    base::id::{Hash, SnapshotId},
};
use parking_lot::Mutex;

use super::{
    audit::Entry,
    dispatch::Caller,
    notices::{Concern, concern, one_line},
    state::ServerState,
};
use crate::{
    message::{self, number},
    url::Name,
};

/// Stands for the end of a connection, which is no call.
const DISCONNECT: u8 = u8::MAX;

/// A request that is being answered.
pub(super) struct Pending {
    call: u8,
    /// Whether the client had joined an account before.
    is_client: bool,
    traffic: Arc<Traffic>,
    since: Instant,
    /// The bytes of the pack that comes with the request.
    pack_bytes: u64,
    /// The bytes of the push that the request would commit, if they are known.
    pushed_bytes: Option<u64>,
}

/// How a request has ended that succeeded.
pub(super) struct Ended {
    /// The snapshot that was committed.
    pub snapshot: Option<SnapshotId>,
    /// Bulk bytes of the reply.
    pub sent_bytes: u64,
    /// Whether it has changed something, as far as the reply tells.
    pub is_change: bool,
}

/// What a connection has moved, by account and repository.
pub(super) struct Traffic {
    since: Instant,
    by_repository: Mutex<BTreeMap<(Name, Name), Moved>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Moved {
    requests: u64,
    received_bytes: u64,
    sent_bytes: u64,
}

impl Pending {
    /// The head of a request has been received, which names this call.
    pub fn begin(call: u8, is_client: bool, traffic: Arc<Traffic>) -> Self {
        Self { call, is_client, traffic, since: Instant::now(), pack_bytes: 0, pushed_bytes: None }
    }

    /// The request uploads a pack of this length.
    pub fn pack(&mut self, len: u64) {
        self.pack_bytes = len;
    }

    /// The request commits a push of so many bytes, if they are known.
    pub fn push(&mut self, bytes: Option<u64>) {
        self.pushed_bytes = bytes;
    }

    /// The request has ended with this result, which is about to be sent.
    pub fn end(self, caller: &Caller, result: Result<Ended, &Error>) {
        let Caller { state, client, address, account, repository, .. } = caller;
        let (took, outcome, name) = (self.since.elapsed(), outcome(&result), message::name(self.call));
        state.metrics.request(name, outcome, took);
        let (mut snapshot, mut is_change) = (None, false);
        if let Ok(ended) = &result {
            is_change = ended.is_change && self.call != number::OPEN;
            // Who joins may name any account.
            if self.call != number::JOIN {
                state.metrics.moved(account, self.pack_bytes, ended.sent_bytes);
                self.traffic.add(account, repository, self.pack_bytes, ended.sent_bytes);
            }
            snapshot = ended.snapshot.map(|id| id.to_string());
        }
        if !is_audited(self.call) && outcome != "refused" {
            return;
        }
        state.audit.record(&Entry {
            account: account.as_str(),
            repository: repository.as_str(),
            client: *client,
            address: *address,
            action: name,
            kind: self.call,
            is_change,
            outcome,
            is_client: self.is_client || state.registry.is_known(*client),
            error: result.err().map(|error| one_line(error)),
            snapshot,
            requests: None,
            received_bytes: self.pushed_bytes,
            sent_bytes: None,
            seconds: seconds(took),
        });
    }
}

impl Traffic {
    pub fn new() -> Self {
        Self { since: Instant::now(), by_repository: Mutex::default() }
    }

    fn add(&self, account: &Name, repository: &Name, received: u64, sent: u64) {
        let mut all = self.by_repository.lock();
        let moved = all.entry((account.clone(), repository.clone())).or_default();
        moved.requests += 1;
        moved.received_bytes += received;
        moved.sent_bytes += sent;
    }

    /// The connection has ended.
    pub fn end(&self, state: &ServerState, client: Hash, address: SocketAddr) {
        for ((account, repository), moved) in std::mem::take(&mut *self.by_repository.lock()) {
            state.audit.record(&Entry {
                account: account.as_str(),
                repository: repository.as_str(),
                client,
                address,
                action: "disconnect",
                kind: DISCONNECT,
                is_change: false,
                outcome: "ok",
                is_client: true,
                error: None,
                snapshot: None,
                requests: Some(moved.requests),
                received_bytes: Some(moved.received_bytes),
                sent_bytes: Some(moved.sent_bytes),
                seconds: seconds(self.since.elapsed()),
            });
        }
    }
}

/// Whether a call that succeeds has an entry of its own. Calls that only read and that transfer are counted together,
/// when the connection ends.
fn is_audited(call: u8) -> bool {
    !matches!(
        call,
        number::HAS
            | number::PROVE
            | number::PLACES
            | number::PUT_PACK
            | number::READ
            | number::WRAPS
            | number::SNAPSHOTS
            | number::LOG
            | number::WAIT_LOG
            | number::MEND
            | number::PACKS
            | number::READ_PACK
    )
}

fn outcome(result: &Result<Ended, &Error>) -> &'static str {
    match result.as_ref().map_err(|error| concern(error)) {
        Ok(_) => "ok",
        Err(Concern::Refused) => "refused",
        Err(Concern::Storage) => "failed",
        Err(Concern::Normal) => "unavailable",
    }
}

/// Seconds, to the millisecond.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}
