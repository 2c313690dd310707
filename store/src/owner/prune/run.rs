//! The steps of one prune, and the decisions between them.

use std::{
    ops::ControlFlow::{self, Break, Continue},
    sync::atomic::Ordering::Relaxed,
};

use super::{
    marker::Marker,
    options::{PruneOptions, Pruner},
    progress::PruneProgress,
    reframe::Reframer,
    report::PruneReport,
    sent_filters::SentFilters,
    session::{Condemnation, Condemned, Marked, Marking, Preview, Sweep},
};
use crate::{
    access::{Filter, ForgetRequest, PruneStats, Read, Swept},
    base::{
        codec,
        error::{Error, ErrorKind, Result},
    },
    format::{
        keys::PushKey,
        log::{Event, LogRecord},
    },
};

/// How many log records one request asks for.
const RECORDS_PER_REQUEST: u32 = 1024;

/// A prune that has begun.
pub(super) struct PruneRun<'a> {
    pruner: &'a Pruner<'a>,
    options: &'a PruneOptions,
    progress: &'a PruneProgress,
    report: &'a mut PruneReport,
    marker: Marker<'a>,
    filters: SentFilters,
    /// The key to rewrite mixed frames with; none if they are not to be rewritten, or were already.
    reframe_key: Option<&'a PushKey>,
    is_confirmed: bool,
    /// Whether snapshots that are due count as gone, although the trash was not emptied yet.
    skips_due: bool,
    /// How many due snapshots the last walk skipped.
    due: u64,
}

/// What follows a round.
pub(super) enum Next<'a> {
    /// Another round.
    Mark(Marking<'a>),
    End,
}

/// The round continues with what is marked, or it ends.
type Step<'a> = ControlFlow<Next<'a>, Marked<'a>>;

impl<'a> PruneRun<'a> {
    pub fn new(
        pruner: &'a Pruner<'a>,
        options: &'a PruneOptions,
        progress: &'a PruneProgress,
        report: &'a mut PruneReport,
    ) -> Self {
        let folder = pruner.cache.join(pruner.reader.config().repo.to_string()).join("marks");
        Self {
            pruner,
            options,
            progress,
            report,
            marker: Marker::new(pruner.reader, pruner.access, &folder),
            filters: SentFilters::new(&folder),
            reframe_key: pruner.push_key.filter(|_| options.reframe_bytes > 0),
            is_confirmed: options.is_confirmed,
            skips_due: options.empty_trash,
            due: 0,
        }
    }

    /// Marks what is not marked yet, then takes the steps that follow, until the prune ends or more has to be marked.
    pub fn round(&mut self, marking: Marking<'a>) -> Result<Next<'a>> {
        let marked = self.mark(marking)?;
        let marked = match self.empty_trash(marked)? {
            Continue(marked) => marked,
            Break(next) => return Ok(next),
        };
        let marked = match self.reframe(marked)? {
            Continue(marked) => marked,
            Break(next) => return Ok(next),
        };
        self.condemn(marked)
    }

    fn mark(&mut self, marking: Marking<'a>) -> Result<Marked<'a>> {
        let (reader, progress) = (self.pruner.reader, self.progress);
        let walked = match self.marker.walk(marking.unmarked(), self.skips_due, progress) {
            // It may not be damage: another prune may have taken what expired since this one began.
            Err(error)
                if error.kind() == ErrorKind::Damaged && has_condemned(&**reader.access(), marking.begun_len())? =>
            {
                return Err(Error::LeaseRefused { reason: "another prune has run since this one began".into() });
            }
            walked => walked?,
        };
        self.due = walked.due;
        let Self { marker, filters, reframe_key, .. } = self;
        let (marked, sent_bytes) = marking.mark(|sender| {
            marker.take_filters(&mut |first, bytes| {
                progress.fail_if_stopped()?;
                let filter = Filter { first, bytes };
                if reframe_key.is_some() {
                    filters.add(&filter)?;
                }
                sender.send(filter)
            })
        })?;
        self.report.sent_bytes += sent_bytes;
        (self.report.pages, self.report.chunks) = (self.marker.pages(), self.marker.chunks());
        self.report.pages_fetched = self.marker.pages_fetched();
        Ok(marked)
    }

    /// Expires what is due in the trash, once it is certain that something will be condemned.
    fn empty_trash(&mut self, marked: Marked<'a>) -> Result<Step<'a>> {
        if !self.skips_due || self.due == 0 {
            self.skips_due = false;
            return Ok(Continue(marked));
        }
        let marked = if !self.options.dry_run && self.is_confirmed {
            marked
        } else {
            match marked.preview()? {
                // From the start, to count again what is due.
                Preview::Grown(marking) => return Ok(Break(Next::Mark(marking.restart()))),
                Preview::Stats(stats, _) if self.options.dry_run => {
                    (self.report.stats, self.report.expired) = (stats, self.due);
                    return Ok(Break(Next::End));
                }
                Preview::Stats(stats, _) if stats.is_most() => return Ok(Break(self.end_unconfirmed(stats))),
                Preview::Stats(_, marked) => marked,
            }
        };
        self.skips_due = false;
        let request = ForgetRequest { empty_trash: true, ..ForgetRequest::default() };
        self.report.expired = self.pruner.access.forget(&request)?.expired.len() as u64;
        // Some snapshots may have been brought back before they expired: whatever is committed now is marked.
        Ok(Break(Next::Mark(marked.restart())))
    }

    /// Rewrites mixed frames.
    fn reframe(&mut self, marked: Marked<'a>) -> Result<Step<'a>> {
        let Some(push_key) = self.reframe_key else { return Ok(Continue(marked)) };
        let Pruner { reader, access, .. } = *self.pruner;
        let reframer = Reframer::new(reader, access, push_key, self.options.reframe_bytes)?;
        let frames = reframer.next_frames(&marked)?;
        let marked = if self.options.dry_run {
            self.report.reframed_read_bytes = frames.iter().map(|frame| u64::from(frame.len)).sum();
            marked
        } else if frames.is_empty() {
            marked
        } else {
            let marked = match self.confirm(marked)? {
                Continue(marked) => marked,
                end => return Ok(end),
            };
            match reframer.run(&marked, frames, &self.filters, self.progress, self.report) {
                Err(error @ (Error::NoPermission { .. } | Error::NotOnRoster { .. } | Error::Invalid(_))) => {
                    tracing::warn!(%error, "cannot rewrite mixed frames");
                }
                done => done?,
            }
            marked
        };
        self.reframe_key = None;
        Ok(Continue(marked))
    }

    /// Ends the prune if condemning would have to be confirmed. This is asked before anything is rewritten: rewriting
    /// frames never makes more live data go.
    fn confirm(&mut self, marked: Marked<'a>) -> Result<Step<'a>> {
        if self.is_confirmed {
            return Ok(Continue(marked));
        }
        match marked.preview()? {
            Preview::Grown(marking) => Ok(Break(Next::Mark(marking))),
            Preview::Stats(stats, _) if stats.is_most() => Ok(Break(self.end_unconfirmed(stats))),
            Preview::Stats(_, marked) => {
                self.is_confirmed = true;
                Ok(Continue(marked))
            }
        }
    }

    /// Condemns what is not marked, and sweeps it.
    fn condemn(&mut self, marked: Marked<'a>) -> Result<Next<'a>> {
        if self.options.dry_run {
            return match marked.preview()? {
                Preview::Grown(marking) => Ok(Next::Mark(marking)),
                Preview::Stats(stats, _) => {
                    self.report.stats = stats;
                    Ok(Next::End)
                }
            };
        }
        match marked.condemn(self.is_confirmed)? {
            Condemnation::Grown(marking) => Ok(Next::Mark(marking)),
            Condemnation::Unconfirmed(stats) => Ok(self.end_unconfirmed(stats)),
            Condemnation::Condemned(stats, condemned) => {
                self.report.stats = stats;
                sweep(condemned, self.progress, &mut self.report.swept)?;
                Ok(Next::End)
            }
        }
    }

    fn end_unconfirmed(&mut self, stats: PruneStats) -> Next<'a> {
        (self.report.stats, self.report.is_unconfirmed) = (stats, true);
        Next::End
    }
}

/// Sweeps until nothing is condemned any more. Adds what was swept to `sum`.
pub(super) fn sweep(mut condemned: Condemned<'_>, progress: &PruneProgress, sum: &mut Swept) -> Result<()> {
    loop {
        progress.fail_if_stopped()?;
        let (swept, rest) = match condemned.sweep()? {
            Sweep::Unfinished(swept, rest) => (swept, Some(rest)),
            Sweep::Finished(swept) => (swept, None),
        };
        // A server may send any numbers, so the sums must not overflow.
        sum.packs = sum.packs.saturating_add(swept.packs);
        sum.bytes = sum.bytes.saturating_add(swept.bytes);
        sum.written_bytes = sum.written_bytes.saturating_add(swept.written_bytes);
        sum.damaged = sum.damaged.saturating_add(swept.damaged);
        progress.packs.store(sum.packs, Relaxed);
        progress.packs_total.store(sum.packs.saturating_add(swept.left), Relaxed);
        match rest {
            Some(rest) => condemned = rest,
            None => return Ok(()),
        }
    }
}

/// Whether a prune has condemned something since the log had `from` records.
fn has_condemned(access: &dyn Read, mut from: u64) -> Result<bool> {
    loop {
        let records = access.log(from, RECORDS_PER_REQUEST)?;
        if records.is_empty() {
            return Ok(false);
        }
        for bytes in &records {
            let record: LogRecord = codec::decode("an entry of the log", bytes)?;
            if matches!(record.event, Event::Condemn { .. }) {
                return Ok(true);
            }
        }
        from += records.len() as u64;
    }
}
