//! A thief with the push key of a client. It has seen every pack and all ids, holds no other key, and follows no rules.

use std::sync::{Arc, LazyLock};

use bkfs_store::{
    Result,
    access::{Challenge, Lease, Open, OpenRequest, Push, Seen},
    base::{
        codec,
        id::{ChunkId, ClientId, Hash, KeyId, PackId, SnapshotId, TargetTag},
    },
    crypto::{DataKey, Secret, Wrap, signed::Signed},
    format::{
        content::ContentBuilder,
        frame::{ChunkKind, FrameBuilder},
        keys::PushKey,
        pack::{PackUpload, PackWriter},
        snapshot::{self, Snapshot, StoredSnapshot},
        tree::{Extent, Node, NodeKind, Subtree, Totals, TreeBuilder},
    },
};
use bytes::Bytes;

use super::World;
use crate::{
    authorization,
    client::{self, contents},
    message::{self, Call},
    permission::Permissions,
    support::{self, node},
};

/// What the thief has.
#[derive(Clone)]
pub struct Thief {
    key: &'static PushKey,
    data_key: Arc<DataKey>,
    wrap: Wrap,
    /// The snapshots that it has committed.
    committed: Vec<SnapshotId>,
}

impl Thief {
    pub fn new() -> Self {
        static NEW: LazyLock<Thief> = LazyLock::new(|| {
            let (key, data_key) = (client::key(super::THIEF.0), DataKey::new(Secret::new([0x5a; 32])));
            let wrap = key.seal().expect("a public key").wrap(key.repo, &data_key);
            Thief { key, data_key: Arc::new(data_key), wrap, committed: vec![] }
        });
        NEW.clone()
    }
}

impl World<'_> {
    /// A lease of the thief's own, of an honest client, or of nobody.
    fn choose_lease(&mut self) -> Lease {
        let how = self.input.u8();
        let now = self.repo().open(&OpenRequest::default()).expect("it opens").lease;
        match how % 4 {
            0 => now,
            1 => Lease { generation: u64::from(how >> 2), ..now },
            _ => {
                let at = usize::from(how >> 2) % self.leases.len().max(1);
                let session = self.leases.get(at).map_or(u64::MAX, |lease| lease.session);
                Lease { session, ..now }
            }
        }
    }

    /// A client's id: none, its own, or an honest client's.
    fn choose_client(&mut self) -> Option<ClientId> {
        let at = u64::from(self.input.u8() % 5);
        (at < 4).then(|| client::key(at).client_id())
    }

    /// The ids of a stored pack, some of them, or others. Also returns their kind, and a wrap and a frame of that pack.
    fn choose_ids(&mut self) -> (ChunkKind, Vec<ChunkId>, Option<Wrap>, Option<Bytes>) {
        let how = self.input.u8();
        let mut kind = if how & 1 > 0 { ChunkKind::Tree } else { ChunkKind::Data };
        match self.choose_pack() {
            Some((_, bytes, table)) if how & 2 == 0 => {
                if how & 4 == 0 {
                    kind = table.kind;
                }
                let mut ids: Vec<ChunkId> = table.frames.iter().flat_map(|frame| frame.ids.clone()).collect();
                ids.truncate(1 + usize::from(how >> 4));
                let first = &table.frames[0];
                let frame = bytes.slice(first.offset as usize..(first.offset + first.len) as usize);
                (kind, ids, table.wraps.into_iter().next(), Some(frame))
            }
            // What others may push later.
            _ => {
                let ids = self.thief.key.ids();
                let later = (0..1 + u64::from(how >> 4)).map(|at| ids.data_id(&contents(1 + at * 2))).collect();
                (kind, later, None, None)
            }
        }
    }

    /// Puts a pack that claims to hold chunks of others.
    pub(super) fn put_forged(&mut self) {
        let how = self.input.u8();
        let (kind, ids, wrap, frame) = self.choose_ids();
        let Thief { key, data_key, wrap: own_wrap, .. } = &self.thief;
        let others = wrap.unwrap_or_else(|| own_wrap.clone());
        // The wrap of its own key, an honest client's, or rubbish under the id of an honest client's key.
        let wrap = match how & 3 {
            0 | 1 => own_wrap.clone(),
            2 => others,
            _ => Wrap { sealed: own_wrap.sealed.clone(), encapsulated: own_wrap.encapsulated.clone(), ..others },
        };
        let mut writer = match how & 4 {
            0 => PackWriter::new(kind, key.repo, &key.signing),
            _ => PackWriter::copying(kind, key.repo, client::key(0).client_id()),
        };
        writer.add_wrap(&wrap);
        let in_frame = if how & 8 > 0 { ids.len() } else { 1 };
        for ids in ids.chunks(in_frame.max(1)) {
            let sealed = match (how >> 4 & 3, &frame) {
                // A frame of another pack, as it is.
                (1, Some(frame)) => frame.to_vec(),
                // Not sealed at all.
                (2, _) => [&wrap.key.0[..], &[how; 60]].concat(),
                // Sealed, and something else than it claims to be.
                (part, _) => {
                    let mut builder = FrameBuilder::new();
                    (0..if part == 3 { 1 } else { ids.len() }).for_each(|at| builder.push(&[how, at as u8, 7]));
                    builder.seal(key.repo, kind, data_key, 1)
                }
            };
            writer.add(&sealed, ids);
        }
        if !writer.is_empty() {
            let upload = writer.finish();
            let lease = self.choose_lease();
            let _ = self.repo().put_pack(lease, &upload);
        }
    }

    /// Puts a stored pack again, as it is or changed.
    pub(super) fn put_stolen(&mut self) {
        let how = self.input.u8();
        let Some((id, bytes, table)) = self.choose_pack() else { return };
        let at = usize::from(self.input.u16()) % bytes.len();
        let mut changed = bytes.to_vec();
        match how & 3 {
            0 => {}
            1 => changed[at] ^= how | 1,
            2 => changed.truncate(at),
            _ => {
                // Signed by the thief.
                let Thief { key, .. } = &self.thief;
                let mut writer = PackWriter::new(table.kind, key.repo, &key.signing);
                table.wraps.iter().for_each(|wrap| writer.add_wrap(wrap));
                for frame in &table.frames {
                    let sealed = &bytes[frame.offset as usize..(frame.offset + frame.len) as usize];
                    let mut ids = frame.ids.clone();
                    if how & 4 > 0 {
                        ids.reverse();
                    }
                    writer.add(sealed, &ids);
                }
                changed = writer.finish().bytes.to_vec();
            }
        }
        let hash = Hash::of(&[&changed[..changed.len().saturating_sub(64)]]);
        let id = if how & 8 > 0 { id } else { PackId(hash.0) };
        let lease = self.choose_lease();
        self.put_as_server(lease, id, changed.into());
    }

    /// Stores a pack as a server does.
    fn put_as_server(&self, lease: Lease, id: PackId, bytes: Bytes) {
        let repo = self.repo();
        if let Ok(false) = repo.keep_pack(lease, id, bytes.len() as u64) {
            let _ = repo.put_pack(lease, &PackUpload { id, bytes });
        }
    }

    /// Commits a snapshot that lies about something.
    pub(super) fn commit_forged(&mut self) {
        let (how, what) = (self.input.u8(), self.input.u8());
        let lease = self.choose_lease();
        let repo = self.repo();
        let opened = repo.open(&OpenRequest { client: Some(self.thief.key.client_id()), seen: None });
        let opened = opened.expect("it opens");
        let (next, previous) = opened.last.map_or((1, None), |last| (last.sequence + 1, Some(last.id)));
        let sequence = if how & 1 > 0 { 1 + u64::from(what) } else { next };
        let root = self.choose_root(how >> 1 & 3, lease);
        let Thief { key, data_key, wrap, committed } = &self.thief;
        let mut record = Snapshot { root, time: super::clock(), ..support::snapshot(sequence, previous) };
        (record.log_len, record.log_head) = (opened.now.log_len, opened.now.log_head);
        match how >> 3 & 7 {
            0 => record.log_head = Hash([what; 32]),
            1 => record.log_len = u64::from(what),
            2 => record.log_len = u64::MAX - u64::from(what),
            3 => record.previous = self.entries.last().map(|entry| entry.id),
            4 => record.previous = committed.first().copied(),
            _ => {}
        }
        let mut bytes = snapshot::seal(&record, key, &key.ids(), data_key, wrap);
        match how >> 6 {
            // A seal of rubbish, perhaps in the name of an honest client, which it cannot sign for.
            1 => {
                let stored = StoredSnapshot {
                    repo: key.repo,
                    client: client::key(if what & 1 > 0 { 0 } else { super::THIEF.0 }).client_id(),
                    target: TargetTag([what; TargetTag::LEN]),
                    sequence,
                    wrap: Wrap { key: KeyId([what; KeyId::LEN]), ..wrap.clone() },
                    sealed: vec![what; 80],
                };
                let payload = StoredSnapshot::HEADER.encode(&stored);
                bytes = Signed::new(&StoredSnapshot::HEADER.magic, payload, &key.signing).encode();
            }
            2 => {
                let at = usize::from(what) * 3 % bytes.len();
                bytes[at] ^= 1 + (what & 7);
            }
            _ => {}
        }
        if let Ok(receipt) = repo.commit_as(lease, &bytes, Some(Hash([7; 32]))) {
            self.thief.committed.push(receipt.snapshot);
        }
    }

    /// A root whose tree was never stored, is an honest client's page or data, leads to chunks of others, or is whole.
    fn choose_root(&mut self, how: u8, lease: Lease) -> Node {
        let (kind, ids, ..) = self.choose_ids();
        let subtree = |id| Subtree { id, entries: 1, totals: Totals::default() };
        let subtree = match how {
            0 => subtree(ChunkId([9; 32])),
            1 => subtree(ids.first().copied().unwrap_or(ChunkId([8; 32]))),
            _ => {
                let Thief { key, data_key, wrap, .. } = &self.thief;
                let (id_keys, mut pages) = (key.ids(), Vec::new());
                let mut out = |id, page| pages.push((id, page));
                let (mut tree, mut content) = (TreeBuilder::new(&id_keys), ContentBuilder::new(&id_keys));
                let mut file = node(b"f0", NodeKind::File);
                for id in ids {
                    file.size += 300;
                    content.add(Extent::Data { id, len: 300 }, &mut out).expect("few extents");
                }
                file.content = Some(content.finish(&mut out).expect("few extents"));
                tree.add(&file, &mut out).expect("one file");
                let subtree = tree.finish(&mut out).expect("one file");
                let kind = if how == 3 { kind } else { ChunkKind::Tree };
                let mut writer = PackWriter::new(kind, key.repo, &key.signing);
                writer.add_wrap(wrap);
                for (id, page) in pages {
                    let mut frame = FrameBuilder::new();
                    frame.push(&page);
                    writer.add(&frame.seal(key.repo, kind, data_key, 1), &[id]);
                }
                let _ = self.repo().put_pack(lease, &writer.finish());
                subtree
            }
        };
        Node { subtree: Some(subtree), ..node(b"", NodeKind::Directory) }
    }

    /// Opens and asks in the name of others.
    pub(super) fn ask_as_others(&mut self) {
        let (how, client, (_, ids, ..)) = (self.input.u8(), self.choose_client(), self.choose_ids());
        let repo = self.repo();
        let _ = match how % 3 {
            0 => repo.has(client, &ids).map(drop),
            1 => {
                let challenge = |id: &ChunkId| Challenge { id: *id, at: u64::from(how) << (how % 64) };
                repo.prove(client, &ids.iter().map(challenge).collect::<Vec<_>>()).map(drop)
            }
            _ => {
                let now = repo.open(&OpenRequest::default()).expect("it opens").now;
                let seen = Seen { log_len: u64::from(how / 3), ..now };
                repo.open(&OpenRequest { client, seen: Some(seen) }).map(drop)
            }
        };
    }

    /// Sends a call as bytes. The server checks what the client may do, and makes the call.
    pub(super) fn call_raw(&mut self) {
        let Some(bytes) = self.input.part() else { return };
        let Ok(call) = codec::decode::<Call>("a call", bytes) else { return };
        let may = |required: &authorization::Requirement| Permissions::PUSH.intersects(required.any_of);
        let further = authorization::further_requirements(&call);
        if message::sizes(call.number()).is_none_or(|sizes| bytes.len() > sizes.call)
            || !may(&authorization::requirement(call.number()))
            || !further.iter().all(may)
        {
            return;
        }
        let _ = self.answer(call);
    }

    fn answer(&mut self, call: Call) -> Result<()> {
        let repo = self.repo();
        match call {
            Call::Open(request, _) => repo.open(&request).map(drop),
            Call::Has(client, ids) => repo.has(client, &ids).map(drop),
            Call::Prove(client, challenges) => repo.prove(client, &challenges).map(drop),
            Call::PutPack(id, len, lease) => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let bytes = self.input.bytes(len.min(4096));
                self.put_as_server(lease, id, Bytes::copy_from_slice(bytes));
                Ok(())
            }
            Call::Commit(lease, snapshot) => repo.commit(lease, &snapshot).map(drop),
            Call::Join(_) => Ok(()),
            call => panic!("a client that may only push may make this call: {call:?}"),
        }
    }
}
