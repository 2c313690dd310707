//! Scrubbing packs, in the order of their ids.

use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;

use super::{KEEP_EVERY, ScrubRun, report::LostPack};
use crate::{
    access::{Mending, Span},
    base::{
        error::{Error, Result},
        id::PackId,
    },
    format::pack::{FOOTER_LEN, Footer},
    repository::packs::mend::ParityState,
};

/// How many packs of the index are listed at a time.
const BATCH: usize = 1024;
/// A scrub that waits to keep its rate looks this often whether it is to stop.
const STOP_POLL: Duration = Duration::from_millis(100);

impl ScrubRun<'_> {
    pub(super) fn packs(&mut self) -> Result<()> {
        let reached = self.report.reached;
        for first in 0..=u8::MAX {
            if reached.is_some_and(|reached| reached.0[0] > first) {
                continue;
            }
            let ids = self.ids(first)?;
            // Only now: a pack in the list may belong to a client that was just enrolled.
            self.follow()?;
            for id in ids.into_iter().filter(|id| reached.is_none_or(|reached| *id > reached)) {
                self.check_stop()?;
                let before = self.report.bytes;
                let outcome = self.pack(id);
                self.note(outcome)?;
                self.report.reached = Some(id);
                self.wait(self.report.bytes - before)?;
                if self.kept_at.elapsed() >= KEEP_EVERY {
                    self.keep();
                }
            }
        }
        Ok(())
    }

    /// The packs of a folder: those whose files exist, those that the index knows, and those that have only their
    /// parity left.
    fn ids(&self, first: u8) -> Result<BTreeSet<PackId>> {
        let mut ids: BTreeSet<PackId> = self.scrubber.files.list(first)?.into_iter().map(|(id, _)| id).collect();
        ids.extend(self.scrubber.files.list_parity(first)?);
        let mut after = first.checked_sub(1).map(|before| {
            let mut last = [0xff; 32];
            last[0] = before;
            PackId(last)
        });
        loop {
            let known = self.scrubber.index.packs().list(after, BATCH)?;
            let (here, count) = (known.iter().take_while(|(id, _)| id.0[0] == first), known.len());
            let before = ids.len();
            ids.extend(here.clone().map(|(id, _)| *id));
            after = here.last().map(|(id, _)| *id);
            if after.is_none() || count < BATCH || (ids.len() == before && count == 0) {
                return Ok(ids);
            }
        }
    }

    fn pack(&mut self, id: PackId) -> Result<()> {
        let index = &self.scrubber.index;
        let was_known = index.packs().has(&id)?;
        if !was_known && index.prunes().swept_at(&id)?.is_some() {
            return self.swept_pack(id);
        }
        let outcome = self.scrubber.mender.mend(id)?;
        // A pack that was removed in the meantime is not lost.
        let is_known = index.packs().has(&id)?;
        if was_known && !is_known {
            return Ok(());
        }
        self.report.packs += 1;
        self.report.bytes += outcome.bytes_read;
        self.progress.packs.fetch_add(1, Relaxed);
        self.progress.bytes.fetch_add(outcome.bytes_read, Relaxed);
        match outcome.parity {
            ParityState::Made => self.report.parity_made += 1,
            ParityState::MadeAgain => self.report.parity_mended += 1,
            ParityState::Off | ParityState::Whole | ParityState::Lost => {}
        }
        match outcome.mending {
            Mending::Whole => {}
            Mending::Mended(shards) => {
                self.report.packs_mended += 1;
                self.report.shards_mended += u64::from(shards);
            }
            Mending::Lost(spans) => self.lost(id, Some(spans))?,
            Mending::NoParity => self.lost(id, None)?,
        }
        if let Some(bytes) = outcome.whole {
            self.compare(id, &bytes, is_known)?;
        }
        Ok(())
    }

    /// Removes the parity of a swept pack that is gone. Parity waits with its pack in the grave, and is removed with
    /// it; a crash or a late write may leave it behind.
    fn swept_pack(&mut self, id: PackId) -> Result<()> {
        let files = &self.scrubber.files;
        let has_only_parity =
            || Ok::<_, Error>(!files.is_in_grave(id)? && !files.exists(id)? && files.parity_len(id)?.is_some());
        if !has_only_parity()? {
            return Ok(());
        }
        let _lock = self.scrubber.log.lock()?;
        self.scrubber.log.follow()?;
        match has_only_parity()? && self.scrubber.index.prunes().swept_at(&id)?.is_some() {
            true => files.remove_parity(id),
            false => Ok(()),
        }
    }

    fn lost(&mut self, id: PackId, spans: Option<Vec<Span>>) -> Result<()> {
        let row = self.scrubber.index.packs().row_of(&id)?;
        let bounds = row.map(|row| row.bounds).unwrap_or_default();
        let is_hit = |frame: &&[u32]| match &spans {
            Some(spans) => spans.iter().any(|span| span.start < frame[1] && span.end > frame[0]),
            None => true,
        };
        let frames = bounds.windows(2).filter(is_hit).count() as u32;
        let frames_total = bounds.len().saturating_sub(1) as u32;
        self.report.add_lost(LostPack { pack: id, spans, frames, frames_total });
        Ok(())
    }

    /// Compares a whole pack's table with the index, and corrects the index.
    fn compare(&mut self, id: PackId, bytes: &Bytes, is_known: bool) -> Result<()> {
        let index = &self.scrubber.index;
        let tail = &bytes[bytes.len().saturating_sub(FOOTER_LEN)..];
        let footer = Footer::parse_tail(tail, bytes.len() as u64)?;
        let table = bytes.get(footer.table_offset..footer.table_offset + footer.table_len);
        let table = footer.table(table.ok_or_else(|| Error::damaged(format!("pack {id}"), "its table is cut off"))?)?;
        // A client that may not write packs has none in the index either.
        table.verify(&*self.scrubber.log.roster()?)?;
        if !is_known {
            // It was found and not put: before anything relies on it, it must be made durable.
            index.packs().add_unsettled(id.0[0])?;
        }
        if index.packs().correct(&table, bytes.len() as u64)? && is_known {
            tracing::warn!(pack = %id, "the index differed from a pack's table, and was corrected");
            self.report.index_mended += 1;
        }
        Ok(())
    }

    /// Waits as the rate demands.
    fn wait(&mut self, bytes: u64) -> Result<()> {
        let mut left = self.pace.wait(bytes);
        while !left.is_zero() {
            self.check_stop()?;
            std::thread::sleep(left.min(STOP_POLL));
            left = left.saturating_sub(STOP_POLL);
        }
        Ok(())
    }
}
