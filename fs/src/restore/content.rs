//! Contents of files: spans of bytes and holes, written to a file or compared with one.
//!
//! Holes are never written. The reader has checked every chunk against its id; its length is checked here.

use std::{fs::File, io, os::unix::fs::FileExt};

use bkfs_store::{
    Error,
    format::tree::{Content, Extent, Node},
};
use bytes::Bytes;
use rustix::{fs::SeekFrom, io::Errno};

use super::report::Reason;

/// How much of a file is read at a time to compare it.
const COMPARED_MAX: usize = 128 * 1024;

/// A span of a file with its bytes.
pub(super) enum Part<'a> {
    Data { offset: u64, bytes: &'a [u8] },
    Hole { offset: u64, len: u64 },
}

/// Returns all of a small file, from its chunks in the order of its extents.
pub(super) fn parts<'a>(node: &'a Node, chunks: &'a [Bytes]) -> Result<Vec<Part<'a>>, Reason> {
    match &node.content {
        Some(Content::Inline(bytes)) => Ok(vec![Part::Data { offset: 0, bytes }]),
        Some(Content::Extents(extents)) => {
            let mut chunks = chunks.iter();
            let mut offset = 0u64;
            let mut parts = Vec::with_capacity(extents.len());
            for extent in extents {
                parts.push(part(node, offset, extent, &mut chunks)?);
                offset = offset.checked_add(extent.len()).ok_or_else(|| wrong_length(node))?;
            }
            if offset == node.size { Ok(parts) } else { Err(wrong_length(node).into()) }
        }
        _ => Err(wrong_length(node).into()),
    }
}

/// Returns an extent with its bytes: the next chunk, unless it is a hole.
pub(super) fn part<'a>(
    node: &Node,
    offset: u64,
    extent: &Extent,
    chunks: &mut std::slice::Iter<'a, Bytes>,
) -> Result<Part<'a>, Reason> {
    match extent {
        Extent::Hole { len } => Ok(Part::Hole { offset, len: *len }),
        Extent::Data { len, .. } => match chunks.next() {
            Some(bytes) if bytes.len() as u64 == u64::from(*len) => Ok(Part::Data { offset, bytes }),
            _ => Err(wrong_length(node).into()),
        },
    }
}

/// The error of a file whose extents or chunks do not add up.
pub(super) fn wrong_length(node: &Node) -> Error {
    let file = format!("file {}", String::from_utf8_lossy(&node.name));
    Error::damaged(file, "its contents do not have the stated length")
}

/// Writes the data among the parts; returns how many bytes that is.
pub(super) fn write(file: &File, parts: &[Part<'_>]) -> io::Result<u64> {
    let mut written = 0;
    for part in parts {
        if let Part::Data { offset, bytes } = part {
            file.write_all_at(bytes, *offset)?;
            written += bytes.len() as u64;
        }
    }
    Ok(written)
}

/// Returns whether the file contains these parts.
pub(super) fn is_same(file: &File, parts: &[Part<'_>]) -> io::Result<bool> {
    let mut buffer = vec![0; COMPARED_MAX];
    for part in parts {
        let is_equal = match part {
            Part::Data { offset, bytes } => is_same_data(file, *offset, bytes, &mut buffer)?,
            Part::Hole { offset, len } => is_same_hole(file, *offset, *len, &mut buffer)?,
        };
        if !is_equal {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_same_data(file: &File, offset: u64, bytes: &[u8], buffer: &mut [u8]) -> io::Result<bool> {
    let mut offset = offset;
    for piece in bytes.chunks(buffer.len()) {
        let Some(read) = buffer.get_mut(..piece.len()) else { return Ok(false) };
        match file.read_exact_at(read, offset) {
            Ok(()) if read == piece => offset += piece.len() as u64,
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Zeros are equal to a hole. Holes of the file are skipped.
fn is_same_hole(file: &File, offset: u64, len: u64, buffer: &mut [u8]) -> io::Result<bool> {
    let end = offset.saturating_add(len);
    let mut offset = offset;
    while offset < end {
        match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => offset = data,
            Err(Errno::NXIO) => return Ok(true),
            // The file system does not know holes.
            Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        let want = end.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let Some(piece) = buffer.get_mut(..want).filter(|piece| !piece.is_empty()) else { break };
        let read = file.read_at(piece, offset)?;
        if read == 0 || piece.iter().take(read).any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += read as u64;
    }
    Ok(true)
}
