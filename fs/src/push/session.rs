//! The session of a push: what the repository replied when it was opened, and what the push therefore believes.

use bkfs_store::{
    Error, Result,
    access::{Lease, OpenRequest, Opened, Seen},
    format::{
        keys::{PushKey, SealKeys},
        loss::Lost,
    },
};

use super::{context::PushContext, trust::RecordTrust};
use crate::cache::LossView;

/// The session of a push.
pub struct PushSession {
    /// The reply to the last opening.
    opened: Opened,
    /// What the session knows of losses.
    losses: LossView,
    distrusts_cache: bool,
}

impl PushSession {
    /// Starts with the reply to an opening; notes the losses that it reports.
    pub fn new(context: &PushContext<'_>, opened: Opened) -> Result<Self> {
        let is_same = context.cache.seen().is_some_and(|seen| is_continued(&opened, &seen));
        let lost = if is_same { &opened.lost } else { &Lost::Everything };
        let losses = context.cache.note_lost(lost, opened.now)?;
        Ok(Self { opened, losses, distrusts_cache: context.options.force })
    }

    /// The reply to the last opening.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The session's lease.
    pub fn lease(&self) -> Lease {
        self.opened.lease
    }

    /// What the session knows of losses.
    pub fn losses(&self) -> LossView {
        self.losses
    }

    /// How far the records of the file cache are trusted.
    pub fn record_trust(&self) -> RecordTrust {
        RecordTrust { epoch: self.losses.epoch(), distrusts_all: self.distrusts_cache }
    }

    /// Stops trusting the file cache, after a chunk that it relied on is gone without a report. Returns false if the
    /// cache was not trusted before.
    pub fn distrust_cache(&mut self, context: &PushContext<'_>) -> Result<bool> {
        if self.distrusts_cache {
            return Ok(false);
        }
        self.losses = context.cache.note_lost(&Lost::Everything, self.opened.now)?;
        self.distrusts_cache = true;
        Ok(true)
    }

    /// Forgets everything that is known to be stored, after the store did not show what it says it has: the next push
    /// asks about all of it.
    pub fn forget_known(&self, context: &PushContext<'_>) {
        if let Err(error) = context.cache.note_lost(&Lost::Everything, self.opened.now) {
            tracing::warn!("the file cache cannot be written: {error}");
        }
    }

    /// Opens the repository again. The reply reports what was lost since `begun`, the point of the log at the first
    /// opening: an earlier reply may not have arrived.
    pub fn reopen(&mut self, context: &PushContext<'_>, begun: &Seen) -> Result<()> {
        let request = OpenRequest { client: Some(context.key.client_id()), seen: Some(*begun) };
        let session = self.opened.lease.session;
        self.opened = context.access.open(&request)?;
        // The packs are pinned for the session that stored them.
        self.opened.lease.session = session;
        if !is_continued(&self.opened, begun) {
            let reason = "while the push ran, the repository was replaced by an older copy or created again".to_owned();
            return Err(Error::LeaseRefused { reason });
        }
        Ok(())
    }

    /// Opens the repository again, and returns the key of the push with the newest seal key if the seal key was rotated
    /// since the push began.
    pub fn rotated(&mut self, context: &PushContext<'_>) -> Result<Option<PushKey>> {
        let begun = self.opened.now;
        self.reopen(context, &begun)?;
        self.note_losses(context)?;
        let seal_keys = SealKeys::verify(&self.opened.seal_keys, context.config)?;
        match seal_keys.number() == context.key.seal_number {
            true => Ok(None),
            false => seal_keys.renew(context.key).map(Some),
        }
    }

    /// Notes the losses that the last opening reported.
    pub fn note_losses(&mut self, context: &PushContext<'_>) -> Result<()> {
        self.losses = context.cache.note_lost(&self.opened.lost, self.opened.now)?;
        Ok(())
    }
}

/// Whether the repository is in the same incarnation as when it was seen, and its log holds what was seen.
fn is_continued(opened: &Opened, seen: &Seen) -> bool {
    opened.now.incarnation == seen.incarnation && opened.head_at_seen == Some(seen.log_head)
}
