//! What the file system's operations return.

use super::attr::Attr;

/// How long the kernel may cache an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// It will never change.
    Forever,
    /// It may change when snapshots come and go.
    Short,
    /// It is not cached.
    Never,
}

/// An answer about an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its attributes.
    pub attr: Attr,
    /// How long the attributes, and the name that led to them, may be cached.
    pub ttl: Ttl,
}

/// An entry in a listing.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its attributes.
    pub entry: Entry,
    /// It is `.` or `..`, to which no reference is taken.
    pub is_dot: bool,
    /// The offset at which the listing continues after it.
    pub next: u64,
}
