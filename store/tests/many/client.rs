//! A client that follows the protocol: it remembers what it believes to be stored, is told at each opening what of that
//! was lost, and asks only about the rest. `fs/src/push` does the same with files; here there are only names and
//! numbers.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use bkfs_store::{
    Error, Result,
    access::*,
    base::id::{ChunkId, DomainId, SnapshotId},
    crypto::{DataKey, Secret, SigningKey, Wrap},
    format::{
        content::ContentBuilder,
        frame::{ChunkKind, FrameBuilder},
        keys::PushKey,
        loss::Lost,
        pack::PackWriter,
        roster::RosterClient,
        snapshot::{self, Snapshot},
        tree::{Extent, Node, NodeKind, TreeBuilder},
    },
};

use crate::{
    model::Tree,
    process::clock,
    support::{self, node},
};

/// How many clients there are on the roster.
pub const CLIENTS: u64 = 4;
/// How often a commit is tried.
const COMMITS: usize = 40;

/// The key of a client.
pub fn key(number: u64) -> &'static PushKey {
    static KEYS: LazyLock<Vec<PushKey>> = LazyLock::new(|| {
        let signing = |number| SigningKey::from_seed(Secret::new([number as u8 + 1; 32]));
        (0..CLIENTS).map(|number| support::full_key().push_key(signing(number), "client", None)).collect()
    });
    &KEYS[number as usize]
}

pub fn roster_entry(number: u64, domain: DomainId) -> RosterClient {
    let push = key(number);
    let public = push.signing.verifying_key().0.to_vec();
    let since = support::time(1_700_000_000);
    let (label, endorsement) = (vec![0x66; 72], support::endorsement(push));
    RosterClient { id: push.client_id(), public, since, until: None, domain, label, endorsement }
}

/// Incompressible contents that follow from a number.
pub fn contents(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 300 + (number % 7 * 900) as usize];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A client.
pub struct Client {
    key: &'static PushKey,
    known: HashSet<ChunkId>,
    seen: Option<Seen>,
    pub tree: Tree,
    /// Whether it waits while a prune holds commits back. If not, the push fails.
    pub waits: bool,
    /// What it seals all pushes with. If there is none, each push has a key of its own.
    pub data_key: Option<(Arc<DataKey>, Wrap)>,
}

/// A push that is ready to be committed.
struct Prepared {
    chunks: Vec<(ChunkKind, ChunkId, Vec<u8>)>,
    root: Node,
    data_key: Arc<DataKey>,
    wrap: Wrap,
    session: u64,
}

impl Client {
    pub fn new(number: u64) -> Self {
        Self { key: key(number), known: HashSet::new(), seen: None, tree: Tree::new(), waits: true, data_key: None }
    }

    fn request(&self, seen: Option<Seen>) -> OpenRequest {
        OpenRequest { client: Some(self.key.client_id()), seen }
    }

    /// Removes what was lost from what is known.
    fn note(&mut self, lost: &Lost, now: Seen) {
        match lost {
            Lost::Ids(ids) => self.known.retain(|id| !ids.contains(id)),
            Lost::Everything => self.known.clear(),
        }
        self.seen = Some(now);
    }

    /// Pushes its tree. Calls `committing` before each attempt to commit, with the snapshot's id.
    pub fn push(&mut self, repo: &dyn Push, committing: &mut dyn FnMut(SnapshotId, &Tree)) -> Result<SnapshotId> {
        let mut opened = repo.open(&self.request(self.seen))?;
        self.note(&opened.lost, opened.now);
        let mut push = self.prepare(opened.lease.session);
        'collect: loop {
            self.store(repo, &mut push, opened.lease)?;
            let begun = opened.now;
            for _ in 0..COMMITS {
                let bytes = self.seal(&push, &opened);
                let id = snapshot::snapshot_id(&bytes);
                committing(id, &self.tree);
                match self.commit(repo, opened.lease, &bytes) {
                    Ok(receipt) => {
                        self.known.extend(push.chunks.iter().map(|(_, id, _)| *id));
                        let now = receipt.now;
                        let is_next = now.incarnation == begun.incarnation && now.log_len == begun.log_len + 1;
                        self.seen = Some(if is_next { now } else { begun });
                        return Ok(id);
                    }
                    Err(Error::LeaseRefused { .. }) => {}
                    Err(error) => return Err(error),
                }
                opened = repo.open(&self.request(Some(begun)))?;
                opened.lease.session = push.session;
                if opened.now.incarnation != begun.incarnation || opened.head_at_seen != Some(begun.log_head) {
                    return Err(Error::Invalid(format!(
                        "packs were lost, or the log was rolled back: {begun:?} {:?}",
                        opened.now
                    )));
                }
                let is_hit = match &opened.lost {
                    Lost::Ids(ids) => push.chunks.iter().any(|(_, id, _)| ids.contains(id)),
                    Lost::Everything => true,
                };
                if is_hit {
                    self.note(&opened.lost, opened.now);
                    continue 'collect;
                }
            }
            return Err(Error::Invalid("a push is refused again and again".into()));
        }
    }

    /// Commits, if it waits as soon as no prune holds commits back any more.
    fn commit(&self, repo: &dyn Push, lease: Lease, snapshot: &[u8]) -> Result<Receipt> {
        loop {
            match repo.commit(lease, snapshot) {
                Err(Error::CommitsHeld { .. }) if self.waits => std::thread::sleep(Duration::from_millis(2)),
                result => return result,
            }
        }
    }

    fn prepare(&self, session: u64) -> Prepared {
        let ids = self.key.ids();
        let (mut chunks, mut pages, mut tree) = (Vec::new(), Vec::new(), TreeBuilder::new(&ids));
        for (name, number) in &self.tree {
            let bytes = contents(*number);
            let id = ids.data_id(&bytes);
            let mut file = node(name.as_bytes(), NodeKind::File);
            file.size = bytes.len() as u64;
            let mut content = ContentBuilder::new(&ids);
            let mut out = |id, page| pages.push((id, page));
            content.add(Extent::Data { id, len: bytes.len() as u32 }, &mut out).unwrap();
            file.content = Some(content.finish(&mut out).unwrap());
            tree.add(&file, &mut out).unwrap();
            chunks.push((ChunkKind::Data, id, bytes));
        }
        let subtree = tree.finish(&mut |id, page| pages.push((id, page))).unwrap();
        chunks.extend(pages.into_iter().map(|(id, page)| (ChunkKind::Tree, id, page)));
        let root = Node { subtree: Some(subtree), ..node(b"", NodeKind::Directory) };
        let (data_key, wrap) = self.data_key.clone().unwrap_or_else(|| {
            let key = DataKey::random();
            let wrap = self.key.seal().unwrap().wrap(self.key.repo, &key);
            (Arc::new(key), wrap)
        });
        Prepared { chunks, root, data_key, wrap, session }
    }

    /// Asks about chunks that are not known, and stores those that are absent.
    fn store(&self, repo: &dyn Push, push: &mut Prepared, lease: Lease) -> Result<()> {
        let unknown: Vec<ChunkId> =
            push.chunks.iter().map(|(_, id, _)| *id).filter(|id| !self.known.contains(id)).collect();
        let has = repo.has(Some(self.key.client_id()), &unknown)?;
        let absent: BTreeSet<ChunkId> =
            unknown.into_iter().zip(has).filter(|(_, has)| !has).map(|(id, _)| id).collect();
        let lease = Lease { session: push.session, ..lease };
        for kind in [ChunkKind::Data, ChunkKind::Tree] {
            let mut sent = BTreeSet::new();
            let wanted: Vec<_> = push.chunks.iter().filter(|(of, id, _)| *of == kind && absent.contains(id)).collect();
            // A few frames for each pack, so that there are many packs.
            for part in wanted.chunks(4) {
                let mut pack = PackWriter::new(kind, self.key.repo, &self.key.signing);
                pack.add_wrap(&push.wrap);
                for (_, id, bytes) in part {
                    if sent.insert(*id) {
                        let mut frame = FrameBuilder::new();
                        frame.push(bytes);
                        pack.add(&frame.seal(self.key.repo, kind, &push.data_key, 1), &[*id]);
                    }
                }
                if !pack.is_empty() {
                    repo.put_pack(lease, &pack.finish())?;
                }
            }
        }
        Ok(())
    }

    fn seal(&self, push: &Prepared, opened: &Opened) -> Vec<u8> {
        let last = opened.last;
        let record = Snapshot {
            root: push.root.clone(),
            time: clock(),
            log_len: opened.now.log_len,
            log_head: opened.now.log_head,
            ..support::snapshot(last.map_or(1, |last| last.sequence + 1), last.map(|last| last.id))
        };
        snapshot::seal(&record, self.key, &self.key.ids(), &push.data_key, &push.wrap)
    }
}
