//! Putting files together: the pieces of a file become its node, and its new chunks go to the chunk writer.
//!
//! Files come in the order of the push. Most are read ahead by the reading threads. Further names of a file reuse
//! what was read under its first name, if the file was then as it was when the further name was listed.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{self, Builder},
};

use bkfs_store::{
    Error, Result,
    base::id::HardLinkGroup,
    format::{
        content::ContentBuilder,
        tree::{Content, Extent},
    },
};

use super::{
    alarm::Look,
    budget::{Budget, Closed},
    chunk_writer::ChunkWriter,
    context::PushContext,
    dedup::Dedup,
    pending_file::{PendingFile, PieceQueue},
    piece::{FileEnd, Piece, PieceSink, ReadJob, StreamJob},
    problems::ProblemList,
    progress::PushProgress,
    read::FileReader,
};
use crate::walk::{self, Problems};

/// Puts files together.
pub struct FileAssembler<'a> {
    budget: &'a Budget,
    reader: &'a FileReader,
    dedup: &'a Dedup,
    problems: &'a ProblemList,
    progress: &'a PushProgress,
    base: &'a Path,
    links: HashMap<HardLinkGroup, LinkedFile>,
    look: Option<Look>,
}

/// A file with several names, once it is read.
struct LinkedFile {
    end: FileEnd,
    names_left: u32,
}

/// A file that is being put together.
struct FileState {
    content: ContentBuilder,
    has_extents: bool,
    end: Option<FileEnd>,
    is_over: bool,
    look: Option<Look>,
}

impl FileState {
    fn new(content: ContentBuilder) -> Self {
        Self { content, has_extents: false, end: None, is_over: false, look: None }
    }
}

impl<'a> FileAssembler<'a> {
    /// An assembler for files below `base`. Their pieces were read by `reader` within `budget`.
    pub fn new(
        context: &'a PushContext<'_>,
        base: &'a Path,
        budget: &'a Budget,
        reader: &'a FileReader,
        dedup: &'a Dedup,
    ) -> Self {
        let (problems, progress) = (&context.problems, &context.progress);
        Self { budget, reader, dedup, problems, progress, base, links: HashMap::new(), look: None }
    }

    /// Takes a file from the thread that reads it; none if it could not be read.
    pub fn file(&mut self, file: &PendingFile, writer: &mut ChunkWriter<'_>) -> Result<Option<FileEnd>> {
        let job = &file.job;
        let state = self.take(job.number, &self.path(job), &file.pieces, writer)?;
        self.finish(job.stat.links, state, writer)
    }

    /// Reads a stream with a thread of its own, and takes it from there; none if it failed.
    pub fn stream(&mut self, job: &StreamJob, writer: &mut ChunkWriter<'_>) -> Result<Option<FileEnd>> {
        let (pieces, is_unwanted) = (PieceQueue::default(), AtomicBool::new(false));
        let (reader, budget) = (self.reader, self.budget);
        let path = walk::join(self.base, &job.dir.entry(&job.name));
        let state = thread::scope(|scope| {
            let read = || pieces.fill(job.number, budget, |sink| reader.read_stream(job, &is_unwanted, sink));
            Builder::new()
                .name("read-stream".to_owned())
                .spawn_scoped(scope, read)
                .map_err(|error| Error::io("cannot start a thread", error))?;
            let state = self.take(job.number, &path, &pieces, writer);
            if state.is_err() {
                // The push has failed. The thread must not wait for room, nor for the stream.
                is_unwanted.store(true, Relaxed);
                budget.close();
            }
            state
        })?;
        self.finish(job.stat.links, state, writer)
    }

    /// Takes the pieces of a file that a thread reads.
    fn take(&self, number: u64, path: &Path, pieces: &PieceQueue, writer: &mut ChunkWriter<'_>) -> Result<FileState> {
        self.budget.set_head(number);
        *self.progress.current.lock() = path.to_owned();
        let mut state = FileState::new(writer.content());
        while !state.is_over {
            let piece = pieces.next(|| writer.has_failed()).map_err(|_| Error::Interrupted)?;
            let held = match &piece {
                Piece::Chunk { bytes, .. } => bytes.len(),
                _ => 0,
            };
            let added = self.add_piece(path, &mut state, piece, writer);
            if held > 0 {
                self.budget.give(number, held);
            }
            added?;
        }
        Ok(state)
    }

    /// Takes another name of a file. Reads the file here if it could not be read under its first name, or was not the
    /// same then.
    pub fn link(&mut self, file: &PendingFile, writer: &mut ChunkWriter<'_>) -> Result<Option<FileEnd>> {
        let job = &file.job;
        let Some(group) = job.hard_link else { return self.read_here(job, writer) };
        let Some(mut linked) = self.links.remove(&group) else { return self.read_here(job, writer) };
        let end = if linked.end.stat.is_same(&job.stat) {
            let mut end = linked.end.for_other_name();
            end.node.name = job.name.to_vec();
            Some(end)
        } else {
            // The file changed between the two names. If they do not hold the same, a restore must not link them.
            let mut end = self.read_here(job, writer)?;
            if let Some(end) = end.as_mut().filter(|end| !end.is_same_file(&linked.end)) {
                (end.node.hard_link, end.is_distrusted) = (None, true);
            }
            end
        };
        linked.names_left = linked.names_left.saturating_sub(1);
        match linked.names_left {
            0 => self.links.remove(&group),
            _ => self.links.insert(group, linked),
        };
        Ok(end)
    }

    /// What the bytes of the last file look like that was put together from its pieces.
    pub fn take_look(&mut self) -> Option<Look> {
        self.look.take()
    }

    /// Reads a file on this thread.
    fn read_here(&mut self, job: &ReadJob, writer: &mut ChunkWriter<'_>) -> Result<Option<FileEnd>> {
        let reader = self.reader;
        let state = FileState::new(writer.content());
        let path = self.path(job);
        let mut direct = DirectSink { files: self, writer, path, state, failed: None };
        let _ = reader.read(job, &mut direct);
        let DirectSink { state, failed, .. } = direct;
        match failed {
            Some(error) => Err(error),
            None => self.finish(job.stat.links, state, writer),
        }
    }

    fn add_piece(&self, path: &Path, state: &mut FileState, piece: Piece, writer: &mut ChunkWriter<'_>) -> Result<()> {
        match piece {
            Piece::Chunk { id, bytes, is_small } => {
                // A chunk has at most a few megabytes.
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                writer.add_extent(&mut state.content, Extent::Data { id, len })?;
                if !state.has_extents {
                    state.look = Look::of(&bytes);
                }
                state.has_extents = true;
                if self.dedup.is_new(&id)? {
                    writer.add_data(id, &bytes, is_small)?;
                }
            }
            Piece::Hole(len) => {
                state.has_extents = true;
                writer.add_extent(&mut state.content, Extent::Hole { len })?;
            }
            Piece::Restart => *state = FileState::new(writer.content()),
            Piece::End(end) => (state.end, state.is_over) = (Some(*end), true),
            Piece::Failed(error) => {
                if self.progress.is_stopped() {
                    return Err(Error::Interrupted);
                }
                state.is_over = true;
                self.problems.problem(path.to_owned(), error);
            }
        }
        Ok(())
    }

    /// Completes the node of a file; none if it could not be read.
    fn finish(&mut self, links: u32, state: FileState, writer: &mut ChunkWriter<'_>) -> Result<Option<FileEnd>> {
        self.look = state.look;
        let Some(mut end) = state.end else { return Ok(None) };
        if end.node.content.is_none() {
            end.node.content = Some(match state.has_extents {
                true => writer.finish_content(state.content)?,
                false => Content::Inline(Vec::new()),
            });
        }
        if let Some(group) = end.node.hard_link {
            let names_left = links.saturating_sub(1);
            self.links.entry(group).or_insert_with(|| LinkedFile { end: end.for_other_name(), names_left });
        }
        Ok(Some(end))
    }

    fn path(&self, job: &ReadJob) -> PathBuf {
        walk::join(self.base, &job.dir.path.entry(&job.name))
    }
}

/// Takes pieces on the thread that reads them.
struct DirectSink<'x, 'a, 'w> {
    files: &'x FileAssembler<'a>,
    writer: &'x mut ChunkWriter<'w>,
    path: PathBuf,
    state: FileState,
    failed: Option<Error>,
}

impl PieceSink for DirectSink<'_, '_, '_> {
    fn reserve(&mut self, _: usize) -> Result<(), Closed> {
        Ok(())
    }

    fn piece(&mut self, piece: Piece) -> Result<(), Closed> {
        self.files.add_piece(&self.path, &mut self.state, piece, self.writer).map_err(|error| {
            self.failed = Some(error);
            Closed
        })
    }
}
