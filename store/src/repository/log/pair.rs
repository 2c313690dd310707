//! A log kept in two files of the same bytes, so that damage to one file loses nothing.
//!
//! **Writing.** Records are appended to the first file and synced, then to the second file and synced. Then they count.
//! So a record in the second file is durable in the first file, and a record that a crash tore in the first file is not
//! in the second. The writer holds the backend's lock and has called [`LogPair::settle`].
//!
//! **Reading** needs no lock. A record counts if the second file reaches to its end. It is taken from the first file,
//! or from the second file if the first is damaged. A reader never gets a record that a crash could still take away.
//!
//! **Settling** makes both files whole again: a record that only one file holds is copied to the other, a torn record
//! is cut off, and a missing file is written again. A record that is whole in neither file, and is not the torn end of
//! both, is an error, and then nothing is cut. A log whose files both cannot be read is an error as well, not an empty
//! log.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;

use crate::{
    base::{
        error::{Error, Result},
        id::Hash,
    },
    format::log::file::{self as log_file, Position},
    repository::backend::Backend,
};

/// How much is read at a time. Every record is shorter.
const READ: usize = log_file::RECORD_MAX + 64;
/// How much of both ends is compared to see whether the files are the same. A crash leaves at most one append half
/// done.
const TAIL: u64 = 64 * 1024;

/// A log in two files.
#[derive(Debug)]
pub struct LogPair {
    first: &'static str,
    second: &'static str,
    /// Damage was met, so the next settling compares all of both files.
    is_damaged: AtomicBool,
}

/// A record's bytes, and the position after it.
pub type Record = (Vec<u8>, Position);

impl LogPair {
    /// The log in these two files.
    pub const fn new(first: &'static str, second: &'static str) -> Self {
        Self { first, second, is_damaged: AtomicBool::new(false) }
    }

    /// Some of the records from `at` on; none if there are no more.
    pub fn read(&self, backend: &dyn Backend, at: Position) -> Result<Vec<Record>> {
        self.read_within(backend, at, READ)
    }

    /// The same, as many as take at most `bytes` in the file, but at least one record.
    pub fn read_some(&self, backend: &dyn Backend, at: Position, bytes: usize) -> Result<Vec<Record>> {
        match self.read_within(backend, at, bytes) {
            Ok(records) if !records.is_empty() => Ok(records),
            // The next record may be longer. A damaged file and one that is cut off look alike then.
            _ => {
                let mut records = self.read(backend, at)?;
                records.truncate(1);
                Ok(records)
            }
        }
    }

    /// The records from `at` on that are whole in the next `max` bytes of the file; none if there are no more, or the
    /// next one is longer.
    pub fn read_within(&self, backend: &dyn Backend, at: Position, max: usize) -> Result<Vec<Record>> {
        let counts = match backend.len(self.second)? {
            Some(len) => len,
            None => backend.len(self.first)?.unwrap_or(0),
        };
        let mut records = Vec::new();
        if at.offset >= counts {
            return Ok(records);
        }
        let take = |name, records: &mut Vec<Record>| match readable(backend.get_range(name, at.offset, max))? {
            Ok(bytes) => Ok(take(at, &bytes.unwrap_or_default(), counts, records)),
            Err(error) => Ok::<_, Error>(End::Bad(error)),
        };
        let first = take(self.first, &mut records)?;
        if matches!(first, End::Enough) || !records.is_empty() {
            return Ok(records);
        }
        let second = take(self.second, &mut records)?;
        if records.is_empty() {
            return match (first, second) {
                (End::Bad(error), _) | (_, End::Bad(error)) => Err(error),
                _ => Ok(records),
            };
        }
        if !self.is_damaged.swap(true, Relaxed) {
            tracing::warn!(
                log = self.first,
                byte = at.offset,
                "the first copy of the log is damaged; the second copy is used"
            );
        }
        Ok(records)
    }

    /// Whether the log still has the hash at this position that was read there.
    pub fn fits(&self, backend: &dyn Backend, at: Position) -> Result<bool> {
        if at == Position::default() {
            return Ok(true);
        }
        Ok(self.hashes(backend, at.offset)?.contains(&Some(at.head)))
    }

    /// The chain's hash before an offset at which a record begins or the log ends.
    pub fn hash_before(&self, backend: &dyn Backend, offset: u64) -> Result<Option<Hash>> {
        match self.hashes(backend, offset)? {
            [Some(one), Some(two)] if one != two => {}
            [one, two] => return Ok(one.or(two)),
        }
        // One of them is damaged: only the chain can tell which.
        let mut at = Position::default();
        while at.offset < offset {
            let Some((_, next)) = self.read(backend, at)?.into_iter().take_while(|(_, n)| n.offset <= offset).last()
            else {
                return Ok(None);
            };
            at = next;
        }
        Ok((at.offset == offset).then_some(at.head))
    }

    fn hashes(&self, backend: &dyn Backend, offset: u64) -> Result<[Option<Hash>; 2]> {
        let Some(start) = offset.checked_sub(Hash::LEN as u64) else { return Ok([None; 2]) };
        let hash = |bytes: Option<Bytes>| bytes.and_then(|bytes| Hash::from_slice(&bytes));
        Ok(self.both(|name| backend.get_range(name, start, Hash::LEN))?.map(hash))
    }

    /// Reads something of both files. A file that cannot be read counts as missing, unless neither can be read.
    fn both(&self, read: impl Fn(&str) -> Result<Option<Bytes>>) -> Result<[Option<Bytes>; 2]> {
        match (readable(read(self.first))?, readable(read(self.second))?) {
            (Err(error), Err(_)) => Err(error),
            (one, two) => Ok([one.unwrap_or_default(), two.unwrap_or_default()]),
        }
    }

    /// Whether both files exist and have the same end, or neither exists.
    pub fn is_settled(&self, backend: &dyn Backend) -> Result<bool> {
        let (one, two) = (backend.len(self.first)?, backend.len(self.second)?);
        if self.is_damaged.load(Relaxed) || one != two {
            return Ok(false);
        }
        let Some(len) = one else { return Ok(true) };
        let from = len.saturating_sub(TAIL);
        let [one, two] = self.both(|name| backend.get_range(name, from, TAIL as usize))?;
        Ok(one == two)
    }

    /// Makes both files whole if they are not. The caller holds the lock.
    pub fn settle(&self, backend: &dyn Backend) -> Result<()> {
        if self.is_settled(backend)? {
            return Ok(());
        }
        let [one, two] = self.both(|name| backend.get(name))?;
        let whole = merge(one.as_deref(), two.as_deref())?;
        for (name, now) in [(self.first, one), (self.second, two)] {
            if now.as_deref() != Some(&whole) {
                tracing::info!(file = name, bytes = whole.len(), "a copy of the log is restored");
                backend.put(name, &whole)?;
            }
        }
        self.is_damaged.store(false, Relaxed);
        Ok(())
    }

    /// Reads both files from end to end, and makes them whole if they are not, under the lock. Returns how many records
    /// there are, and whether a file had to be changed.
    pub fn verify(&self, backend: &dyn Backend) -> Result<(u64, bool)> {
        let alike = || -> Result<Option<u64>> {
            let (one, two) = (end(backend, self.first)?, end(backend, self.second)?);
            Ok(one.filter(|_| one == two).map(|at| at.len))
        };
        if let Some(records) = alike()? {
            return Ok((records, false));
        }
        // Another process may just have been appending.
        let _lock = backend.lock()?;
        if let Some(records) = alike()? {
            return Ok((records, false));
        }
        self.is_damaged.store(true, Relaxed);
        self.settle(backend)?;
        Ok((alike()?.unwrap_or(0), true))
    }

    /// Appends records to a settled log that ends at `at`. Durable on return; the caller holds the lock.
    pub fn append(&self, backend: &dyn Backend, at: Position, bytes: &[u8]) -> Result<()> {
        let refused = || Err(Error::LeaseRefused { reason: "its log was just repaired by another process".into() });
        let lens = [backend.len(self.first)?.unwrap_or(0), backend.len(self.second)?.unwrap_or(0)];
        match lens.iter().min() {
            Some(len) if *len < at.offset => return refused(),
            // The torn end of both files may be cut off, but not a record that counts.
            _ if lens != [at.offset; 2] && !self.read(backend, at)?.is_empty() => return refused(),
            _ => {}
        }
        backend.append(self.first, at.offset, bytes)?;
        backend.append(self.second, at.offset, bytes).inspect_err(|_| {
            // The records were not acknowledged, so the first file drops them if it can. If it cannot, the next
            // settling keeps them.
            let _ = backend.append(self.first, at.offset, &[]);
        })
    }

    /// Removes both files.
    pub fn delete(&self, backend: &dyn Backend) -> Result<()> {
        backend.delete(self.first)?;
        backend.delete(self.second)
    }
}

/// Where a file ends, if all of it is whole.
fn end(backend: &dyn Backend, name: &str) -> Result<Option<Position>> {
    let Some(len) = backend.len(name)? else { return Ok(None) };
    let mut at = Position::default();
    while at.offset < len {
        let Ok(Some(bytes)) = readable(backend.get_range(name, at.offset, READ))? else { return Ok(None) };
        let start = at;
        let mut rest = &bytes[..];
        while let Ok(Some((_, next))) = log_file::next_record(at, rest) {
            rest = &rest[(next.offset - at.offset) as usize..];
            at = next;
        }
        if at == start {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

/// Tells an unreadable file, for which the other may be used, from other errors.
fn readable<T>(read: Result<T>) -> Result<Result<T>> {
    match read {
        Err(error) if error.is_unreadable() => {
            tracing::warn!(%error, "a copy of the log cannot be read");
            Ok(Err(error))
        }
        read => read.map(Ok),
    }
}

/// Why no more records were taken.
enum End {
    /// The next record does not count yet.
    Enough,
    /// The bytes end before the end of the next record.
    Torn,
    /// The next record is damaged.
    Bad(Error),
}

/// Takes the records that count from the beginning of some bytes, which begin at `at`.
fn take(mut at: Position, mut bytes: &[u8], counts: u64, records: &mut Vec<Record>) -> End {
    loop {
        match log_file::next_record(at, bytes) {
            Ok(Some((_, next))) if next.offset > counts => return End::Enough,
            Ok(Some((raw, next))) => {
                records.push((raw.to_vec(), next));
                bytes = &bytes[(next.offset - at.offset) as usize..];
                at = next;
            }
            Ok(None) => return End::Torn,
            Err(error) => return End::Bad(error),
        }
    }
}

/// All records that are whole in one of the files, up to where the log ends.
fn merge<'a>(first: Option<&'a [u8]>, second: Option<&'a [u8]>) -> Result<Vec<u8>> {
    let (mut at, mut whole) = (Position::default(), Vec::new());
    loop {
        let rest = |file: Option<&'a [u8]>| file.and_then(|bytes| bytes.get(at.offset as usize..)).unwrap_or_default();
        let (one, two) = (rest(first), rest(second));
        match (log_file::next_record(at, one), log_file::next_record(at, two)) {
            (Ok(Some((_, next))), _) => {
                whole.extend_from_slice(&one[..(next.offset - at.offset) as usize]);
                at = next;
            }
            (_, Ok(Some((_, next)))) => {
                whole.extend_from_slice(&two[..(next.offset - at.offset) as usize]);
                at = next;
            }
            // The second file has nothing of this record, so it was never acknowledged.
            _ if second.is_some() && two.is_empty() => return Ok(whole),
            (Err(error), _) | (_, Err(error)) => return Err(error),
            _ => return Ok(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path, sync::Arc};

    use super::*;
    use crate::repository::backend::{Files, LocalBackend};

    /// A disk that cannot read the first file of the log, and later neither.
    #[derive(Debug, Clone, Default)]
    struct Unreadable(Arc<AtomicBool>);

    impl Unreadable {
        fn error(&self, path: &Path) -> Option<io::Error> {
            let is_log = path.file_name().is_some_and(|name| name != "log.2" || self.0.load(Relaxed));
            is_log.then(|| io::Error::from_raw_os_error(5))
        }
    }

    impl Files for Unreadable {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            self.error(path).map_or_else(|| std::fs::read(path), Err)
        }

        fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            let bytes = self.read(path)?;
            let from = bytes.len().min(offset as usize);
            Ok(bytes[from..bytes.len().min(from + len)].to_vec())
        }
    }

    #[test]
    fn an_unreadable_log_is_not_an_empty_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogPair::new("log", "log.2");
        let (mut bytes, at) = log_file::encode_bytes(Position::default(), b"one");
        let (two, at) = log_file::encode_bytes(at, b"two");
        bytes.extend(two);
        log.append(&LocalBackend::new(folder.path()), Position::default(), &bytes).unwrap();

        let disk = Unreadable::default();
        let backend = LocalBackend::with_files(folder.path(), disk.clone());
        assert_eq!(log.read(&backend, Position::default()).unwrap().len(), 2, "the other one can be read");
        assert!(log.fits(&backend, at).unwrap());

        disk.0.store(true, Relaxed);
        let unreadable = |error: Error| assert!(error.is_unreadable(), "{error}");
        unreadable(log.read(&backend, Position::default()).unwrap_err());
        unreadable(log.fits(&backend, at).unwrap_err());
        assert!(!log.is_settled(&backend).is_ok_and(|is_settled| is_settled));
        unreadable(log.settle(&backend).unwrap_err());
        unreadable(log.append(&backend, Position::default(), b"over it").unwrap_err());
        for name in ["log", "log.2"] {
            assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), bytes);
        }
    }
}
