//! What the file cache keeps of one directory: its entries as they were, with their nodes, and its tree.
//!
//! A record is a row of segments, so that a directory of a million entries is never in memory whole. Each segment:
//!
//! ```text
//! version u8 = 1 | flags u8 (1: last) | generation u64 | trailer length u16 | epoch u32 | entries | trailer | checksum 8
//! entry: flags u8 (1: distrusted) | name length u8 | stamp 41 | node length u32 | name | node
//! ```
//!
//! Numbers are little-endian. The generation is random for each push and the same in all segments of a record: a mix of
//! old and new segments, left by a crash, ends where they differ. The epoch counts the repository's losses that the record
//! takes into account ([`Cache::losses`]). The trailer, in the last segment only, is the
//! directory's [`Subtree`]. The checksum is the start of the BLAKE3 of key and bytes, because LMDB has none and a wrong
//! record would be a wrong backup. Whatever does not fit is taken as absent: the files are then read again.

use bkfs_store::{
    base::codec,
    format::tree::{Node, NodeKind, Subtree},
};

use super::{Cache, Spool};
use crate::metadata::Stat;

const VERSION: u8 = 1;
const FLAG_LAST: u8 = 1;
const FLAG_DISTRUSTED: u8 = 1;
const HEADER: usize = 16;
const CHECKSUM: usize = 8;
const ENTRY_HEADER: usize = 2 + STAMP + 4;
/// Segments are closed when they are longer, in bytes.
const SEGMENT: usize = 64 * 1024;

/// Length of a stamp.
pub const STAMP: usize = 41;

/// All that must be the same for an entry to be taken as unchanged.
pub type Stamp = [u8; STAMP];

/// The stamp of a state: kind, inode, size, mtime, ctime.
pub fn stamp(stat: &Stat) -> Stamp {
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
    // A directory's size says nothing about it and differs between equal ones.
    let size = if stat.kind == NodeKind::Directory { 0 } else { stat.size };
    stamp[1..9].copy_from_slice(&stat.inode.to_le_bytes());
    stamp[9..17].copy_from_slice(&size.to_le_bytes());
    stamp[17..25].copy_from_slice(&stat.mtime.secs.to_le_bytes());
    stamp[25..29].copy_from_slice(&stat.mtime.nanos.to_le_bytes());
    stamp[29..37].copy_from_slice(&stat.ctime.secs.to_le_bytes());
    stamp[37..41].copy_from_slice(&stat.ctime.nanos.to_le_bytes());
    stamp
}

/// An entry as it was.
#[derive(Debug, Clone, Copy)]
pub struct CachedEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its stamp.
    pub stamp: &'a [u8],
    /// It was changed so shortly before it was read that a later change may carry the same times.
    pub is_distrusted: bool,
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

/// Reads a record from its beginning.
pub struct Cursor<'c> {
    cache: &'c Cache,
    key: [u8; 16],
    number: u32,
    generation: Option<[u8; 8]>,
    epoch: u32,
    bytes: Vec<u8>,
    at: usize,
    entries_end: usize,
    is_last: bool,
}

impl<'c> Cursor<'c> {
    /// At the first entry of a directory's record; at its end at once if there is none.
    pub fn new(cache: &'c Cache, key: [u8; 16]) -> Self {
        let mut cursor = Self {
            cache,
            key,
            number: 0,
            generation: None,
            epoch: 0,
            bytes: Vec::new(),
            at: 0,
            entries_end: 0,
            is_last: false,
        };
        cursor.load();
        cursor
    }

    /// Whether there is no record.
    pub fn is_absent(&self) -> bool {
        self.generation.is_none()
    }

    /// The losses that the record takes into account.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The entry here, none at the end.
    pub fn entry(&self) -> Option<CachedEntry<'_>> {
        self.parse().map(|(entry, _)| entry)
    }

    /// Goes on to the next entry.
    pub fn advance(&mut self) {
        let Some((_, next)) = self.parse() else { return };
        self.at = next;
        if self.at >= self.entries_end && !self.is_last {
            self.number += 1;
            self.load();
        }
    }

    /// At the end of a whole record: what the directory's tree was.
    pub fn subtree(&self) -> Option<Subtree> {
        if !self.is_last || self.at != self.entries_end {
            return None;
        }
        let trailer = self.bytes.get(self.entries_end..self.bytes.len().checked_sub(CHECKSUM)?)?;
        codec::decode("a tree in the file cache", trailer).ok()
    }

    fn load(&mut self) {
        (self.at, self.entries_end, self.is_last) = (0, 0, false);
        self.bytes = match self.cache.segment(&self.key, self.number) {
            Some(bytes) => bytes,
            None => return,
        };
        let Some(body) = self.bytes.len().checked_sub(CHECKSUM).filter(|body| *body >= HEADER) else { return };
        if self.bytes[0] != VERSION || self.bytes[body..] != checksum(&self.key, self.number, &self.bytes[..body]) {
            return;
        }
        let mut generation = [0; 8];
        generation.copy_from_slice(&self.bytes[2..10]);
        if self.number > 0 && self.generation != Some(generation) {
            return;
        }
        let trailer = usize::from(u16::from_le_bytes([self.bytes[10], self.bytes[11]]));
        let Some(entries_end) = body.checked_sub(trailer).filter(|end| *end >= HEADER) else { return };
        self.generation = Some(generation);
        self.epoch = u32::from_le_bytes([self.bytes[12], self.bytes[13], self.bytes[14], self.bytes[15]]);
        self.is_last = self.bytes[1] & FLAG_LAST != 0;
        (self.at, self.entries_end) = (HEADER, entries_end);
    }

    fn parse(&self) -> Option<(CachedEntry<'_>, usize)> {
        parse(&self.bytes, self.at, self.entries_end)
    }
}

/// The entry at a place of a segment, and where the next one begins.
fn parse(bytes: &[u8], at: usize, end: usize) -> Option<(CachedEntry<'_>, usize)> {
    let rest = bytes.get(at..end)?;
    let (header, rest) = rest.split_at_checked(ENTRY_HEADER)?;
    let length = u32::from_le_bytes(header[2 + STAMP..].try_into().ok()?) as usize;
    let (name, rest) = rest.split_at_checked(usize::from(header[1]))?;
    let (node, _) = rest.split_at_checked(length)?;
    let is_distrusted = header[0] & FLAG_DISTRUSTED != 0;
    let entry = CachedEntry { name, stamp: &header[2..2 + STAMP], is_distrusted, node };
    Some((entry, at + ENTRY_HEADER + name.len() + node.len()))
}

/// The names of the directories in a segment, unverified.
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

/// Writes a record, entry by entry in the order of names.
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
    /// [`Cache::epoch`].
    pub epoch: u32,
}

impl RecordWriter {
    /// Begins the record of a directory.
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
        self.bytes.push(if entry.is_distrusted { FLAG_DISTRUSTED } else { 0 });
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
