//! Reading one file: its contents as chunks and holes, and its metadata.
//!
//! What is read goes to a [`PieceSink`] piece by piece, so a file of any size passes through a bounded buffer. A file
//! whose times or length changed while it was read is read again, a few times (a very large one is not). Then it is
//! kept as it was read last, and reported. The file system is asked for holes; zeros are searched for only in block
//! devices, which have no other sign of them.
//!
//! A file whose length means nothing, as in `/proc`, is read to its end, as is one that says that it is empty and is
//! not. What the next push would compare proves nothing about such a file, so the next push reads it again.

mod device;
mod stream;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use bkfs_store::{
    Result,
    format::{
        chunker::Chunker,
        config::ChunkerParams,
        keys::IdKeys,
        tree::{Content, NodeKind},
    },
};
use rustix::{
    fs::{Advice, Mode, OFlags, SeekFrom},
    io::Errno,
};

use super::{
    budget::Closed,
    clock::Clock,
    dedup::Announcer,
    piece::{FileEnd, Piece, PieceSink, ReadJob},
    progress::{self, PushProgress},
    timed_file::TimedFile,
};
use crate::{
    filesystem::Sizes,
    metadata::{self, Stat},
    userdb::OwnerNames,
    walk::SourceDir,
};

/// Files of up to this many bytes are one chunk, which shares a frame with its neighbours.
pub const SMALL_MAX: u64 = 128 * 1024;
/// Shorter holes are kept as zeros: each hole ends a chunk.
const HOLE_MIN: u64 = 64 * 1024;
/// How many times a changing file is read.
const ATTEMPTS: u32 = 3;
/// Files of more bytes are read once: reading a disk image in use again would not help.
const AGAIN_MAX: u64 = 64 << 20;
/// How many chunks of the maximal size the read buffer of a large file holds.
const BUFFER_CHUNKS: usize = 2;

/// Reads files. All reading threads share it.
pub struct FileReader {
    ids: IdKeys,
    chunker: Chunker,
    chunk_max: usize,
    owners: OwnerNames,
    announcer: Announcer,
    progress: Arc<PushProgress>,
    clock: Clock,
}

/// Why reading a file ends early.
enum ReadError {
    Closed,
    Failed(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}
impl From<Errno> for ReadError {
    fn from(error: Errno) -> Self {
        Self::Failed(error.into())
    }
}
impl From<Closed> for ReadError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl FileReader {
    /// A reader that cuts and names chunks as the repository wants them. It announces their ids as soon as it knows
    /// them.
    pub fn new(
        ids: IdKeys,
        chunker: &ChunkerParams,
        announcer: Announcer,
        progress: Arc<PushProgress>,
        clock: Clock,
    ) -> Result<Self> {
        Ok(Self {
            chunker: Chunker::new(chunker, ids.chunker())?,
            chunk_max: chunker.max as usize,
            ids,
            owners: OwnerNames::default(),
            announcer,
            progress,
            clock,
        })
    }

    /// The cached names of users and groups.
    pub fn owners(&self) -> &OwnerNames {
        &self.owners
    }

    /// Reads a file into a sink. An error of the file is a piece, too.
    pub fn read(&self, job: &ReadJob, sink: &mut dyn PieceSink) -> Result<(), Closed> {
        let result = if job.is_device { self.try_read_device(job, sink) } else { self.try_read(job, sink) };
        self.sent(result, sink)
    }

    fn sent(&self, result: Result<(), ReadError>, sink: &mut dyn PieceSink) -> Result<(), Closed> {
        match result {
            Ok(()) => Ok(()),
            Err(ReadError::Closed) => Err(Closed),
            Err(ReadError::Failed(error)) => sink.piece(Piece::Failed(error)),
        }
    }

    fn try_read(&self, job: &ReadJob, sink: &mut dyn PieceSink) -> Result<(), ReadError> {
        let mut read_at = (self.clock)();
        let file = open(&job.dir, &job.name)?;
        let mut expected = job.stat;
        let sizes = job.filesystem.sizes;
        let mut attempt = 1;
        let (after, body, is_changing) = loop {
            let is_unsized = match sizes {
                Sizes::Exact => false,
                Sizes::ZeroMeansUnknown => expected.size == 0,
                Sizes::Meaningless => true,
            };
            let mut body = match expected.size {
                _ if is_unsized => self.read_unsized(&file, sink)?,
                0..=SMALL_MAX => self.read_small(&file, expected.size)?,
                _ => self.read_large(&file, expected.size, sink)?,
            };
            let after = Stat::of_handle(&file)?;
            if after.kind != NodeKind::File {
                return Err(ReadError::Failed(io::Error::other("it is not a file any more")));
            }
            if matches!(body, Body::NotEmpty) && after.size == 0 {
                body = self.read_unsized(&file, sink)?;
            }
            // A file that replaced the listed one will do, if it does not change.
            let is_steady = match sizes {
                Sizes::Meaningless => true,
                _ if after.size == 0 && expected.size == 0 => after.is_same(&expected),
                _ => body.len() == after.size && after.is_same(&expected),
            };
            let attempts = if after.size > AGAIN_MAX { 1 } else { ATTEMPTS };
            if is_steady || attempt >= attempts {
                break (after, body, !is_steady);
            }
            if !matches!(body, Body::Held(_)) {
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
        // If another inode has the name now, nothing is known of that inode's other names.
        let is_replaced = !after.is_same_inode(&job.stat);
        node.hard_link = job.hard_link.filter(|_| !is_replaced);
        node.content = self.place(body, sink)?;
        progress::add(&self.progress.files_read, 1);
        let proves_nothing = match sizes {
            Sizes::Exact => node.size != after.size,
            Sizes::ZeroMeansUnknown => node.size != after.size || after.size == 0,
            Sizes::Meaningless => true,
        };
        let is_distrusted = proves_nothing || is_replaced && after.links > 1;
        let filesystem = job.filesystem.id;
        let end = FileEnd { node, stat: after, filesystem, read_at, is_changing, xattr_error, is_distrusted };
        Ok(sink.piece(Piece::End(Box::new(end)))?)
    }

    /// Returns the contents that the node itself holds. Others go to the sink.
    fn place(&self, body: Body, sink: &mut dyn PieceSink) -> Result<Option<Content>, ReadError> {
        match body {
            Body::Held(bytes) if bytes.len() <= Content::INLINE_MAX => return Ok(Some(Content::Inline(bytes))),
            Body::Held(bytes) => {
                let id = self.ids.data_id(&bytes);
                self.announcer.announce(&[id]);
                sink.reserve(bytes.len())?;
                sink.piece(Piece::Chunk { id, bytes, is_small: true })?;
            }
            Body::NotEmpty | Body::InSink(_) => {}
        }
        Ok(None)
    }

    /// Reads a file that should have `size` bytes, and no more than that.
    fn read_small(&self, file: &OwnedFd, size: u64) -> Result<Body, ReadError> {
        // Asking for one byte more than expected shows the end without another call.
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
        if size == 0 && len > 0 {
            return Ok(Body::NotEmpty);
        }
        // If the file has grown, only its expected length is kept.
        bytes.truncate(len.min(size as usize));
        Ok(Body::Held(bytes))
    }

    /// Reads a file of `size` bytes: its stretches of data, and the holes between them.
    fn read_large(&self, file: &OwnedFd, size: u64, sink: &mut dyn PieceSink) -> Result<Body, ReadError> {
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
        Ok(Body::InSink(at))
    }

    /// Reads a file to its end, however long it says it is.
    fn read_unsized(&self, file: &OwnedFd, sink: &mut dyn PieceSink) -> Result<Body, ReadError> {
        // Not every such file has offsets. One that has may have been read before.
        let _ = rustix::fs::seek(file, SeekFrom::Start(0));
        let mut timed = TimedFile::start(file.try_clone()?)?;
        let mut start = Vec::new();
        while start.len() as u64 <= SMALL_MAX {
            let part = timed.next_part()?;
            if part.is_empty() {
                progress::add(&self.progress.bytes_read, start.len() as u64);
                return Ok(Body::Held(start));
            }
            start.extend(part);
        }
        let mut rest = start.into_iter();
        let next = |buffer: &mut [u8]| {
            if rest.len() == 0 {
                rest = timed.next_part()?.into_iter();
            }
            let len = rest.len().min(buffer.len());
            buffer[..len].iter_mut().zip(rest.by_ref()).for_each(|(to, byte)| *to = byte);
            Ok(len)
        };
        Ok(Body::InSink(self.read_chunks(next, sink)?))
    }

    /// Reads the data from `start` to `end` in chunks. Returns the offset at which the data ended.
    fn read_stretch(&self, file: &OwnedFd, start: u64, end: u64, sink: &mut dyn PieceSink) -> Result<u64, ReadError> {
        let mut at = start;
        let next = |buffer: &mut [u8]| {
            let want = (end - at).min(buffer.len() as u64) as usize;
            let len = if want > 0 { rustix::io::pread(file, &mut buffer[..want], at)? } else { 0 };
            at += len as u64;
            Ok(len)
        };
        Ok(start + self.read_chunks(next, sink)?)
    }

    /// Cuts what `next` reads into chunks, until it reads nothing. Returns how many bytes it read.
    fn read_chunks(
        &self,
        mut next: impl FnMut(&mut [u8]) -> io::Result<usize>,
        sink: &mut dyn PieceSink,
    ) -> Result<u64, ReadError> {
        let mut buffer = vec![0; self.chunk_max * BUFFER_CHUNKS];
        let mut held = 0;
        let mut total = 0;
        let mut is_last = false;
        while !is_last || held > 0 {
            while held < buffer.len() && !is_last {
                match next(&mut buffer[held..]) {
                    Ok(0) => is_last = true,
                    Ok(n) => (held, total) = (held + n, total + n as u64),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if self.progress.is_stopped() {
                return Err(ReadError::Closed);
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
        Ok(total)
    }
}

/// The next stretch of data at or after `at`, within `size`. It is empty and at `size` if only a hole follows. Holes
/// shorter than [`HOLE_MIN`] count as data.
fn next_data(file: &OwnedFd, at: u64, size: u64) -> io::Result<(u64, u64)> {
    let seek = |from: SeekFrom, otherwise: u64| match rustix::fs::seek(file, from) {
        Ok(found) => Ok(found.min(size)),
        Err(Errno::NXIO) => Ok(size),
        // A file system without support for holes has none.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(otherwise),
        Err(error) => Err(io::Error::from(error)),
    };
    let mut data = seek(SeekFrom::Data(at), at)?;
    let start = if data - at < HOLE_MIN { at } else { data };
    while data < size {
        // If the file is changing, the answers may be wrong, but each step must move towards the end.
        let end = seek(SeekFrom::Hole(data), size)?.max(data + 1);
        data = if end < size { seek(SeekFrom::Data(end), end)? } else { size };
        if data.saturating_sub(end) >= HOLE_MIN {
            return Ok((start, end));
        }
    }
    Ok((start, size))
}

/// The result of reading a file once.
enum Body {
    /// The contents of a small file.
    Held(Vec<u8>),
    /// The file says that it is empty, and is not.
    NotEmpty,
    /// How many bytes of a large file went to the sink.
    InSink(u64),
}

impl Body {
    fn len(&self) -> u64 {
        match self {
            Body::Held(bytes) => bytes.len() as u64,
            Body::NotEmpty => 0,
            Body::InSink(len) => *len,
        }
    }
}

/// Opens a file for reading, without following a link.
fn open(dir: &SourceDir, name: &[u8]) -> io::Result<OwnedFd> {
    let name = metadata::c_name(name)?;
    // If a pipe has replaced the file, opening it must not wait for the other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::openat(dir.as_fd(), &name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(rustix::fs::openat(dir.as_fd(), &name, flags, Mode::empty())?),
        other => Ok(other?),
    }
}
