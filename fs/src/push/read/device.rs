//! Reading a block device as a file. A device does not say where nothing was written, so runs of zeros become holes.
//!
//! Nothing tells whether the device changes meanwhile, or has changed since the last push: each push reads all of it.

use std::{io, os::fd::OwnedFd};

use bkfs_store::format::tree::NodeKind;
use rustix::{fs::Advice, io::Errno};

use super::{FileReader, HOLE_MIN, ReadError};
use crate::{
    metadata::{self, Stat},
    push::{
        piece::{FileEnd, Piece, PieceSink, ReadJob},
        progress,
    },
    walk,
};

/// Bytes that are compared with zeros at a time, at offsets that are multiples of this. A shorter hole is not worth its
/// extent.
const BLOCK: usize = HOLE_MIN as usize;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

impl FileReader {
    pub(super) fn try_read_device(&self, job: &ReadJob, sink: &mut dyn PieceSink) -> Result<(), ReadError> {
        let read_at = (self.clock)();
        let device = walk::open_device(&job.dir, &metadata::c_name(&job.name)?)?;
        let stat = Stat::of_handle(&device)?;
        if stat.kind != NodeKind::BlockDevice {
            return Err(ReadError::Failed(io::Error::other("it is not a block device any more")));
        }
        let size = walk::device_size(&device)?;
        let _ = rustix::fs::fadvise(&device, 0, None, Advice::Sequential);
        let len = self.read_blocks(Blocks::new(&device, size), sink)?;
        let mut node = walk::file_stat(&stat, len).node(&job.name, &self.owners);
        node.content = None;
        progress::add(&self.progress.files_read, 1);
        let end = FileEnd {
            node,
            stat: job.stat,
            filesystem: job.filesystem.id,
            read_at,
            is_changing: len != size,
            xattr_error: None,
            is_distrusted: true,
        };
        Ok(sink.piece(Piece::End(Box::new(end)))?)
    }

    /// Sends stretches of data, and the holes between them. Returns the length of all.
    fn read_blocks(&self, mut blocks: Blocks<'_>, sink: &mut dyn PieceSink) -> Result<u64, ReadError> {
        let (mut hole, mut len) = (0, 0);
        while let Some(is_zero) = blocks.next_is_zero()? {
            if self.progress.is_stopped() {
                return Err(ReadError::Closed);
            }
            if is_zero {
                let zeros = blocks.pass();
                progress::add(&self.progress.bytes_read, zeros);
                (hole, len) = (hole + zeros, len + zeros);
                continue;
            }
            if hole > 0 {
                sink.piece(Piece::Hole(std::mem::take(&mut hole)))?;
            }
            len += self.read_chunks(|buffer| blocks.read_data(buffer), sink)?;
        }
        if hole > 0 {
            sink.piece(Piece::Hole(hole))?;
        }
        Ok(len)
    }
}

/// A device, block by block.
struct Blocks<'a> {
    device: &'a OwnedFd,
    size: u64,
    /// Where the next block begins.
    at: u64,
    block: Vec<u8>,
    /// What of the block was passed.
    passed: usize,
    is_zero: bool,
}

impl<'a> Blocks<'a> {
    fn new(device: &'a OwnedFd, size: u64) -> Self {
        Self { device, size, at: 0, block: Vec::with_capacity(BLOCK), passed: 0, is_zero: false }
    }

    /// Reads the next block if the last one was passed. Returns whether it is all zeros; none at the end.
    fn next_is_zero(&mut self) -> io::Result<Option<bool>> {
        if self.passed < self.block.len() {
            return Ok(Some(self.is_zero));
        }
        let want = (self.size - self.at).min(BLOCK as u64) as usize;
        self.block.resize(want, 0);
        let mut len = 0;
        while len < want {
            match rustix::io::pread(self.device, &mut self.block[len..], self.at + len as u64) {
                // It has become shorter.
                Ok(0) => break,
                Ok(read) => len += read,
                Err(Errno::INTR) => {}
                Err(error) => {
                    let error = io::Error::from(error);
                    let place = self.at + len as u64;
                    return Err(io::Error::new(error.kind(), format!("cannot read at byte {place}: {error}")));
                }
            }
        }
        self.block.truncate(len);
        (self.passed, self.at) = (0, self.at + len as u64);
        if len < want {
            self.size = self.at;
        }
        self.is_zero = self.block == ZEROS[..len];
        Ok((len > 0).then_some(self.is_zero))
    }

    /// Passes what is left of the block, and returns its length.
    fn pass(&mut self) -> u64 {
        (self.block.len() - std::mem::replace(&mut self.passed, self.block.len())) as u64
    }

    /// Reads data up to the next block of zeros, or up to the end.
    fn read_data(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.next_is_zero()? != Some(false) {
            return Ok(0);
        }
        let rest = &self.block[self.passed..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.passed += len;
        Ok(len)
    }
}
