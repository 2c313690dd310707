//! A repository's owner, with keys that are the same in every run, and small pushes whose contents follow from their
//! names: a snapshot's id alone tells what was pushed, and what is read is compared with that byte for byte.

#![allow(dead_code)]

use std::{collections::BTreeMap, sync::Arc};

use bkfs_store::{
    Result,
    access::{Access, InitRequest, Lease, OpenRequest, Opened, Receipt},
    base::id::{ChunkId, SnapshotId},
    crypto::DataKey,
    format::{
        config::{Config, verify_config},
        content::ContentBuilder,
        frame::{ChunkKind, FrameBuilder},
        keys::{self, FullKey, PushKey, SealKeys, slot::SlotParams},
        pack::{PackUpload, PackWriter},
        snapshot::{self, Snapshot},
        tree::{Extent, Node, NodeKind, TreeBuilder},
    },
    owner::{
        check::{self, CheckOptions, CheckProgress, ReadData},
        reader::Reader,
    },
};

use super::{config, full_key, node, push_key, roster};

/// Name and contents of each file of a snapshot.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The owner of a repository.
pub struct World {
    pub full: FullKey,
    pub push: PushKey,
    pub config: Config,
    pub request: InitRequest,
}

/// A push before its commit.
pub struct Packed {
    pub root: Node,
    pub key: DataKey,
    /// The packs, and the chunks in each.
    pub uploads: Vec<(PackUpload, Vec<ChunkId>)>,
}

impl World {
    pub fn new() -> Self {
        let (full, push) = (full_key(), push_key());
        let slots = vec![keys::slot::seal_slot(&full, b"first", SlotParams::LEAST, &Default::default()).unwrap()];
        let request = InitRequest { config: config(), roster: full.sign_roster(&roster()), slots };
        Self { config: verify_config(&request.config).unwrap(), full, push, request }
    }

    /// The owner with the seal keys that the first passphrase gives. It must give the newest.
    pub fn rotated(&self, opened: &Opened) -> Result<Self, String> {
        let world = || {
            let seal_keys = SealKeys::verify(&opened.seal_keys, &self.config)?;
            let (_, full) = keys::slot::open_any(&opened.slots, b"first", &seal_keys)?;
            seal_keys.check_newest(&full)?;
            let push = seal_keys.renew(&self.push)?;
            Ok(Self { full, push, config: self.config.clone(), request: self.request.clone() })
        };
        world().map_err(|error: bkfs_store::Error| format!("the passphrase: {error}"))
    }

    /// Files whose contents follow from a seed.
    pub fn files(seed: u64) -> Files {
        let file = |i: u64| {
            let line = format!("file {i} of {seed}\n");
            (format!("{seed:02}-{i}"), line.repeat(1 + (seed as usize * 7 + i as usize * 13) % 60).into_bytes())
        };
        (0..4).map(file).collect()
    }

    /// Stores the packs of a push, and no more. Calls `stored` with the chunks of each pack that is acknowledged.
    pub fn pack(&self, repo: &dyn Access, files: &Files, stored: &mut dyn FnMut(&[ChunkId])) -> Result<Packed> {
        let packed = self.packs(files);
        self.put(repo, &packed, stored)?;
        Ok(packed)
    }

    fn put(&self, repo: &dyn Access, packed: &Packed, stored: &mut dyn FnMut(&[ChunkId])) -> Result<()> {
        for (upload, chunks) in &packed.uploads {
            repo.put_pack(Lease::default(), upload)?;
            stored(chunks);
        }
        Ok(())
    }

    /// The packs of a push, not stored yet.
    pub fn packs(&self, files: &Files) -> Packed {
        self.packs_of(files, 1, &|_| true)
    }

    /// The packs of a push that sends only some of its chunks, `sharing` of them in a frame.
    pub fn packs_of(&self, files: &Files, sharing: usize, is_sent: &dyn Fn(&ChunkId) -> bool) -> Packed {
        let (ids, key) = (self.push.ids(), DataKey::random());
        let wrap = self.push.seal().unwrap().wrap(self.push.repo, &key);
        let mut pages = Vec::new();
        let mut out = |id, page| pages.push((id, page));
        let (mut tree, mut data, mut uploads) = (TreeBuilder::new(&ids), Vec::new(), Vec::new());
        for (name, bytes) in files {
            let mut file = node(name.as_bytes(), NodeKind::File);
            file.size = bytes.len() as u64;
            let mut content = ContentBuilder::new(&ids);
            let id = ids.data_id(bytes);
            data.push((id, bytes.clone()));
            content.add(Extent::Data { id, len: bytes.len() as u32 }, &mut out).unwrap();
            file.content = Some(content.finish(&mut out).unwrap());
            tree.add(&file, &mut out).unwrap();
        }
        let subtree = tree.finish(&mut out).unwrap();
        for (kind, mut list) in [(ChunkKind::Data, data), (ChunkKind::Tree, pages)] {
            list.retain(|(id, _)| is_sent(id));
            let mut writer = PackWriter::new(kind, self.push.repo, &self.push.signing);
            writer.add_wrap(&wrap);
            for chunks in list.chunks(sharing) {
                let mut frame = FrameBuilder::new();
                chunks.iter().for_each(|(_, bytes)| frame.push(bytes));
                let ids: Vec<ChunkId> = chunks.iter().map(|(id, _)| *id).collect();
                writer.add(&frame.seal(self.push.repo, kind, &key, 1), &ids);
            }
            if !writer.is_empty() {
                let put: Vec<ChunkId> = list.iter().map(|(id, _)| *id).collect();
                uploads.push((writer.finish(), put));
            }
        }
        let mut root = node(b"", NodeKind::Directory);
        root.subtree = Some(subtree);
        Packed { root, key, uploads }
    }

    /// Commits a push.
    pub fn commit(&self, repo: &dyn Access, packed: &Packed) -> Result<Receipt> {
        let wrap = self.push.seal().unwrap().wrap(self.push.repo, &packed.key);
        let opened = repo.open(&OpenRequest { client: Some(self.push.client_id()), seen: None })?;
        let snapshot = Snapshot {
            root: packed.root.clone(),
            log_len: opened.now.log_len,
            log_head: opened.now.log_head,
            ..super::snapshot(opened.last.map_or(1, |last| last.sequence + 1), opened.last.map(|last| last.id))
        };
        let bytes = snapshot::seal(&snapshot, &self.push, &self.push.ids(), &packed.key, &wrap);
        // The lease has the session of the packs that were put.
        repo.commit(Lease { session: Lease::default().session, ..opened.lease }, &bytes)
    }

    /// A push of packs that are already made.
    pub fn push_packs(&self, repo: &dyn Access, packed: &Packed) -> Result<Receipt> {
        self.put(repo, packed, &mut |_| ())?;
        self.commit(repo, packed)
    }

    /// A whole push.
    pub fn push(&self, repo: &dyn Access, files: &Files) -> Result<Receipt> {
        let packed = self.pack(repo, files, &mut |_| ())?;
        self.commit(repo, &packed)
    }

    /// The packs of a push that asks which chunks are stored, and sends the rest.
    pub fn packs_lacking(&self, repo: &dyn Access, files: &Files, sharing: usize) -> Result<Packed> {
        let all: Vec<ChunkId> = self.packs(files).uploads.into_iter().flat_map(|(_, chunks)| chunks).collect();
        let has = repo.has(None, &all)?;
        let lacking: Vec<ChunkId> = all.into_iter().zip(has).filter(|(_, has)| !has).map(|(id, _)| id).collect();
        Ok(self.packs_of(files, sharing, &|id| lacking.contains(id)))
    }

    /// A reader with an empty cache.
    pub fn reader(&self, repo: Arc<dyn Access>) -> Arc<Reader> {
        Reader::new(repo, self.full.clone(), &self.config, 4 << 20)
    }

    /// All snapshots and the files in each, read and verified. Problems come as text.
    pub fn read_all(&self, reader: &Reader) -> Result<BTreeMap<SnapshotId, Files>, String> {
        let problems = reader.with_snapshots(|list| list.errors().map(|e| e.to_string()).collect::<Vec<_>>());
        let problems = problems.map_err(|e| e.to_string())?;
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let mut all = BTreeMap::new();
        for info in reader.snapshots().map_err(|e| e.to_string())? {
            all.insert(info.id, read_files(reader, &info.snapshot.root).map_err(|e| format!("{}: {e}", info.id))?);
        }
        Ok(all)
    }
}

/// The files of a folder.
pub fn read_files(reader: &Reader, root: &Node) -> Result<Files> {
    let mut files = Files::new();
    for node in reader.dir(root.subtree.as_ref().unwrap()).read_from(0, usize::MAX)? {
        let bytes = reader.file(&node).read_at(0, node.size as usize)?;
        files.insert(String::from_utf8(node.name).unwrap(), bytes.to_vec());
    }
    Ok(files)
}

/// The problems that a check finds.
pub fn problems(reader: &Reader, access: &dyn Access, read_data: bool) -> Result<Vec<String>> {
    let opened = access.open(&OpenRequest::default())?;
    let options = CheckOptions { read_data: if read_data { ReadData::All } else { ReadData::None }, threads: 1 };
    let report = check::check(reader, access, &opened, &options, &CheckProgress::default())?;
    Ok(report.problems.iter().map(ToString::to_string).collect())
}
