//! Watching whole file systems, with fanotify.
//!
//! An event names the folder by a handle that stays the same while the folder is moved. To find where it is, the handle
//! is opened through a mount of its file system, and the kernel is asked for the path. The mounts are opened only for
//! that: a handle that stays open would keep a disk from being unmounted.

use std::{
    collections::HashMap,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::sys::fanotify::{EventFFlags, Fanotify as Group, InitFlags, MarkFlags, MaskFlags};
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};

use super::{
    report::Report,
    sources::{Sources, real_path},
};
use crate::{changes::Scope, walk::SourceDir};

/// Bytes of events that are read at a time.
const BUFFER: usize = 64 * 1024;
/// Folders whose paths are remembered.
const PATHS_MAX: usize = 4096;
/// The longest handle of a file, in bytes, as the kernel defines it.
const HANDLE_MAX: usize = 128;

/// Length of an event's fixed part, and where its fields are (`struct fanotify_event_metadata`).
const EVENT_LEN: usize = 24;
/// Length of the head of a record of an event (`struct fanotify_event_info_header`).
const RECORD_HEAD: usize = 4;
/// Length of the file system's id in a record.
const FSID_LEN: usize = 8;

/// The marked file systems.
pub struct Fanotify {
    group: Group,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The mounts that were met, and whether changes in them are reported.
    mounts: HashMap<(u64, u64), bool>,
    /// Where each marked file system is mounted.
    places: HashMap<[u8; FSID_LEN], Vec<PathBuf>>,
    /// Where folders are. Forgotten when a folder is moved or goes.
    paths: HashMap<Handle, Option<PathBuf>>,
}

/// A folder, as an event names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Handle {
    fsid: [u8; FSID_LEN],
    kind: i32,
    bytes: Box<[u8]>,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    mask: u64,
    folder: Option<Handle>,
    /// The entry; none if the event is about the folder itself.
    name: Option<Box<[u8]>>,
}

impl AsFd for Fanotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

impl Fanotify {
    /// A group without marks; none if this user or this kernel cannot have one.
    pub fn new() -> Option<Self> {
        let flags = InitFlags::from_bits_retain(
            libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | libc::FAN_REPORT_DFID_NAME,
        );
        let events = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC;
        match Group::init(flags, events) {
            Ok(group) => Some(Self { group, state: Mutex::default() }),
            Err(error) => {
                tracing::debug!("no fanotify: {error}");
                None
            }
        }
    }

    /// How many file systems are marked.
    pub fn len(&self) -> usize {
        self.state.lock().places.len()
    }

    /// Marks the file system of a folder, unless it is marked. Returns whether its changes are reported.
    pub fn covers(&self, dir: &SourceDir, sources: &Sources) -> bool {
        let mut state = self.state.lock();
        let key = (dir.mount, dir.device());
        if let Some(is_covered) = state.mounts.get(&key) {
            return *is_covered;
        }
        let is_covered = match self.mark(dir, &mut state, sources) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!("no fanotify mark on {}: {error}", dir.path.display_entry(b"").display());
                false
            }
        };
        // Without its id, a mount cannot be told from another of the same device.
        if dir.mount != 0 || !is_covered {
            state.mounts.insert(key, is_covered);
        }
        is_covered
    }

    fn mark(&self, dir: &SourceDir, state: &mut State, sources: &Sources) -> io::Result<()> {
        let place = real_path(dir.as_fd()).ok_or_else(|| io::Error::other("the folder has no path"))?;
        // A path that leads elsewhere would turn every event into nothing.
        if sources.find(&place, None).is_empty() && dir.plan_on_the_way().is_none() {
            return Err(io::Error::other("the folder is not where its path says"));
        }
        let fsid = fsid_of(dir.as_fd())?;
        if fsid == [0; FSID_LEN] {
            return Err(io::Error::other("the file system has no id"));
        }
        let mask = libc::FAN_MODIFY
            | libc::FAN_ATTRIB
            | libc::FAN_CREATE
            | libc::FAN_DELETE
            | libc::FAN_MOVED_FROM
            | libc::FAN_MOVED_TO
            | libc::FAN_ONDIR;
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::from_bits_retain(libc::FAN_MARK_FILESYSTEM);
        self.group.mark(flags, MaskFlags::from_bits_retain(mask), rustix::fs::CWD, Some(&place))?;
        let places = state.places.entry(fsid).or_default();
        if !places.contains(&place) {
            places.push(place.clone());
        }
        // Some file systems give handles that cannot be opened again.
        let handle = handle_of(&place)?;
        let opened = open_handle(&place, &Handle { fsid, ..handle })?;
        match real_path(opened.as_fd()) {
            Some(path) if path == place => Ok(()),
            _ => Err(io::Error::other("a folder's handle does not lead back to it")),
        }
    }

    /// Forgets which mounts are marked, after some came or went: a mark goes with its file system, and an old kernel
    /// gives the number of a mount that went to a new one. The next full scan marks them again.
    pub fn forget_mounts(&self) {
        let mut state = self.state.lock();
        state.mounts.clear();
        state.paths.clear();
    }

    /// Reads all events that wait.
    pub fn read(&self, sources: &Sources) -> Vec<Report> {
        let mut buffer = vec![0; BUFFER];
        let mut reports = Vec::new();
        loop {
            let len = match rustix::io::read(&self.group, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return reports,
                Ok(len) => len,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    tracing::warn!("cannot read events of files: {error}");
                    reports.push(Report::Lost);
                    return reports;
                }
            };
            let mut rest = &buffer[..len];
            while let Some((event, after)) = parse(rest) {
                rest = after;
                self.report(event, sources, &mut reports);
            }
            if !rest.is_empty() {
                tracing::warn!("the kernel reports a change in an unknown form");
                reports.push(Report::Lost);
            }
        }
    }

    fn report(&self, event: Event, sources: &Sources, reports: &mut Vec<Report>) {
        if event.mask & libc::FAN_Q_OVERFLOW != 0 {
            reports.push(Report::Lost);
            return;
        }
        let is_dir = event.mask & libc::FAN_ONDIR != 0;
        let came = event.mask & (libc::FAN_CREATE | libc::FAN_MOVED_TO) != 0;
        let went = event.mask & (libc::FAN_DELETE | libc::FAN_MOVED_FROM) != 0;
        let mut state = self.state.lock();
        if is_dir && (came || went) {
            state.paths.clear();
        }
        let Some(folder) = event.folder else { return };
        // A folder that is gone was reported as gone.
        let Some(real) = state.path_of(&folder) else { return };
        let scope = if is_dir && came { Scope::All } else { Scope::Named };
        let is_dir = is_dir || event.name.is_none();
        let paths = sources.find(&real, event.name.as_deref());
        reports.extend(paths.into_iter().map(|path| Report::Entry { path, scope, is_dir: Some(is_dir) }));
    }
}

impl State {
    /// Where a folder is.
    fn path_of(&mut self, folder: &Handle) -> Option<PathBuf> {
        if let Some(path) = self.paths.get(folder) {
            return path.clone();
        }
        let places = self.places.get(&folder.fsid).map_or(&[][..], Vec::as_slice);
        let path = places.iter().find_map(|place| {
            let opened = open_handle(place, folder).ok()?;
            real_path(opened.as_fd()).filter(|path| path.exists())
        });
        if self.paths.len() >= PATHS_MAX {
            self.paths.clear();
        }
        self.paths.insert(folder.clone(), path.clone());
        path
    }
}

/// Takes the first event out of what the kernel wrote; none at the end, or if it is in an unknown form.
fn parse(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let number = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let len = number(0)?;
    if bytes.get(4) != Some(&libc::FANOTIFY_METADATA_VERSION) || len < EVENT_LEN || len > bytes.len() {
        return None;
    }
    let head_len = usize::from(u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?));
    let mask = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
    let (event, after) = bytes.split_at(len);
    let mut parsed = Event { mask, folder: None, name: None };
    let mut records = event.get(head_len..)?;
    while let Some(head) = records.get(..RECORD_HEAD) {
        let record_len = usize::from(u16::from_ne_bytes([head[2], head[3]]));
        let record = records.get(RECORD_HEAD..record_len)?;
        if matches!(head[0], libc::FAN_EVENT_INFO_TYPE_DFID_NAME | libc::FAN_EVENT_INFO_TYPE_DFID) {
            let (folder, name) = parse_folder(record)?;
            parsed.folder = Some(folder);
            parsed.name = Some(name).filter(|_| head[0] == libc::FAN_EVENT_INFO_TYPE_DFID_NAME);
            // The kernel writes so if the event is about the folder itself.
            parsed.name = parsed.name.filter(|name| **name != *b"." && !name.is_empty());
        }
        records = records.get(record_len..)?;
    }
    Some((parsed, after))
}

/// Parses the handle of a folder and the name after it.
fn parse_folder(record: &[u8]) -> Option<(Handle, Box<[u8]>)> {
    let (fsid, rest) = record.split_first_chunk::<FSID_LEN>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_ne_bytes(*len)).ok().filter(|len| *len <= HANDLE_MAX)?;
    let (bytes, rest) = rest.split_at_checked(len)?;
    let name = rest.split(|byte| *byte == 0).next()?;
    Some((Handle { fsid: *fsid, kind: i32::from_ne_bytes(*kind), bytes: bytes.into() }, name.into()))
}

/// The `struct file_handle` of the kernel.
#[repr(C)]
struct FileHandle {
    len: u32,
    kind: i32,
    bytes: [u8; HANDLE_MAX],
}

/// Opens a folder by its handle, through a mount of its file system at `place`.
fn open_handle(place: &Path, folder: &Handle) -> io::Result<OwnedFd> {
    let mount = rustix::fs::open(place, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if fsid_of(mount.as_fd())? != folder.fsid {
        return Err(io::Error::other("another file system is mounted there"));
    }
    let mut handle = FileHandle { len: folder.bytes.len() as u32, kind: folder.kind, bytes: [0; HANDLE_MAX] };
    handle.bytes.get_mut(..folder.bytes.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(&folder.bytes);
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the kernel reads the handle, whose `len` bytes are in its array, and opens a file for us to own.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The handle of the folder at a path, without the id of its file system.
fn handle_of(path: &Path) -> io::Result<Handle> {
    let name = crate::metadata::c_name(path.as_os_str().as_bytes())?;
    let mut handle = FileHandle { len: HANDLE_MAX as u32, kind: 0, bytes: [0; HANDLE_MAX] };
    let mut mount = 0;
    // SAFETY: the kernel writes at most `len` bytes into the handle's array, and one number into `mount`.
    let done =
        unsafe { libc::name_to_handle_at(libc::AT_FDCWD, name.as_ptr(), (&raw mut handle).cast(), &raw mut mount, 0) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = handle.bytes.get(..handle.len as usize).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Handle { fsid: [0; FSID_LEN], kind: handle.kind, bytes: bytes.into() })
}

/// The id of the file system that holds an open folder, as events state it.
fn fsid_of(dir: BorrowedFd<'_>) -> io::Result<[u8; FSID_LEN]> {
    // statvfs(3) makes one number of the two in statfs(2), the first of which is the lower half.
    let number = rustix::fs::fstatvfs(dir)?.f_fsid;
    let mut fsid = [0; FSID_LEN];
    fsid[..4].copy_from_slice(&(number as u32).to_ne_bytes());
    fsid[4..].copy_from_slice(&((number >> 32) as u32).to_ne_bytes());
    Ok(fsid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(mask: u64, records: &[u8]) -> Vec<u8> {
        let len = (EVENT_LEN + records.len()) as u32;
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend([libc::FANOTIFY_METADATA_VERSION, 0]);
        bytes.extend((EVENT_LEN as u16).to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        bytes.extend([0xff; 8]);
        bytes.extend(records);
        bytes
    }

    fn record(kind: u8, handle: &[u8], name: &[u8]) -> Vec<u8> {
        let len = RECORD_HEAD + FSID_LEN + 8 + handle.len() + name.len();
        let mut bytes = vec![kind, 0];
        bytes.extend((len as u16).to_ne_bytes());
        bytes.extend([7; FSID_LEN]);
        bytes.extend((handle.len() as u32).to_ne_bytes());
        bytes.extend(1i32.to_ne_bytes());
        bytes.extend(handle);
        bytes.extend(name);
        bytes
    }

    #[test]
    fn events_are_parsed() {
        let folder = Handle { fsid: [7; FSID_LEN], kind: 1, bytes: b"handle12".as_slice().into() };
        let named = event(libc::FAN_CREATE, &record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"handle12", b"name\0\0\0"));
        let itself = event(libc::FAN_ATTRIB, &record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"handle12", b".\0\0\0"));
        let overflow = event(libc::FAN_Q_OVERFLOW, &[]);
        let all = [named.clone(), itself, overflow].concat();
        let (first, rest) = parse(&all).unwrap();
        let name: Box<[u8]> = b"name".as_slice().into();
        assert_eq!(first, Event { mask: libc::FAN_CREATE, folder: Some(folder.clone()), name: Some(name) });
        let (second, rest) = parse(rest).unwrap();
        assert_eq!(second, Event { mask: libc::FAN_ATTRIB, folder: Some(folder), name: None });
        let (third, rest) = parse(rest).unwrap();
        assert_eq!((third.mask, third.folder, rest.len()), (libc::FAN_Q_OVERFLOW, None, 0));
        // Nothing that is cut off is an event.
        for len in 0..named.len() {
            assert_eq!(parse(&named[..len]), None, "{len}");
        }
        let too_long = event(0, &record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, &[0; HANDLE_MAX + 1], b"n\0"));
        assert_eq!(parse(&too_long), None);
    }
}
