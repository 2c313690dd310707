//! Streams among the entries of a directory, in the order of names.

use std::{cmp::Ordering, io, sync::Arc};

use bkfs_store::{
    Result,
    format::tree::{Device, NodeKind},
};

use super::{DirScan, Scanner};
use crate::{
    filesystem::FilesystemId,
    metadata::Stat,
    push::{
        event::{DirEntry, Event, NewEntry},
        piece::StreamJob,
        progress,
        stream::{StreamEntry, StreamFile, StreamTree},
    },
    walk::{Entry, ListTask},
};

/// The permissions of a file that is read from a stream: a dump is for nobody else.
const FILE_MODE: u32 = 0o600;
/// The permissions of a folder that only streams have.
const DIR_MODE: u32 = 0o755;

/// What comes next in a directory.
pub enum Next {
    /// An entry of the source, and the streams below it if it is a directory.
    Entry { entry: Entry, task: Option<Arc<ListTask>>, streams: StreamTree },
    /// A file that is read from a stream.
    Stream { name: Vec<u8>, file: StreamFile },
    /// A directory that only streams have.
    StreamDir { name: Vec<u8>, streams: StreamTree },
    /// Nothing.
    End,
}

impl<'a> Scanner<'a> {
    /// What comes next in a directory.
    pub(super) fn next(&self, scan: &mut DirScan<'a>) -> Next {
        if scan.waiting.is_none() {
            scan.waiting = scan.listed.as_mut().and_then(|listed| self.walk.next(listed));
        }
        let order = match (&scan.waiting, scan.streams.entries.first_key_value()) {
            (None, None) => return Next::End,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((entry, _)), Some((name, _))) => (*entry.name).cmp(name.as_slice()),
        };
        let stream = if order == Ordering::Less { None } else { scan.streams.entries.pop_first() };
        match (order, stream) {
            (Ordering::Greater, Some((name, StreamEntry::File(file)))) => Next::Stream { name, file },
            (Ordering::Greater, Some((name, StreamEntry::Dir(streams)))) => Next::StreamDir { name, streams },
            (_, stream) => {
                let Some((entry, task)) = scan.waiting.take() else { return Next::End };
                let streams = match stream {
                    Some((_, StreamEntry::Dir(streams))) if entry.stat.kind == NodeKind::Directory => streams,
                    Some((_, stream)) => self.refuse(scan, &entry.name, &stream),
                    None => StreamTree::default(),
                };
                Next::Entry { entry, task, streams }
            }
        }
    }

    /// Reports streams whose place is taken. It was free when the push began.
    fn refuse(&self, scan: &DirScan<'a>, name: &[u8], stream: &StreamEntry) -> StreamTree {
        for _ in stream.files() {
            let why = "the sources have an entry of this name since the push began, so the stream was not stored";
            self.problem(&scan.path, name, io::Error::other(why));
        }
        StreamTree::default()
    }

    /// Sends a stream to the assembler, which reads it.
    pub(super) fn stream(&mut self, scan: &mut DirScan<'a>, name: Vec<u8>, file: StreamFile) -> Result<()> {
        self.pass_to_stream(scan, &name)?;
        progress::add(&self.progress.files, 1);
        self.files += 1;
        let stat = self.stream_stat(NodeKind::File, FILE_MODE);
        let (number, dir) = (self.files, scan.path.clone());
        self.send(Event::Stream(Box::new(StreamJob { number, dir, name: name.into(), file, stat })))
    }

    /// Enters a directory that only streams have.
    pub(super) fn stream_dir(&mut self, scan: &mut DirScan<'a>, name: &[u8]) -> Result<DirScan<'a>> {
        self.pass_to_stream(scan, name)?;
        let stat = self.stream_stat(NodeKind::Directory, DIR_MODE);
        let node = stat.node(name, self.owners);
        // The record is never trusted: the next push may find a real directory here.
        let new = NewEntry { node, stat, filesystem: FilesystemId::default(), is_distrusted: true };
        self.enter(scan.path.child(name), DirEntry::New(Box::new(new)), None)
    }

    /// Passes the record's entries up to the name of a stream. What the last push stored there is replaced.
    fn pass_to_stream(&mut self, scan: &mut DirScan<'a>, name: &[u8]) -> Result<()> {
        self.pass_gone(scan, Some(name))?;
        self.send_kept(scan)?;
        scan.is_whole = false;
        if scan.cursor.entry().is_some_and(|was| was.name == name) {
            scan.cursor.advance();
            self.send(Event::Replaced)?;
        }
        Ok(())
    }

    /// What the snapshot says of an entry that is in no file system: it belongs to the user who pushes, and changed
    /// when the push began.
    fn stream_stat(&self, kind: NodeKind, mode: u32) -> Stat {
        Stat {
            kind,
            mode,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            size: 0,
            inode: 0,
            links: 1,
            device: 0,
            mount: 0,
            rdev: Device { major: 0, minor: 0 },
            mtime: self.time,
            ctime: self.time,
            btime: None,
        }
    }
}
