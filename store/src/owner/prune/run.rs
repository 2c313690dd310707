//! The steps of one prune, and the decisions between them.

use std::{
    ops::ControlFlow::{self, Break, Continue},
    sync::atomic::Ordering::Relaxed,
};

use super::{
    blocking::{marks_folder, with_losses},
    generations::Generations,
    marker::Marker,
    options::{PruneOptions, Pruner},
    progress::PruneProgress,
    reframe::Reframer,
    report::PruneReport,
    sent_filters::SentFilters,
    session::{Condemnation, Condemned, Marked, Marking, Sweep},
};
use crate::{
    access::{Filter, ForgetRequest, PruneStats, Swept},
    base::error::{Error, ErrorKind, Result},
    format::keys::PushKey,
};

/// How often a prune marks what was committed meanwhile before it asks the store to hold commits back. Pushes that end
/// now and then never have to wait; commits without a break cannot keep a prune from ending.
const UNHELD_ROUNDS: u32 = 3;

/// A prune that has begun.
pub(super) struct PruneRun<'a> {
    pruner: &'a Pruner<'a>,
    options: &'a PruneOptions,
    progress: &'a PruneProgress,
    report: &'a mut PruneReport,
    marker: Marker<'a>,
    filters: SentFilters,
    /// How often snapshots were committed before everything was marked.
    grown: u32,
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
        let folder = marks_folder(pruner.reader, pruner.cache);
        Self {
            pruner,
            options,
            progress,
            report,
            marker: Marker::new(pruner.reader, &folder),
            filters: SentFilters::new(&folder),
            grown: 0,
            reframe_key: pruner.push_key.filter(|_| options.reframe_bytes > 0),
            is_confirmed: options.is_confirmed,
            skips_due: options.empty_trash,
            due: 0,
        }
    }

    /// Marks what is not marked yet, then takes the steps that follow, until the prune ends or more has to be marked.
    pub fn round(&mut self, marking: Marking<'a>) -> Result<Next<'a>> {
        let marked = match self.mark(marking)? {
            Continue(marked) => marked,
            Break(next) => return Ok(next),
        };
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

    /// Marks what is not marked yet. Ends the prune if it is unknown what some snapshots need.
    fn mark(&mut self, marking: Marking<'a>) -> Result<Step<'a>> {
        let (reader, progress) = (self.pruner.reader, self.progress);
        let walked = self.marker.walk(self.pruner.access, marking.unmarked(), self.skips_due, progress)?;
        if !walked.broken.is_empty() {
            // It may not be damage: another prune may have taken what expired since this one began.
            if Generations::since(&**reader.access(), marking.begun_len())?.are_condemned {
                return Err(Error::LeaseRefused { reason: "another prune has run since this one began".into() });
            }
            self.report.blocking = with_losses(reader, &walked.broken)?;
            return Ok(Break(Next::End));
        }
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
        Ok(Continue(marked))
    }

    /// Expires what is due in the trash, once it is certain that something will be condemned.
    fn empty_trash(&mut self, marked: Marked<'a>) -> Result<Step<'a>> {
        if !self.skips_due || self.due == 0 {
            self.skips_due = false;
            return Ok(Continue(marked));
        }
        if self.options.dry_run || !self.is_confirmed {
            let stats = marked.preview()?;
            if self.options.dry_run {
                (self.report.stats, self.report.expired) = (stats, self.due);
                return Ok(Break(Next::End));
            }
            if stats.is_most() {
                return Ok(Break(self.end_unconfirmed(stats)));
            }
        }
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
                // Rewriting takes room before it frees any. What goes without it makes room for the next prune.
                Err(error) if error.kind() == ErrorKind::Full => {
                    tracing::warn!(%error, "no room to rewrite mixed frames");
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
        let stats = marked.preview()?;
        if stats.is_most() {
            return Ok(Break(self.end_unconfirmed(stats)));
        }
        self.is_confirmed = true;
        Ok(Continue(marked))
    }

    /// Condemns what is not marked, and sweeps it.
    fn condemn(&mut self, marked: Marked<'a>) -> Result<Next<'a>> {
        if self.options.dry_run {
            self.report.stats = marked.preview()?;
            return Ok(Next::End);
        }
        match marked.condemn(self.is_confirmed, self.grown >= UNHELD_ROUNDS)? {
            Condemnation::Grown(marking) => {
                self.grown += 1;
                Ok(Next::Mark(marking))
            }
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
        sum.grave_bytes = sum.grave_bytes.saturating_add(swept.grave_bytes);
        sum.damaged = sum.damaged.saturating_add(swept.damaged);
        progress.packs.store(sum.packs, Relaxed);
        progress.packs_total.store(sum.packs.saturating_add(swept.left), Relaxed);
        match rest {
            Some(rest) => condemned = rest,
            None => return Ok(()),
        }
    }
}
