//! File operations that do what they are asked to and record it, or fail if the test wants them to.

#![allow(dead_code, reason = "the crash and the fault tests use different parts")]

use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bkfs_store::repository::backend::{self, Files};
use parking_lot::Mutex;

use super::disk::Op;

/// What is recorded: operations, the test's marks between them (usually promises), and LMDB's file whenever it has
/// changed before an operation.
#[derive(Debug, Clone)]
pub enum Event<M> {
    Op(Op),
    Mark(M),
    Index(Arc<Vec<u8>>),
}

/// How an operation fails.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The error number.
    pub errno: i32,
    /// How many bytes of a write are written before the error.
    pub written: usize,
}

/// Decides which operations fail. It sees the name of the operation and the path.
pub type Plan = Box<dyn FnMut(&str, &str) -> Option<Fault> + Send>;

/// The recorder. Clones share what was recorded.
pub struct Recorder<M> {
    inner: Arc<Mutex<Inner<M>>>,
}

struct Inner<M> {
    root: PathBuf,
    index: PathBuf,
    last_index: Arc<Vec<u8>>,
    events: Vec<Event<M>>,
    plan: Option<Plan>,
}

impl<M> Clone for Recorder<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<M> fmt::Debug for Recorder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorder({} events)", self.inner.lock().events.len())
    }
}

impl<M> Recorder<M> {
    /// Records what happens in a folder, and follows the index in another folder.
    pub fn new(root: &Path, index: &Path) -> Self {
        let (root, index) = (root.to_owned(), index.join("data.mdb"));
        let inner = Inner { root, index, last_index: Arc::default(), events: Vec::new(), plan: None };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    pub fn mark(&self, mark: M) {
        let mut inner = self.inner.lock();
        inner.follow_index();
        inner.events.push(Event::Mark(mark));
    }

    pub fn events(&self) -> Vec<Event<M>>
    where
        M: Clone,
    {
        self.inner.lock().events.clone()
    }

    /// How many operations have succeeded so far.
    pub fn ops(&self) -> usize {
        self.inner.lock().events.iter().filter(|event| matches!(event, Event::Op(_))).count()
    }

    /// From now on, the operations that `plan` chooses fail.
    pub fn fail(&self, plan: Option<Plan>) {
        self.inner.lock().plan = plan;
    }

    /// How an operation fails, if it does.
    fn planned(&self, what: &str, path: &Path) -> Option<Fault> {
        let mut inner = self.inner.lock();
        let path = inner.relative(path);
        inner.plan.as_mut()?(what, &path)
    }

    /// Runs an operation, unless it is to fail, and records it if it succeeds.
    fn run<T>(
        &self,
        what: &str,
        path: &Path,
        run: impl FnOnce() -> io::Result<T>,
        op: impl FnOnce(String) -> Op,
    ) -> io::Result<T> {
        if let Some(fault) = self.planned(what, path) {
            return Err(io::Error::from_raw_os_error(fault.errno));
        }
        self.record(path, run, op)
    }

    /// Runs an operation, and records it if it succeeds. No other runs meanwhile: what another thread does because it
    /// sees the effect of this one must be recorded after it.
    fn record<T>(
        &self,
        path: &Path,
        run: impl FnOnce() -> io::Result<T>,
        op: impl FnOnce(String) -> Op,
    ) -> io::Result<T> {
        let mut inner = self.inner.lock();
        let value = run()?;
        inner.follow_index();
        let path = inner.relative(path);
        inner.events.push(Event::Op(op(path)));
        Ok(value)
    }
}

impl<M> Inner<M> {
    /// The index is not written to while an operation is under way, so its file is as it was before the operation.
    fn follow_index(&mut self) {
        let bytes = std::fs::read(&self.index).unwrap_or_default();
        if bytes != *self.last_index {
            self.last_index = Arc::new(bytes);
            self.events.push(Event::Index(self.last_index.clone()));
        }
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).expect("a path in the recorded folder").to_str().unwrap().to_owned()
    }
}

impl<M: Send + 'static> Files for Recorder<M> {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.run("make_folder", path, || backend::Disk.make_folder(path), Op::MakeFolder)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.run("create", path, || backend::Disk.create(path), Op::Create)
    }

    fn write(&self, path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(fault) = self.planned("write", path) {
            // What was written before the error is on the disk, or will be.
            let part = &bytes[..fault.written.min(bytes.len())];
            backend::Disk.write(path, file, part, offset)?;
            let mut inner = self.inner.lock();
            let op = Op::Write { path: inner.relative(path), offset, bytes: part.to_vec() };
            inner.events.push(Event::Op(op));
            return Err(io::Error::from_raw_os_error(fault.errno));
        }
        let op = |path| Op::Write { path, offset, bytes: bytes.to_vec() };
        self.record(path, || backend::Disk.write(path, file, bytes, offset), op)
    }

    fn truncate(&self, path: &Path, file: &File, len: u64) -> io::Result<()> {
        self.run("truncate", path, || backend::Disk.truncate(path, file, len), |path| Op::Truncate { path, len })
    }

    fn sync(&self, path: &Path, file: &File) -> io::Result<()> {
        // The test decides what the medium keeps, so nothing need really be synced.
        self.run("sync", path, || file.metadata().map(drop), Op::Sync)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if !path.starts_with(&self.inner.lock().root) {
            // The folders above were there before.
            return Ok(());
        }
        self.run("sync_folder", path, || path.metadata().map(drop), Op::SyncFolder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let name = self.inner.lock().relative(to);
        self.run("rename", from, || backend::Disk.rename(from, to), |from| Op::Rename { from, to: name })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let name = self.inner.lock().relative(to);
        self.run("link", from, || backend::Disk.link(from, to), |from| Op::Link { from, to: name })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.run("remove", path, || backend::Disk.remove(path), Op::Remove)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.planned("read", path) {
            Some(fault) => Err(io::Error::from_raw_os_error(fault.errno)),
            None => backend::Disk.read(path),
        }
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        match self.planned("read", path) {
            Some(fault) => Err(io::Error::from_raw_os_error(fault.errno)),
            None => backend::Disk.read_at(path, offset, len),
        }
    }
}
