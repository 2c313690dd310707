//! A store in memory that opens what it is given, counts what it is asked, and fails when a test wants it to.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bkfs_store::{
    Error, Result,
    access::{
        Challenge, LastSnapshot, Lease, Mending, Open, OpenRequest, Opened, Proofs, Push, Read, ReadReply, ReadRequest,
        Receipt, SealedFrame, Seen,
    },
    base::{
        id::{ClientId, DomainId, Hash, Incarnation, KeyId, PackId, RepoId, SnapshotId},
        time::Time,
    },
    crypto::{Wrap, signed::Signed},
    format::{
        config::Config,
        frame,
        keys::{FullKey, PushKey, SealKeys},
        loss::Lost,
        pack::{Pack, PackUpload},
        snapshot::{self, Snapshot, SnapshotObject, StoredSnapshot},
    },
    owner::keyring::KeyRing,
};
use bytes::Bytes;
use parking_lot::Mutex;

pub struct Fake {
    pub full: FullKey,
    pub client: PushKey,
    pub config: Config,
    pub state: Mutex<State>,
    pub asked: AtomicU64,
    pub puts: AtomicU64,
    pub commits: AtomicU64,
    /// This many commits succeed, but their replies are lost.
    pub deaf: AtomicU64,
    /// The replies to this many commits are given up. The first of them takes effect after the last.
    pub slow: AtomicU64,
    /// So many commits are refused because another push with the same key came first.
    pub rivals: AtomicU64,
    /// The store is full once it has this many packs.
    pub full_at: AtomicU64,
}

#[derive(Default)]
pub struct State {
    pub chunks: HashMap<ChunkId, Bytes>,
    pub snapshots: Vec<(SnapshotId, Vec<u8>)>,
    pub lost: Vec<ChunkId>,
    /// What a prune takes just before the next commit.
    pub condemned: Option<Vec<ChunkId>>,
    /// Before which call the seal key is rotated.
    pub rotates_before: Option<&'static str>,
    /// The owner's key after that, and the signed list of seal keys.
    pub rotated: Option<(FullKey, Vec<u8>)>,
    /// A commit that has not taken effect yet.
    late: Option<Vec<u8>>,
    prunes: u64,
    frames: HashMap<ChunkId, SealedFrame>,
    wraps: HashMap<KeyId, Wrap>,
    pub incarnation: u8,
}

pub use bkfs_store::base::id::ChunkId;

impl Fake {
    pub fn new() -> Arc<Self> {
        let full = FullKey::random(RepoId([7; 16]));
        Self::with(full)
    }

    pub fn with(full: FullKey) -> Arc<Self> {
        let signed = full.config(Time::default(), Default::default());
        let config = bkfs_store::format::config::verify_config(&signed).unwrap();
        let (client, _) = full.new_client("test", None, DomainId::OWNER, Time::default());
        Arc::new(Self {
            full,
            client,
            config,
            state: Mutex::default(),
            asked: AtomicU64::new(0),
            puts: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            deaf: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            rivals: AtomicU64::new(0),
            full_at: AtomicU64::new(u64::MAX),
        })
    }

    /// Rotates the seal key if it is time. Returns the owner's key if a wrap is sealed to the newest seal key.
    fn check_seal_key(&self, call: &str, wrap: &Wrap) -> Result<FullKey> {
        let mut state = self.state.lock();
        if state.rotates_before == Some(call) {
            state.rotates_before = None;
            let rotated = SealKeys::verify(&[], &self.config)?.rotate(&self.full)?;
            state.rotated = Some((rotated.full, rotated.signed));
        }
        let full = state.rotated.as_ref().map_or(&self.full, |(full, _)| full);
        match wrap.seal_key == full.seal.number() {
            true => Ok(full.clone()),
            false => Err(Error::LeaseRefused { reason: "the seal key is old".into() }),
        }
    }

    fn generation(state: &State) -> u64 {
        state.snapshots.len() as u64 | state.prunes << 32
    }

    fn seen(state: &State) -> Seen {
        let len = state.snapshots.len() as u64;
        Seen { incarnation: Incarnation([state.incarnation; 16]), log_len: len, log_head: Hash([len as u8; 32]) }
    }

    /// The newest snapshot, opened.
    pub fn newest(self: &Arc<Self>) -> Snapshot {
        let (id, bytes) = self.state.lock().snapshots.last().cloned().unwrap();
        let signed = Signed::decode("snapshot", &bytes).unwrap();
        let payload =
            signed.verify("snapshot", &StoredSnapshot::HEADER.magic, &self.client.signing.verifying_key()).unwrap();
        let stored: StoredSnapshot = StoredSnapshot::HEADER.decode(payload).unwrap();
        let full = self.state.lock().rotated.as_ref().map_or(&self.full, |(full, _)| full).clone();
        let ring = KeyRing::new(full, self.clone());
        ring.open_snapshot(&stored, id).unwrap()
    }
}

impl Open for Fake {
    fn open(&self, request: &OpenRequest) -> Result<Opened> {
        let mut state = self.state.lock();
        let now = Self::seen(&state);
        let last = state.snapshots.last().map(|(id, _)| LastSnapshot { id: *id, sequence: now.log_len });
        let lost = match request.seen {
            Some(seen) if seen.incarnation == now.incarnation => Lost::Ids(std::mem::take(&mut state.lost)),
            _ => Lost::Everything,
        };
        Ok(Opened {
            config: vec![],
            roster: vec![],
            slots: vec![],
            now,
            head_at_seen: request.seen.filter(|s| s.log_len <= now.log_len).map(|s| Hash([s.log_len as u8; 32])),
            lease: Lease { session: 1, generation: Self::generation(&state) },
            lost,
            chunks: state.chunks.len() as u64,
            last,
            snapshots: vec![],
            protect_secs: 0,
            time: Time::default(),
            standing: None,
            room: None,
            seal_keys: state.rotated.as_ref().map(|(_, signed)| signed.clone()).unwrap_or_default(),
        })
    }

    fn wait_log(&self, _: u64, _: Duration) -> Result<u64> {
        unimplemented_here()
    }
}

impl Read for Fake {
    fn read(&self, request: &ReadRequest) -> Result<ReadReply> {
        let state = self.state.lock();
        let mut reply = ReadReply { done: request.ids.len(), ..Default::default() };
        for id in &request.ids {
            match state.frames.get(id) {
                Some(frame) if !reply.frames.contains(frame) => reply.frames.push(frame.clone()),
                Some(_) => {}
                None => reply.missing.push(*id),
            }
        }
        Ok(reply)
    }

    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        let state = self.state.lock();
        Ok(keys.iter().filter_map(|key| state.wraps.get(key).cloned()).collect())
    }

    fn places(&self, _: &[ChunkId]) -> Result<Vec<u64>> {
        unimplemented_here()
    }

    fn snapshots(&self, _: u64, _: u32) -> Result<Vec<SnapshotObject>> {
        unimplemented_here()
    }

    fn log(&self, _: u64, _: u32) -> Result<Vec<Vec<u8>>> {
        unimplemented_here()
    }

    fn mend(&self, _: PackId) -> Result<Mending> {
        unimplemented_here()
    }

    fn read_pack(&self, _: PackId) -> Result<Bytes> {
        unimplemented_here()
    }

    fn judge(&self, _: &[u8]) -> Result<()> {
        unimplemented_here()
    }
}

impl Push for Fake {
    fn has(&self, _: Option<ClientId>, ids: &[ChunkId]) -> Result<Vec<bool>> {
        self.asked.fetch_add(ids.len() as u64, Relaxed);
        let state = self.state.lock();
        Ok(ids.iter().map(|id| state.chunks.contains_key(id)).collect())
    }

    fn prove(&self, _: Option<ClientId>, _: &[Challenge]) -> Result<Proofs> {
        unimplemented_here()
    }

    fn put_pack(&self, _: Lease, pack: &PackUpload) -> Result<()> {
        if self.puts.fetch_add(1, Relaxed) >= self.full_at.load(Relaxed) {
            return Err(Error::Full { place: "here".into() });
        }
        let parsed = Pack::parse(&pack.bytes).unwrap();
        let wrap = &parsed.table.wraps[0];
        let key = self.check_seal_key("put", wrap)?.unwrap(wrap).unwrap();
        let kind = parsed.table.kind;
        self.state.lock().wraps.insert(wrap.key, wrap.clone());
        for (number, entry) in parsed.table.frames.iter().enumerate() {
            let bytes = parsed.frame(number).unwrap();
            let chunks = frame::open(&bytes, self.full.repo, kind, &key).unwrap();
            let sealed = SealedFrame { pack: pack.id, frame: number as u32, bytes };
            assert_eq!(chunks.len(), entry.ids.len());
            for (id, chunk) in entry.ids.iter().zip(chunks) {
                let ids = self.full.ids();
                let expected = match kind {
                    frame::ChunkKind::Data => ids.data_id(&chunk),
                    frame::ChunkKind::Tree => ids.tree_id(&chunk),
                };
                assert_eq!(*id, expected);
                let mut state = self.state.lock();
                state.frames.insert(*id, sealed.clone());
                let old = state.chunks.insert(*id, chunk);
                assert!(old.is_none(), "a chunk was sent twice");
            }
        }
        Ok(())
    }

    fn commit(&self, lease: Lease, snapshot: &[u8]) -> Result<Receipt> {
        self.commits.fetch_add(1, Relaxed);
        let mut state = self.state.lock();
        if let Some(condemned) = state.condemned.take() {
            state.prunes += 1;
            state.chunks.retain(|id, _| !condemned.contains(id));
            state.lost = condemned;
        }
        if lease.generation != Self::generation(&state) {
            return Err(Error::LeaseRefused { reason: "it is old".into() });
        }
        drop(state);
        self.check_seal_key("commit", &snapshot::wrap_of(snapshot).unwrap())?;
        let mut state = self.state.lock();
        let id = bkfs_store::format::snapshot::snapshot_id(snapshot);
        if self.slow.load(Relaxed) > 0 {
            self.slow.fetch_sub(1, Relaxed);
            state.late.get_or_insert_with(|| snapshot.to_vec());
            return Err(Error::Unreachable("no reply in time".into()));
        }
        if self.rivals.load(Relaxed) > 0 {
            self.rivals.fetch_sub(1, Relaxed);
            return Err(Error::LeaseRefused { reason: "another push was faster".into() });
        }
        if let Some(late) = state.late.take() {
            state.snapshots.push((bkfs_store::format::snapshot::snapshot_id(&late), late));
            return Err(Error::LeaseRefused { reason: "another number was expected".into() });
        }
        state.snapshots.push((id, snapshot.to_vec()));
        if self.deaf.load(Relaxed) > 0 {
            self.deaf.fetch_sub(1, Relaxed);
            return Err(Error::Unreachable("gone".into()));
        }
        Ok(Receipt { snapshot: id, received: Time::default(), now: Self::seen(&state) })
    }
}

fn unimplemented_here<T>() -> Result<T> {
    Err(Error::Invalid("a push does not call this".into()))
}
