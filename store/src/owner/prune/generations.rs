//! Why a prune was refused: what has begun generations of the repository since it began.

use crate::{
    access::Read,
    base::{codec, error::Result},
    format::log::{Event, LogRecord},
    owner::reader::log_records,
};

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
    pub fn since(access: &dyn Read, from: u64) -> Result<Self> {
        let mut found = Self::default();
        log_records(access, from, |bytes| {
            let record: LogRecord = codec::decode("an entry of the log", bytes)?;
            match record.event {
                Event::Condemn { .. } => found.are_condemned = true,
                Event::Quarantine { .. } | Event::Verdict { generation: Some(_), .. } => found.are_lost = true,
                _ => {}
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Whether only losses have begun generations.
    pub fn are_losses(self) -> bool {
        self.are_lost && !self.are_condemned
    }
}
