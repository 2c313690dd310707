//! Frames that are live and not needed: a key holder has refused them, or each of their chunks has a copy elsewhere
//! that a key holder has verified.
//!
//! Copies of different trust domains exist side by side until one of them is verified, because a client must not rely
//! on another domain's copy. One verified copy is enough for everybody. Of several, the one stays that comes first in
//! an order that does not change while a prune plans; packs that came after the prune began come first, since the prune
//! does not touch them.

use std::collections::{HashMap, HashSet};

use super::{
    marking::Marker,
    marks::{Frames, Marks},
};
use crate::{
    base::{error::Result, id::PackId},
    format::loss::FrameBits,
    repository::index::{ManyCopy, Trust},
};

impl Marker {
    /// The frames of packs that are not needed. `moved` are frames that a key holder has written again, `condemned`
    /// those that an earlier prune takes.
    pub(super) fn spare_frames(
        &self,
        marks: &Marks,
        moved: &Frames,
        condemned: &HashMap<PackId, FrameBits>,
    ) -> Result<Frames> {
        let mut spare = Frames::new();
        for (pack, frames) in self.index.verdicts().refused()? {
            if let Some(number) = self.index.packs().number_of(&pack)? {
                spare.insert(number, frames);
            }
        }
        if self.index.verdicts().are_none_verified()? {
            return Ok(spare);
        }
        let is_moved = |copy: &ManyCopy| {
            let (number, frame) = copy.address;
            moved.get(&number).is_some_and(|frames| frames.has(frame))
        };
        let stays = |copy: &&ManyCopy| {
            copy.is_live && copy.trust == Trust::Verified && !condemned.contains_key(&copy.pack) && !is_moved(copy)
        };
        let mut counts: HashMap<u32, HashMap<u32, usize>> = HashMap::new();
        let domains = self.log.domains()?;
        for first in 0..=u8::MAX {
            self.index.chunks().with_many_copies(first, &domains, &mut |copies| {
                let order = |copy: &&ManyCopy| (copy.address.0 < marks.next_number, copy.pack, copy.address.1);
                let Some(kept) = copies.iter().filter(stays).min_by_key(order) else { return };
                for copy in copies.iter().filter(|copy| copy.address != kept.address) {
                    let (number, frame) = copy.address;
                    *counts.entry(number).or_default().entry(frame).or_default() += 1;
                }
            })?;
        }
        for (number, frames) in counts {
            let Some(row) = self.index.packs().row(number)? else { continue };
            // A damaged pack is not pruned.
            let Ok(table) = self.files.table(row.id, row.len) else { continue };
            let bits = spare.entry(number).or_insert_with(|| FrameBits::none(table.frames.len()));
            for (frame, count) in frames {
                let ids = table.frames.get(frame as usize).map(|entry| entry.ids.iter().collect::<HashSet<_>>());
                if ids.is_some_and(|ids| ids.len() == count) {
                    bits.set(frame);
                }
            }
        }
        Ok(spare)
    }
}
