//! Processes that use one repository, and die.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use bkfs_store::{
    Error, Result,
    access::*,
    base::{
        id::{DomainId, SnapshotId},
        time::Time,
    },
    format::{roster::Roster, tombstone::Tombstone},
    owner::{
        prune::{PruneOptions, PruneProgress, PruneReport, Pruner},
        reader::{Reader, SnapshotInfo},
    },
    repository::{
        Repository,
        backend::{Disk, Files, LocalBackend},
    },
};
use parking_lot::Mutex;

use crate::{
    client,
    model::Tree,
    support::{self, fuse::Fuse},
};

/// The time in all worlds.
pub static CLOCK: AtomicI64 = AtomicI64::new(1_790_000_000);

pub fn clock() -> Time {
    Time { secs: CLOCK.load(SeqCst), nanos: 0 }
}

/// File operations that fail once their process is dead.
#[derive(Debug, Clone, Default)]
struct Mortal {
    is_dead: Arc<AtomicBool>,
    /// How many operations are left, if the process is going to die.
    left: Arc<Mutex<Option<usize>>>,
}

impl Mortal {
    fn alive(&self) -> io::Result<()> {
        let mut left = self.left.lock();
        if let Some(left) = &mut *left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.is_dead.store(true, SeqCst);
            }
        }
        match self.is_dead.load(SeqCst) {
            true => Err(io::Error::other("this process is dead")),
            false => Ok(()),
        }
    }
}

macro_rules! mortal {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Files for Mortal {
            $(fn $name(&self, $($arg: $type),*) -> $result {
                self.alive()?;
                Disk.$name($($arg),*)
            })*

            fn sync(&self, _: &Path, _: &File) -> io::Result<()> {
                // Loss of power is not tested here.
                self.alive()
            }

            fn sync_folder(&self, path: &Path) -> io::Result<()> {
                self.alive()?;
                path.metadata().map(drop)
            }
        }
    };
}

mortal! {
    make_folder(path: &Path) -> io::Result<()>;
    create(path: &Path) -> io::Result<File>;
    open(path: &Path) -> io::Result<File>;
    write(path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    truncate(path: &Path, file: &File, len: u64) -> io::Result<()>;
    rename(from: &Path, to: &Path) -> io::Result<()>;
    link(from: &Path, to: &Path) -> io::Result<()>;
    remove(path: &Path) -> io::Result<()>;
    read(path: &Path) -> io::Result<Vec<u8>>;
    read_at(path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

/// One process that has the repository open.
pub struct Process {
    pub repo: Arc<Repository>,
    mortal: Mortal,
    index: PathBuf,
}

impl Process {
    pub fn is_dead(&self) -> bool {
        self.mortal.is_dead.load(SeqCst)
    }

    /// It dies after this many more file operations.
    pub fn die_after(&self, operations: usize) {
        *self.mortal.left.lock() = Some(operations.max(1));
    }
}

/// The repository's folder, and the processes that use it.
pub struct Site {
    pub folder: tempfile::TempDir,
    floor: u64,
    indexes: AtomicUsize,
    pub slots: [Mutex<Arc<Process>>; 3],
}

impl Site {
    pub fn new(floor: u64) -> Self {
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let indexes = AtomicUsize::new(0);
        let process = |number| Mutex::new(Arc::new(open(folder.path(), floor, number).unwrap()));
        let slots = [0, 0, 1].map(process);
        indexes.store(2, SeqCst);
        let full = support::full_key();
        let clients = (0..client::CLIENTS).map(|number| client::roster_entry(number, DomainId::OWNER)).collect();
        let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients });
        slots[0].lock().repo.init(&InitRequest { config: support::config(), roster, slots: vec![] }).unwrap();
        Self { folder, floor, indexes, slots }
    }

    /// A new process, whose index is built from nothing.
    pub fn process(&self) -> Process {
        open(self.folder.path(), self.floor, self.indexes.fetch_add(1, SeqCst)).unwrap()
    }

    /// The process of a slot. If it is dead, another one takes its place, perhaps without an index.
    pub fn get(&self, slot: usize, anew: bool) -> Result<Arc<Process>> {
        let mut held = self.slots[slot % self.slots.len()].lock();
        if held.is_dead() {
            let path = match anew {
                true => index(self.folder.path(), self.indexes.fetch_add(1, SeqCst)),
                false => held.index.clone(),
            };
            *held = Arc::new(open_at(self.folder.path(), self.floor, path)?);
        }
        Ok(held.clone())
    }

    pub fn reader(&self, repo: &Arc<Repository>, cache: usize) -> Arc<Reader> {
        Reader::new(repo.clone(), support::full_key(), &support::config_record(), cache)
    }

    /// Reads every file of a snapshot, and compares it with what was pushed.
    pub fn verify(&self, reader: &Reader, info: &SnapshotInfo, tree: &Tree) -> Result<(), String> {
        let root = info.snapshot.root.subtree.unwrap();
        let mut found = BTreeMap::new();
        let nodes = reader.dir(&root).read_from(0, usize::MAX).map_err(|e| format!("its tree: {e}"))?;
        for node in nodes {
            let name = String::from_utf8(node.name.clone()).unwrap();
            let bytes = reader.file(&node).read_at(0, node.size as usize).map_err(|e| format!("{name}: {e}"))?;
            let number = tree.get(&name).copied().unwrap_or(0);
            if bytes != client::contents(number) {
                return Err(format!("{name} has other contents"));
            }
            found.insert(name, number);
        }
        if found == *tree { Ok(()) } else { Err(format!("it holds {found:?}, but {tree:?} was pushed")) }
    }

    pub fn forget(&self, repo: &Repository, snapshot: SnapshotId, now: bool) -> Result<()> {
        let full = support::full_key();
        let log_len = repo.open(&OpenRequest::default())?.now.log_len;
        let signed = Tombstone { repo: full.repo, snapshot, log_len, is_broken: false }.sign(&full);
        repo.forget(&ForgetRequest { tombstones: vec![SignedTombstone(signed)], now, empty_trash: false }).map(drop)
    }

    pub fn empty_trash(&self, repo: &Repository) -> Result<()> {
        repo.forget(&ForgetRequest { tombstones: vec![], now: false, empty_trash: true }).map(drop)
    }

    /// Prunes as the program does.
    pub fn prune(&self, repo: &Arc<Repository>, all: bool) -> Result<PruneReport> {
        self.prune_through(repo.clone(), all)
    }

    /// The same, cut short after `requests` requests.
    pub fn cut_short(&self, repo: &Arc<Repository>, all: bool, requests: u64) -> Result<PruneReport> {
        let left = AtomicU64::new(requests);
        let allows = move |_: &PruneRequest| left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        self.prune_through(Arc::new(Fuse::new(repo.clone(), allows)), all)
    }

    fn prune_through(&self, access: Arc<dyn Access>, all: bool) -> Result<PruneReport> {
        let reader = Reader::new(access.clone(), support::full_key(), &support::config_record(), 1 << 20);
        let mut options = PruneOptions { is_confirmed: true, ..PruneOptions::default() };
        if all {
            options.limits.unused = Unused::Bytes(0);
        }
        Pruner { reader: &reader, access: &*access, push_key: None, cache: self.folder.path() }
            .run(&options, &PruneProgress::default())
    }

    /// All files in the given folders of the repository.
    pub fn files(&self, folders: &[&str]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in folders {
            let mut todo = vec![self.folder.path().join("repo").join(folder)];
            while let Some(path) = todo.pop() {
                for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                    match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        true => todo.push(entry.path()),
                        false => found.push(entry.path()),
                    }
                }
            }
        }
        found.sort();
        found
    }

    /// What is left of packs. (Unfinished files of dead processes are removed only when they are old.)
    pub fn left(&self) -> Vec<PathBuf> {
        let mut left = self.files(&["packs", "parity", "grave"]);
        left.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with(".tmp-"));
        left
    }
}

fn index(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("index{number}"))
}

fn open(folder: &Path, floor: u64, number: usize) -> Result<Process> {
    open_at(folder, floor, index(folder, number))
}

fn open_at(folder: &Path, floor: u64, index: PathBuf) -> Result<Process> {
    let mortal = Mortal::default();
    let backend = LocalBackend::with_files(&folder.join("repo"), mortal.clone());
    let repo = Repository::with_backend(Box::new(backend), &index)?;
    Ok(Process { repo: Arc::new(repo.with_floor(floor).with_clock(clock)), mortal, index })
}

/// Whether an error can come from nothing but the death of a process.
pub fn is_death(error: &Error) -> bool {
    error.to_string().contains("this process is dead")
}
