//! The objects that a store keeps for itself, next to a repository: its settings, and the results of the last scrub.
//! The input as it is, or behind the right magic and version. With any input, the repository opens, unless a newer
//! program wrote the object; and a scrub continues, or starts again.

#![no_main]

use std::sync::{Arc, LazyLock};

use bkfs_fuzz::{Input, encodes_back, keys, support};
use bkfs_store::{
    Error, Result,
    access::{InitRequest, Manage},
    repository::{
        Repository,
        backend::{Backend, Listed, Lock, MemoryBackend, Room},
        scrub::{ScrubOptions, ScrubProgress, ScrubReport},
    },
};
use bytes::Bytes;

/// A store in memory. It is opened again for each input.
struct Shared(Arc<MemoryBackend>);

impl Backend for Shared {
    fn place(&self) -> String {
        self.0.place()
    }
    fn put_all(&self, objects: &[(&str, &[u8])]) -> Result<()> {
        self.0.put_all(objects)
    }
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.0.get(name)
    }
    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Option<Bytes>> {
        self.0.get_range(name, offset, len)
    }
    fn len(&self, name: &str) -> Result<Option<u64>> {
        self.0.len(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.0.rename(from, to)
    }
    fn delete(&self, name: &str) -> Result<()> {
        self.0.delete(name)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        self.0.list(folder)
    }
    fn settle(&self, folder: &str) -> Result<()> {
        self.0.settle(folder)
    }
    fn stamp(&self, folder: &str) -> Result<Option<u64>> {
        self.0.stamp(folder)
    }

    fn room(&self) -> Option<Room> {
        self.0.room()
    }
    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.append(name, offset, bytes)
    }
    fn lock(&self) -> Result<Box<dyn Lock>> {
        self.0.lock()
    }
}

struct TestStore {
    backend: Arc<MemoryBackend>,
    index: tempfile::TempDir,
}

impl TestStore {
    fn open(&self) -> Result<Repository> {
        Repository::with_backend(Box::new(Shared(self.backend.clone())), self.index.path())
    }
}

static STORE: LazyLock<TestStore> = LazyLock::new(|| {
    let index = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let store = TestStore { backend: Arc::default(), index };
    let roster = keys().full.sign_roster(&support::roster());
    let request = InitRequest { config: support::config(), roster, slots: vec![] };
    store.open().and_then(|repo| repo.init(&request)).expect("a repository");
    store
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut input, store) = (Input(data), &*STORE);
    let kind = input.u8();
    let behind = |is_behind: bool, magic: &[u8; 8], bytes: &[u8]| match is_behind {
        true => [&magic[..], &[1, 0], bytes].concat(),
        false => bytes.to_vec(),
    };
    let settings = [kind & 1 != 0, kind & 2 != 0].map(|is| behind(is, b"bkfsstst", input.part().unwrap_or_default()));
    let results = behind(kind & 4 != 0, b"bkfsscrb", input.0);
    for (name, bytes) in [("settings", &settings[0]), ("settings.2", &settings[1]), ("scrub", &results)] {
        store.backend.put(name, bytes).expect("memory");
    }
    let repo = match store.open() {
        Err(Error::NewerVersion { .. }) => return,
        repo => repo.expect("bad settings do not prevent opening"),
    };
    let last = repo.last_scrub().expect("unreadable results count as none");
    if let Some(report) = &last {
        encodes_back(report);
    }
    let options = ScrubOptions { resume: kind & 8 != 0, ..ScrubOptions::default() };
    let report = repo.scrub(&options, &ScrubProgress::default()).expect("a scrub");
    assert!(report.ended.is_some() && report.log_records > 0);
    assert!(report.lost.len() <= last.map_or(0, |last| last.lost.len()).max(ScrubReport::KEPT_MAX));
    // Results of a scrub that began later, by its clock, are not replaced by the results of this one.
    let kept = repo.last_scrub().expect("memory").expect("one was kept");
    assert!(kept == report || kept.started > report.started);
});
