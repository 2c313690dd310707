//! Following the log: as far as the store says that it reaches, and no farther.
//!
//! Nothing in the log is signed except tombstones and rosters, so a store can write into it what it likes, and never
//! end. A reader takes in what was announced when the repository was opened, holds 16 bytes of each record, and refuses
//! a log beyond [`RECORDS_MAX`] and [`COMMITS_MAX`]. What it holds is the chain of heads: each snapshot states, under
//! the signature of its client, the head that the client saw, and a store that shows two clients different logs cannot
//! show both snapshots in one.

use std::time::{Duration, Instant};

use super::fields::Fields;
use crate::{
    access::{Read, Seen},
    base::{
        error::{Error, Result},
        id::Hash,
    },
    format::log::LogRecord,
    owner::pages::expect_count,
};

/// The longest log that is read, in records: a hundred machines that push every ten minutes write one in three years.
pub const RECORDS_MAX: u64 = 16 * 1024 * 1024;
/// The most commits that a log may hold. Each takes about 200 bytes of memory until it is known what became of it.
pub const COMMITS_MAX: usize = 4 * 1024 * 1024;
/// How many log records one request asks for.
const RECORDS_PER_REQUEST: u32 = 4096;
/// How many log records one request asks for if they are only looked at.
const PASSED_PER_REQUEST: u32 = 1024;
/// Bytes that are kept of each head: enough that nobody finds another log with the same ones.
const HEAD_KEPT: usize = 16;
/// How long reading may take before a person is told how far it is, and again each time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A log that is being followed.
#[derive(Debug, Default)]
pub(super) struct LogChain {
    /// The start of the head at each length from 1 on.
    heads: Vec<[u8; HEAD_KEPT]>,
    head: Hash,
    announced: Option<Seen>,
}

impl LogChain {
    /// The length up to which the log was read, in records.
    pub fn len(&self) -> u64 {
        self.heads.len() as u64
    }

    /// Notes what the store said of its log when it was opened.
    pub fn announce(&mut self, now: Seen) {
        self.announced = Some(now);
    }

    /// Returns how far to read now: to the length that was announced and not reached yet, or to the present one.
    pub fn target(&mut self, access: &dyn Read) -> Result<Target> {
        let target = match self.announced.take().filter(|announced| announced.log_len > self.len()) {
            Some(Seen { log_len, log_head, .. }) => Target { len: log_len, head: Some(log_head) },
            None => Target { len: access.wait_log(0, Duration::ZERO)?, head: None },
        };
        check_len(target.len)?;
        Ok(target)
    }

    /// Reads the next records before `target`. None if there are none: then the log ends before it.
    pub fn read(&self, access: &dyn Read, target: u64) -> Result<Vec<Vec<u8>>> {
        let limit = target.saturating_sub(self.len()).min(RECORDS_PER_REQUEST.into()) as u32;
        let records = access.log(self.len(), limit)?;
        expect_count(records.len(), limit as usize, "entries of its log")?;
        Ok(records)
    }

    /// Adds a record.
    pub fn add(&mut self, record: &[u8]) {
        self.head = LogRecord::link(self.head, record);
        let mut kept = [0; HEAD_KEPT];
        kept.copy_from_slice(&self.head.0[..HEAD_KEPT]);
        self.heads.push(kept);
    }

    /// Appends the chain to `bytes`: its length, its head, and what is kept of all heads.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.len().to_le_bytes());
        bytes.extend_from_slice(self.heads.as_flattened());
        bytes.extend_from_slice(&self.head.0);
    }

    /// Reads what [`LogChain::encode`] wrote.
    pub fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let count = fields.count(HEAD_KEPT)?;
        let heads = fields.bytes(count * HEAD_KEPT)?.as_chunks::<HEAD_KEPT>().0.to_vec();
        let head = Hash(fields.array()?);
        let fits = heads.last().map_or(head == Hash::default(), |last| *last == head.0[..HEAD_KEPT]);
        fits.then_some(Self { heads, head, announced: None })
    }

    /// What the store said of its log when it was opened, if that was not read up to yet.
    pub fn announced(&self) -> Option<Seen> {
        self.announced
    }

    /// The head at the end of what was read.
    pub fn head(&self) -> Hash {
        self.head
    }

    /// Whether the log had this head at a length; none if it was not read so far.
    pub fn had(&self, len: u64, head: &Hash) -> Option<bool> {
        match len.checked_sub(1) {
            None => Some(*head == Hash::default()),
            Some(place) => {
                let kept = self.heads.get(usize::try_from(place).ok()?)?;
                Some(*kept == head.0[..HEAD_KEPT])
            }
        }
    }
}

/// Passes the encoded records of the log from `from` on to `each`, up to the length that the log has now: what the
/// store appends in the meantime does not count. Ends early if the store returns no more.
pub fn log_records(access: &dyn Read, mut from: u64, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let end = access.wait_log(0, Duration::ZERO)?;
    check_len(end)?;
    while from < end {
        let asked = (end - from).min(PASSED_PER_REQUEST.into()) as u32;
        let records = access.log(from, asked)?;
        expect_count(records.len(), asked as usize, "entries of its log")?;
        if records.is_empty() {
            break;
        }
        records.iter().try_for_each(|record| each(record))?;
        from += records.len() as u64;
    }
    Ok(())
}

/// How far a log is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    /// The length, in records.
    pub len: u64,
    /// The head at that length, if the store has said it.
    pub head: Option<Hash>,
}

/// Fails if a store announces a log that is too long to be read.
pub fn check_len(len: u64) -> Result<()> {
    match len <= RECORDS_MAX {
        true => Ok(()),
        false => Err(Error::TooLarge {
            what: "the number of entries of the repository's log",
            size: len,
            limit: RECORDS_MAX,
        }),
    }
}

/// Fails if a log holds more commits than a reader keeps in memory.
pub fn check_commits(count: usize) -> Result<()> {
    match count <= COMMITS_MAX {
        true => Ok(()),
        false => Err(Error::TooLarge {
            what: "the number of snapshots in the repository's log",
            size: count as u64,
            limit: COMMITS_MAX as u64,
        }),
    }
}

/// Tells a person that a long log is being read.
#[derive(Debug)]
pub(super) struct SlowLog {
    due: Instant,
}

impl SlowLog {
    pub fn new() -> Self {
        Self { due: Instant::now() + PATIENCE }
    }

    /// Says how far it is, if that is due.
    pub fn at(&mut self, len: u64, target: u64) {
        if Instant::now() >= self.due {
            tracing::warn!("reading the repository's log: {len} of {target} entries so far");
            self.due = Instant::now() + PATIENCE;
        }
    }
}
