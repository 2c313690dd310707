//! Files of the snapshot that no file system holds: standard input, or what a command prints.
//!
//! A [`StreamFile`] names the path in the snapshot and what produces the contents. The push opens the streams one after
//! another, each when the snapshot is complete up to its place in the order of names. So a stream is read at the speed
//! of the push, and a command runs no longer than that takes. Nothing is known of a stream beforehand: each push reads
//! it. If a stream fails, even after its last byte, the snapshot does not have the file.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use bkfs_store::format::tree::Node;

use crate::{
    metadata,
    walk::{self, Roots},
};

/// What produces the contents of a file.
pub trait StreamSource: Send + Sync {
    /// Begins to produce them. A push that must go through its sources again calls it again.
    fn open(&self) -> io::Result<Box<dyn Stream>>;
}

/// Contents that are being produced. Dropped before its end, it produces nothing more.
///
/// Both calls fail with [`io::ErrorKind::WouldBlock`] if nothing has happened for a moment. They are repeated then,
/// unless the push was stopped.
pub trait Stream: Send {
    /// Reads the next bytes. Returns their number; 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Finds out, after the last byte, whether the contents are whole.
    fn finish(&mut self) -> io::Result<()>;
}

/// A file of the snapshot that is read from a stream.
#[derive(Clone)]
pub struct StreamFile {
    /// The names on the way from the snapshot's root, its own last.
    names: Vec<Vec<u8>>,
    source: Arc<dyn StreamSource>,
}

impl fmt::Debug for StreamFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamFile").field(&metadata::display(&self.path())).finish()
    }
}

impl StreamFile {
    /// A file at `path`, which is relative to the snapshot's root. Fails if it is not such a path.
    pub fn new(path: &[u8], source: Arc<dyn StreamSource>) -> io::Result<Self> {
        Ok(Self { names: Self::names(path)?, source })
    }

    /// The names in a path that a stream may have. Fails if it may not.
    pub fn names(path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let names: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let shown = metadata::display(path);
        let refuse = |why: &str| Err(wrong(format!("{:?} {why}", shown.display().to_string())));
        if path.starts_with(b"/") {
            return refuse("begins with a slash: write it relative to the root of the snapshot, like db.sql");
        }
        if names.iter().any(|name| name == b"..") {
            return refuse("has .. in it, which would lead out of the snapshot");
        }
        if names.iter().any(|name| name.is_empty() || name == b".") {
            return refuse("is not the path of a file; write one like db.sql or dumps/db.sql");
        }
        if names.iter().any(|name| name.len() > Node::NAME_MAX || name.contains(&0)) {
            return refuse("has a name that is too long for a file, or a zero byte in it");
        }
        if names.len() > walk::DEPTH_MAX {
            return refuse("is in too many folders");
        }
        Ok(names)
    }

    /// The path below the snapshot's root.
    pub fn path(&self) -> Vec<u8> {
        self.names.join(&b'/')
    }

    /// Begins to produce the contents.
    pub(super) fn open(&self) -> io::Result<Box<dyn Stream>> {
        self.source.open()
    }

    /// Fails if the sources of a push hold an entry at this path, or something other than a folder on the way to it.
    /// Whether a pattern excludes that entry does not matter.
    fn check_free(&self, roots: &Roots) -> io::Result<()> {
        let (mut plan, mut is_included) = (Some(&roots.plan), roots.plan.is_included);
        let mut path = roots.base.clone();
        for (at, name) in self.names.iter().enumerate() {
            plan = plan.and_then(|plan| plan.children.get(name));
            if plan.is_none() && !is_included {
                return Ok(());
            }
            path.push(metadata::display(name));
            let follows = plan.is_some_and(|plan| plan.follow || !plan.is_included && !is_included);
            let found = if follows { path.metadata() } else { path.symlink_metadata() };
            let Ok(found) = found else { return Ok(()) };
            let own = metadata::display(&self.path());
            if at + 1 == self.names.len() {
                let why = format!("{} is there already, in the sources", path.display());
                return Err(wrong(format!("{why}; give the stream {} another name", own.display())));
            }
            if !found.is_dir() {
                let why = format!("{} is in the sources and is no folder", path.display());
                return Err(wrong(format!("{why}; give the stream {} another name", own.display())));
            }
            is_included |= plan.is_some_and(|plan| plan.is_included);
        }
        Ok(())
    }
}

/// The streams at and below a folder of the snapshot.
#[derive(Debug, Default)]
pub struct StreamTree {
    /// By name, in order.
    pub entries: BTreeMap<Vec<u8>, StreamEntry>,
}

/// What the streams add to a folder.
#[derive(Debug)]
pub enum StreamEntry {
    /// A file.
    File(StreamFile),
    /// A folder with streams in it. The sources may have it, too.
    Dir(StreamTree),
}

impl StreamTree {
    /// Puts streams in the order of their paths. Fails if two have the same path, or one is where another needs a
    /// folder.
    pub fn new(files: &[StreamFile]) -> io::Result<Self> {
        let mut root = Self::default();
        for file in files {
            let clash = || {
                let path = metadata::display(&file.path());
                wrong(format!("two streams want the path {}, or a folder of this name", path.display()))
            };
            let Some((own, folders)) = file.names.split_last() else { continue };
            let mut dir = &mut root;
            for name in folders {
                let entry = dir.entries.entry(name.clone()).or_insert_with(|| StreamEntry::Dir(Self::default()));
                let StreamEntry::Dir(below) = entry else { return Err(clash()) };
                dir = below;
            }
            if dir.entries.insert(own.clone(), StreamEntry::File(file.clone())).is_some() {
                return Err(clash());
            }
        }
        Ok(root)
    }

    /// The same. Fails as well if the sources of the push have an entry where a stream is to be.
    pub fn beside(files: &[StreamFile], roots: &Roots) -> io::Result<Self> {
        let tree = Self::new(files)?;
        files.iter().try_for_each(|file| file.check_free(roots))?;
        Ok(tree)
    }
}

impl StreamEntry {
    /// The streams at and below the entry.
    pub fn files(&self) -> Vec<&StreamFile> {
        let (mut files, mut open) = (Vec::new(), vec![self]);
        while let Some(entry) = open.pop() {
            match entry {
                Self::File(file) => files.push(file),
                Self::Dir(dir) => open.extend(dir.entries.values()),
            }
        }
        files
    }
}

/// Checks streams before a push: their paths, and that the sources do not have them.
pub fn check_streams(files: &[StreamFile], roots: &Roots) -> io::Result<()> {
    StreamTree::beside(files, roots).map(drop)
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
