//! The counters of a server. They are kept in memory, and begin at zero when it starts.
//!
//! Names of accounts are the operator's; calls and outcomes are fixed sets. So no client can make more series.

pub(super) mod text;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use self::text::Exposition;
use crate::url::Name;

/// The counters of a server.
pub(super) struct Metrics {
    started: SystemTime,
    pub connections: Gauge,
    pub uploads: Gauge,
    pub handshakes_failed: AtomicU64,
    /// By call and outcome. Both are fixed sets.
    requests: Mutex<BTreeMap<(&'static str, &'static str), Requests>>,
    /// By account: received and sent bytes of packs and frames.
    moved: Mutex<BTreeMap<Name, (u64, u64)>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Requests {
    count: u64,
    took: Duration,
}

/// How many there are now, and how many there have been.
#[derive(Default)]
pub(super) struct Gauge {
    now: AtomicU64,
    total: AtomicU64,
}

/// One of those that a [`Gauge`] counts, until it is dropped.
pub(super) struct Counted<'a>(&'a Gauge);

impl Gauge {
    /// Something begins.
    pub fn enter(&self) -> Counted<'_> {
        self.now.fetch_add(1, Relaxed);
        self.total.fetch_add(1, Relaxed);
        Counted(self)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Relaxed);
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self {
            started: SystemTime::now(),
            connections: Gauge::default(),
            uploads: Gauge::default(),
            handshakes_failed: AtomicU64::new(0),
            requests: Mutex::default(),
            moved: Mutex::default(),
        }
    }

    /// A request has ended.
    pub fn request(&self, call: &'static str, outcome: &'static str, took: Duration) {
        let mut requests = self.requests.lock();
        let requests = requests.entry((call, outcome)).or_default();
        requests.count += 1;
        requests.took += took;
    }

    /// A client has sent and received bulk bytes. Only called for accounts that exist.
    pub fn moved(&self, account: &Name, received: u64, sent: u64) {
        let mut moved = self.moved.lock();
        let moved = moved.entry(account.clone()).or_default();
        moved.0 += received;
        moved.1 += sent;
    }

    /// Writes all counters.
    pub fn render(&self, out: &mut Exposition) {
        out.gauge("bkfs_build_info", "The running version.").add(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        out.gauge("bkfs_start_time_seconds", "When the server started, in Unix time.").add(&[], started.as_secs());
        out.gauge("bkfs_connections", "Connections that are open.").add(&[], self.connections.now.load(Relaxed));
        out.counter("bkfs_connections_total", "Connections that were made.")
            .add(&[], self.connections.total.load(Relaxed));
        out.counter("bkfs_handshakes_failed_total", "Connections that were refused, or whose handshake failed.")
            .add(&[], self.handshakes_failed.load(Relaxed));
        out.gauge("bkfs_uploads", "Packs that are being uploaded.").add(&[], self.uploads.now.load(Relaxed));
        let requests = self.requests.lock().clone();
        let mut counts = out.counter("bkfs_requests_total", "Requests that have ended, by call and outcome.");
        for ((call, outcome), requests) in &requests {
            counts.add(&[("call", call), ("outcome", outcome)], requests.count);
        }
        let mut took = out.counter("bkfs_request_seconds_total", "Time until requests ended, by call and outcome.");
        for ((call, outcome), requests) in &requests {
            took.add(&[("call", call), ("outcome", outcome)], requests.took.as_secs_f64());
        }
        let moved = self.moved.lock().clone();
        let mut received = out.counter("bkfs_received_bytes_total", "Bytes of packs that clients have sent.");
        moved.iter().for_each(|(account, moved)| received.add(&[("account", account.as_str())], moved.0));
        let mut sent = out.counter("bkfs_sent_bytes_total", "Bytes of frames and packs sent to clients.");
        moved.iter().for_each(|(account, moved)| sent.add(&[("account", account.as_str())], moved.1));
    }
}
