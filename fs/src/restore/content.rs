//! Contents of files.
//!
//! Small files are taken in batches, one request to the store for all of a batch. A large file is cut into steps of one
//! request each, which several threads take in turn; who lets go of it last finishes it. Holes are never written. Every
//! chunk was checked against its id by the reader; its length is checked here.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bkfs_store::{
    Error,
    id::ChunkId,
    tree::{Content, Extent, Node},
};
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::{
    fs::{AtFlags, Mode, OFlags, SeekFrom},
    io::Errno,
};

use super::{
    Reason,
    ahead::Filled,
    attributes::Handle,
    entry::Made,
    folder::Folder,
    handle::open_beneath,
    link::identity,
    run::{Engine, Task},
    temp::Temp,
};

/// A file whose contents are to be written or compared.
pub(super) struct FilePlan {
    node: Node,
    lead: bool,
    action: Action,
}

enum Action {
    Write { replace: bool },
    Compare,
}

impl FilePlan {
    /// Write it; with `replace`, in place of what is there.
    pub(super) fn write(node: Node, lead: bool, replace: bool) -> Self {
        Self { node, lead, action: Action::Write { replace } }
    }

    /// Compare it with what is there.
    pub(super) fn compare(node: Node, lead: bool) -> Self {
        Self { node, lead, action: Action::Compare }
    }

    /// The chunks it needs if it can be done in one request of at most `window` bytes.
    pub(super) fn small(&self, window: u64) -> Option<(Vec<ChunkId>, u64)> {
        match &self.node.content {
            Some(Content::Inline(_)) => Some((Vec::new(), 0)),
            Some(Content::Extents(extents)) => {
                let data = || extents.iter().filter_map(data_of);
                let bytes = data().map(|(_, len)| u64::from(len)).sum();
                (bytes <= window).then(|| (data().map(|(id, _)| id).collect(), bytes))
            }
            _ => None,
        }
    }
}

fn data_of(extent: &Extent) -> Option<(ChunkId, u32)> {
    match extent {
        Extent::Data { id, len } => Some((*id, *len)),
        Extent::Hole { .. } => None,
    }
}

/// A large file on its way.
pub(super) struct FileJob {
    folder: Arc<Folder>,
    node: Node,
    lead: bool,
    place: Place,
    /// Where the next step begins.
    cursor: Mutex<u64>,
    counted: AtomicU64,
    failed: Mutex<Option<Failure>>,
}

enum Place {
    Write { file: File, temp: Temp, replace: bool },
    Compare { file: File },
}

/// What one thread does of a large file at once.
struct Step {
    extents: Vec<(u64, Extent)>,
    /// The file does not end with it.
    more: bool,
}

enum Failure {
    Reason(Reason),
    Differs,
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Failure::Reason(reason)
    }
}

impl Engine<'_> {
    /// Does files of one folder: the small ones now, in batches, the large ones by tasks of their own.
    pub(super) fn files(&self, folder: &Arc<Folder>, plans: Vec<FilePlan>) {
        let mut batch = Vec::new();
        let (mut ids, mut bytes) = (Vec::new(), 0);
        let mut large = Vec::new();
        for plan in plans {
            let Some((needs, size)) = plan.small(self.window) else {
                large.push(plan);
                continue;
            };
            if bytes + size > self.window && !batch.is_empty() {
                self.batch(folder, std::mem::take(&mut batch), std::mem::take(&mut ids));
                bytes = 0;
            }
            bytes += size;
            batch.push((plan, needs.len()));
            ids.extend(needs);
        }
        // Opened only when their turn comes: there may be more of them than files may be open.
        let task = |plan| Task::Start { folder: folder.clone(), plan: Box::new(plan) };
        self.queue.push_all(large.into_iter().map(task));
        self.batch(folder, batch, ids);
    }

    fn batch(&self, folder: &Arc<Folder>, batch: Vec<(FilePlan, usize)>, ids: Vec<ChunkId>) {
        let mut whole = if ids.is_empty() { Some(Vec::new()) } else { self.source.data(&ids).ok() };
        let mut taken = 0;
        for (plan, count) in batch {
            if self.stopped() {
                return;
            }
            let range = taken..taken + count;
            taken += count;
            let chunks = match &mut whole {
                Some(chunks) => chunks.get(range).map(<[Bytes]>::to_vec).ok_or_else(|| short(&plan.node)),
                // One of the chunks cannot be had: find out whose it is.
                None if count == 0 => Ok(Vec::new()),
                None => self.source.data(ids.get(range).unwrap_or_default()),
            };
            let result = match chunks {
                Ok(chunks) => self.small(folder, &plan, &chunks),
                Err(error) => Err(error.into()),
            };
            self.settle(folder, &plan.node, plan.lead, 0, result);
        }
    }

    /// Writes small files whose contents have come.
    pub(super) fn filled(&self, files: Vec<Filled>) {
        for mut file in files {
            if self.stopped() {
                return;
            }
            let chunks = match file.chunks.take() {
                Some(chunks) => Ok(chunks),
                None => self.source.data(&file.ids),
            };
            let result = match chunks {
                Ok(chunks) => self.small(&file.folder, &file.plan, &chunks),
                Err(error) => Err(error.into()),
            };
            self.settle(&file.folder, &file.plan.node, file.plan.lead, 0, result);
            self.release(file.into_folder());
        }
    }

    fn small(&self, folder: &Folder, plan: &FilePlan, chunks: &[Bytes]) -> Result<Made, Reason> {
        let node = &plan.node;
        let parts = parts(node, chunks)?;
        match &plan.action {
            Action::Write { replace } => self.small_write(folder, node, &parts, *replace),
            Action::Compare => {
                let file = self.open_there(folder, node)?;
                if same(&file, &parts).map_err(reading)? {
                    self.kept(folder, node, &file)
                } else if self.options.overwrite {
                    self.small_write(folder, node, &parts, true)
                } else {
                    Err(Reason::Differs)
                }
            }
        }
    }

    fn small_write(&self, folder: &Folder, node: &Node, parts: &[Part<'_>], replace: bool) -> Result<Made, Reason> {
        let (file, temp) = self.create(folder)?;
        let holes = parts.iter().any(|part| matches!(part, Part::Hole { .. }));
        if holes {
            file.set_len(node.size).map_err(writing)?;
        }
        let written = write(&file, parts).map_err(writing)?;
        self.counts.bytes.fetch_add(written, Ordering::Relaxed);
        if self.options.verify && !same(&file, parts).map_err(reading)? {
            return Err(Reason::Verify);
        }
        self.complete(folder, node, file, temp, replace)
    }

    /// Makes a temporary file in a folder.
    fn create(&self, folder: &Folder) -> Result<(File, Temp), Reason> {
        let what = |error| Reason::System { what: "make the file", error };
        let fd = self.handles.get(&folder.dir).map_err(what)?;
        let name = self.temps.name();
        let flags = OFlags::CREATE | OFlags::EXCL | if self.options.verify { OFlags::RDWR } else { OFlags::WRONLY };
        let file = open_beneath(&fd, &name, flags, Mode::RUSR | Mode::WUSR).map_err(what)?;
        Ok((file.into(), Temp::new(fd, name)))
    }

    /// Gives a written file its attributes and its name.
    fn complete(&self, folder: &Folder, node: &Node, file: File, temp: Temp, replace: bool) -> Result<Made, Reason> {
        let handle = Handle::Open(file.as_fd());
        let stat = handle.stat().map_err(writing)?;
        self.attributes(&folder.dir, &node.name, handle, node, folder.inherits);
        temp.place(&node.name, replace).map_err(Reason::placing)?;
        Ok(Made::new(identity(&stat)))
    }

    /// Leaves a file that was compared.
    fn kept(&self, folder: &Folder, node: &Node, file: &File) -> Result<Made, Reason> {
        let stat = rustix::fs::fstat(file).map_err(|error| reading(error.into()))?;
        let fd = self.handles.get(&folder.dir).map_err(|error| Reason::System { what: "open the folder", error })?;
        self.keep(folder, &fd, node, &stat)
    }

    /// Opens the file that is there.
    fn open_there(&self, folder: &Folder, node: &Node) -> Result<File, Reason> {
        let what = |error| Reason::System { what: "open the file that is there", error };
        let fd = self.handles.get(&folder.dir).map_err(what)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        Ok(open_beneath(&fd, &node.name, flags, Mode::empty()).map_err(what)?.into())
    }

    /// Begins a large file, and takes its first step.
    pub(super) fn start_file(&self, folder: &Arc<Folder>, plan: FilePlan) {
        let FilePlan { node, lead, action } = plan;
        let place = match action {
            Action::Compare => self.open_there(folder, &node).map(|file| Place::Compare { file }),
            Action::Write { replace } => self.create(folder).and_then(|(file, temp)| {
                file.set_len(node.size).map_err(writing)?;
                Ok(Place::Write { file, temp, replace })
            }),
        };
        match place {
            Err(reason) => self.settle(folder, &node, lead, 0, Err(reason)),
            Ok(place) => self.file_step(Arc::new(FileJob {
                folder: folder.clone(),
                node,
                lead,
                place,
                cursor: Mutex::new(0),
                counted: AtomicU64::new(0),
                failed: Mutex::new(None),
            })),
        }
    }

    /// Takes the next step of a large file.
    pub(super) fn file_step(&self, job: Arc<FileJob>) {
        match self.take_extents(&job) {
            Ok(None) => {}
            Ok(Some(Step { extents, more })) => {
                if more {
                    self.queue.push(Task::File(job.clone()));
                }
                if let Err(failure) = self.do_extents(&job, &extents) {
                    job.failed.lock().get_or_insert(failure);
                }
            }
            Err(reason) => {
                job.failed.lock().get_or_insert(reason.into());
            }
        }
        if let Some(job) = Arc::into_inner(job) {
            self.finish_file(job);
        }
    }

    /// The next step, if there is one.
    fn take_extents(&self, job: &FileJob) -> Result<Option<Step>, Reason> {
        let mut cursor = job.cursor.lock();
        let from = *cursor;
        if from >= job.node.size || job.failed.lock().is_some() || self.stopped() {
            return Ok(None);
        }
        let extents = self.source.extents(&job.node, from, self.window.min(job.node.size - from))?;
        // They must follow each other without gap or overlap, and end within the file.
        let mut end = from;
        for (offset, extent) in &extents {
            if *offset != end || extent.is_empty() {
                return Err(short(&job.node).into());
            }
            end = end.checked_add(extent.len()).ok_or_else(|| short(&job.node))?;
        }
        if end == from || end > job.node.size {
            return Err(short(&job.node).into());
        }
        *cursor = end;
        Ok(Some(Step { extents, more: end < job.node.size }))
    }

    fn do_extents(&self, job: &FileJob, extents: &[(u64, Extent)]) -> Result<(), Failure> {
        // The last extent may reach past the window, by less than a chunk.
        let ids: Vec<ChunkId> = extents.iter().filter_map(|(_, e)| data_of(e)).map(|(id, _)| id).collect();
        let chunks = if ids.is_empty() { Vec::new() } else { self.source.data(&ids).map_err(Reason::from)? };
        let mut chunks = chunks.iter();
        let mut parts = Vec::with_capacity(extents.len());
        for (offset, extent) in extents {
            parts.push(part(&job.node, *offset, extent, &mut chunks)?);
        }
        match &job.place {
            Place::Write { file, .. } => {
                let written = write(file, &parts).map_err(writing)?;
                self.counts.bytes.fetch_add(written, Ordering::Relaxed);
                if self.options.verify && !same(file, &parts).map_err(reading)? {
                    return Err(Reason::Verify.into());
                }
            }
            Place::Compare { file } => {
                if !same(file, &parts).map_err(reading)? {
                    return Err(Failure::Differs);
                }
            }
        }
        let done = extents.iter().map(|(_, extent)| extent.len()).fold(0, u64::saturating_add);
        job.counted.fetch_add(done, Ordering::Relaxed);
        self.progress.bytes_done.fetch_add(done, Ordering::Relaxed);
        Ok(())
    }

    fn finish_file(&self, job: FileJob) {
        let FileJob { folder, node, lead, place, counted, failed, .. } = job;
        let counted = counted.into_inner();
        let result = match (failed.into_inner(), place) {
            // Dropping the place removes the temporary file.
            _ if self.stopped() => {
                return self.release(folder);
            }
            (None, Place::Write { file, temp, replace }) => self.complete(&folder, &node, file, temp, replace),
            (None, Place::Compare { file }) => self.kept(&folder, &node, &file),
            (Some(Failure::Reason(reason)), _) => Err(reason),
            (Some(Failure::Differs), _) if self.options.overwrite => {
                self.progress.bytes_done.fetch_sub(counted, Ordering::Relaxed);
                let plan = Box::new(FilePlan::write(node, lead, true));
                return self.queue.push(Task::Start { folder, plan });
            }
            (Some(Failure::Differs), _) => Err(Reason::Differs),
        };
        self.settle(&folder, &node, lead, counted, result);
        self.release(folder);
    }
}

impl FileJob {
    /// Takes apart a job that will not go on.
    pub(super) fn abandon(job: Arc<FileJob>) -> Option<Arc<Folder>> {
        Arc::into_inner(job).map(|job| job.folder)
    }
}

/// A stretch of a file with its bytes.
enum Part<'a> {
    Data { offset: u64, bytes: &'a [u8] },
    Hole { offset: u64, len: u64 },
}

fn parts<'a>(node: &'a Node, chunks: &'a [Bytes]) -> Result<Vec<Part<'a>>, Reason> {
    match &node.content {
        Some(Content::Inline(bytes)) => Ok(vec![Part::Data { offset: 0, bytes }]),
        Some(Content::Extents(extents)) => {
            let mut chunks = chunks.iter();
            let mut offset = 0u64;
            let mut parts = Vec::with_capacity(extents.len());
            for extent in extents {
                parts.push(part(node, offset, extent, &mut chunks)?);
                offset = offset.checked_add(extent.len()).ok_or_else(|| short(node))?;
            }
            if offset == node.size { Ok(parts) } else { Err(short(node).into()) }
        }
        _ => Err(short(node).into()),
    }
}

fn part<'a>(
    node: &Node,
    offset: u64,
    extent: &Extent,
    chunks: &mut std::slice::Iter<'a, Bytes>,
) -> Result<Part<'a>, Reason> {
    match extent {
        Extent::Hole { len } => Ok(Part::Hole { offset, len: *len }),
        Extent::Data { len, .. } => match chunks.next() {
            Some(bytes) if bytes.len() as u64 == u64::from(*len) => Ok(Part::Data { offset, bytes }),
            _ => Err(short(node).into()),
        },
    }
}

fn short(node: &Node) -> Error {
    Error::damaged(format!("file {}", String::from_utf8_lossy(&node.name)), "its contents have not the stated length")
}

fn writing(error: io::Error) -> Reason {
    Reason::System { what: "write the file", error }
}

fn reading(error: io::Error) -> Reason {
    Reason::System { what: "read the file", error }
}

fn write(file: &File, parts: &[Part<'_>]) -> io::Result<u64> {
    let mut written = 0;
    for part in parts {
        if let Part::Data { offset, bytes } = part {
            file.write_all_at(bytes, *offset)?;
            written += bytes.len() as u64;
        }
    }
    Ok(written)
}

/// Whether the file has these bytes there.
fn same(file: &File, parts: &[Part<'_>]) -> io::Result<bool> {
    let mut buffer = vec![0; 128 * 1024];
    for part in parts {
        let equal = match part {
            Part::Data { offset, bytes } => same_data(file, *offset, bytes, &mut buffer)?,
            Part::Hole { offset, len } => same_hole(file, *offset, *len, &mut buffer)?,
        };
        if !equal {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_data(file: &File, offset: u64, bytes: &[u8], buffer: &mut [u8]) -> io::Result<bool> {
    let mut at = offset;
    for piece in bytes.chunks(buffer.len()) {
        let Some(read) = buffer.get_mut(..piece.len()) else { return Ok(false) };
        match file.read_exact_at(read, at) {
            Ok(()) if read == piece => at += piece.len() as u64,
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Zeros count as a hole; holes of the file are skipped.
fn same_hole(file: &File, offset: u64, len: u64, buffer: &mut [u8]) -> io::Result<bool> {
    let end = offset.saturating_add(len);
    let mut at = offset;
    while at < end {
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => at = data,
            Err(Errno::NXIO) => return Ok(true),
            // A file system that knows no holes.
            Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        let want = end.saturating_sub(at).min(buffer.len() as u64) as usize;
        let Some(piece) = buffer.get_mut(..want).filter(|piece| !piece.is_empty()) else { break };
        let read = file.read_at(piece, at)?;
        if read == 0 || piece.iter().take(read).any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}

/// Creates an empty file exclusively: the mark of a restore in progress. False if it is there.
pub(super) fn create_mark(fd: impl AsFd, name: &[u8]) -> io::Result<bool> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    match open_beneath(&fd, name, flags, Mode::RUSR | Mode::WUSR) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
