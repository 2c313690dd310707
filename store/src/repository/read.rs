//! Reading frames: ids are resolved by the index, frames that follow one another are read at once.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{Repository, layout};
use crate::{
    access::{IDS_MAX, READ_BYTES_MAX, ReadReply, ReadRequest, SealedFrame},
    error::{Error, Result},
    index::PackRow,
};

/// Refuses requests that name too many ids.
pub(super) fn bounded(ids: usize) -> Result<()> {
    match ids <= IDS_MAX {
        true => Ok(()),
        false => Err(Error::TooLarge { what: "a request", size: ids as u64, limit: IDS_MAX as u64 }),
    }
}

impl Repository {
    pub(super) fn read_frames(&self, request: &ReadRequest) -> Result<ReadReply> {
        bounded(request.ids.len())?;
        let places = self.index.locate(&request.ids)?;
        let mut packs: HashMap<u32, Option<PackRow>> = HashMap::new();
        let mut reply = ReadReply::default();
        let (mut plan, mut taken, mut bytes) = (Vec::new(), HashSet::new(), 0usize);
        for (id, place) in request.ids.iter().zip(places) {
            let Some((number, frame)) = place else {
                reply.missing.push(*id);
                reply.done += 1;
                continue;
            };
            if !taken.contains(&(number, frame)) {
                let pack = match packs.entry(number) {
                    std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::hash_map::Entry::Vacant(entry) => entry.insert(self.index.pack(number)?),
                };
                let Some((_, len)) = pack.as_ref().and_then(|pack| pack.frame(frame)) else {
                    reply.missing.push(*id);
                    reply.done += 1;
                    continue;
                };
                if bytes + len as usize > READ_BYTES_MAX && !plan.is_empty() {
                    break;
                }
                bytes += len as usize;
                taken.insert((number, frame));
                plan.push((number, frame));
            }
            reply.done += 1;
        }
        if let Some(&(number, frame)) = plan.last()
            && reply.done == request.ids.len()
        {
            let mut left = (request.neighbour_bytes as usize).min(READ_BYTES_MAX.saturating_sub(bytes));
            let row = packs.get(&number).and_then(Option::as_ref);
            for next in frame + 1.. {
                let Some((_, len)) = row.and_then(|row| row.frame(next)) else { break };
                if len as usize > left || !taken.insert((number, next)) {
                    break;
                }
                left -= len as usize;
                plan.push((number, next));
            }
        }
        let mut at = 0;
        while at < plan.len() {
            let (number, first) = plan[at];
            let run = plan[at..].iter().enumerate().take_while(|(i, p)| **p == (number, first + *i as u32)).count();
            let Some(pack) = packs.get(&number).and_then(Option::as_ref) else { break };
            self.read_run(pack, first, run as u32, &mut reply.frames)?;
            at += run;
        }
        Ok(reply)
    }

    fn read_run(&self, pack: &PackRow, first: u32, count: u32, frames: &mut Vec<SealedFrame>) -> Result<()> {
        let damaged = |reason: &str| Error::PackDamaged { pack: pack.id, reason: reason.to_owned() };
        let bound = |number: u32| pack.bounds.get(number as usize).copied().ok_or_else(|| damaged("its row is wrong"));
        let (start, end) = (bound(first)?, bound(first + count)?);
        let len = end.checked_sub(start).ok_or_else(|| damaged("its row is wrong"))? as usize;
        // A lost, cut or unreadable pack answers with short frames: the reader sees which fail, and the others serve.
        let run = match self.backend.get_range(&layout::pack(pack.id), u64::from(start), len) {
            Err(error) if error.is_unreadable() && count == 1 => {
                tracing::warn!(pack = %pack.id, frame = first, %error, "a frame cannot be read");
                Bytes::new()
            }
            // One by one, to get what can be had.
            Err(error) if error.is_unreadable() => {
                return (first..first + count).try_for_each(|frame| self.read_run(pack, frame, 1, frames));
            }
            run => run?.unwrap_or_default(),
        };
        for frame in first..first + count {
            let from = ((bound(frame)? - start) as usize).min(run.len());
            let to = (bound(frame + 1)?.saturating_sub(start) as usize).clamp(from, run.len());
            let bytes: Bytes = run.slice(from..to);
            frames.push(SealedFrame { pack: pack.id, frame, bytes });
        }
        Ok(())
    }
}
