//! Reading one file: its bytes as chunks and holes, and what else is kept of it.
//!
//! What is read is handed over piece by piece ([`Sink`]), so that a file of any size passes through a bounded buffer. A
//! file whose times or length changed while it was read is read again, a few times (a very large one is not); then
//! it is kept as it was read and reported. Holes of the file system are found by asking, never by looking for zeros.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::SystemTime,
};

use bkfs_store::{
    chunker::Chunker,
    id::{ChunkId, HardLinkGroup},
    keys::IdKeys,
    tree::{Content, Node, NodeKind, Time},
};
use rustix::{
    fs::{Advice, Mode, OFlags, SeekFrom},
    io::Errno,
};

use super::{
    budget::Closed,
    dedup::Announcer,
    progress::{self, Progress},
};
use crate::{
    metadata::{self, Stat},
    userdb::OwnerNames,
    walk::Dir,
};

/// Files up to this many bytes are one chunk, which shares a frame with its neighbours.
pub const SMALL_MAX: u64 = 128 * 1024;
/// Shorter holes are kept as zeros: each hole cuts a chunk.
const HOLE_MIN: u64 = 64 * 1024;
/// How often a changing file is read.
const ATTEMPTS: u32 = 3;
/// Larger files are read once, in bytes: reading a disk image in use again would change nothing.
const AGAIN_MAX: u64 = 64 << 20;
/// Chunks that large files are read ahead into, at least.
const BUFFER_CHUNKS: usize = 2;

/// A file to be read.
pub struct Job {
    /// Its number in the order of the push.
    pub number: u64,
    /// The directory that holds it.
    pub dir: Arc<Dir>,
    /// Its name.
    pub name: Box<[u8]>,
    /// As it was when the directory was listed.
    pub stat: Stat,
    /// Set if the inode has other names.
    pub hard_link: Option<HardLinkGroup>,
}

/// A part of what is read.
pub enum Piece {
    /// The next chunk.
    Chunk {
        /// Its id.
        id: ChunkId,
        /// Its bytes.
        bytes: Vec<u8>,
        /// It is the whole of a small file.
        is_small: bool,
    },
    /// A hole of so many bytes.
    Hole(u64),
    /// The file changed: what came so far is void.
    Restart,
    /// All has been said.
    End(Box<FileEnd>),
    /// The file cannot be read, or is not there any more.
    Failed(io::Error),
}

/// What is known of a file once it is read.
pub struct FileEnd {
    /// The node; its content is set only if it lies in the node itself.
    pub node: Node,
    /// The state that the contents belong to.
    pub stat: Stat,
    /// When reading began.
    pub read_at: Time,
    /// The file changed whenever it was read.
    pub is_changing: bool,
    /// Why the extended attributes are missing.
    pub xattr_error: Option<io::Error>,
}

/// Takes the pieces of one file.
pub trait Sink {
    /// Waits until so many bytes may be held.
    fn reserve(&mut self, bytes: usize) -> Result<(), Closed>;
    /// Takes a piece. The bytes of a chunk have been reserved.
    fn piece(&mut self, piece: Piece) -> Result<(), Closed>;
}

/// What all readers share.
pub struct Reader {
    pub(super) ids: IdKeys,
    pub(super) chunker: Chunker,
    pub(super) chunk_max: usize,
    pub(super) owners: OwnerNames,
    pub(super) announcer: Announcer,
    pub(super) progress: Arc<Progress>,
    pub(super) clock: Clock,
}

/// Tells the time, as [`now`] does.
pub type Clock = fn() -> Time;

enum Stop {
    Closed,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}
impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Failed(error.into())
    }
}
impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// The time now, by the wall clock.
pub fn now() -> Time {
    let since = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = since(SystemTime::now());
    Time { secs: now.as_secs() as i64, nanos: now.subsec_nanos() }
}

impl Reader {
    /// Reads a file and hands it over. All that goes wrong with the file is a piece too.
    pub fn read(&self, job: &Job, sink: &mut dyn Sink) -> Result<(), Closed> {
        match self.try_read(job, sink) {
            Ok(()) => Ok(()),
            Err(Stop::Closed) => Err(Closed),
            Err(Stop::Failed(error)) => sink.piece(Piece::Failed(error)),
        }
    }

    fn try_read(&self, job: &Job, sink: &mut dyn Sink) -> Result<(), Stop> {
        let mut read_at = (self.clock)();
        let file = open(&job.dir, &job.name)?;
        let mut expected = job.stat;
        let mut attempt = 1;
        let (after, body, is_changing) = loop {
            let body = match expected.size <= SMALL_MAX {
                true => self.read_small(&file, expected.size)?,
                false => self.read_large(&file, expected.size, sink)?,
            };
            let after = Stat::of_handle(&file)?;
            if after.kind != NodeKind::File {
                return Err(Stop::Failed(io::Error::other("it is no longer a file")));
            }
            // A file put in the place of the listed one is as good, if it holds still.
            let is_steady = body.len() == after.size && after.is_same(&expected);
            let attempts = if after.size > AGAIN_MAX { 1 } else { ATTEMPTS };
            if is_steady || attempt >= attempts {
                break (after, body, !is_steady);
            }
            if matches!(body, Body::HandedOver(_)) {
                sink.piece(Piece::Restart)?;
            }
            (attempt, expected, read_at) = (attempt + 1, after, (self.clock)());
        };
        let (xattrs, xattr_error) = match metadata::xattrs_of_handle(&file) {
            Ok(xattrs) => (xattrs, None),
            Err(error) => (None, Some(error)),
        };
        let mut node = after.node(&job.name, &self.owners);
        node.size = body.len();
        node.xattrs = xattrs;
        node.hard_link = job.hard_link;
        match body {
            Body::Held(bytes) if bytes.len() <= Content::INLINE_MAX => node.content = Some(Content::Inline(bytes)),
            Body::Held(bytes) => {
                let id = self.ids.data_id(&bytes);
                self.announcer.announce(&[id]);
                sink.reserve(bytes.len())?;
                sink.piece(Piece::Chunk { id, bytes, is_small: true })?;
            }
            Body::HandedOver(_) => {}
        }
        progress::add(&self.progress.files_read, 1);
        let end = FileEnd { node, stat: after, read_at, is_changing, xattr_error };
        Ok(sink.piece(Piece::End(Box::new(end)))?)
    }

    /// Reads what should have `size` bytes, and no more than that.
    fn read_small(&self, file: &OwnedFd, size: u64) -> Result<Body, Stop> {
        // One byte more than expected shows the end without another call.
        let mut bytes = vec![0; size as usize + 1];
        let mut len = 0;
        while len < bytes.len() {
            match rustix::io::pread(file, &mut bytes[len..], len as u64) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if len == size as usize {
                break;
            }
        }
        progress::add(&self.progress.bytes_read, len as u64);
        // What grew meanwhile is kept up to the length that it had.
        bytes.truncate(len.min(size as usize));
        Ok(Body::Held(bytes))
    }

    /// Reads a file of `size` bytes stretch by stretch, holes apart.
    fn read_large(&self, file: &OwnedFd, size: u64, sink: &mut dyn Sink) -> Result<Body, Stop> {
        let _ = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
        let mut at = 0;
        while at < size {
            let (start, end) = next_data(file, at, size)?;
            if start > at {
                sink.piece(Piece::Hole(start - at))?;
            }
            at = start;
            if start < end {
                at = self.read_stretch(file, start, end, sink)?;
                if at < end {
                    break; // The file has become shorter.
                }
            }
        }
        Ok(Body::HandedOver(at))
    }

    /// Reads data from `start` to `end` in chunks; returns how far it came.
    fn read_stretch(&self, file: &OwnedFd, start: u64, end: u64, sink: &mut dyn Sink) -> Result<u64, Stop> {
        let mut buffer = vec![0; self.chunk_max * BUFFER_CHUNKS];
        let mut held = 0;
        let mut at = start;
        let mut is_last = false;
        while !is_last || held > 0 {
            while held < buffer.len() && !is_last {
                let want = (end - at).min((buffer.len() - held) as u64) as usize;
                match rustix::io::pread(file, &mut buffer[held..held + want], at) {
                    Ok(0) => is_last = true,
                    Ok(n) => (held, at) = (held + n, at + n as u64),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                is_last |= at == end;
            }
            if self.progress.is_stopped() {
                return Err(Stop::Closed);
            }
            let mut chunks = Vec::new();
            let mut cut = 0;
            while cut < held {
                let rest = &buffer[cut..held];
                let Some(len) = self.chunker.cut(rest, is_last) else { break };
                chunks.push((self.ids.data_id(&rest[..len]), rest[..len].to_vec()));
                cut += len;
            }
            buffer.copy_within(cut..held, 0);
            held -= cut;
            self.announcer.announce(&chunks.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            for (id, bytes) in chunks {
                progress::add(&self.progress.bytes_read, bytes.len() as u64);
                sink.reserve(bytes.len())?;
                sink.piece(Piece::Chunk { id, bytes, is_small: false })?;
            }
        }
        Ok(at)
    }
}

/// The next stretch of data at or after `at`, within `size`; an empty one at `size` if only a hole follows. Holes shorter
/// than [`HOLE_MIN`] count as data.
fn next_data(file: &OwnedFd, at: u64, size: u64) -> io::Result<(u64, u64)> {
    let seek = |from: SeekFrom, otherwise: u64| match rustix::fs::seek(file, from) {
        Ok(found) => Ok(found.min(size)),
        Err(Errno::NXIO) => Ok(size),
        // A file system that knows no holes has none.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(otherwise),
        Err(error) => Err(io::Error::from(error)),
    };
    let mut data = seek(SeekFrom::Data(at), at)?;
    let start = if data - at < HOLE_MIN { at } else { data };
    while data < size {
        // A file that is changed meanwhile may say anything, but the search goes on towards the end.
        let end = seek(SeekFrom::Hole(data), size)?.max(data + 1);
        data = if end < size { seek(SeekFrom::Data(end), end)? } else { size };
        if data.saturating_sub(end) >= HOLE_MIN {
            return Ok((start, end));
        }
    }
    Ok((start, size))
}

/// What one reading of a file came to.
enum Body {
    /// All of a small file.
    Held(Vec<u8>),
    /// So many bytes were handed over in pieces.
    HandedOver(u64),
}

impl Body {
    fn len(&self) -> u64 {
        match self {
            Body::Held(bytes) => bytes.len() as u64,
            Body::HandedOver(len) => *len,
        }
    }
}

fn open(dir: &Dir, name: &[u8]) -> io::Result<OwnedFd> {
    let name = metadata::c_name(name)?;
    // A pipe that has taken the file's place must not make us wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::openat(dir.as_fd(), &name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(rustix::fs::openat(dir.as_fd(), &name, flags, Mode::empty())?),
        other => Ok(other?),
    }
}
