//! The known-set, and what the repository has reported as lost.
//!
//! Each time losses are noted, the cache begins a new *epoch*. Lost ids are kept with the epoch that noted them, and a
//! record carries the epoch that it takes into account, so a later push can tell which losses the record lacks.
//!
//! Several pushes of one machine share a cache, and each session knows only the losses that were reported when it
//! opened the repository. The cache may know later ones. A session must not undo what a later session has noted, so
//! everything that it writes carries its [`LossView`].

use bkfs_store::{
    Result,
    access::Seen,
    base::{codec, id::ChunkId},
    format::loss::Lost,
};
use heed::{RoTxn, WithoutTls};

use super::Cache;

/// Bytes that are kept of each id.
const ID_PREFIX: usize = 16;
/// Lost ids that are kept. More count as the loss of everything.
const LOST_MAX: u64 = 4 << 20;

/// Key of the number of the current epoch.
const EPOCH: &str = "epoch";
/// Key of the last epoch that noted the loss of everything.
const ALL_LOST: &str = "all lost";
/// Key of the point of the log up to which losses were noted.
const NOTED: &str = "corrected";

/// What one session knows of losses: those that were reported when it opened the repository, and no later ones.
#[derive(Debug, Clone, Copy)]
pub struct LossView {
    now: Seen,
    epoch: Option<u32>,
}

impl LossView {
    /// The epoch whose losses the session takes into account; none if the cache knew more when the session began.
    pub fn epoch(&self) -> Option<u32> {
        self.epoch
    }
}

/// What was lost since a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losses {
    /// Nothing.
    None,
    /// Single chunks: ask [`Cache::is_lost`].
    Some {
        /// The record's epoch.
        since: u32,
    },
    /// Possibly everything: only the repository knows.
    All,
}

impl Cache {
    /// Which of the ids are in the known-set.
    pub fn known(&self, ids: &[ChunkId]) -> Vec<bool> {
        let look = || -> heed::Result<Vec<bool>> {
            let txn = self.env.read_txn()?;
            ids.iter().map(|id| Ok(self.known.get(&txn, &id.0[..ID_PREFIX])?.is_some())).collect()
        };
        look().unwrap_or_else(|_| vec![false; ids.len()])
    }

    /// Adds ids to the known-set and clears them.
    ///
    /// Adds none if a session that saw more of the repository has noted losses since `view` was made: the ids may be
    /// among those losses, and no later opening would report them again.
    pub fn add_known(&self, ids: &mut Vec<ChunkId>, view: &LossView) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        ids.sort_unstable();
        let put = || -> heed::Result<()> {
            let mut txn = self.env.write_txn()?;
            if self.is_behind(&txn, &view.now)? {
                return Ok(());
            }
            for id in ids.iter() {
                self.known.put(&mut txn, &id.0[..ID_PREFIX], &())?;
            }
            txn.commit()
        };
        put().map_err(|e| self.env.error(e))?;
        ids.clear();
        Ok(())
    }

    /// Whether losses were noted by a session that saw a later point of the log than `now`, or another incarnation.
    fn is_behind(&self, txn: &RoTxn<'_, WithoutTls>, now: &Seen) -> heed::Result<bool> {
        let noted = self.noted(txn)?;
        Ok(noted.is_some_and(|seen| seen.incarnation != now.incarnation || seen.log_len > now.log_len))
    }

    /// The point of the log up to which losses were noted.
    fn noted(&self, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<Option<Seen>> {
        Ok(self.meta.get(txn, NOTED)?.and_then(|bytes| codec::decode("the file cache", bytes).ok()))
    }

    /// The current epoch: how many times losses were noted.
    pub fn epoch(&self) -> u32 {
        self.meta_number(EPOCH)
    }

    /// Notes the losses that the repository reported to a session that opened it at `now`. Lost ids leave the
    /// known-set, and older records must be checked. What the session writes afterwards carries the returned view.
    pub fn note_lost(&self, lost: &Lost, now: Seen) -> Result<LossView> {
        let view = match lost {
            Lost::Ids(ids) if ids.is_empty() => self.view_without_losses(now),
            _ => self.try_note_lost(lost, now),
        };
        view.map_err(|e| self.env.error(e))
    }

    /// The view of a session to which no loss was reported.
    fn view_without_losses(&self, now: Seen) -> heed::Result<LossView> {
        let txn = self.env.read_txn()?;
        let epoch = self.meta.get(&txn, EPOCH)?.map_or(0, decode_number);
        let epoch = if self.is_behind(&txn, &now)? { None } else { Some(epoch) };
        Ok(LossView { now, epoch })
    }

    fn try_note_lost(&self, lost: &Lost, now: Seen) -> heed::Result<LossView> {
        let mut txn = self.env.write_txn()?;
        let number = self.meta.get(&txn, EPOCH)?.map_or(0, decode_number).saturating_add(1);
        let epoch = number.to_le_bytes();
        let mut is_all = matches!(lost, Lost::Everything);
        if let Lost::Ids(ids) = lost {
            for id in ids {
                self.known.delete(&mut txn, &id.0[..ID_PREFIX])?;
                self.lost.put(&mut txn, &id.0[..ID_PREFIX], &epoch)?;
            }
            is_all = self.lost.len(&txn)? > LOST_MAX;
        } else {
            self.known.clear(&mut txn)?;
        }
        if is_all {
            self.lost.clear(&mut txn)?;
            self.meta.put(&mut txn, ALL_LOST, &epoch)?;
        }
        self.meta.put(&mut txn, EPOCH, &epoch)?;
        // A session that opened later may have noted its losses first. They were not reported to this session.
        let is_behind = self.noted(&txn)?.is_some_and(|seen| match seen.incarnation == now.incarnation {
            true => seen.log_len > now.log_len,
            false => !matches!(lost, Lost::Everything),
        });
        if !is_behind {
            self.meta.put(&mut txn, NOTED, &codec::encode(&now))?;
        }
        txn.commit()?;
        Ok(LossView { now, epoch: (!is_behind).then_some(number) })
    }

    /// What was lost that a record of an epoch does not take into account.
    pub fn losses(&self, epoch: u32) -> Losses {
        match epoch {
            e if e >= self.epoch() => Losses::None,
            e if e < self.meta_number(ALL_LOST) => Losses::All,
            since => Losses::Some { since },
        }
    }

    /// Whether a chunk was lost after an epoch.
    pub fn is_lost(&self, id: &ChunkId, since: u32) -> bool {
        let look = || -> heed::Result<bool> {
            let txn = self.env.read_txn()?;
            Ok(self.lost.get(&txn, &id.0[..ID_PREFIX])?.is_some_and(|epoch| decode_number(epoch) > since))
        };
        // A chunk that cannot be looked up cannot be relied on.
        look().unwrap_or(true)
    }

    fn meta_number(&self, name: &str) -> u32 {
        let look = || -> heed::Result<u32> {
            let txn = self.env.read_txn()?;
            Ok(self.meta.get(&txn, name)?.map_or(0, decode_number))
        };
        look().unwrap_or(0)
    }
}

fn decode_number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}
