//! What a destination cannot hold: times with nanoseconds, owners, hard links, ...
//!
//! A file system without owners has none for any file. That is one fact about the destination, and not a problem of
//! each entry, so it is counted by kind, with one entry as an example.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use bkfs_store::base::time::Time;
use parking_lot::Mutex;
use rustix::io::Errno;

use super::times::is_rounded;

/// A kind of thing that a file system may be unable to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Limit {
    /// Modification times in full: they are rounded, by two seconds at most.
    TimeDetail,
    /// Modification times so early or late: they are another time.
    TimeRange,
    /// Owners and groups.
    Owners,
    /// Modes.
    Modes,
    /// Access control lists.
    Acls,
    /// Extended attributes, of at least one namespace.
    Xattrs,
    /// Owners and times of symbolic links: to set them would change what the link leads to.
    Symlinks,
    /// Hard links: further names became files of their own.
    HardLinks,
    /// Not the destination's limit: what would give rights is not taken from this client
    /// ([`super::RestoreOptions::privileged`]).
    Privileges,
}

impl Limit {
    /// Returns whether an entry that meets this limit counts as not restored as stored. Rounded times, links and copies
    /// do not: nothing that a user put there is missing.
    pub fn is_loss(self) -> bool {
        !matches!(self, Limit::TimeDetail | Limit::Symlinks | Limit::HardLinks)
    }

    /// Returns the name for programs.
    pub fn id(self) -> &'static str {
        match self {
            Limit::TimeDetail => "time-detail",
            Limit::TimeRange => "time-range",
            Limit::Owners => "owners",
            Limit::Modes => "modes",
            Limit::Acls => "acls",
            Limit::Xattrs => "xattrs",
            Limit::Symlinks => "symlinks",
            Limit::HardLinks => "hard-links",
            Limit::Privileges => "privileges",
        }
    }

    /// Returns the limit that a time shows which became another.
    pub(super) fn of_time(wanted: Time, kept: Time) -> Self {
        if is_rounded(wanted, kept) { Limit::TimeDetail } else { Limit::TimeRange }
    }

    /// Returns the limit that a refused attribute shows.
    pub(super) fn of_xattr(name: &[u8]) -> Self {
        if name.starts_with(b"system.posix_acl_") { Limit::Acls } else { Limit::Xattrs }
    }

    /// Returns whether the system's answer means that the file system has no such thing, whatever the value.
    pub(super) fn is_meant_by(self, error: &std::io::Error) -> bool {
        let Some(errno) = Errno::from_io_error(error) else { return false };
        match errno {
            Errno::OPNOTSUPP | Errno::NOSYS => true,
            // EINVAL: an id that the user namespace does not map.
            Errno::PERM | Errno::INVAL => matches!(self, Limit::Owners | Limit::Modes),
            _ => false,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::TimeDetail => "rounds modification times",
            Limit::TimeRange => "cannot hold modification times so far from today, and has others instead",
            Limit::Owners => "cannot hold these owners and groups",
            Limit::Modes => "cannot hold these modes",
            Limit::Acls => "has no access control lists",
            Limit::Xattrs => "cannot hold these extended attributes",
            Limit::Symlinks => "cannot hold owners and times of symbolic links",
            Limit::HardLinks => "cannot hold these hard links, and has copies instead",
            Limit::Privileges => "got no set-id bits, devices, and security attributes of an untrusted client",
        })
    }
}

/// A limit that a restore has met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitMet {
    /// Which one.
    pub limit: Limit,
    /// How many entries met it.
    pub entries: u64,
    /// One of them, relative to the destination.
    pub example: PathBuf,
    /// It cost entries that this restore created something that is stored. If entries that were there already met it,
    /// nothing was left to do for them.
    pub is_loss: bool,
}

/// The limits that a restore has met so far.
#[derive(Default)]
pub(super) struct Limits(Mutex<BTreeMap<Limit, LimitMet>>);

impl Limits {
    /// Counts an entry. `is_new`: this restore created it.
    pub(super) fn meet(&self, limit: Limit, is_new: bool, path: impl FnOnce() -> PathBuf) {
        let mut met = self.0.lock();
        let entry = met.entry(limit).or_insert_with(|| LimitMet { limit, entries: 0, example: path(), is_loss: false });
        entry.entries += 1;
        entry.is_loss |= is_new && limit.is_loss();
    }

    /// Returns them all.
    pub(super) fn into_list(self) -> Vec<LimitMet> {
        self.0.into_inner().into_values().collect()
    }
}
