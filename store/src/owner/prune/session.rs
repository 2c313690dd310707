//! A prune of the store as typed steps: each step consumes the state before it and returns the states that can follow.
//!
//! ```text
//! Marking ──mark──► Marked ──condemn──► Condemned ──sweep──► ... until nothing is left
//!    ▲                 │
//!    └──── grown ──────┘   snapshots were committed that are not marked
//! ```
//!
//! Every [`PruneReply`] is matched here and nowhere else, once. What the store does at each step is in
//! `docs/design/0012-condemn-at-once.md`.

use std::ops::Range;

use super::options::PruneOptions;
use crate::{
    access::{
        CommittedSnapshot, Filter, Lease, Maintain, MixedFrame, MovedFrame, PruneLimits, PruneReply, PruneRequest,
        PruneStats, Space, Swept,
    },
    base::error::{Error, Result},
};

/// Bytes of filters in one request, if it holds more than one filter. The longest filter has about 4 MB.
const FILTERS_BYTES: usize = 1 << 20;

/// What names a prune in its requests.
#[derive(Clone, Copy)]
struct Session<'a> {
    access: &'a dyn Maintain,
    /// The number that the store gave to the prune.
    number: u64,
    limits: PruneLimits,
    /// Length of the log when the prune began.
    begun_len: u64,
}

impl Session<'_> {
    /// Sends a request that is only acknowledged.
    fn send(&self, request: &PruneRequest) -> Result<()> {
        match self.access.prune(request)? {
            PruneReply::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }
}

/// A prune whose marks are not complete: snapshots committed in [`Marking::unmarked`] are not marked yet.
pub(super) struct Marking<'a> {
    session: Session<'a>,
    unmarked: Range<u64>,
}

impl<'a> Marking<'a> {
    /// Begins a prune. Fails with [`Error::LeaseRefused`] if something is condemned and not swept yet and it is no dry
    /// run.
    pub fn begin(access: &'a dyn Maintain, options: &PruneOptions) -> Result<Self> {
        let PruneOptions { limits, dry_run, ends_pushes, .. } = *options;
        match access.prune(&PruneRequest::Begin { dry_run, ends_pushes })? {
            PruneReply::Begun { prune: number, log_len } => {
                Ok(Self { session: Session { access, number, limits, begun_len: log_len }, unmarked: 0..log_len })
            }
            _ => Err(unexpected()),
        }
    }

    /// The log records whose commits are not marked yet.
    pub fn unmarked(&self) -> Range<u64> {
        self.unmarked.clone()
    }

    /// Length of the log when the prune began.
    pub fn begun_len(&self) -> u64 {
        self.session.begun_len
    }

    /// Marks what the filters that `send_all` sends hold. Returns how many bytes of filters were sent, too.
    pub fn mark(self, send_all: impl FnOnce(&mut FilterSender<'_>) -> Result<()>) -> Result<(Marked<'a>, u64)> {
        let mut sender = FilterSender { session: &self.session, batch: Vec::new(), batch_bytes: 0, sent_bytes: 0 };
        send_all(&mut sender)?;
        sender.flush()?;
        let sent_bytes = sender.sent_bytes;
        Ok((Marked { session: self.session, log_len: self.unmarked.end }, sent_bytes))
    }
}

/// Sends filters in batches. With one request for each filter, a prune over a slow network would wait for hundreds of
/// round trips.
pub(super) struct FilterSender<'a> {
    session: &'a Session<'a>,
    batch: Vec<Filter>,
    batch_bytes: usize,
    sent_bytes: u64,
}

impl FilterSender<'_> {
    /// Sends a filter, with this batch or the next.
    pub fn send(&mut self, filter: Filter) -> Result<()> {
        if self.batch_bytes + filter.bytes.len() > FILTERS_BYTES {
            self.flush()?;
        }
        self.batch_bytes += filter.bytes.len();
        self.batch.push(filter);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let filters = std::mem::take(&mut self.batch);
        self.sent_bytes += std::mem::take(&mut self.batch_bytes) as u64;
        if filters.is_empty() {
            return Ok(());
        }
        self.session.send(&PruneRequest::Live { prune: self.session.number, filters })
    }
}

/// A prune for which everything is marked that was committed before `log_len`.
pub(super) struct Marked<'a> {
    session: Session<'a>,
    log_len: u64,
}

/// What can follow [`Marked::condemn`].
pub(super) enum Condemnation<'a> {
    Condemned(PruneStats, Condemned<'a>),
    /// More than half of the repository would go, and that was not confirmed. Nothing is condemned.
    Unconfirmed(PruneStats),
    /// Snapshots were committed that are not marked. Nothing is condemned.
    Grown(Marking<'a>),
}

/// A reply to a condemn request.
enum CondemnReply {
    Condemned(PruneStats),
    Unconfirmed(PruneStats),
    Grown(u64),
}

impl<'a> Marked<'a> {
    /// The lease under which packs are put for this prune. It keeps them whatever the filters say.
    pub fn lease(&self) -> Lease {
        Lease { session: self.session.number, generation: 0 }
    }

    /// The same prune, to mark all snapshots once more.
    pub fn restart(self) -> Marking<'a> {
        Marking { session: self.session, unmarked: 0..self.log_len }
    }

    /// Returns the mixed frames that are best rewritten next, at most `bytes` bytes of them; none if enough is done.
    pub fn mixed_frames(&self, bytes: u64) -> Result<Vec<MixedFrame>> {
        let Session { access, number, limits, .. } = self.session;
        match access.prune(&PruneRequest::Mixed { prune: number, limits, bytes })? {
            PruneReply::Mixed(frames) => Ok(frames),
            _ => Err(unexpected()),
        }
    }

    /// Tells the store which frames have all their live chunks in other packs now.
    pub fn report_moved(&self, frames: Vec<MovedFrame>) -> Result<()> {
        self.session.send(&PruneRequest::Moved { prune: self.session.number, frames })
    }

    /// Returns what condemning would do, were it not for snapshots that were committed since. Changes nothing.
    pub fn preview(&self) -> Result<PruneStats> {
        match self.request_condemn(true, false, false)? {
            CondemnReply::Condemned(stats) => Ok(stats),
            CondemnReply::Unconfirmed(_) | CondemnReply::Grown(_) => Err(unexpected()),
        }
    }

    /// Condemns what is not marked. Durable if it returns [`Condemnation::Condemned`]. With `hold`, the store takes no
    /// snapshots for a while if some are not marked.
    pub fn condemn(self, is_confirmed: bool, hold: bool) -> Result<Condemnation<'a>> {
        match self.request_condemn(false, is_confirmed, hold)? {
            CondemnReply::Condemned(stats) => {
                Ok(Condemnation::Condemned(stats, Condemned { access: self.session.access }))
            }
            CondemnReply::Unconfirmed(stats) => Ok(Condemnation::Unconfirmed(stats)),
            CondemnReply::Grown(log_len) => Ok(Condemnation::Grown(self.grown(log_len))),
        }
    }

    fn request_condemn(&self, dry_run: bool, is_confirmed: bool, hold: bool) -> Result<CondemnReply> {
        let Session { access, number, limits, .. } = self.session;
        let log_len = self.log_len;
        let request = PruneRequest::Condemn { prune: number, log_len, limits, dry_run, is_confirmed, hold };
        match access.prune(&request)? {
            PruneReply::Condemned(stats) => Ok(CondemnReply::Condemned(stats)),
            PruneReply::Unconfirmed(stats) => Ok(CondemnReply::Unconfirmed(stats)),
            PruneReply::Grown { log_len } if log_len > self.log_len => Ok(CondemnReply::Grown(log_len)),
            _ => Err(unexpected()),
        }
    }

    fn grown(self, log_len: u64) -> Marking<'a> {
        Marking { session: self.session, unmarked: self.log_len..log_len }
    }
}

/// Condemned frames that may not be swept yet.
pub(super) struct Condemned<'a> {
    access: &'a dyn Maintain,
}

/// What can follow [`Condemned::sweep`].
pub(super) enum Sweep<'a> {
    /// Some frames are still condemned.
    Unfinished(Swept, Condemned<'a>),
    Finished(Swept),
}

impl<'a> Condemned<'a> {
    /// What an earlier prune condemned and did not sweep. That may be nothing.
    pub fn left_by_earlier(access: &'a dyn Maintain) -> Self {
        Self { access }
    }

    /// Sweeps some of the condemned frames, durably.
    pub fn sweep(self) -> Result<Sweep<'a>> {
        match self.access.prune(&PruneRequest::Sweep)? {
            PruneReply::Swept(swept) if swept.left == 0 => Ok(Sweep::Finished(swept)),
            PruneReply::Swept(swept) => Ok(Sweep::Unfinished(swept, self)),
            _ => Err(unexpected()),
        }
    }
}

/// Returns snapshots that were committed at `from` in the log or later and have not expired: the first
/// [`crate::access::COMMITTED_MAX`], in the order of the log.
pub(super) fn committed_from(access: &dyn Maintain, from: u64) -> Result<Vec<CommittedSnapshot>> {
    match access.prune(&PruneRequest::Committed { from })? {
        PruneReply::Committed(snapshots) => Ok(snapshots),
        _ => Err(unexpected()),
    }
}

/// Asks the store how much disk space it takes.
pub(super) fn space(access: &dyn Maintain) -> Result<Space> {
    match access.prune(&PruneRequest::Space)? {
        PruneReply::Space(space) => Ok(space),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Error {
    Error::Invalid("the store's reply does not fit this step of the prune".into())
}
