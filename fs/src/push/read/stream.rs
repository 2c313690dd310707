//! Reading a stream: to its end, whatever its length, through a bounded buffer.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use super::{Body, FileReader, ReadError, SMALL_MAX};
use crate::{
    filesystem::FilesystemId,
    push::{
        budget::Closed,
        piece::{FileEnd, Piece, PieceSink, StreamJob},
        progress,
    },
};

impl FileReader {
    /// Reads a stream into a sink, until `is_unwanted`. An error of the stream is a piece, too.
    pub fn read_stream(
        &self,
        job: &StreamJob,
        is_unwanted: &AtomicBool,
        sink: &mut dyn PieceSink,
    ) -> Result<(), Closed> {
        self.sent(self.try_read_stream(job, is_unwanted, sink), sink)
    }

    fn try_read_stream(
        &self,
        job: &StreamJob,
        is_unwanted: &AtomicBool,
        sink: &mut dyn PieceSink,
    ) -> Result<(), ReadError> {
        let read_at = (self.clock)();
        let is_over = || is_unwanted.load(Relaxed) || self.progress.is_stopped();
        let mut stream = job.file.open()?;
        let next = |buffer: &mut [u8]| {
            let len = patiently(&is_over, || stream.read(buffer))?;
            progress::add(&self.progress.bytes, len as u64);
            Ok(len)
        };
        let body = self.read_to_end(next, sink)?;
        patiently(&is_over, || stream.finish())?;
        let mut node = job.stat.node(&job.name, &self.owners);
        node.size = body.len();
        node.content = self.place(body, sink)?;
        progress::add(&self.progress.files_read, 1);
        let filesystem = FilesystemId::default();
        let end = FileEnd {
            node,
            stat: job.stat,
            filesystem,
            read_at,
            is_changing: false,
            xattr_error: None,
            is_distrusted: true,
        };
        Ok(sink.piece(Piece::End(Box::new(end)))?)
    }

    /// Reads what `next` reads, until it reads nothing. It reads as much as fits, or less.
    fn read_to_end(
        &self,
        mut next: impl FnMut(&mut [u8]) -> io::Result<usize>,
        sink: &mut dyn PieceSink,
    ) -> Result<Body, ReadError> {
        let mut start = vec![0; SMALL_MAX as usize + 1];
        let mut len = 0;
        while len < start.len() {
            match next(&mut start[len..])? {
                0 => {
                    start.truncate(len);
                    progress::add(&self.progress.bytes_read, len as u64);
                    return Ok(Body::Held(start));
                }
                read => len += read,
            }
        }
        let mut rest = start.as_slice();
        let next = |buffer: &mut [u8]| {
            if rest.is_empty() {
                return next(buffer);
            }
            let (now, later) = rest.split_at(rest.len().min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            rest = later;
            Ok(now.len())
        };
        Ok(Body::InSink(self.read_chunks(next, sink)?))
    }
}

/// Repeats a call of a stream while nothing happens, until the push is over.
fn patiently<T>(is_over: &dyn Fn() -> bool, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            other => return other,
        }
        if is_over() {
            return Err(io::Error::other("the push was stopped"));
        }
    }
}
