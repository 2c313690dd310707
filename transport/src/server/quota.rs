//! What an account may store, and what something that is about to be stored costs.

use std::fmt;

use bkfs_store::{format::erasure::Parity, repository::Usage};
use minicbor::{Decode, Encode};

/// The limits of an account. A limit that is none does not apply. What is forgotten or pruned counts until it is gone
/// from the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Limits {
    /// Bytes of all that is stored.
    #[n(0)]
    pub bytes: Option<u64>,
    /// Files on the server's disk.
    #[n(1)]
    pub files: Option<u64>,
    /// Snapshots that are not gone for good.
    #[n(2)]
    pub snapshots: Option<u64>,
    /// Repositories.
    #[n(3)]
    pub repositories: Option<u64>,
}

/// Amounts of everything that [`Limits`] bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Repositories.
    pub repositories: u64,
}

/// A limit that would be exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess {
    what: &'static str,
    limit: u64,
    used: u64,
    more: u64,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Twice these limits: up to there, an account that is full may still store what makes it smaller or ends a client.
    pub(super) fn doubled(self) -> Self {
        let double = |limit: Option<u64>| limit.map(|limit| limit.saturating_mul(2));
        Self { bytes: double(self.bytes), files: double(self.files), ..self }
    }

    /// Returns the first limit that `used` and `more` together exceed. What does not grow exceeds nothing: a limit
    /// that was lowered below what is stored takes nothing away.
    pub(super) fn exceeded_by(&self, used: Amount, more: Amount) -> Option<Excess> {
        let limits = [
            ("bytes", self.bytes, used.bytes, more.bytes),
            ("files", self.files, used.files, more.files),
            ("snapshots", self.snapshots, used.snapshots, more.snapshots),
            ("repositories", self.repositories, used.repositories, more.repositories),
        ];
        limits.into_iter().find_map(|(what, limit, used, more)| {
            let limit = limit.filter(|limit| more > 0 && used.saturating_add(more) > *limit)?;
            Some(Excess { what, limit, used, more })
        })
    }
}

/// How many files a new repository has at most, beside its slots: the configuration, the settings and the log with
/// their second copies, the lock, the clock, and what the first scrub found.
pub(super) const INIT_FILES: u64 = 9;
/// About how many bytes a record of the log takes that comes with what is stored.
const RECORD_BYTES: u64 = 256;

impl Amount {
    /// An object that is kept twice, and its record in the two files of the log.
    pub(super) fn copies(len: usize) -> Self {
        Self { bytes: 2 * (len as u64 + RECORD_BYTES), files: 2, ..Self::default() }
    }

    /// A pack with a table of this length, and its parity.
    pub(super) fn pack(len: u64, table_len: u64, parity: Option<Parity>) -> Self {
        let parity_len = parity.map(|parity| parity.file_len(len, table_len));
        Self { bytes: len + parity_len.unwrap_or(0), files: 1 + u64::from(parity.is_some()), ..Self::default() }
    }

    /// One repository, with what is stored of it.
    pub fn of_repository(usage: Usage, snapshots: u64) -> Self {
        let Usage { bytes, files } = usage;
        Self { bytes, files, snapshots, repositories: 1 }
    }

    /// The sum of two amounts.
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            files: self.files.saturating_add(other.files),
            snapshots: self.snapshots.saturating_add(other.snapshots),
            repositories: self.repositories.saturating_add(other.repositories),
        }
    }

    /// The difference of two amounts. Nothing is less than zero.
    pub fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            files: self.files.saturating_sub(other.files),
            snapshots: self.snapshots.saturating_sub(other.snapshots),
            repositories: self.repositories.saturating_sub(other.repositories),
        }
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit, used, more } = self;
        write!(f, "its limit is {limit} {what}, {used} are in use, and this needs {more} more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grows_exceeds_a_limit() {
        let limits = Limits { bytes: Some(100), snapshots: Some(2), ..Limits::default() };
        let amount = |bytes, snapshots| Amount { bytes, snapshots, ..Amount::default() };
        assert_eq!(limits.exceeded_by(amount(90, 1), amount(10, 1)), None);
        assert!(limits.exceeded_by(amount(90, 1), amount(11, 1)).is_some());
        assert!(limits.exceeded_by(amount(0, 2), amount(1, 1)).unwrap().to_string().contains("2 snapshots"));
        assert_eq!(limits.exceeded_by(amount(500, 9), amount(0, 0)), None, "a lowered limit takes nothing away");
        assert!(limits.exceeded_by(amount(u64::MAX, 0), amount(1, 0)).is_some());
        assert!(Limits::default().is_none() && !limits.is_none());
    }
}
