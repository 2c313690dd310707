//! Scrubbing packs, in the order of their ids.

use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;

use super::{KEEP, LostPack, NAP, Run};
use crate::{
    access::{Mending, Span},
    base::{
        error::{Error, Result},
        id::PackId,
    },
    format::pack::{FOOTER_LEN, Footer},
    repository::{layout, packs::mend::Beside},
};

/// Packs of the index listed at once.
const BATCH: usize = 1024;

impl Run<'_> {
    pub(super) fn packs(&mut self) -> Result<()> {
        let reached = self.report.reached;
        for first in 0..=u8::MAX {
            if reached.is_some_and(|reached| reached.0[0] > first) {
                continue;
            }
            let ids = self.ids(first)?;
            // Only now: what lies there may be of a client that was just enrolled.
            self.follow()?;
            for id in ids.into_iter().filter(|id| reached.is_none_or(|reached| *id > reached)) {
                self.go_on()?;
                let before = self.report.bytes;
                let outcome = self.pack(id);
                self.note(outcome)?;
                self.report.reached = Some(id);
                self.wait(self.report.bytes - before)?;
                if self.kept.elapsed() >= KEEP {
                    self.keep();
                }
            }
        }
        Ok(())
    }

    /// Packs of a folder: those that lie there, those that should, and those of which only the parity is left.
    fn ids(&self, first: u8) -> Result<BTreeSet<PackId>> {
        let repository = self.repository;
        let mut ids = BTreeSet::new();
        for folder in [layout::pack_folder(first), layout::parity_folder(first)] {
            ids.extend(
                repository.backend.list(&folder)?.iter().filter_map(|listed| listed.name.parse::<PackId>().ok()),
            );
        }
        let mut after = first.checked_sub(1).map(|before| {
            let mut last = [0xff; 32];
            last[0] = before;
            PackId(last)
        });
        loop {
            let known = repository.index.packs().list(after, BATCH)?;
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
        let repository = self.repository;
        let was_known = repository.index.packs().has(&id)?;
        if !was_known && repository.index.prunes().swept_at(&id)?.is_some() {
            return self.swept(id);
        }
        let tended = repository.tend(id)?;
        // What was removed meanwhile was not lost.
        let is_known = repository.index.packs().has(&id)?;
        if was_known && !is_known {
            return Ok(());
        }
        self.report.packs += 1;
        self.report.bytes += tended.read;
        self.progress.packs.fetch_add(1, Relaxed);
        self.progress.bytes.fetch_add(tended.read, Relaxed);
        match tended.parity {
            Beside::Made => self.report.parity_made += 1,
            Beside::Mended => self.report.parity_mended += 1,
            Beside::Off | Beside::Whole | Beside::Lost => {}
        }
        match tended.mending {
            Mending::Whole => {}
            Mending::Mended(shards) => {
                self.report.packs_mended += 1;
                self.report.shards_mended += u64::from(shards);
            }
            Mending::Lost(spans) => self.lost(id, Some(spans))?,
            Mending::NoParity => self.lost(id, None)?,
        }
        if let Some(bytes) = tended.whole {
            self.compare(id, &bytes, is_known)?;
        }
        Ok(())
    }

    /// The parity of a swept pack waits with it in the grave, and goes with it; a crash or a late write may leave it behind.
    fn swept(&mut self, id: PackId) -> Result<()> {
        let backend = &self.repository.backend;
        let is_left = || -> Result<bool> {
            let rest = [layout::grave(id), layout::pack(id)];
            Ok(rest.iter().map(|name| backend.len(name)).collect::<Result<Vec<_>>>()?.iter().all(Option::is_none)
                && backend.len(&layout::parity(id))?.is_some())
        };
        if !is_left()? {
            return Ok(());
        }
        let _lock = backend.lock()?;
        self.repository.follow()?;
        match is_left()? && self.repository.index.prunes().swept_at(&id)?.is_some() {
            true => backend.delete(&layout::parity(id)),
            false => Ok(()),
        }
    }

    fn lost(&mut self, id: PackId, spans: Option<Vec<Span>>) -> Result<()> {
        let row = self.repository.index.packs().row_of(&id)?;
        let bounds = row.map(|row| row.bounds).unwrap_or_default();
        let is_hit = |frame: &&[u32]| match &spans {
            Some(spans) => spans.iter().any(|span| span.start < frame[1] && span.end > frame[0]),
            None => true,
        };
        let frames = bounds.windows(2).filter(is_hit).count() as u32;
        let frames_total = bounds.len().saturating_sub(1) as u32;
        self.report.lost(LostPack { pack: id, spans, frames, frames_total });
        Ok(())
    }

    /// Compares a whole pack's table with the index.
    fn compare(&mut self, id: PackId, bytes: &Bytes, is_known: bool) -> Result<()> {
        let repository = self.repository;
        let tail = &bytes[bytes.len().saturating_sub(FOOTER_LEN)..];
        let footer = Footer::parse_tail(tail, bytes.len() as u64)?;
        let table = bytes.get(footer.table_offset..footer.table_offset + footer.table_len);
        let table = footer.table(table.ok_or_else(|| Error::damaged(format!("pack {id}"), "its table is cut off"))?)?;
        // Who may not write packs has none in the index either.
        table.verify(&repository.roster()?)?;
        if !is_known {
            // Found, and not put: whoever relies on it makes it durable first.
            repository.index.packs().add_unsettled(id.0[0])?;
        }
        if repository.index.packs().correct(&table, bytes.len() as u64)? && is_known {
            tracing::warn!(pack = %id, "the index said something else than a pack's table, and was put right");
            self.report.index_mended += 1;
        }
        Ok(())
    }

    /// Holds the rate.
    fn wait(&mut self, bytes: u64) -> Result<()> {
        let mut left = self.pace.wait(bytes);
        while !left.is_zero() {
            self.go_on()?;
            std::thread::sleep(left.min(NAP));
            left = left.saturating_sub(NAP);
        }
        Ok(())
    }
}
