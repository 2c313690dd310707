//! The graph of pages: what each tree page and each snapshot names, remembered from one prune to the next. A page that
//! was walked once is not fetched again.
//!
//! A page never changes, so what it names stays true forever. An *entry* holds the keys of the chunks that a page or
//! snapshot names, and the numbers of the entries of the pages that it names. Those numbers are lower than its own,
//! because an entry is added after all entries below it. So one pass over the entries, from the last to the first,
//! finds all that snapshots reach, with one bit for each entry.
//!
//! ```text
//! FOLDER/head        the blocks and their hashes; authenticated with a key derived from the full key
//! FOLDER/N.entries   blocks of entries
//! FOLDER/N.names     id of a page or snapshot -> number of its entry, sorted
//!
//! entry := keys, varint | pages, varint | a key, 9 bytes ... | own number - number of a page, varint ...
//! ```
//!
//! Blocks that are missing, cut off, changed or written with another key are noticed by their hashes before they are
//! used. Then all trees are walked again: the files can be deleted at any moment. Older versions of the files are just
//! as good, they only know less. When most entries are not reached any more, the files are rewritten without them.
//!
//! **How it grows.** On disk, 9 bytes for each chunk that a page names and 24 for each page. In memory, two bits for
//! each page and a thousandth of what is on disk. New entries and names take up to about 60 MiB; beyond that, they go
//! to disk.

mod bits;
mod entries;
mod entry;
mod head;
mod names;

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use self::{
    bits::{Bits, Ranks},
    entries::Entries,
    head::Head,
    names::NameIndex,
};
use super::damage::damaged;
use crate::{
    base::error::{Error, Result},
    crypto::{self, Secret},
    format::keys::FullKey,
    owner::references::IdPrefix,
};

pub(super) use entry::{ChunkKey, Entry, chunk_key};

/// Entries that are not reached are only dropped if there are at least this many, and more of them than of the others.
const DROPPED_MIN: u64 = 1024;

/// All entries, and which of them are reached.
pub(super) struct PageGraph {
    folder: PathBuf,
    key: Secret,
    /// Held while the folder is used; none if the folder cannot be used, or if another prune uses it.
    lock: Option<File>,
    entries: Entries,
    /// The number in the name of the file of entries; none if it has no name.
    entries_file: Option<u64>,
    names: NameIndex,
    /// Entries that are known to be reached.
    reached: Bits,
    /// Entries whose keys were passed on, and whose pages were followed.
    visited: Bits,
    is_saved: bool,
}

impl PageGraph {
    /// Opens the graph in a folder. It is empty if the folder does not exist or cannot be used.
    pub fn open(folder: &Path, full: &FullKey) -> Self {
        let key = full.seal.seed().derive("bkfs v1 memory of marks");
        let mut graph = Self::empty(folder, key, None);
        let opened = lock(folder).and_then(|lock| {
            graph.lock = lock;
            if graph.lock.is_some() { graph.load() } else { Ok(()) }
        });
        if let Err(error) = opened {
            tracing::warn!(%error, "cannot use what earlier prunes have cached; this one walks all trees");
            let lock = graph.lock.take();
            graph = Self::empty(folder, graph.key.clone(), lock);
        }
        graph
    }

    fn empty(folder: &Path, key: Secret, lock: Option<File>) -> Self {
        Self {
            folder: folder.to_owned(),
            key,
            lock,
            entries: Entries::new(folder),
            entries_file: None,
            names: NameIndex::new(folder),
            reached: Bits::default(),
            visited: Bits::default(),
            is_saved: true,
        }
    }

    fn load(&mut self) -> Result<()> {
        let Some(head) = Head::read(&self.folder, &self.key)? else { return Ok(()) };
        let (entries, names) =
            (Head::entries_path(&self.folder, head.entries_file), Head::names_path(&self.folder, head.names_file));
        self.entries = Entries::open(&entries, &head.entries, &head.firsts, head.count)?;
        self.entries_file = Some(head.entries_file);
        self.names = NameIndex::open(&self.folder, &names, &head.names)?;
        Ok(())
    }

    /// Forgets everything, after the files turned out to be damaged.
    pub fn clear(&mut self) {
        *self = Self::empty(&self.folder.clone(), self.key.clone(), self.lock.take());
        self.is_saved = false;
    }

    /// Returns the number of the entry of a page or snapshot.
    pub fn find(&self, name: IdPrefix) -> Result<Option<u64>> {
        match self.names.get(&name)? {
            Some(number) if number >= self.entries.count() => {
                Err(damaged(&self.folder, "a name refers to an entry that does not exist"))
            }
            found => Ok(found),
        }
    }

    /// Adds what a page or snapshot names, and returns the number of its entry. All pages that it names must have been
    /// added before.
    pub fn add(&mut self, name: IdPrefix, entry: &Entry) -> Result<u64> {
        let number = self.entries.add(entry)?;
        self.is_saved = false;
        self.names.add(name, number)?;
        Ok(number)
    }

    /// Marks an entry as reached: that of a snapshot.
    pub fn reach(&mut self, number: u64) {
        self.reached.set(number);
    }

    /// Visits all entries that are reached and were not visited before, and passes their keys to `each`. Returns how
    /// many entries it visited.
    pub fn visit_new(&mut self, each: &mut dyn FnMut(ChunkKey) -> Result<()>) -> Result<u64> {
        self.entries.end_block()?;
        let mut count = 0;
        for block in (0..self.entries.block_count()).rev() {
            let numbers = self.entries.numbers(block);
            // Only entries of later blocks, which are done, and of this block refer to entries of this block.
            if numbers.clone().all(|number| !self.reached.has(number) || self.visited.has(number)) {
                continue;
            }
            let entries = self.entries.read(block)?;
            for (at, entry) in entries.iter().enumerate().rev() {
                let number = numbers.start + at as u64;
                if !self.reached.has(number) || self.visited.has(number) {
                    continue;
                }
                self.visited.set(number);
                count += 1;
                entry.keys.iter().try_for_each(|key| each(*key))?;
                entry.pages.iter().for_each(|page| self.reached.set(*page));
            }
        }
        Ok(count)
    }

    /// Saves the graph for the next prune. If `is_complete`, all snapshots were walked, so entries that are not reached
    /// can be dropped. If saving fails, only the next prune's speed suffers.
    pub fn save(&mut self, is_complete: bool) {
        if self.lock.is_none() {
            return;
        }
        if let Err(error) = self.try_save(is_complete) {
            tracing::warn!(%error, "cannot cache what this prune has walked; the next one walks it again");
        }
    }

    fn try_save(&mut self, is_complete: bool) -> Result<()> {
        self.entries.end_block()?;
        let visited = self.visited.count();
        let names_file = random_number();
        let names_path = Head::names_path(&self.folder, names_file);
        let names = if is_complete && self.entries.count() - visited > visited.max(DROPPED_MIN) {
            let ranks = self.drop_unreached()?;
            let kept = std::mem::replace(&mut self.visited, Bits::first(self.entries.count()));
            self.reached = Bits::default();
            self.names.merge_into(&names_path, |number| kept.has(number).then(|| kept.rank(&ranks, number)))?
        } else if self.is_saved {
            return Ok(());
        } else {
            self.names.merge_into(&names_path, Some)?
        };
        let entries_file = match self.entries_file {
            // Appended blocks count as soon as a head names them.
            Some(number) => number,
            None => {
                let number = random_number();
                self.entries.move_to(&Head::entries_path(&self.folder, number))?;
                number
            }
        };
        self.entries.write()?;
        let head = Head {
            entries_file,
            names_file,
            count: self.entries.count(),
            entries: self.entries.list(),
            firsts: self.entries.firsts(),
            names,
        };
        head.write(&self.folder, &self.key)?;
        self.entries_file = Some(entries_file);
        self.is_saved = true;
        self.remove_others(&head)
    }

    /// Keeps only the entries that were visited. An entry's new number is its rank among them.
    fn drop_unreached(&mut self) -> Result<Ranks> {
        let file = random_number();
        let mut kept = Entries::new(&Head::entries_path(&self.folder, file));
        let ranks = self.visited.ranks();
        for block in 0..self.entries.block_count() {
            for (number, mut entry) in self.entries.numbers(block).zip(self.entries.read(block)?) {
                if self.visited.has(number) {
                    // All pages below a visited entry were visited, so each has a rank.
                    entry.pages.iter_mut().for_each(|page| *page = self.visited.rank(&ranks, *page));
                    kept.add(&entry)?;
                }
            }
        }
        kept.end_block()?;
        (self.entries, self.entries_file) = (kept, Some(file));
        Ok(ranks)
    }

    /// Removes the files that earlier heads named.
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
}

fn random_number() -> u64 {
    u64::from_le_bytes(crypto::random())
}

/// Locks the folder for one prune. Returns none if another prune uses it.
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

impl Drop for PageGraph {
    /// Closing the file is not enough: a child process that was just forked holds it, too, until it runs its program.
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            let _ = lock.unlock();
        }
    }
}

#[cfg(test)]
mod tests;
