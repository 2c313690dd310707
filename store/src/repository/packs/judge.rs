//! Recording verdicts of key holders, and finding which packs deserve one.
//!
//! **Order.** A verdict is one record of the log, together with what is lost by what it refuses. So no client can learn
//! of one without the other.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{files::PackFiles, quarantine::Quarantine};
use crate::{
    base::{
        error::{Error, Result},
        id::{ChunkId, PackId},
    },
    format::{
        log::Event,
        loss::{FrameBits, Lost},
        verdict::Refused,
    },
    repository::{
        index::{Index, Trust},
        log::Log,
    },
};

/// Records verdicts.
#[derive(Debug)]
pub struct Judge {
    index: Arc<Index>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    quarantine: Arc<Quarantine>,
}

impl Judge {
    pub fn new(index: Arc<Index>, log: Arc<Log>, files: Arc<PackFiles>, quarantine: Arc<Quarantine>) -> Self {
        Self { index, log, files, quarantine }
    }

    /// Records a signed verdict, unless it says nothing new.
    pub fn judge(&self, signed: &[u8]) -> Result<()> {
        let verdict = self.log.verify_verdict(signed).map_err(Error::in_input)?;
        let _lock = self.log.lock_for_append()?;
        if !self.index.verdicts().is_news(&verdict)? {
            return Ok(());
        }
        let lost = self.lost_with(&verdict.refused)?;
        let generation = match &lost {
            Lost::Ids(ids) if ids.is_empty() => None,
            _ => Some(self.log.generation()? + 1),
        };
        for Refused { pack, frames } in &verdict.refused {
            tracing::warn!(%pack, frames = frames.count(), "a key holder has refused frames of a pack");
        }
        self.log.append(&[Event::Verdict { signed: signed.to_vec(), generation, lost }])
    }

    /// The chunks that are lost with frames that are about to be refused.
    fn lost_with(&self, refused: &[Refused]) -> Result<Lost> {
        // The other copies may be in packs that were found and not put.
        self.files.settle_found()?;
        let (mut taken, mut ids): (HashMap<u32, &FrameBits>, Vec<ChunkId>) = (HashMap::new(), Vec::new());
        for Refused { pack, frames } in refused {
            let Some(number) = self.index.packs().number_of(pack)? else { continue };
            let Some(row) = self.index.packs().row(number)? else { continue };
            let Ok(table) = self.files.table(row.id, row.len) else { return Ok(Lost::Everything) };
            let entries = (0u32..).zip(&table.frames).filter(|(frame, _)| frames.has(*frame));
            ids.extend(entries.flat_map(|(_, entry)| &entry.ids));
            taken.insert(number, frames);
        }
        ids.sort_unstable();
        ids.dedup();
        self.quarantine.lost_of(&ids, &|pack, frame| taken.get(&pack).is_some_and(|frames| frames.has(frame)))
    }

    /// The packs with copies of chunks that packs of other domains have as well, and of which no copy is verified.
    pub fn contested(&self, after: Option<PackId>, limit: usize) -> Result<Vec<PackId>> {
        self.log.follow()?;
        let (domains, mut found) = (self.log.domains()?, BTreeSet::new());
        for first in 0..=u8::MAX {
            self.index.chunks().with_many_copies(first, &domains, &mut |copies| {
                let live = || copies.iter().filter(|copy| copy.is_live);
                let is_settled = live().any(|copy| copy.trust == Trust::Verified);
                let is_of_several = || live().zip(live().skip(1)).any(|(one, next)| one.trust != next.trust);
                if !is_settled && is_of_several() {
                    let packs = live().map(|copy| copy.pack);
                    found.extend(packs.filter(|pack| after.is_none_or(|after| *pack > after)));
                }
            })?;
        }
        let mut contested = Vec::new();
        for pack in found {
            if contested.len() < limit && self.index.verdicts().refused_frames(&pack)?.is_none() {
                contested.push(pack);
            }
        }
        Ok(contested)
    }
}
