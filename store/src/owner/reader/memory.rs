//! What a reader remembers from one process to the next: the snapshots that it opened, and the log that it followed.
//!
//! To open a snapshot costs a key decapsulation and the check of a signature, and what comes out never changes. So it
//! is kept in the cache folder, sealed with a key that is derived from the full key: nobody else can read it or add to
//! it.
//!
//! ```text
//! FOLDER/lock     held while files are written
//! FOLDER/log      the log up to a length, and its head there (`commits`)
//! FOLDER/N.seen   opened snapshots: facts in a table, records in blocks (`segment`)
//! ```
//!
//! **It is never wrong.** A snapshot is found by its id, which is the hash of the whole stored object. The log is only
//! used if the store announces a head that the remembered records lead to. Whether a client is still on the roster, and
//! what became of a snapshot, is not remembered here, or decided from the log as without it. Files that do not open
//! count as absent, and files of an earlier time are right and only know less. So nothing needs to be durable, and the
//! folder can be deleted at any moment.
//!
//! **How it grows.** What is new goes into a file of its own. That file takes in all files that are at most twice as
//! long, and those of which most is gone for good. So there are few files, and each snapshot is written again only as
//! often as its file doubles.

mod segment;

use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use self::segment::{FILE_MAX, MAGIC, Segment, SegmentWriter};
use super::{commits::CommitLog, facts::Facts};
use crate::{
    base::{
        codec,
        id::{RepoId, SnapshotId},
    },
    crypto::{self, AeadKey},
    format::{keys::FullKey, snapshot::Snapshot},
    owner::workers,
};

/// The most files of snapshots that are read. There are more only if somebody puts them there.
const SEGMENTS_MAX: usize = 64;
/// The log is written again when it has grown by a part of this, and by [`LOG_STEP_MIN`].
const LOG_STEP: u64 = 64;
/// See [`LOG_STEP`].
const LOG_STEP_MIN: u64 = 16;

/// Opened snapshots and the log of a repository, in a folder.
#[derive(Debug)]
pub(super) struct SnapshotMemory {
    folder: PathBuf,
    key: AeadKey,
    repo: RepoId,
    segments: Vec<Segment>,
    places: HashMap<SnapshotId, Place>,
    /// Files that do not open.
    unusable: Vec<PathBuf>,
    /// The length of the log that is in the folder.
    log_len: u64,
}

/// Where a snapshot is.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: usize,
    row: usize,
}

/// A file of the memory turned out to be damaged while it was used.
#[derive(Debug)]
pub(super) struct Damaged;

impl SnapshotMemory {
    /// Opens what is remembered in a folder. Nothing is if the folder does not exist or cannot be read.
    pub fn open(folder: &Path, full: &FullKey) -> Self {
        let key = AeadKey::new(&full.seal.seed().derive("bkfs v1 memory of snapshots"));
        let (segments, places) = (Vec::new(), HashMap::new());
        let mut memory = Self {
            folder: folder.to_owned(),
            key,
            repo: full.repo,
            segments,
            places,
            unusable: Vec::new(),
            log_len: 0,
        };
        for path in memory.files("seen").unwrap_or_default().into_iter().take(SEGMENTS_MAX) {
            match Segment::open(&path, &memory.key, memory.repo) {
                Some(segment) => memory.segments.push(segment),
                None => memory.unusable.push(path),
            }
        }
        memory.find_places();
        memory
    }

    fn find_places(&mut self) {
        self.places = HashMap::with_capacity(self.segments.iter().map(Segment::len).sum());
        for (at, segment) in self.segments.iter().enumerate() {
            for (row, id) in segment.ids().enumerate() {
                self.places.insert(id, Place { segment: at, row });
            }
        }
    }

    /// The files in the folder with an extension.
    fn files(&self, extension: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Returns the log that is remembered.
    pub fn log(&mut self) -> Option<CommitLog> {
        let path = self.log_path();
        let file = File::open(&path).ok()?;
        if file.metadata().ok()?.len() > FILE_MAX {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        let log = CommitLog::decode(&self.key.open(bytes.strip_prefix(&MAGIC)?, &self.log_aad())?)?;
        self.log_len = log.chain.len();
        Some(log)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn log_aad(&self) -> Vec<u8> {
        [&MAGIC[..], b"log", &self.repo.0].concat()
    }

    /// Returns what is remembered of a snapshot, without its record.
    pub fn facts(&self, id: &SnapshotId) -> Option<&Facts> {
        let Place { segment, row } = self.places.get(id)?;
        Some(self.segments[*segment].facts(*row))
    }

    /// Returns the records of remembered snapshots, in the order of the ids.
    pub fn records(&self, ids: &[SnapshotId]) -> Result<Vec<Snapshot>, Damaged> {
        // Each block is opened once.
        let mut blocks: HashMap<(usize, usize), Vec<(usize, usize)>> = HashMap::new();
        for (at, id) in ids.iter().enumerate() {
            let Place { segment, row } = *self.places.get(id).ok_or(Damaged)?;
            blocks.entry((segment, Segment::block_of(row))).or_default().push((at, row));
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(blocks.len());
        let (read, is_damaged) = (Mutex::new(Vec::with_capacity(ids.len())), Mutex::new(false));
        let _ = workers::for_each(blocks.into_iter(), threads, |((segment, block), wanted)| {
            let records = self.segments[segment].block(block, &self.key).and_then(|records| {
                let decode = |(at, row): &(usize, usize)| Some((*at, records.decode(*row)?));
                wanted.iter().map(decode).collect::<Option<Vec<_>>>()
            });
            match records {
                Some(records) => read.lock().extend(records),
                None => *is_damaged.lock() = true,
            }
            Ok(())
        });
        let mut read: Vec<(usize, Snapshot)> = read.into_inner();
        if is_damaged.into_inner() || read.len() != ids.len() {
            return Err(Damaged);
        }
        read.sort_unstable_by_key(|(at, _)| *at);
        Ok(read.into_iter().map(|(_, snapshot)| snapshot).collect())
    }

    /// Forgets everything, after a file turned out to be damaged. The files are replaced when something is saved.
    pub fn clear(&mut self) {
        self.unusable.extend(self.segments.drain(..).map(Segment::into_path));
        self.places.clear();
    }

    /// Adds opened snapshots, and the log. `has_new_fates` tells whether some may have expired that are remembered. A
    /// failure is no problem: the next process opens them again.
    pub fn save(&mut self, new: &[(SnapshotId, Facts, &Snapshot)], log: &CommitLog, has_new_fates: bool) {
        let is_live = |id: &SnapshotId| !log.is_expired(id);
        let absorbed = match new.is_empty() && !has_new_fates {
            true => Vec::new(),
            false => self.absorbed(new.len(), &is_live),
        };
        let due = self.log_len + LOG_STEP_MIN.max(self.log_len / LOG_STEP);
        let is_log_due = log.chain.len() >= due || log.chain.len() < self.log_len;
        if new.is_empty() && absorbed.is_empty() && self.unusable.is_empty() && !is_log_due {
            return;
        }
        let saved = self.lock().and_then(|lock| match lock {
            // Another process saves just now.
            None => Ok(()),
            Some(_lock) => {
                self.save_snapshots(new, &absorbed, &is_live)?;
                if is_log_due { self.save_log(log) } else { Ok(()) }
            }
        });
        if let Err(error) = saved {
            tracing::debug!(%error, folder = %self.folder.display(), "cannot remember the list of snapshots");
        }
    }

    /// The segments that a new one with `count` snapshots takes in.
    fn absorbed(&self, mut count: usize, is_live: &dyn Fn(&SnapshotId) -> bool) -> Vec<usize> {
        let live = |segment: &Segment| segment.ids().filter(is_live).count();
        let mut segments: Vec<(usize, usize)> = self.segments.iter().map(live).zip(0..).collect();
        segments.sort_unstable();
        let mut absorbed = Vec::new();
        for (live, at) in segments {
            if live * 2 < self.segments[at].len() || (count > 0 && live <= 2 * count) {
                absorbed.push(at);
                count += live;
            }
        }
        absorbed
    }

    fn save_snapshots(
        &mut self,
        new: &[(SnapshotId, Facts, &Snapshot)],
        absorbed: &[usize],
        is_live: &dyn Fn(&SnapshotId) -> bool,
    ) -> io::Result<()> {
        let mut writer = SegmentWriter::new(&self.key, self.repo);
        for (id, facts, snapshot) in new.iter().filter(|(id, ..)| is_live(id)) {
            writer.add(*id, facts, &codec::encode(snapshot));
        }
        for segment in absorbed.iter().map(|at| &self.segments[*at]) {
            // What cannot be read is opened again.
            segment.copy_to(&mut writer, &self.key, is_live);
        }
        let path = self.folder.join(format!("{:016x}.seen", u64::from_le_bytes(crypto::random())));
        let mut added = None;
        if !writer.is_empty() {
            self.write(&path, &writer.finish())?;
            added = Segment::open(&path, &self.key, self.repo);
        }
        for old in self.files(TEMPORARY)?.iter().chain(&self.unusable) {
            let _ = fs::remove_file(old);
        }
        self.unusable.clear();
        let (mut at, mut gone) = (0, Vec::new());
        self.segments.retain(|segment| {
            let keep = !absorbed.contains(&at);
            at += 1;
            if !keep {
                gone.push(segment.path().to_owned());
            }
            keep
        });
        gone.iter().for_each(|path| drop(fs::remove_file(path)));
        self.segments.extend(added);
        self.find_places();
        Ok(())
    }

    fn save_log(&mut self, log: &CommitLog) -> io::Result<()> {
        let Some(encoded) = log.encode() else { return Ok(()) };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.key.seal(&encoded, &self.log_aad()));
        self.write(&self.log_path(), &bytes)?;
        self.log_len = log.chain.len();
        Ok(())
    }

    /// Writes a file, and gives it its name when it is whole.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension(TEMPORARY);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?.write_all(bytes)?;
        fs::rename(&temporary, path)
    }

    /// Locks the folder for writing, and creates it if it is missing. Returns none if another process writes.
    fn lock(&self) -> io::Result<Option<WriteLock>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let file = File::options().create(true).truncate(false).write(true).open(self.folder.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(WriteLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The extension of a file that is being written.
const TEMPORARY: &str = "new";

/// Closing the file is not enough: a child process that was just forked holds it, too, until it runs its program.
struct WriteLock(File);

impl Drop for WriteLock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
