//! What a reader remembers of the log and of snapshots. The input as the files are, or behind the seal that only a full
//! key makes. Files that do not open change nothing; with any others the list is made, or made without them.

#![no_main]

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use bkfs_fuzz::{Input, keys, support};
use bkfs_store::{
    access::{InitRequest, Manage, Open, OpenRequest, Push, Read},
    base::id::{Hash, SnapshotId},
    crypto::{AeadKey, DataKey},
    format::{log::LogRecord, snapshot},
    owner::reader::Reader,
    repository::Repository,
};

const MAGIC: &[u8] = b"bkfsseen\x01\0";
const NUMBER: [u8; 16] = [9; 16];

struct Scene {
    repo: Arc<Repository>,
    cache: tempfile::TempDir,
    folder: PathBuf,
    key: AeadKey,
    /// The store's log, as the beginning of a remembered one.
    chain: Vec<u8>,
    listed: Vec<SnapshotId>,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let keys = keys();
    let repo = Arc::new(Repository::memory().expect("a store in memory"));
    let roster = keys.full.sign_roster(&support::roster());
    repo.init(&InitRequest { config: support::config(), roster, slots: vec![] }).expect("a repository");
    for sequence in 1..4 {
        let opened = repo.open(&OpenRequest { client: Some(keys.push.client_id()), seen: None }).expect("it opens");
        let mut record = support::snapshot(sequence, opened.last.map(|last| last.id));
        (record.log_len, record.log_head) = (opened.now.log_len, opened.now.log_head);
        let data = DataKey::random();
        let wrap = keys.full.seal.public().wrap(keys.full.repo, &data);
        repo.commit(opened.lease, &snapshot::seal(&record, &keys.push, &keys.ids, &data, &wrap)).expect("a snapshot");
    }
    let (mut head, mut heads) = (Hash::default(), Vec::new());
    let records = repo.log(0, 1000).expect("the log");
    for record in &records {
        head = LogRecord::link(head, record);
        heads.extend_from_slice(&head.0[..16]);
    }
    let chain = [&(records.len() as u64).to_le_bytes()[..], &heads, &head.0].concat();
    let cache = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let folder = cache.path().join(keys.full.repo.to_string()).join("snapshots");
    let key = AeadKey::new(&keys.full.seal.seed().derive("bkfs v1 memory of snapshots"));
    let mut scene = Scene { repo, cache, folder, key, chain, listed: Vec::new() };
    scene.listed = scene.list().expect("the list");
    scene
});

impl Scene {
    fn list(&self) -> bkfs_store::Result<Vec<SnapshotId>> {
        let reader = Reader::new(self.repo.clone(), keys().full.clone(), &support::config_record(), 1 << 20);
        reader.remember(self.cache.path());
        reader.announce_log(self.repo.open(&OpenRequest::default())?.now);
        reader.with_newest_snapshots(|list| list.snapshots.len())?;
        reader.with_snapshots(|list| list.snapshots.iter().map(|info| info.id).collect())
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut input, scene) = (Input(data), &*SCENE);
    let kind = input.u8();
    let (is_sealed, has_chain) = (kind & 1 != 0, kind & 2 != 0);
    let repo = keys().full.repo;
    let mut log = if has_chain { scene.chain.clone() } else { Vec::new() };
    log.extend_from_slice(input.part().unwrap_or_default());
    let table = input.part().unwrap_or_default();
    let (mut blocks, mut count) = (Vec::new(), 0u64);
    let aad = |place: u64| [MAGIC, b"seen", &repo.0, &NUMBER, &place.to_le_bytes()].concat();
    let seal = |bytes: &[u8], aad: &[u8]| if is_sealed { scene.key.seal(bytes, aad) } else { bytes.to_vec() };
    while let Some(block) = input.part() {
        blocks.extend_from_slice(&seal(block, &aad(count)));
        count += 1;
    }
    let table = seal(table, &aad(u64::MAX));
    let seen = [MAGIC, &NUMBER, &(table.len() as u64).to_le_bytes(), &table, &blocks].concat();
    let log = [MAGIC, &seal(&log, &[MAGIC, b"log", &repo.0].concat())].concat();
    let _ = fs::remove_dir_all(&scene.folder);
    fs::create_dir_all(&scene.folder).expect("a folder");
    fs::write(scene.folder.join("log"), log).expect("a file");
    fs::write(scene.folder.join("0.seen"), seen).expect("a file");
    let listed = scene.list();
    if !is_sealed {
        assert_eq!(listed.expect("the list"), scene.listed);
    }
});
