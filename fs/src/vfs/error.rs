//! Why an operation of the file system failed, in terms of errno.

use bkfs_store::ErrorKind;

/// The result of the file system's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such file or directory.
    #[error("no such file or directory")]
    NotFound,
    /// Not a directory.
    #[error("not a directory")]
    NotADirectory,
    /// A directory where a file is needed.
    #[error("is a directory")]
    IsADirectory,
    /// The operation does not fit the inode's kind.
    #[error("invalid argument")]
    Invalid,
    /// The inode is unknown, or its snapshot is gone.
    #[error("stale file handle")]
    Stale,
    /// No such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// No more data, or no more holes, follow.
    #[error("no such data in the file")]
    NoMore,
    /// A directory has more entries than can be numbered.
    #[error("too many entries")]
    Overflow,
    /// Stored bytes are damaged or missing, or the store is unreachable. The log has the details.
    #[error("input/output error")]
    Io,
}

impl Error {
    /// Returns the errno value.
    pub fn errno(self) -> i32 {
        match self {
            Error::NotFound => libc::ENOENT,
            Error::NotADirectory => libc::ENOTDIR,
            Error::IsADirectory => libc::EISDIR,
            Error::Invalid => libc::EINVAL,
            Error::Stale => libc::ESTALE,
            Error::NoAttribute => libc::ENODATA,
            Error::NoMore => libc::ENXIO,
            Error::Overflow => libc::EOVERFLOW,
            Error::Io => libc::EIO,
        }
    }
}

/// Converts an error of the store. `is_gone` returns whether the snapshot that was read no longer exists; then missing
/// data is not damage.
pub fn classify(error: &bkfs_store::Error, is_gone: impl FnOnce() -> bool) -> Error {
    match error.kind() {
        ErrorKind::Damaged | ErrorKind::NotFound => match is_gone() {
            true => Error::Stale,
            false => Error::Io,
        },
        _ => Error::Io,
    }
}
