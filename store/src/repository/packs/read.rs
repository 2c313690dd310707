//! Reading frames. The index resolves ids, and frames that follow one another are read together.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;

use super::{files::PackFiles, find::Finder};
use crate::{
    access::{AVOID_MAX, IDS_MAX, READ_BYTES_MAX, ReadReply, ReadRequest, SealedFrame},
    base::{
        error::{Error, Result},
        id::{ChunkId, ClientId, PackId},
    },
    repository::{
        index::{Index, PackRow, Wanted},
        limits,
        log::Log,
    },
};

/// How often a read looks again for frames that prunes have moved in the meantime.
const TRIES: usize = 5;

/// Reads frames.
#[derive(Debug)]
pub(super) struct FrameReader {
    index: Arc<Index>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    finder: Arc<Finder>,
}

impl FrameReader {
    pub fn new(index: Arc<Index>, log: Arc<Log>, files: Arc<PackFiles>, finder: Arc<Finder>) -> Self {
        Self { index, log, files, finder }
    }

    /// Which of the ids have a live copy that a client may rely on; without a client, any live copy.
    pub fn has(&self, client: Option<ClientId>, ids: &[ChunkId]) -> Result<Vec<bool>> {
        limits::check_count(ids.len(), IDS_MAX)?;
        let searches = self.finder.searches();
        let ask = || {
            let domains = self.log.domains()?;
            self.index.chunks().has(ids, client.map(|client| domains.of(client)), &domains)
        };
        let has = ask()?;
        // Another process may have stored what is missing.
        if has.contains(&false) && self.finder.catch_up(searches)? { ask() } else { Ok(has) }
    }

    /// Reads frames. Packs come and go in the meantime. If a pack that the index named is gone, or a chunk is unknown,
    /// the index takes in what this process and others have done since, and the read is tried again.
    pub fn read(&self, request: &ReadRequest) -> Result<ReadReply> {
        limits::check_count(request.ids.len(), IDS_MAX)?;
        limits::check_count(request.avoid.len(), AVOID_MAX)?;
        for _ in 1..TRIES {
            let (searches, mut gone) = (self.finder.searches(), Vec::new());
            let reply = self.read_once(request, &mut gone)?;
            if gone.is_empty() && reply.missing.is_empty() {
                return Ok(reply);
            }
            let is_newer = self.finder.catch_up(searches)?;
            let mut moved = gone.iter().map(|id| Ok(!self.index.packs().has(id)?));
            if !is_newer && !moved.try_fold(false, |any, is_moved| is_moved.map(|is_moved: bool| any | is_moved))? {
                // What a reader wants was committed. If the index lacks it, the index may be damaged.
                if reply.missing.is_empty() || !request.avoid.is_empty() || !self.finder.compare()? {
                    return Ok(reply);
                }
            }
        }
        self.read_once(request, &mut Vec::new())
    }

    /// Reads frames where the index has them. Packs whose files are gone are added to `gone`.
    fn read_once(&self, request: &ReadRequest, gone: &mut Vec<PackId>) -> Result<ReadReply> {
        let (addresses, packs) = self.index.chunks().resolve(
            &request.ids,
            &Wanted { domain: None, avoid: &request.avoid },
            &*self.log.domains()?,
        )?;
        let mut reply = ReadReply::default();
        let (mut plan, mut taken, mut bytes) = (Vec::new(), HashSet::new(), 0usize);
        for (id, address) in request.ids.iter().zip(addresses) {
            let len = address.and_then(|(number, frame)| packs.get(&number)?.frame(frame)).map(|(_, len)| len);
            let (Some((number, frame)), Some(len)) = (address, len) else {
                reply.missing.push(*id);
                reply.done += 1;
                continue;
            };
            if !taken.contains(&(number, frame)) {
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
            let row = packs.get(&number);
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
            let Some(pack) = packs.get(&number) else { break };
            if !self.read_run(pack, first, run as u32, &mut reply.frames)? {
                gone.push(pack.id);
            }
            at += run;
        }
        Ok(reply)
    }

    /// Reads frames that follow one another. Returns whether the pack's file exists.
    fn read_run(&self, pack: &PackRow, first: u32, count: u32, frames: &mut Vec<SealedFrame>) -> Result<bool> {
        let damaged = |reason: &str| Error::PackDamaged { pack: pack.id, reason: reason.to_owned() };
        let bound = |number: u32| pack.bounds.get(number as usize).copied().ok_or_else(|| damaged("its row is wrong"));
        let (start, end) = (bound(first)?, bound(first + count)?);
        let len = end.checked_sub(start).ok_or_else(|| damaged("its row is wrong"))? as usize;
        // A pack that is lost, cut off or unreadable yields short frames: the reader sees which fail, and uses the
        // others.
        let run = match self.files.range(pack.id, u64::from(start), len) {
            Err(error) if error.is_unreadable() && count == 1 => {
                tracing::warn!(pack = %pack.id, frame = first, %error, "a frame cannot be read");
                Some(Bytes::new())
            }
            // Read them one at a time, to get those that can be read.
            Err(error) if error.is_unreadable() => {
                for frame in first..first + count {
                    self.read_run(pack, frame, 1, frames)?;
                }
                return Ok(true);
            }
            run => run?,
        };
        let is_there = run.is_some();
        let run = run.unwrap_or_default();
        for frame in first..first + count {
            let from = ((bound(frame)? - start) as usize).min(run.len());
            let to = (bound(frame + 1)?.saturating_sub(start) as usize).clamp(from, run.len());
            let bytes: Bytes = run.slice(from..to);
            frames.push(SealedFrame { pack: pack.id, frame, bytes });
        }
        Ok(is_there)
    }
}
