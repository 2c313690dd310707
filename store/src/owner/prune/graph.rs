//! What each tree page and each snapshot names, remembered from one prune to the next: a page that was walked once is not
//! fetched again.
//!
//! A page never changes, so what it names is true for ever. An *entry* holds the keys of the chunks that it names and the
//! numbers of the entries of the pages below, which are lower than its own: an entry is written when all below it are. So what
//! snapshots reach is found in one pass over the entries from the last to the first, with one bit for each.
//!
//! ```text
//! FOLDER/head             which blocks belong to it, and their hashes; sealed with a key derived from the full key
//! FOLDER/N.entries        blocks of entries
//! FOLDER/N.names          id of a page or snapshot -> number of its entry, sorted
//! entry := keys, varint | pages, varint | a key, 9 bytes ... | own number - number of a page, varint ...
//! ```
//!
//! Whatever is missing, cut off, changed or of another key is noticed by its hash before it is used, and all is walked anew: the files
//! can be thrown away at any moment. Files of an older time are as good, they only know less. When most of it is not reached any more
//! it is written anew without that.
//!
//! **How it grows.** On disk, 9 bytes for each chunk that a page names and 24 for each page. In memory, two bits for each page and a
//! thousandth of what is on disk; new entries and names up to about 60 MiB, then they go to disk.

mod bits;
mod head;
mod names;

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use self::{
    bits::{Bits, Ranks},
    head::Head,
    names::Names,
};
use super::blocks::Blocks;
use crate::{
    base::{
        error::{Error, Result},
        id::ChunkId,
    },
    crypto::{self, Secret},
    format::{
        filter::{filter_key, put_varint, take_varint},
        keys::FullKey,
    },
};

/// What errors are about that walking anew helps against.
const WHAT: &str = "the memory of earlier marks";

/// A block of entries ends when it has so many bytes.
const BLOCK: usize = 64 * 1024;
/// Entries that are not reached are dropped when they are so many, and more than the others.
const DROPPED_MIN: u64 = 1024;

/// The first half of an id: enough to know it by.
pub(super) type Half = [u8; 16];
/// First byte of an id, and its key in filters.
pub(super) type Key = (u8, u64);
const KEY: usize = 9;

/// The key of a chunk.
pub(super) fn key_of(id: &ChunkId) -> Key {
    (id.0[0], filter_key(id))
}

/// What one page or snapshot names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Entry {
    /// Its own key, if it is a chunk, and those of the chunks that are no pages.
    pub keys: Vec<Key>,
    /// The numbers of the pages.
    pub pages: Vec<u64>,
}

/// All entries, and which of them are reached.
pub(super) struct Reach {
    folder: PathBuf,
    key: Secret,
    /// Held while the folder is used; none if it cannot be used, or if another prune uses it.
    lock: Option<File>,
    blocks: Blocks,
    /// The number of the first entry of each block.
    firsts: Vec<u64>,
    /// The block in the making.
    open: Vec<u8>,
    open_first: u64,
    names: Names,
    next: u64,
    /// The number of the file of entries, if it has a name.
    entries_file: Option<u64>,
    reached: Bits,
    told: Bits,
    is_saved: bool,
}

impl Reach {
    /// What a folder remembers; nothing if it is not there or cannot be used.
    pub fn open(folder: &Path, full: &FullKey) -> Self {
        let key = full.seal.seed().derive("bkfs v1 memory of marks");
        let mut reach = Self::empty(folder, key, None);
        let opened = lock(folder).and_then(|lock| {
            reach.lock = lock;
            if reach.lock.is_some() { reach.load() } else { Ok(()) }
        });
        if let Err(error) = opened {
            tracing::warn!(%error, "what earlier prunes have walked is not known; all is walked");
            let lock = reach.lock.take();
            reach = Self::empty(folder, reach.key.clone(), lock);
        }
        reach
    }

    fn empty(folder: &Path, key: Secret, lock: Option<File>) -> Self {
        Self {
            folder: folder.to_owned(),
            key,
            lock,
            blocks: Blocks::new(folder),
            firsts: Vec::new(),
            open: Vec::new(),
            open_first: 0,
            names: Names::new(folder),
            next: 0,
            entries_file: None,
            reached: Bits::default(),
            told: Bits::default(),
            is_saved: true,
        }
    }

    fn load(&mut self) -> Result<()> {
        let Some(head) = Head::read(&self.folder, &self.key)? else { return Ok(()) };
        let (entries, names) =
            (Head::entries_path(&self.folder, head.entries_file), Head::names_path(&self.folder, head.names_file));
        let blocks = Blocks::open(&entries, &head.entries)?;
        let (firsts, rest) = head.firsts.as_chunks::<8>();
        let firsts: Vec<u64> = firsts.iter().map(|first| u64::from_le_bytes(*first)).collect();
        let is_sound = rest.is_empty() && firsts.len() == blocks.count() && firsts.is_sorted_by(|a, b| a < b);
        if !is_sound || firsts.first().is_some_and(|first| *first != 0) || firsts.last() >= Some(&head.count) {
            return Err(damaged(&entries, "its blocks are not in order"));
        }
        self.names = Names::open(&self.folder, &names, &head.names)?;
        (self.blocks, self.firsts) = (blocks, firsts);
        (self.next, self.open_first, self.entries_file) = (head.count, head.count, Some(head.entries_file));
        Ok(())
    }

    /// Forgets everything: after what was remembered turned out to be damaged.
    pub fn begin_anew(&mut self) {
        *self = Self::empty(&self.folder.clone(), self.key.clone(), self.lock.take());
        self.is_saved = false;
    }

    /// Whether an error is about what is remembered, and walking anew helps.
    pub fn is_own(error: &Error) -> bool {
        matches!(error, Error::Damaged { what, .. } if what == WHAT)
    }

    /// The number of the entry of a page or snapshot.
    pub fn find(&self, half: Half) -> Result<Option<u64>> {
        match self.names.get(&half)? {
            Some(number) if number >= self.next => Err(self.damaged("a name has a number that there is not")),
            found => Ok(found),
        }
    }

    /// Adds what a page or snapshot names. All pages that it names must have been added before.
    pub fn add(&mut self, half: Half, entry: &Entry) -> Result<u64> {
        let number = self.append(entry)?;
        self.names.add(half, number)?;
        Ok(number)
    }

    fn append(&mut self, entry: &Entry) -> Result<u64> {
        let number = self.next;
        put_varint(&mut self.open, entry.keys.len() as u64);
        put_varint(&mut self.open, entry.pages.len() as u64);
        for (first, key) in &entry.keys {
            self.open.push(*first);
            self.open.extend_from_slice(&key.to_be_bytes());
        }
        for page in &entry.pages {
            debug_assert!(*page < number, "what is below comes first");
            put_varint(&mut self.open, number - page);
        }
        self.next += 1;
        self.is_saved = false;
        if self.open.len() >= BLOCK {
            self.end_block()?;
        }
        Ok(number)
    }

    fn end_block(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            self.firsts.push(self.open_first);
            self.blocks.add(std::mem::take(&mut self.open))?;
        }
        self.open_first = self.next;
        Ok(())
    }

    /// A snapshot reaches what this entry names.
    pub fn root(&mut self, number: u64) {
        self.reached.set(number);
    }

    /// Tells the keys of all that is reached, but for what was told before. Returns how many entries that were.
    pub fn tell(&mut self, each: &mut dyn FnMut(Key) -> Result<()>) -> Result<u64> {
        self.end_block()?;
        let mut count = 0;
        for block in (0..self.firsts.len()).rev() {
            let (first, end) = (self.firsts[block], self.firsts.get(block + 1).copied().unwrap_or(self.next));
            // Only from later blocks, which were gone through, and from itself can bits come into a block.
            if (first..end).all(|number| !self.reached.has(number) || self.told.has(number)) {
                continue;
            }
            let entries = self.entries(block)?;
            for (at, entry) in entries.iter().enumerate().rev() {
                let number = first + at as u64;
                if !self.reached.has(number) || self.told.has(number) {
                    continue;
                }
                self.told.set(number);
                count += 1;
                entry.keys.iter().try_for_each(|key| each(*key))?;
                entry.pages.iter().for_each(|page| self.reached.set(*page));
            }
        }
        Ok(count)
    }

    /// The entries of a block.
    fn entries(&self, block: usize) -> Result<Vec<Entry>> {
        let bytes = self.blocks.read(block)?;
        let (first, end) = (self.firsts[block], self.firsts.get(block + 1).copied().unwrap_or(self.next));
        let mut rest = &bytes[..];
        let mut entries = Vec::with_capacity((end - first).min(bytes.len() as u64) as usize);
        for number in first..end {
            entries.push(take_entry(&mut rest, number).ok_or_else(|| self.damaged("an entry makes no sense"))?);
        }
        if rest.is_empty() { Ok(entries) } else { Err(self.damaged("bytes follow a block's last entry")) }
    }

    /// Keeps what is known for the next prune. `is_whole` says that everything was marked, so that what is not reached can be
    /// dropped. That it cannot be kept harms nothing but the next prune's speed.
    pub fn save(&mut self, is_whole: bool) {
        if self.lock.is_none() {
            return;
        }
        if let Err(error) = self.try_save(is_whole) {
            tracing::warn!(%error, "what this prune has walked is not kept; the next one walks it again");
        }
    }

    fn try_save(&mut self, is_whole: bool) -> Result<()> {
        self.end_block()?;
        let told = self.told.count();
        let names_file = random_number();
        let names_path = Head::names_path(&self.folder, names_file);
        let names = if is_whole && self.next - told > told.max(DROPPED_MIN) {
            let ranks = self.drop_unreached()?;
            let told = std::mem::replace(&mut self.told, Bits::first(self.next));
            self.reached = Bits::default();
            self.names.merge_into(&names_path, |number| told.has(number).then(|| told.rank(&ranks, number)))?
        } else if self.is_saved {
            return Ok(());
        } else {
            self.names.merge_into(&names_path, Some)?
        };
        let entries_file = match self.entries_file {
            // What is appended counts when a head says so.
            Some(number) => number,
            None => self.name_file()?,
        };
        self.blocks.write()?;
        let head = Head {
            entries_file,
            names_file,
            count: self.next,
            entries: self.blocks.list(),
            firsts: self.firsts.iter().flat_map(|first| first.to_le_bytes()).collect(),
            names,
        };
        head.write(&self.folder, &self.key)?;
        self.entries_file = Some(entries_file);
        self.is_saved = true;
        self.remove_others(&head)
    }

    /// Moves the blocks to a file with a name.
    fn name_file(&mut self) -> Result<u64> {
        let number = random_number();
        let mut blocks = Blocks::new(&Head::entries_path(&self.folder, number));
        for block in 0..self.blocks.count() {
            blocks.add(self.blocks.read(block)?.into_vec())?;
        }
        self.blocks = blocks;
        Ok(number)
    }

    /// Keeps only the entries that were told, with new numbers: as many as were told before them.
    fn drop_unreached(&mut self) -> Result<Ranks> {
        let mut kept = Self::empty(&self.folder, self.key.clone(), None);
        let number = random_number();
        kept.blocks = Blocks::new(&Head::entries_path(&self.folder, number));
        let ranks = self.told.ranks();
        for block in 0..self.firsts.len() {
            for (number, mut entry) in (self.firsts[block]..).zip(self.entries(block)?) {
                if self.told.has(number) {
                    // All that is below something reached is reached.
                    entry.pages.iter_mut().for_each(|page| *page = self.told.rank(&ranks, *page));
                    kept.append(&entry)?;
                }
            }
        }
        kept.end_block()?;
        std::mem::swap(&mut self.blocks, &mut kept.blocks);
        std::mem::swap(&mut self.firsts, &mut kept.firsts);
        (self.next, self.open_first, self.entries_file) = (kept.next, kept.next, Some(number));
        Ok(ranks)
    }

    /// Removes files that earlier heads named.
    fn remove_others(&self, head: &Head) -> Result<()> {
        let keep =
            [Head::entries_path(&self.folder, head.entries_file), Head::names_path(&self.folder, head.names_file)];
        let io = |e| Error::io(&self.folder, e);
        for file in fs::read_dir(&self.folder).map_err(io)? {
            let path = file.map_err(io)?.path();
            let is_ours = path.extension().is_some_and(|kind| kind == "entries" || kind == "names");
            if is_ours && !keep.contains(&path) {
                fs::remove_file(&path).map_err(io)?;
            }
        }
        Ok(())
    }

    fn damaged(&self, reason: &str) -> Error {
        damaged(&self.folder, reason)
    }
}

pub(super) fn damaged(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::damaged(WHAT, format!("{}: {reason}", path.display()))
}

/// The first half of an id.
pub(super) fn half(id: &[u8; 32]) -> Half {
    let mut half = [0; 16];
    half.copy_from_slice(&id[..16]);
    half
}

fn random_number() -> u64 {
    u64::from_le_bytes(crypto::random())
}

/// The folder for one prune; none if another one uses it.
fn lock(folder: &Path) -> Result<Option<File>> {
    let path = folder.join("lock");
    let open = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        File::options().create(true).truncate(false).write(true).open(&path)
    };
    let file = open().map_err(|e| Error::io(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io(path, error)),
    }
}

impl Drop for Reach {
    /// Not by closing alone: a child process that was just forked holds the file, too, until it runs its program.
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            let _ = lock.unlock();
        }
    }
}

fn take_entry(bytes: &mut &[u8], number: u64) -> Option<Entry> {
    let (keys, pages) = (take_varint(bytes)?, take_varint(bytes)?);
    let (raw, rest) = bytes.split_at_checked(usize::try_from(keys).ok()?.checked_mul(KEY)?)?;
    *bytes = rest;
    let key = |raw: &[u8; KEY]| (raw[0], raw[1..].iter().fold(0, |key, byte| key << 8 | u64::from(*byte)));
    let keys = raw.as_chunks::<KEY>().0.iter().map(key).collect();
    // Each takes a byte at least, so the input bounds what is allocated.
    let mut found = Vec::with_capacity(usize::try_from(pages).ok()?.min(bytes.len()));
    for _ in 0..pages {
        let back = take_varint(bytes)?;
        found.push(number.checked_sub(back).filter(|_| back > 0)?);
    }
    Some(Entry { keys, pages: found })
}

#[cfg(test)]
mod tests;
