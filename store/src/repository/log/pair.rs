//! A log kept in two files of the same bytes, so that damage to one loses nothing.
//!
//! **Writing.** Records are appended to the first file and synced, then to the second and synced; then they count. So what
//! the second file holds is durable in the first, and what is torn in the first after a crash is not in the second. Whoever
//! appends holds the backend's lock and has called [`LogPair::settle`].
//!
//! **Reading** needs no lock. A record counts once the second file reaches to its end; it is taken from the first file, or
//! from the second where the first is damaged. Nobody is shown a record that a crash could still take away.
//!
//! **Settling** makes both files whole again: a record that only one of them holds goes into the other, what is torn is cut
//! off, and a file that is missing is written anew. A record that is whole in neither file, and is not the torn end of both,
//! is an error: nothing is cut then. Nor is a log of which neither file can be read an empty one.

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

/// How much is read at once; records are bounded below it.
const READ: usize = log_file::RECORD_MAX + 64;
/// How much of both ends is compared to see whether the files are the same. What a crash leaves half done is one append.
const TAIL: u64 = 64 * 1024;

/// The names of a log's files.
#[derive(Debug)]
pub struct LogPair {
    first: &'static str,
    second: &'static str,
    /// Damage was met: the next settling looks at everything.
    hurt: AtomicBool,
}

/// A record's bytes, and the place behind it.
pub type Record = (Vec<u8>, Position);

impl LogPair {
    /// The log in these two files.
    pub const fn new(first: &'static str, second: &'static str) -> Self {
        Self { first, second, hurt: AtomicBool::new(false) }
    }

    /// Records from `at` on, some at a time; none if there are no more.
    pub fn read(&self, backend: &dyn Backend, at: Position) -> Result<Vec<Record>> {
        let counts = match backend.len(self.second)? {
            Some(len) => len,
            None => backend.len(self.first)?.unwrap_or(0),
        };
        let mut records = Vec::new();
        if at.offset >= counts {
            return Ok(records);
        }
        let take = |name, records: &mut Vec<Record>| match readable(backend.get_range(name, at.offset, READ))? {
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
        if !self.hurt.swap(true, Relaxed) {
            tracing::warn!(log = self.first, byte = at.offset, "the log is damaged; its second copy serves");
        }
        Ok(records)
    }

    /// Whether the log still holds, at this place, the hash that was read there.
    pub fn fits(&self, backend: &dyn Backend, at: Position) -> Result<bool> {
        if at == Position::default() {
            return Ok(true);
        }
        Ok(self.hashes(backend, at.offset)?.contains(&Some(at.head)))
    }

    /// The chain's hash that stands before a place where a record begins or the log ends.
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

    /// Reads something of both files. One that cannot be read is as good as none, but not both.
    fn both(&self, read: impl Fn(&str) -> Result<Option<Bytes>>) -> Result<[Option<Bytes>; 2]> {
        match (readable(read(self.first))?, readable(read(self.second))?) {
            (Err(error), Err(_)) => Err(error),
            (one, two) => Ok([one.unwrap_or_default(), two.unwrap_or_default()]),
        }
    }

    /// Whether both files are there and end alike.
    pub fn is_settled(&self, backend: &dyn Backend) -> Result<bool> {
        let (one, two) = (backend.len(self.first)?, backend.len(self.second)?);
        if self.hurt.load(Relaxed) || one != two {
            return Ok(false);
        }
        let Some(len) = one else { return Ok(true) };
        let from = len.saturating_sub(TAIL);
        let [one, two] = self.both(|name| backend.get_range(name, from, TAIL as usize))?;
        Ok(one == two)
    }

    /// Makes both files whole, if they are not. The caller holds the lock.
    pub fn settle(&self, backend: &dyn Backend) -> Result<()> {
        if self.is_settled(backend)? {
            return Ok(());
        }
        let [one, two] = self.both(|name| backend.get(name))?;
        let whole = merge(one.as_deref(), two.as_deref())?;
        for (name, now) in [(self.first, one), (self.second, two)] {
            if now.as_deref() != Some(&whole) {
                tracing::info!(file = name, bytes = whole.len(), "a copy of the log is made whole");
                backend.put(name, &whole)?;
            }
        }
        self.hurt.store(false, Relaxed);
        Ok(())
    }

    /// Looks at both files from end to end, and makes them whole if they are not. Returns how many records there are, and
    /// whether something had to be done. Takes the lock for that.
    pub fn verify(&self, backend: &dyn Backend) -> Result<(u64, bool)> {
        let alike = || -> Result<Option<u64>> {
            let (one, two) = (end(backend, self.first)?, end(backend, self.second)?);
            Ok(one.filter(|_| one == two).map(|at| at.len))
        };
        if let Some(records) = alike()? {
            return Ok((records, false));
        }
        // Perhaps somebody was just appending.
        let _lock = backend.lock()?;
        if let Some(records) = alike()? {
            return Ok((records, false));
        }
        self.hurt.store(true, Relaxed);
        self.settle(backend)?;
        Ok((alike()?.unwrap_or(0), true))
    }

    /// Appends records to a settled log that ends at `at`. Durable on return; the caller holds the lock.
    pub fn append(&self, backend: &dyn Backend, at: Position, bytes: &[u8]) -> Result<()> {
        let refused = || Err(Error::LeaseRefused { reason: "its log has just been mended".into() });
        let lens = [backend.len(self.first)?.unwrap_or(0), backend.len(self.second)?.unwrap_or(0)];
        match lens.iter().min() {
            Some(len) if *len < at.offset => return refused(),
            // The torn end of both is cut off; a record that counts is not.
            _ if lens != [at.offset; 2] && !self.read(backend, at)?.is_empty() => return refused(),
            _ => {}
        }
        backend.append(self.first, at.offset, bytes)?;
        backend.append(self.second, at.offset, bytes).inspect_err(|_| {
            // Not acknowledged: the first file forgets it too, if it can. If not, the next settling takes it for good.
            let _ = backend.append(self.first, at.offset, &[]);
        })
    }

    /// Removes the log.
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
        while let Ok(Some((_, next))) = log_file::split(at, rest) {
            rest = &rest[(next.offset - at.offset) as usize..];
            at = next;
        }
        if at == start {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

/// Tells a file that cannot be read, which the other may make up for, from what nothing makes up for.
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
    /// The next one does not count yet.
    Enough,
    /// The bytes end within the next one, or before.
    Torn,
    /// The next one is not what it should be.
    Bad(Error),
}

/// Takes the records at the beginning of some bytes, which lie at `at`, as far as they count.
fn take(mut at: Position, mut bytes: &[u8], counts: u64, records: &mut Vec<Record>) -> End {
    loop {
        match log_file::split(at, bytes) {
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
        match (log_file::split(at, one), log_file::split(at, two)) {
            (Ok(Some((_, next))), _) => {
                whole.extend_from_slice(&one[..(next.offset - at.offset) as usize]);
                at = next;
            }
            (_, Ok(Some((_, next)))) => {
                whole.extend_from_slice(&two[..(next.offset - at.offset) as usize]);
                at = next;
            }
            // The second file has none of it, so it was never acknowledged.
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

    /// A disk that stops reading.
    #[derive(Debug, Clone, Default)]
    struct Deaf(Arc<AtomicBool>);

    impl Deaf {
        fn error(&self, path: &Path) -> Option<io::Error> {
            let is_log = path.file_name().is_some_and(|name| name != "log.2" || self.0.load(Relaxed));
            is_log.then(|| io::Error::from_raw_os_error(5))
        }
    }

    impl Files for Deaf {
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
    fn a_log_that_cannot_be_read_is_no_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogPair::new("log", "log.2");
        let (mut bytes, at) = log_file::frame_bytes(Position::default(), b"one");
        let (two, at) = log_file::frame_bytes(at, b"two");
        bytes.extend(two);
        log.append(&LocalBackend::new(folder.path()), Position::default(), &bytes).unwrap();

        let deaf = Deaf::default();
        let backend = LocalBackend::with_files(folder.path(), deaf.clone());
        assert_eq!(log.read(&backend, Position::default()).unwrap().len(), 2, "the other one can be read");
        assert!(log.fits(&backend, at).unwrap());

        deaf.0.store(true, Relaxed);
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
