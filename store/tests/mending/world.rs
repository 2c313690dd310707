//! A repository in a folder, with packs of noise in it.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bkfs_store::{
    access::{InitRequest, Lease, Manage, Push, Read, ReadRequest},
    base::{
        id::{ChunkId, DomainId, PackId, RepoId},
        time::Time,
    },
    crypto::DataKey,
    format::{
        config::ChunkerParams,
        erasure::Parity,
        frame::{ChunkKind, FrameBuilder},
        keys::{FullKey, PushKey},
        pack::{PackUpload, PackWriter},
        roster::Roster,
    },
    repository::Repository,
};

pub struct World {
    folder: tempfile::TempDir,
    client: PushKey,
    request: InitRequest,
}

impl World {
    pub fn new() -> Self {
        let full = FullKey::random(RepoId([3; 16]));
        let config = full.config(Time::default(), ChunkerParams::default());
        let (client, entry) = full.new_client("host", None, DomainId::OWNER, Time::default());
        let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: vec![entry] });
        let request = InitRequest { config, roster, slots: vec![] };
        Self { folder: tempfile::tempdir().unwrap(), client, request }
    }

    pub fn place(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub fn index(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    pub fn open(&self) -> Repository {
        Repository::local(&self.place(), &self.index()).unwrap()
    }

    pub fn made(&self, parity: Option<Parity>) -> Repository {
        let repo = self.open().with_parity(parity);
        repo.init(&self.request).unwrap();
        repo
    }

    /// A pack of `frames` frames of about 50 KB, and the ids of the chunks in them.
    pub fn pack(&self, frames: usize) -> (PackUpload, Vec<ChunkId>) {
        let key = DataKey::random();
        let mut pack = PackWriter::new(ChunkKind::Data, self.client.repo, &self.client.signing);
        pack.add_wrap(&self.client.seal().unwrap().wrap(self.client.repo, &key));
        let ids = (0..frames).map(|_| {
            let bytes: Vec<u8> = (0..50_000 / 32).flat_map(|_| bkfs_store::crypto::random::<32>()).collect();
            let id = self.client.ids().data_id(&bytes);
            let mut frame = FrameBuilder::new();
            frame.push(&bytes);
            pack.add(&frame.seal(self.client.repo, ChunkKind::Data, &key, 1), &[id]);
            id
        });
        let ids = ids.collect();
        (pack.finish(), ids)
    }

    pub fn pack_file(&self, id: PackId) -> PathBuf {
        self.place().join(format!("packs/{:02x}/{id}", id.0[0]))
    }

    pub fn parity_file(&self, id: PackId) -> PathBuf {
        self.place().join(format!("parity/{:02x}/{id}", id.0[0]))
    }
}

pub fn put(repo: &Repository, pack: &PackUpload) {
    repo.put_pack(Lease { session: 1, generation: 1 }, pack).unwrap();
    repo.wait_for_parity();
}

pub fn write_at(path: &Path, at: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// For each id, whether its frame comes back as it was stored.
pub fn readable(repo: &Repository, whole: &PackUpload, ids: &[ChunkId]) -> Vec<bool> {
    let read = |id: &ChunkId| {
        let reply = repo.read(&ReadRequest { ids: vec![*id], neighbour_bytes: 0, avoid: vec![] }).unwrap();
        let frame = reply.frames.first().map(|frame| frame.bytes.clone()).unwrap_or_default();
        !frame.is_empty() && whole.bytes.windows(frame.len()).any(|window| window == &frame[..])
    };
    ids.iter().map(read).collect()
}
