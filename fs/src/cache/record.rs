//! The record that the file cache keeps of one directory: its entries as they were, with their nodes, and its tree.
//!
//! A record is a sequence of segments, so a directory of a million entries is never in memory as a whole. Each segment:
//!
//! ```text
//! version u8 = 2 | flags u8 (1: last) | generation u64 | trailer length u16 | epoch u32
//!     | entries | trailer | checksum 8 bytes
//! entry: flags u8 (1: distrusted, 2: calm) | name length u8 | stamp 49 bytes | node length u32 | name | node
//! ```
//!
//! Numbers are little-endian. The generation is random for each push and the same in all segments of a record. If a
//! crash leaves old and new segments side by side, the record ends where the generations differ. The epoch counts the
//! repository's losses that the record takes into account (`Cache::losses`). The trailer, in the last segment only, is
//! the directory's [`Subtree`]. The checksum is the start of the BLAKE3 of key, number and bytes: LMDB has no
//! checksums, and a wrong record would make a wrong backup. A segment that does not fit counts as absent, and the files
//! are read again.

use bkfs_store::{
    base::codec,
    format::tree::{Node, NodeKind, Subtree},
};

use super::spool::Spool;
use crate::{filesystem::FilesystemId, metadata::Stat};

const VERSION: u8 = 2;
const FLAG_LAST: u8 = 1;
const FLAG_DISTRUSTED: u8 = 1;
const FLAG_CALM: u8 = 2;
const HEADER: usize = 16;
const CHECKSUM: usize = 8;
const ENTRY_HEADER: usize = 2 + STAMP + 4;
/// A segment that is longer than this, in bytes, gets no further entry.
const SEGMENT: usize = 64 * 1024;

/// Length of a stamp.
pub const STAMP: usize = 49;

/// What must be the same for an entry to count as unchanged.
pub type Stamp = [u8; STAMP];

/// The stamp of an entry: kind, inode, size, mtime, ctime, and the file system on which they prove something.
pub fn stamp(stat: &Stat, filesystem: &FilesystemId) -> Stamp {
    let mut stamp = [0; STAMP];
    stamp[0] = match stat.kind {
        NodeKind::File => 0,
        NodeKind::Directory => 1,
        NodeKind::Symlink => 2,
        NodeKind::Fifo => 3,
        NodeKind::Socket => 4,
        NodeKind::CharDevice => 5,
        NodeKind::BlockDevice => 6,
    };
    // The size of a directory means nothing, and may differ between equal directories.
    let size = if stat.kind == NodeKind::Directory { 0 } else { stat.size };
    stamp[1..9].copy_from_slice(&stat.inode.to_le_bytes());
    stamp[9..17].copy_from_slice(&size.to_le_bytes());
    stamp[17..25].copy_from_slice(&stat.mtime.secs.to_le_bytes());
    stamp[25..29].copy_from_slice(&stat.mtime.nanos.to_le_bytes());
    stamp[29..37].copy_from_slice(&stat.ctime.secs.to_le_bytes());
    stamp[37..41].copy_from_slice(&stat.ctime.nanos.to_le_bytes());
    stamp[41..].copy_from_slice(filesystem);
    stamp
}

/// An entry as it was.
#[derive(Debug, Clone, Copy)]
pub struct CachedEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its stamp.
    pub stamp: &'a [u8],
    /// Whether it changed so shortly before it was read that a later change may carry the same times.
    pub is_distrusted: bool,
    /// Whether it was a file whose bytes did not look like noise: see `push::alarm`.
    pub is_calm: bool,
    /// Its encoded node.
    pub node: &'a [u8],
}

impl CachedEntry<'_> {
    /// Whether it was a directory.
    pub fn is_dir(&self) -> bool {
        self.stamp[0] == 1
    }

    /// Decodes the node.
    pub fn decode(&self) -> bkfs_store::Result<Node> {
        codec::decode("a node in the file cache", self.node)
    }
}

/// A segment of a record whose checksum is right.
pub(super) struct Segment {
    bytes: Vec<u8>,
    stamp: RecordStamp,
    entries_end: usize,
}

impl Segment {
    /// Offset of the first entry.
    pub const FIRST: usize = HEADER;

    /// Decodes a segment of a directory's record; none if it is damaged or of another version.
    pub fn decode(key: &[u8; 16], number: u32, bytes: Vec<u8>) -> Option<Self> {
        let body = bytes.len().checked_sub(CHECKSUM).filter(|body| *body >= HEADER)?;
        if bytes[0] != VERSION || bytes[body..] != checksum(key, number, &bytes[..body]) {
            return None;
        }
        let mut generation = [0; 8];
        generation.copy_from_slice(&bytes[2..10]);
        let trailer = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
        let epoch = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        let entries_end = body.checked_sub(trailer).filter(|end| *end >= HEADER)?;
        Some(Self { bytes, stamp: RecordStamp { generation, epoch }, entries_end })
    }

    /// What all segments of the record carry.
    pub fn stamp(&self) -> RecordStamp {
        self.stamp
    }

    /// Whether it is the record's last segment.
    pub fn is_last(&self) -> bool {
        self.bytes[1] & FLAG_LAST != 0
    }

    /// Whether no entry is left at an offset.
    pub fn is_end(&self, at: usize) -> bool {
        at >= self.entries_end
    }

    /// The entry at an offset, and the offset of the next one.
    pub fn entry(&self, at: usize) -> Option<(CachedEntry<'_>, usize)> {
        parse(&self.bytes, at, self.entries_end)
    }

    /// The directory's tree, from the last segment.
    pub fn subtree(&self) -> Option<Subtree> {
        if !self.is_last() {
            return None;
        }
        let trailer = self.bytes.get(self.entries_end..self.bytes.len().checked_sub(CHECKSUM)?)?;
        codec::decode("a tree in the file cache", trailer).ok()
    }
}

/// The entry at an offset of a segment, and the offset of the next one.
fn parse(bytes: &[u8], at: usize, end: usize) -> Option<(CachedEntry<'_>, usize)> {
    let rest = bytes.get(at..end)?;
    let (header, rest) = rest.split_at_checked(ENTRY_HEADER)?;
    let length = u32::from_le_bytes(header[2 + STAMP..].try_into().ok()?) as usize;
    let (name, rest) = rest.split_at_checked(usize::from(header[1]))?;
    let (node, _) = rest.split_at_checked(length)?;
    let [is_distrusted, is_calm] = [FLAG_DISTRUSTED, FLAG_CALM].map(|flag| header[0] & flag != 0);
    let entry = CachedEntry { name, stamp: &header[2..2 + STAMP], is_distrusted, is_calm, node };
    Some((entry, at + ENTRY_HEADER + name.len() + node.len()))
}

/// The names of the directories in a segment. The checksum is not verified.
pub(super) fn directories(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let trailer = bytes.get(10..12).map_or(0, |t| usize::from(u16::from_le_bytes([t[0], t[1]])));
    let end = bytes.len().saturating_sub(CHECKSUM + trailer);
    let mut at = HEADER;
    std::iter::from_fn(move || {
        let (entry, next) = parse(bytes, at, end)?;
        at = next;
        Some(entry)
    })
    .filter(CachedEntry::is_dir)
    .map(|entry| entry.name)
}

/// Writes a record, one entry after another in the order of names.
pub struct RecordWriter {
    key: [u8; 16],
    number: u32,
    stamp: RecordStamp,
    bytes: Vec<u8>,
}

/// What all records of one push carry.
#[derive(Debug, Clone, Copy)]
pub struct RecordStamp {
    /// Random.
    pub generation: [u8; 8],
    /// The epoch whose losses the push takes into account: `Cache::epoch`.
    pub epoch: u32,
}

impl RecordWriter {
    /// Starts the record of a directory.
    pub fn new(key: [u8; 16], stamp: RecordStamp) -> Self {
        let mut writer = Self { key, number: 0, stamp, bytes: Vec::new() };
        writer.begin();
        writer
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &CachedEntry<'_>, spool: &mut Spool) {
        let Ok(name_len) = u8::try_from(entry.name.len()) else { return };
        let Ok(node_len) = u32::try_from(entry.node.len()) else { return };
        if self.bytes.len() > SEGMENT {
            self.close(0, &[], spool);
            self.number += 1;
            self.begin();
        }
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        self.bytes.push(flag(entry.is_distrusted, FLAG_DISTRUSTED) | flag(entry.is_calm, FLAG_CALM));
        self.bytes.push(name_len);
        self.bytes.extend_from_slice(entry.stamp);
        self.bytes.extend_from_slice(&node_len.to_le_bytes());
        self.bytes.extend_from_slice(entry.name);
        self.bytes.extend_from_slice(entry.node);
    }

    /// Ends the record.
    pub fn finish(mut self, subtree: &Subtree, spool: &mut Spool) {
        let trailer = codec::encode(subtree);
        self.close(FLAG_LAST, &trailer, spool);
    }

    fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[VERSION, 0]);
        self.bytes.extend_from_slice(&self.stamp.generation);
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&self.stamp.epoch.to_le_bytes());
    }

    fn close(&mut self, flags: u8, trailer: &[u8], spool: &mut Spool) {
        // A subtree encodes to less than a hundred bytes.
        let length = u16::try_from(trailer.len()).unwrap_or(0);
        self.bytes[1] = flags;
        self.bytes[10..12].copy_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(trailer);
        let checksum = checksum(&self.key, self.number, &self.bytes);
        self.bytes.extend_from_slice(&checksum);
        spool.put(&self.key, self.number, &self.bytes);
    }
}

fn checksum(key: &[u8; 16], number: u32, bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(&number.to_le_bytes()).update(bytes);
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM]);
    sum
}
