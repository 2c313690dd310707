//! What can go wrong with stored things. Each error names the object that it is about.
//!
//! `Error::kind` sorts them into the few cases that callers act on: the command line maps kinds to exit codes, the
//! server to wire codes, the mount to errno values.

use std::{fmt, io, path::PathBuf};

use crate::base::id::{ChunkId, ClientId, KeyId, PackId, SnapshotId};

/// The result of the store's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, to what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no repository at the place.
    #[error("there is no repository at {place}; `bkfs init` makes one")]
    NoRepository {
        /// A path or an address.
        place: String,
    },
    /// `init` found a repository already there.
    #[error("there is already a repository at {place}")]
    RepositoryExists {
        /// A path or an address.
        place: String,
    },
    /// The repository was written by a newer version of the program.
    #[error("{what} has format version {found}, this program knows versions up to {known}: use a newer bkfs")]
    NewerVersion {
        /// What was being read.
        what: &'static str,
        /// The version that it has.
        found: u32,
        /// The newest version that can be read.
        known: u32,
    },
    /// No passphrase slot opens with this passphrase.
    #[error("wrong passphrase: it opens none of the repository's key slots ({slots} tried)")]
    WrongPassphrase {
        /// How many slots were tried.
        slots: usize,
    },
    /// The key at hand belongs to another repository.
    #[error("this key belongs to repository {key}, but the repository here is {found}")]
    WrongKey {
        /// The repository of the key.
        key: String,
        /// The repository that was opened.
        found: String,
    },
    /// Reading was tried with a push key.
    #[error(
        "a push key cannot read: {operation} needs the passphrase or a full key file (BKFS_PASSWORD, BKFS_KEY_FILE)"
    )]
    PushKeyCannotRead {
        /// What was to be done.
        operation: &'static str,
    },
    /// The server does not let this client do that.
    #[error(
        "this client has no permission to {operation}; the server's operator grants it with `bkfs server invite --can`"
    )]
    NoPermission {
        /// What was to be done.
        operation: String,
    },
    /// A chunk that something needs is not stored.
    #[error("chunk {id} is missing from the repository")]
    ChunkMissing {
        /// The chunk.
        id: ChunkId,
    },
    /// A frame does not hold what its pack's table says.
    #[error("pack {pack}, frame {frame} is damaged: {reason}")]
    FrameDamaged {
        /// The pack.
        pack: PackId,
        /// Number of the frame in the pack, from 0.
        frame: u32,
        /// What is wrong.
        reason: String,
    },
    /// A pack is not what it should be.
    #[error("pack {pack} is damaged: {reason}")]
    PackDamaged {
        /// The pack.
        pack: PackId,
        /// What is wrong.
        reason: String,
    },
    /// A snapshot cannot be read.
    #[error("snapshot {snapshot} is damaged: {reason}")]
    SnapshotDamaged {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What is wrong.
        reason: String,
    },
    /// No snapshot, or more than one, fits what was asked for.
    #[error("{0}")]
    SnapshotNotFound(String),
    /// Something other than a frame, pack or snapshot is damaged.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// The thing.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The sealed wrap of a data key is nowhere to be found.
    #[error("the data key {key} is missing: no pack or snapshot carries its wrap")]
    KeyMissing {
        /// The data key.
        key: KeyId,
    },
    /// A snapshot or pack is signed by a client that is not on the roster.
    #[error("{what} was written by client {client}, which is not on the repository's roster")]
    NotOnRoster {
        /// What was signed.
        what: String,
        /// The unknown client.
        client: ClientId,
    },
    /// The server holds less than this client has seen it acknowledge.
    #[error(
        "the repository was rolled back: this client has seen entry {seen} of its log, but the server {found}. Snapshots may be missing; ask the server's operator whether an older copy was put back"
    )]
    RolledBack {
        /// Sequence in the log that was seen before.
        seen: u64,
        /// What the server has instead.
        found: String,
    },
    /// The store's floor keeps a snapshot from being made unrecoverable.
    #[error(
        "snapshot {snapshot} cannot be made unrecoverable before {}: the server protects what is younger. Nothing was changed; without --now it goes to the trash",
        Moment(*.until_secs)
    )]
    Protected {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Until when, in seconds since 1970.
        until_secs: i64,
    },
    /// The session's lease is unknown or too old to commit.
    #[error("the repository refused the session: {reason}; run the command again")]
    LeaseRefused {
        /// Why.
        reason: String,
    },
    /// A lock is held by another process.
    #[error("{what} is locked by another process")]
    Locked {
        /// What is locked.
        what: String,
    },
    /// The store has no room left.
    #[error("no space left at {place}: nothing was lost; free some room and run the command again")]
    Full {
        /// Where.
        place: String,
    },
    /// A limit of the format or of the server was exceeded by what was given.
    #[error("{what} is too large: {size}, the limit is {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size in bytes or items.
        size: u64,
        /// The limit, in the same unit.
        limit: u64,
    },
    /// The server cannot be reached, or went away.
    #[error("{0}")]
    Unreachable(String),
    /// The request makes no sense to the other side.
    #[error("{0}")]
    Invalid(String),
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The index could not be used.
    #[error("index {path}: {reason}")]
    Index {
        /// The LMDB folder.
        path: PathBuf,
        /// What LMDB said.
        reason: String,
    },
    /// The operation was stopped by the user.
    #[error("interrupted")]
    Interrupted,
}

/// What a caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no repository there.
    NoRepository,
    /// Locked, or a lease refused.
    Locked,
    /// A wrong or insufficient key.
    WrongKey,
    /// The server forbids it.
    NoPermission,
    /// Stored bytes are wrong or gone.
    Damaged,
    /// The server holds an older state than was seen.
    RolledBack,
    /// No room left.
    Full,
    /// The network or the server is away.
    Unreachable,
    /// The thing asked for does not exist.
    NotFound,
    /// Stopped by the user.
    Interrupted,
    /// Anything else.
    Other,
}

impl Error {
    /// Sorts the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoRepository { .. } => ErrorKind::NoRepository,
            Error::LeaseRefused { .. } | Error::Locked { .. } => ErrorKind::Locked,
            Error::WrongPassphrase { .. } | Error::WrongKey { .. } | Error::PushKeyCannotRead { .. } => {
                ErrorKind::WrongKey
            }
            Error::NoPermission { .. } => ErrorKind::NoPermission,
            Error::ChunkMissing { .. }
            | Error::FrameDamaged { .. }
            | Error::PackDamaged { .. }
            | Error::SnapshotDamaged { .. }
            | Error::Damaged { .. }
            | Error::KeyMissing { .. }
            | Error::NotOnRoster { .. } => ErrorKind::Damaged,
            Error::RolledBack { .. } => ErrorKind::RolledBack,
            Error::Full { .. } => ErrorKind::Full,
            Error::Unreachable(_) => ErrorKind::Unreachable,
            Error::SnapshotNotFound(_) => ErrorKind::NotFound,
            Error::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Other,
        }
    }

    /// Wraps an error of the operating system; a full disk becomes [`Error::Full`].
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::Full { place: path.display().to_string() }
            }
            _ => Error::Io { path, source },
        }
    }

    /// Whether it is the medium that cannot give back what lies there, as with a bad sector: then another copy serves, and
    /// one file's loss is no reason not to read the others.
    pub fn is_unreadable(&self) -> bool {
        let errno = match self {
            Error::Io { source, .. } => source.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
            _ => None,
        };
        matches!(errno, Some(rustix::io::Errno::IO | rustix::io::Errno::BADMSG | rustix::io::Errno::NODATA))
    }

    /// Something is damaged, and why.
    pub fn damaged(what: impl Into<String>, reason: impl ToString) -> Self {
        Error::Damaged { what: what.into(), reason: reason.to_string() }
    }
}

/// A moment as people write it, to the second and in UTC.
struct Moment(i64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => f.write_str("the end of the calendar"),
        }
    }
}
