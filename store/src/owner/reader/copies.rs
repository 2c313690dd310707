//! Reading a chunk whose best copy turned out to be wrong: from another copy, if there is one.
//!
//! A store without keys cannot tell a copy that holds its chunk from one that only claims to. A client that uploads
//! rubbish under the ids of others' chunks is found out here. The whole pack is fetched, once, and examined by its own
//! table and with its own keys: so neither damage of the disk, nor of the index, nor a key that is lost elsewhere makes
//! a good pack look bad.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use super::roster::RosterCache;
use crate::{
    access::{AVOID_MAX, Read, ReadRequest},
    base::{
        error::{Error, ErrorKind, Result},
        id::{ChunkId, PackId},
    },
    format::{frame::ChunkKind, pack::Pack},
    owner::{
        frames::{self, frame_damaged},
        keyring::KeyRing,
        packs::PackFindings,
        verdicts::{Verdicts, maker},
    },
};

/// How many packs are remembered. Beyond that, all are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// Reads other copies.
pub(super) struct Copies {
    access: Arc<dyn Read>,
    keys: Arc<KeyRing>,
    roster: Arc<RosterCache>,
    /// The packs that were examined, and who made those that are whole. The lock is held while a pack is examined: a
    /// thread that met the same pack waits, and does not fetch it again.
    examined: Mutex<HashMap<PackId, Option<String>>>,
}

impl Copies {
    pub fn new(access: Arc<dyn Read>, keys: Arc<KeyRing>, roster: Arc<RosterCache>) -> Self {
        Self { access, keys, roster, examined: Mutex::default() }
    }

    /// Tries the copies of a chunk one after another, and passes every chunk in the first good frame to `each`.
    pub fn fetch(&self, kind: ChunkKind, id: ChunkId, each: &mut dyn FnMut(ChunkId, Bytes)) -> Result<()> {
        let (mut avoid, mut first_error) = (Vec::new(), None);
        while avoid.len() < AVOID_MAX {
            let reply = self.access.read(&ReadRequest { ids: vec![id], neighbour_bytes: 0, avoid: avoid.clone() })?;
            let Some(frame) = reply.frames.first().filter(|frame| !avoid.contains(&frame.pack)) else { break };
            let error = match frames::open(&self.keys, kind, frame) {
                Ok(chunks) if chunks.iter().any(|(found, _)| *found == id) => {
                    if let Some(error) = first_error {
                        tracing::warn!(pack = %frame.pack, %error, "chunk {id} was read from another copy");
                    }
                    chunks.into_iter().for_each(|(id, chunk)| each(id, Bytes::copy_from_slice(&chunk)));
                    return Ok(());
                }
                Ok(_) => frame_damaged(frame, format!("it lacks chunk {id}, which should be in it")),
                // A pack from after a rotation, read with a key from before. An older copy may open.
                Err(error @ Error::KeyOutdated { .. }) => {
                    first_error.get_or_insert(error);
                    avoid.push(frame.pack);
                    continue;
                }
                Err(error) if error.kind() != ErrorKind::Damaged => return Err(error),
                Err(error) => error,
            };
            let maker = self.examine(frame.pack);
            first_error.get_or_insert(match (error, maker) {
                (Error::FrameDamaged { pack, frame, reason }, Some(maker)) => {
                    Error::FrameDamaged { pack, frame, reason: format!("{reason}; {maker} made the pack") }
                }
                (error, _) => error,
            });
            avoid.push(frame.pack);
        }
        Err(first_error.unwrap_or(Error::ChunkMissing { id }))
    }

    /// Looks at a whole pack, once, and refuses what is wrong in it. Returns who made it, if it is whole.
    fn examine(&self, id: PackId) -> Option<String> {
        let mut examined = self.examined.lock();
        if let Some(maker) = examined.get(&id) {
            return maker.clone();
        }
        let maker = self.try_examine(id).unwrap_or_else(|error| {
            tracing::warn!(pack = %id, %error, "a pack with a wrong frame cannot be examined");
            None
        });
        if examined.len() >= REMEMBERED_MAX {
            examined.clear();
        }
        examined.insert(id, maker.clone());
        maker
    }

    fn try_examine(&self, id: PackId) -> Result<Option<String>> {
        let bytes = self.access.read_pack(id)?;
        let Some(pack) = Pack::parse(&bytes).ok().filter(|pack| pack.table.id == id) else {
            // The disk has damaged it. Its maker is not to blame.
            return Ok(None);
        };
        let roster = self.roster.fetch()?;
        pack.table.verify(&roster)?;
        let mut found = PackFindings::default();
        found.open_frames(&self.keys, &pack.table, &bytes);
        let maker = maker(self.keys.full(), &roster, pack.table.client);
        let verdicts = Verdicts::new(&*self.access, self.keys.full());
        if verdicts.add(id, &found, pack.table.frames.len()) {
            verdicts.finish();
            let (bad, all) = (found.bad_frames.len(), pack.table.frames.len());
            tracing::warn!(
                pack = %id, %maker,
                "{bad} of {all} frames do not hold the chunks that the pack's table names; they are not used any more"
            );
        }
        Ok(Some(maker))
    }
}
