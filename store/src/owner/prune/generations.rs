//! Why a prune was refused: what has begun generations of the repository since it began.

use std::time::Duration;

use crate::{
    access::Read,
    base::{codec, error::Result},
    format::log::{Event, LogRecord},
};

/// How many log records one request asks for.
const RECORDS_PER_REQUEST: u32 = 1024;

/// What has begun new generations in a part of the log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Generations {
    /// A prune has condemned something.
    pub are_condemned: bool,
    /// Frames were found to be damaged, or not to hold what they should, and chunks were lost with them.
    pub are_lost: bool,
}

impl Generations {
    /// Reads the log from `from` to its present end.
    pub fn since(access: &dyn Read, mut from: u64) -> Result<Self> {
        let mut found = Self::default();
        // What the store appends while this reads does not matter, and it must not go on for ever.
        let end = access.wait_log(0, Duration::ZERO)?;
        while from < end {
            let records = access.log(from, RECORDS_PER_REQUEST)?;
            if records.is_empty() {
                break;
            }
            for bytes in &records {
                let record: LogRecord = codec::decode("an entry of the log", bytes)?;
                match record.event {
                    Event::Condemn { .. } => found.are_condemned = true,
                    Event::Quarantine { .. } | Event::Verdict { generation: Some(_), .. } => found.are_lost = true,
                    _ => {}
                }
            }
            from += records.len() as u64;
        }
        Ok(found)
    }

    /// Whether only losses have begun generations.
    pub fn are_losses(self) -> bool {
        self.are_lost && !self.are_condemned
    }
}
