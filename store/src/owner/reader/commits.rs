//! What the log says of snapshots: which were committed, by whom and in which order, and what became of each.
//!
//! This is a pure function of the records of the log. It can be encoded and decoded, so that a reader that has followed
//! a log to some length need not do it again: the encoding holds the head at that length, and only a log that goes
//! through that head has the same records before it.

use std::{collections::HashMap, sync::OnceLock};

use super::{fields::Fields, log::LogChain};
use crate::{
    base::{
        codec,
        error::{Error, Result},
        id::{ClientId, RepoId, SnapshotId, TargetTag},
        time::Time,
    },
    crypto::VerifyingKey,
    format::{
        fate::{Fate, FateStep},
        log::{Event, LogRecord},
        tombstone::Tombstone,
    },
};

/// The reason of an incarnation that begins with a log that was repaired: its chain is not the one of before.
const REPAIR: &str = "repair";

/// Length of an encoded commit in bytes.
const COMMIT_LEN: usize = 32 + 16 + 16 + 8 + 8 + 12 + 13 + 8 + 8;
/// Stands for no record.
const NONE: u64 = u64::MAX;

/// A commit, as the log records it, and what became of the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commit {
    pub id: SnapshotId,
    /// The record that committed it.
    pub log_seq: u64,
    pub client: ClientId,
    pub target: TargetTag,
    pub sequence: u64,
    pub received: Time,
    pub fate: Option<Fate>,
    /// The record that committed it, or that last brought it back.
    pub changed_seq: u64,
    /// The record that expired it.
    pub expired_seq: u64,
}

impl Commit {
    pub fn is_expired(&self) -> bool {
        Fate::is_expired(self.fate)
    }

    pub fn damaged(&self, reason: String) -> Error {
        Error::SnapshotDamaged { snapshot: self.id, reason }
    }
}

/// Whose log it is: only tombstones of this repository's owner count.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogOwner {
    pub repo: RepoId,
    pub admin: VerifyingKey,
}

/// A log that is being followed.
#[derive(Debug)]
pub(super) struct CommitLog {
    pub chain: LogChain,
    /// The last record that says that the log was repaired.
    pub repaired_at: Option<u64>,
    /// The records that made seal keys, in the order of the log.
    pub rotations: Vec<u64>,
    commits: Vec<Commit>,
    /// Made when it is first needed.
    by_id: OnceLock<HashMap<SnapshotId, usize>>,
    /// Whether a snapshot was committed twice.
    has_duplicates: bool,
    /// Whether every record so far makes sense. Only such a log is remembered, so a problem is found each time.
    is_sound: bool,
    is_fate_changed: bool,
}

impl Default for CommitLog {
    fn default() -> Self {
        Self {
            chain: LogChain::default(),
            repaired_at: None,
            rotations: Vec::new(),
            commits: Vec::new(),
            by_id: OnceLock::new(),
            has_duplicates: false,
            is_sound: true,
            is_fate_changed: false,
        }
    }
}

impl CommitLog {
    /// Adds the next record. Returns what is wrong with it.
    pub fn add(&mut self, bytes: &[u8], owner: &LogOwner) -> Option<Error> {
        let seq = self.chain.len();
        self.chain.add(bytes);
        let problem = match codec::decode::<LogRecord>("an entry of the log", bytes) {
            Ok(record) if record.seq == seq => self.apply(record, owner).err(),
            Ok(record) => Some(format!("its own number is {}", record.seq)),
            Err(error) => Some(error.to_string()),
        };
        self.is_sound &= problem.is_none();
        problem.map(|reason| Error::damaged(log_entry(seq), reason))
    }

    fn apply(&mut self, record: LogRecord, owner: &LogOwner) -> Result<(), String> {
        let LogRecord { seq, time, event } = record;
        let (id, step, signed) = match event {
            Event::Commit { snapshot: id, client, target, sequence, .. } => {
                self.insert(Commit {
                    id,
                    log_seq: seq,
                    client,
                    target,
                    sequence,
                    received: time,
                    fate: None,
                    changed_seq: seq,
                    expired_seq: 0,
                });
                return Ok(());
            }
            Event::Incarnation { reason, .. } => {
                if reason == REPAIR {
                    self.repaired_at = Some(seq);
                }
                return Ok(());
            }
            Event::SealKeys { .. } => {
                self.rotations.push(seq);
                return Ok(());
            }
            Event::Forget { snapshot, signed } => {
                let is_broken = Tombstone::says_broken(&signed);
                (snapshot, FateStep::Forget { is_broken }, signed)
            }
            Event::Unforget { snapshot } => (snapshot, FateStep::Unforget, Vec::new()),
            Event::Expire { snapshot } => (snapshot, FateStep::Expire, Vec::new()),
            _ => return Ok(()),
        };
        let place = self.places().get(&id).copied();
        let Some(commit) = place.and_then(|place| self.commits.get_mut(place)) else {
            return Err(format!("it is about snapshot {id}, which was never committed"));
        };
        if matches!(step, FateStep::Forget { .. }) {
            let is_covered = match Tombstone::verify(&signed, &owner.admin, owner.repo) {
                Ok(tombstone) => tombstone.applies_to(id, commit.changed_seq),
                Err(_) => false,
            };
            if !is_covered {
                return Err(format!("it forgets snapshot {id} without a valid tombstone of this repository's owner"));
            }
        }
        let before = commit.fate;
        commit.fate = Fate::after(before, step, time);
        if before.is_some() && commit.fate.is_none() {
            commit.changed_seq = seq;
        }
        if step == FateStep::Expire && !Fate::is_expired(before) {
            commit.expired_seq = seq;
        }
        self.is_fate_changed |= commit.fate != before;
        Ok(())
    }

    fn insert(&mut self, commit: Commit) {
        self.places();
        let before = self.by_id.get_mut().and_then(|places| places.insert(commit.id, self.commits.len()));
        // Stores commit a snapshot once. What came of such a log is not worth remembering.
        self.has_duplicates |= before.is_some();
        self.is_sound &= before.is_none();
        self.commits.push(commit);
    }

    /// Where the last commit of each snapshot is.
    fn places(&self) -> &HashMap<SnapshotId, usize> {
        self.by_id.get_or_init(|| self.commits.iter().zip(0..).map(|(commit, at)| (commit.id, at)).collect())
    }

    /// All commits, in the order of the log.
    pub fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// The last commit of a snapshot.
    pub fn get(&self, id: &SnapshotId) -> Option<&Commit> {
        self.commits.get(*self.places().get(id)?)
    }

    /// A commit, with what became of its snapshot. A snapshot may have been committed again.
    pub fn at(&self, place: usize) -> Option<Commit> {
        let commit = *self.commits.get(place)?;
        Some(Commit { fate: self.fate_of(&commit), ..commit })
    }

    /// What became of the snapshot of one of [`CommitLog::commits`].
    pub fn fate_of(&self, commit: &Commit) -> Option<Fate> {
        if self.has_duplicates { self.fate(&commit.id) } else { commit.fate }
    }

    /// What became of a snapshot.
    pub fn fate(&self, id: &SnapshotId) -> Option<Fate> {
        self.get(id).and_then(|commit| commit.fate)
    }

    /// Whether a snapshot is gone for good.
    pub fn is_expired(&self, id: &SnapshotId) -> bool {
        Fate::is_expired(self.fate(id))
    }

    /// Whether a fate has changed since this was last asked.
    pub fn take_fate_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_fate_changed)
    }

    /// Encodes it. None if something is wrong with the log.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if !self.is_sound {
            return None;
        }
        let mut bytes = Vec::with_capacity(64 + self.commits.len() * COMMIT_LEN + self.chain.len() as usize * 16);
        self.chain.encode(&mut bytes);
        bytes.extend_from_slice(&self.repaired_at.unwrap_or(NONE).to_le_bytes());
        bytes.extend_from_slice(&(self.rotations.len() as u64).to_le_bytes());
        self.rotations.iter().for_each(|seq| bytes.extend_from_slice(&seq.to_le_bytes()));
        bytes.extend_from_slice(&(self.commits.len() as u64).to_le_bytes());
        self.commits.iter().for_each(|commit| commit.encode(&mut bytes));
        Some(bytes)
    }

    /// Decodes what [`CommitLog::encode`] returned; none if it is something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let chain = LogChain::decode(&mut fields)?;
        let repaired_at = Some(fields.u64()?).filter(|seq| *seq != NONE);
        let count = fields.count(8)?;
        let rotations = (0..count).map(|_| fields.u64()).collect::<Option<Vec<_>>>()?;
        let count = fields.count(COMMIT_LEN)?;
        let mut log = Self { chain, repaired_at, rotations, ..Self::default() };
        log.commits = (0..count).map(|_| Commit::decode(&mut fields)).collect::<Option<_>>()?;
        let ascends = log.commits.is_sorted_by(|one, next| one.log_seq < next.log_seq);
        let is_within = log.commits.last().is_none_or(|last| last.log_seq < log.chain.len());
        (fields.is_empty() && ascends && is_within).then_some(log)
    }
}

impl Commit {
    fn encode(&self, bytes: &mut Vec<u8>) {
        let Self { id, log_seq, client, target, sequence, received, fate, changed_seq, expired_seq } = self;
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&client.0);
        bytes.extend_from_slice(&target.0);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&log_seq.to_le_bytes());
        Fields::put_time(bytes, *received);
        let (kind, since) = match fate {
            None => (0, Time::default()),
            Some(Fate::Trash { since, is_broken: false }) => (1, *since),
            Some(Fate::Trash { since, is_broken: true }) => (2, *since),
            Some(Fate::Expired { is_signed: false }) => (3, Time::default()),
            Some(Fate::Expired { is_signed: true }) => (4, Time::default()),
        };
        bytes.push(kind);
        Fields::put_time(bytes, since);
        bytes.extend_from_slice(&changed_seq.to_le_bytes());
        bytes.extend_from_slice(&expired_seq.to_le_bytes());
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let (id, client) = (SnapshotId(fields.array()?), ClientId(fields.array()?));
        let (target, sequence, log_seq) = (TargetTag(fields.array()?), fields.u64()?, fields.u64()?);
        let (received, [kind], since) = (fields.time()?, fields.array()?, fields.time()?);
        let fate = match kind {
            0 => None,
            1 | 2 => Some(Fate::Trash { since, is_broken: kind == 2 }),
            3 | 4 => Some(Fate::Expired { is_signed: kind == 4 }),
            _ => return None,
        };
        let (changed_seq, expired_seq) = (fields.u64()?, fields.u64()?);
        Some(Self { id, log_seq, client, target, sequence, received, fate, changed_seq, expired_seq })
    }
}

/// Names a record of the log in errors.
pub(super) fn log_entry(seq: u64) -> String {
    format!("entry {seq} of the log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Hash;

    fn commit(n: u8, fate: Option<Fate>) -> Commit {
        Commit {
            id: SnapshotId([n; 32]),
            log_seq: n.into(),
            client: ClientId([7; 16]),
            target: TargetTag([n; 16]),
            sequence: 5,
            received: Time { secs: -3, nanos: 9 },
            fate,
            changed_seq: 4,
            expired_seq: 0,
        }
    }

    fn log() -> CommitLog {
        let mut log = CommitLog::default();
        (0..6u8).for_each(|n| log.chain.add(&[n]));
        let since = Time { secs: 1 << 40, nanos: 999_999_999 };
        let fates = [
            None,
            Some(Fate::Trash { since, is_broken: false }),
            Some(Fate::Trash { since, is_broken: true }),
            Some(Fate::Expired { is_signed: false }),
            Some(Fate::Expired { is_signed: true }),
        ];
        (0..).zip(fates).for_each(|(n, fate)| log.insert(commit(n, fate)));
        (log.repaired_at, log.rotations) = (Some(2), vec![1, 3]);
        log
    }

    #[test]
    fn a_log_decodes_as_it_was_encoded() {
        let log = log();
        let bytes = log.encode().unwrap();
        let back = CommitLog::decode(&bytes).unwrap();
        assert_eq!(back.commits, log.commits);
        assert_eq!((back.repaired_at, &back.rotations), (Some(2), &vec![1, 3]));
        assert_eq!((back.chain.len(), back.chain.head()), (6, log.chain.head()));
        assert_eq!(back.chain.had(3, &Hash::default()), Some(false));
        for cut in 0..bytes.len() {
            assert!(CommitLog::decode(&bytes[..cut]).is_none(), "{cut}");
        }
        assert!(CommitLog::decode(&[&bytes[..], &[0]].concat()).is_none());
    }

    #[test]
    fn a_log_with_a_problem_is_not_encoded() {
        let mut log = log();
        let owner = LogOwner { repo: RepoId::default(), admin: VerifyingKey([0; 32]) };
        assert!(log.add(b"no record", &owner).is_some());
        assert!(log.encode().is_none());
    }

    #[test]
    fn a_snapshot_that_is_committed_twice_is_not_remembered() {
        let mut log = log();
        log.insert(Commit { log_seq: 5, ..commit(1, None) });
        assert!(log.encode().is_none());
    }
}
