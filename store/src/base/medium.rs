//! What some file systems lack, as network shares and FUSE file systems do: syncing a folder, and locks.
//!
//! **Syncing a folder** may be refused as something that makes no sense there (EINVAL, EOPNOTSUPP). Such a file system
//! sends each change of a name to where it is kept, and promises nothing else. There is no better promise to be had, so
//! that counts as done. Every other error is one.
//!
//! **Locks** may be refused (ENOLCK, ENOSYS, EOPNOTSUPP). Then a file that must not exist, `<name>.held`, takes the
//! lock's place. It says which process on which machine made it. A process of this machine that has ended leaves it
//! behind, and the next one takes it over. Whether a process of *another* machine has ended cannot be known, and
//! neither is it known after a restart. Nothing is taken over then: whoever waits gives up and says which file to
//! remove.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::process::{Process, State};

/// How often a waiting process looks whether a lock's file is gone.
const POLL: Duration = Duration::from_millis(50);
/// How long to wait for a process of which nobody knows whether it still runs.
const PATIENCE: Duration = Duration::from_secs(30);
/// A lock's file says less than this, in bytes.
const HOLDER_MAX: usize = 1024;

static FOLDERS_DO_NOT_SYNC: AtomicBool = AtomicBool::new(false);
static FILES_DO_NOT_LOCK: AtomicBool = AtomicBool::new(false);

/// What this process has found file systems to lack so far, for a person.
pub fn lacks() -> Vec<&'static str> {
    let folders =
        "this file system cannot sync a folder: after a power cut, files that were just stored may be missing";
    let locks = "this file system has no locks: files named *.held take their place; use it from one machine at a time";
    let found = [(&FOLDERS_DO_NOT_SYNC, folders), (&FILES_DO_NOT_LOCK, locks)];
    found.into_iter().filter(|(is_found, _)| is_found.load(Relaxed)).map(|(_, text)| text).collect()
}

/// Makes the names in a folder durable, as far as its file system can.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match rustix::fs::fsync(File::open(path)?) {
        Err(Errno::INVAL | Errno::NOTSUP) => {
            if !FOLDERS_DO_NOT_SYNC.swap(true, Relaxed) {
                tracing::info!(folder = %path.display(), "this file system cannot sync a folder");
            }
            Ok(())
        }
        synced => Ok(synced?),
    }
}

/// A lock between processes. Dropping it releases it.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    /// The file that takes the lock's place.
    held: Option<PathBuf>,
}

impl FileLock {
    /// Locks a file, which is created if need be. Waits while another process holds the lock.
    pub fn wait(path: &Path) -> io::Result<Self> {
        Self::lock(open(path)?, path, true)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Locks a file, which is created if need be. None if another process holds the lock.
    pub fn attempt(path: &Path) -> io::Result<Option<Self>> {
        Self::lock(open(path)?, path, false)
    }

    /// The file that is locked.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn lock(file: File, path: &Path, waits: bool) -> io::Result<Option<Self>> {
        let how = if waits { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        match lock_file(&file, how)? {
            Locked::Here => Ok(Some(Self { file, held: None })),
            Locked::Elsewhere => Ok(None),
            Locked::Impossible => {
                if !FILES_DO_NOT_LOCK.swap(true, Relaxed) {
                    tracing::info!(file = %path.display(), "this file system has no locks");
                }
                let mut name = path.as_os_str().to_owned();
                name.push(".held");
                let held = PathBuf::from(name);
                Ok(hold(&held, waits)?.then_some(Self { file, held: Some(held) }))
            }
        }
    }
}

/// What came of an attempt to lock a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// It is locked now, until the file is closed.
    Here,
    /// Another process, or another file of this one, has the lock.
    Elsewhere,
    /// The file system has no locks.
    Impossible,
}

/// Locks a file without waiting. Nothing takes the lock's place if the file system has no locks.
pub fn attempt_lock(file: &File) -> io::Result<Locked> {
    lock_file(file, FlockOperation::NonBlockingLockExclusive)
}

fn lock_file(file: &File, how: FlockOperation) -> io::Result<Locked> {
    loop {
        return match flock(file, how) {
            Ok(()) => Ok(Locked::Here),
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => Ok(Locked::Elsewhere),
            Err(Errno::NOLCK | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL) => Ok(Locked::Impossible),
            Err(error) => Err(error.into()),
        };
    }
}

impl Drop for FileLock {
    /// Closing the file is not enough: a child process that was just forked holds the file as well, until it runs its
    /// program.
    fn drop(&mut self) {
        match &self.held {
            Some(held) => {
                if let Err(error) = fs::remove_file(held) {
                    tracing::warn!(file = %held.display(), %error, "a lock cannot be released: remove this file");
                }
            }
            None => drop(flock(&self.file, FlockOperation::Unlock)),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Makes the file that takes a lock's place. Returns false if it exists and is not waited for.
fn hold(held: &Path, waits: bool) -> io::Result<bool> {
    let mut since: Option<(Instant, Vec<u8>)> = None;
    loop {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(held) {
            Ok(mut file) => {
                file.write_all(&this_process()).inspect_err(|_| drop(fs::remove_file(held)))?;
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let holder = match fs::read(held) {
            Ok(holder) => holder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match state(&holder) {
            State::Ended => take_away(held, &holder)?,
            State::Runs if !waits => return Ok(false),
            State::Runs => std::thread::sleep(POLL),
            // It may just be writing its name.
            State::Unknown => {
                let (begin, last) = since.get_or_insert_with(|| (Instant::now(), holder.clone()));
                if *last != holder {
                    since = None;
                } else if begin.elapsed() > PATIENCE {
                    return Err(abandoned(held, &holder));
                } else if !waits {
                    return Ok(false);
                }
                std::thread::sleep(POLL);
            }
        }
    }
}

fn abandoned(held: &Path, holder: &[u8]) -> io::Error {
    let holder = String::from_utf8_lossy(&holder[..holder.len().min(HOLDER_MAX)]);
    let holder: String = holder.lines().take(1).flat_map(|line| line.chars().flat_map(char::escape_default)).collect();
    io::Error::other(format!(
        "it is locked by {} for a long time, and whether that process still runs cannot be known from here. If it does \
         not, remove {}",
        if holder.is_empty() { "a process that gave no name" } else { &holder },
        held.display()
    ))
}

/// Takes away the file of a process that has ended. Of several processes that find it, only one may do so, and only
/// while the file is still the same: a folder that must not exist sees to that.
fn take_away(held: &Path, holder: &[u8]) -> io::Result<()> {
    let guard = held.with_extension("taking");
    match fs::create_dir(&guard) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Another process is at it. If it was killed there, this ends in a message.
            return match fs::metadata(&guard).and_then(|meta| meta.modified()).map(|at| at.elapsed()) {
                Ok(Ok(age)) if age > PATIENCE => Err(io::Error::other(format!(
                    "a process was killed while it took a lock over: remove {}",
                    guard.display()
                ))),
                _ => {
                    std::thread::sleep(POLL);
                    Ok(())
                }
            };
        }
        Err(error) => return Err(error),
    }
    let taken = match fs::read(held) {
        Ok(now) if now == holder => fs::remove_file(held),
        _ => Ok(()),
    };
    fs::remove_dir(&guard)?;
    taken
}

/// The contents of a lock's file: a line for a person, and a line each for the machine's boot, the namespace of process
/// ids, and the process with the time when it began.
fn this_process() -> Vec<u8> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let Process { boot, namespace, pid, began } = Process::current();
    format!("process {pid} on {host}\n{boot}\n{namespace}\n{pid} {began}\n").into_bytes()
}

/// What is known of the process that made a lock's file.
fn state(holder: &[u8]) -> State {
    let read = || {
        let text = std::str::from_utf8(holder).ok()?.strip_suffix('\n')?;
        let mut lines = text.lines().skip(1).map(str::to_owned);
        let (boot, namespace, last) = (lines.next()?, lines.next()?, lines.next()?);
        let (pid, began) = last.split_once(' ')?;
        Some(Process { boot, namespace, pid: pid.parse().ok()?, began: began.to_owned() })
    };
    read().map_or(State::Unknown, |process| process.state())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_the_place_of_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let held = folder.path().join("lock.held");
        assert!(hold(&held, false).unwrap());
        assert!(!hold(&held, false).unwrap(), "this process holds it");
        let holder = String::from_utf8(fs::read(&held).unwrap()).unwrap();
        assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");

        // A process that has ended: the same id with another beginning, and an id that no process has.
        let last = holder.lines().last().unwrap();
        for gone in [format!("{last}0"), "4194303 1".to_owned()] {
            fs::write(&held, holder.replace(last, &gone)).unwrap();
            assert!(hold(&held, false).unwrap(), "{gone}");
        }
        // Another machine, an earlier boot, or a container; and a file that is just being written.
        let Process { boot, namespace, .. } = Process::current();
        for unknown in [holder.replace(&boot, "x"), holder.replace(&namespace, "x"), String::new(), "proc".into()] {
            fs::write(&held, &unknown).unwrap();
            assert!(!hold(&held, false).unwrap(), "{unknown}");
            assert_eq!(fs::read(&held).unwrap(), unknown.as_bytes());
        }
    }

    #[test]
    fn of_many_only_one_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = folder.path().join("lock.held");
        let text = String::from_utf8(this_process()).unwrap();
        fs::write(&held, text.replace(text.lines().last().unwrap(), "4194303 1")).unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert!(hold(&held, true).unwrap());
                        assert_eq!(inside.fetch_add(1, Relaxed), 0);
                        inside.fetch_sub(1, Relaxed);
                        fs::remove_file(&held).unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn a_lock_is_released_although_a_forked_child_still_holds_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = FileLock::wait(&path).unwrap();
        let of_child = lock.file.try_clone().unwrap();
        assert!(FileLock::attempt(&path).unwrap().is_none());
        drop(lock);
        assert!(FileLock::attempt(&path).unwrap().is_some());
        drop(of_child);
    }
}
