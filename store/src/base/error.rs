//! The errors of the store. Each one names the object that it is about.
//!
//! [`Error::kind`] sorts them into the few cases that callers act on: the command line maps kinds to exit codes, the
//! server maps them to wire codes, the mount to errno values.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::base::id::{ChunkId, ClientId, KeyId, PackId, SnapshotId};

/// The result of an operation of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What happened, and to which object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no repository at this location.
    #[error("there is no repository at {place}; `bkfs init` creates one")]
    NoRepository {
        /// A path or an address.
        place: String,
    },
    /// `init` found an existing repository.
    #[error("there is already a repository at {place}")]
    RepositoryExists {
        /// A path or an address.
        place: String,
    },
    /// The repository was written by a newer version of the program.
    #[error("{what} has format version {found}, but this program reads versions up to {known}: use a newer bkfs")]
    NewerVersion {
        /// What was being read.
        what: &'static str,
        /// The version of the object.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// The passphrase opens no slot.
    #[error(
        "wrong passphrase: it does not open any of the repository's key slots ({slots} tried{})",
        Untried(*.untried)
    )]
    WrongPassphrase {
        /// How many slots were tried.
        slots: usize,
        /// How many were not, because they are damaged or ask for more work than all slots may take.
        untried: usize,
    },
    /// The given key belongs to another repository.
    #[error("this key belongs to repository {key}, but this is repository {found}")]
    WrongKey {
        /// The repository that the key belongs to.
        key: String,
        /// The repository that was opened.
        found: String,
    },
    /// A full key lacks the seal key that is needed: the key was written before a rotation.
    #[error(
        "this key is from before the seal key was rotated: it opens what was sealed to seal key {have} or an older \
         one, and this needs seal key {needed}"
    )]
    KeyOutdated {
        /// The newest seal key that the full key has.
        have: u32,
        /// The seal key that is needed.
        needed: u32,
    },
    /// A key has a seal key that the repository does not show.
    #[error(
        "the repository shows no seal key after {shown}, and this key has another one: the repository was rolled \
         back, it hides a rotation of the seal key, or the rotation was interrupted"
    )]
    SealKeyMissing {
        /// The newest seal key that it shows.
        shown: u32,
    },
    /// An operation that reads was tried with a push key.
    #[error(
        "a push key cannot read: {operation} needs the passphrase or a full key file (BKFS_PASSWORD, BKFS_KEY_FILE)"
    )]
    PushKeyCannotRead {
        /// The operation.
        operation: &'static str,
    },
    /// The server does not allow this client to do that.
    #[error(
        "this client has no permission to {operation}; \
         the server's operator can grant it with `bkfs server client permit` or a new invitation"
    )]
    NoPermission {
        /// The operation.
        operation: String,
    },
    /// A chunk that is needed is not stored.
    #[error("chunk {id} is missing from the repository")]
    ChunkMissing {
        /// The chunk.
        id: ChunkId,
    },
    /// A frame does not hold what its pack's table lists.
    #[error("pack {pack}, frame {frame} is damaged: {reason}")]
    FrameDamaged {
        /// The pack.
        pack: PackId,
        /// The number of the frame in the pack, from 0.
        frame: u32,
        /// What is wrong.
        reason: String,
    },
    /// A pack is damaged.
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
    /// A page of a snapshot's tree cannot be read.
    #[error(
        "snapshot {snapshot} is damaged: its tree page {page} cannot be read, so what it needs is unknown: {reason}"
    )]
    PageUnreadable {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The page.
        page: ChunkId,
        /// What is wrong.
        reason: String,
    },
    /// No snapshot matches the request, or more than one does.
    #[error("{0}")]
    SnapshotNotFound(String),
    /// Something other than a frame, pack or snapshot is damaged.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// The object.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The store says that it has a chunk, and cannot show it.
    #[error("the repository says that it has chunk {id}, and does not show it: {reason}")]
    NotShown {
        /// The chunk.
        id: ChunkId,
        /// What is wrong with the proof.
        reason: String,
    },
    /// The wrap of a data key cannot be found.
    #[error("data key {key} is missing: no pack and no snapshot contains its wrap")]
    KeyMissing {
        /// The data key.
        key: KeyId,
    },
    /// A client that is not on the roster signed a snapshot or a pack.
    #[error("{what} was written by client {client}, which is not on the repository's roster")]
    NotOnRoster {
        /// The signed object.
        what: String,
        /// The unknown client.
        client: ClientId,
    },
    /// The client was ended on the roster, and may not use the repository any more.
    #[error(
        "client {client} was removed from the repository on {}; what it pushes does not count",
        UtcSecond(*.until_secs)
    )]
    ClientEnded {
        /// The client.
        client: ClientId,
        /// When it was ended, in seconds since 1970.
        until_secs: i64,
    },
    /// The store's floor still protects a snapshot from being made unrecoverable.
    #[error(
        "snapshot {snapshot} cannot be made unrecoverable before {}: the server protects younger snapshots. \
         Nothing was changed; without --now the snapshot is moved to the trash",
        UtcSecond(*.until_secs)
    )]
    Protected {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The end of its protection, in seconds since 1970.
        until_secs: i64,
    },
    /// The session's lease is unknown, or too old to commit.
    #[error("the repository refused the session: {reason}; run the command again")]
    LeaseRefused {
        /// Why.
        reason: String,
    },
    /// The store takes no snapshots for a moment, so that a prune can finish.
    #[error(
        "a prune is about to finish, and the repository takes no snapshots for another {millis} ms: try again then"
    )]
    CommitsHeld {
        /// How long, in milliseconds.
        millis: u64,
    },
    /// Another process holds a lock.
    #[error("{what} is locked by another process; try again when that one has ended")]
    Locked {
        /// What is locked.
        what: String,
    },
    /// The store has no space left.
    #[error("no space left at {place}: nothing was lost; free some space and run the command again")]
    Full {
        /// Where.
        place: String,
    },
    /// The store has no space left, and not even enough to free some.
    #[error("no space left at {place}, not even to free some: nothing was lost; delete other files on the same disk")]
    StillFull {
        /// Where.
        place: String,
    },
    /// A limit of the account does not allow to store more.
    #[error(
        "{reason}. Nothing that is stored was lost. Forget snapshots and prune, or ask the server's operator for a \
         higher limit"
    )]
    OverQuota {
        /// The limit, what is stored, and what was to be stored.
        reason: String,
    },
    /// What the caller sent is damaged, or it names what the store does not have. Nothing that is stored is at fault. A
    /// server must tell the two apart, or any client could raise alarms about its disk.
    #[error("{0}")]
    BadInput(Box<Error>),
    /// An input exceeds a limit of the format or of the server.
    #[error("{what} is too large: {size}, the limit is {limit}")]
    TooLarge {
        /// The input.
        what: &'static str,
        /// Its size in bytes or items.
        size: u64,
        /// The limit, in the same unit.
        limit: u64,
    },
    /// The server cannot be reached, or the connection was lost.
    #[error("{0}")]
    Unreachable(String),
    /// The request is not valid.
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
    /// The index cannot be used.
    #[error("index {path}: {reason}")]
    Index {
        /// The LMDB folder.
        path: PathBuf,
        /// LMDB's message.
        reason: String,
    },
    /// The user stopped the operation.
    #[error("interrupted")]
    Interrupted,
}

/// The cases that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no repository at this location.
    NoRepository,
    /// Something is locked, or a lease was refused.
    Locked,
    /// The key is wrong, or does not allow the operation.
    WrongKey,
    /// The server does not allow the operation.
    NoPermission,
    /// Stored bytes are wrong or missing.
    Damaged,
    /// No space is left.
    Full,
    /// The network or the server cannot be reached.
    Unreachable,
    /// The requested object does not exist.
    NotFound,
    /// The user stopped the operation.
    Interrupted,
    /// Anything else.
    Other,
}

impl Error {
    /// Returns the case that the error belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoRepository { .. } => ErrorKind::NoRepository,
            Error::LeaseRefused { .. } | Error::Locked { .. } | Error::CommitsHeld { .. } => ErrorKind::Locked,
            Error::WrongPassphrase { .. }
            | Error::WrongKey { .. }
            | Error::KeyOutdated { .. }
            | Error::SealKeyMissing { .. }
            | Error::PushKeyCannotRead { .. }
            | Error::ClientEnded { .. } => ErrorKind::WrongKey,
            Error::NoPermission { .. } => ErrorKind::NoPermission,
            Error::ChunkMissing { .. }
            | Error::FrameDamaged { .. }
            | Error::PackDamaged { .. }
            | Error::SnapshotDamaged { .. }
            | Error::PageUnreadable { .. }
            | Error::Damaged { .. }
            | Error::NotShown { .. }
            | Error::KeyMissing { .. }
            | Error::NotOnRoster { .. } => ErrorKind::Damaged,
            Error::Full { .. } | Error::StillFull { .. } | Error::OverQuota { .. } => ErrorKind::Full,
            Error::Unreachable(_) => ErrorKind::Unreachable,
            Error::SnapshotNotFound(_) => ErrorKind::NotFound,
            Error::BadInput(error) => error.kind(),
            Error::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Other,
        }
    }

    /// Wraps an error of the operating system. A full disk or an exhausted quota becomes [`Error::Full`].
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::Full { place: path.display().to_string() }
            }
            // A message that only names the file sends people to look for damage.
            io::ErrorKind::PermissionDenied => {
                let source = io::Error::new(source.kind(), format!("{source}{}", owner(&path)));
                Error::Io { path, source }
            }
            _ => Error::Io { path, source },
        }
    }

    /// Whether the medium could not return stored bytes, as with a bad sector. Callers then use another copy if there
    /// is one, and still read the other files: the loss of one file is no reason to stop.
    pub fn is_unreadable(&self) -> bool {
        let errno = match self {
            Error::Io { source, .. } => source.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
            _ => None,
        };
        matches!(errno, Some(rustix::io::Errno::IO | rustix::io::Errno::BADMSG | rustix::io::Errno::NODATA))
    }

    /// Marks damage as damage of what the caller sent ([`Error::BadInput`]). For the places where a request is decoded
    /// and verified. Other errors stay as they are.
    pub fn in_input(self) -> Self {
        match self {
            Error::BadInput(_) | Error::NotOnRoster { .. } => self,
            _ if self.kind() == ErrorKind::Damaged => Error::BadInput(Box::new(self)),
            _ => self,
        }
    }

    /// Returns [`Error::Damaged`] for an object and a reason.
    pub fn damaged(what: impl Into<String>, reason: impl ToString) -> Self {
        Error::Damaged { what: what.into(), reason: reason.to_string() }
    }
}

/// Says to whom a path belongs, or the nearest folder above it that can be inspected.
fn owner(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let meta = |at: &Path| at.symlink_metadata().ok().map(|meta| meta.uid());
    match path.ancestors().find_map(|at| Some((at.to_owned(), meta(at)?))) {
        Some((at, uid)) if at == path => format!("; it belongs to user {uid}"),
        Some((at, uid)) => format!("; {} belongs to user {uid}", at.display()),
        None => String::new(),
    }
}

/// Prints how many slots were not tried, if there are any.
struct Untried(usize);

impl fmt::Display for Untried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(
                f,
                ", {count} refused as damaged or too costly: whoever keeps the repository may have added them"
            ),
        }
    }
}

/// Prints a second since 1970 as a date and time in UTC.
struct UtcSecond(i64);

impl fmt::Display for UtcSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => f.write_str("the end of the calendar"),
        }
    }
}
