//! A server on loopback, and what its clients store.

use std::{net::SocketAddr, path::Path, time::Duration};

use bkfs_store::{
    access::{InitRequest, Lease, Manage, Open, OpenRequest, Opened, Push},
    base::{
        id::{ChunkId, DomainId, Hash, RepoId, SnapshotId},
        time::Time,
    },
    crypto::{DataKey, random},
    format::{
        config::ChunkerParams,
        frame::{ChunkKind, FrameBuilder},
        keys::{FullKey, PushKey},
        pack::{PackUpload, PackWriter},
        roster::Roster,
        snapshot::{self, PathBytes, PushStats, Snapshot},
        tree::{Node, NodeKind},
    },
};
use bkfs_transport::{
    Identity, Name, Permissions, RepoUrl,
    client::{self, Remote},
    server::{self, AuditOptions, Invitation, RunningServer},
};

/// A server that runs.
pub struct Peer {
    folder: tempfile::TempDir,
    pub running: RunningServer,
}

/// A client of it.
pub struct Client {
    pub remote: Remote,
    pub fingerprint: String,
    pub identity: Identity,
    url: RepoUrl,
    pub server: Hash,
}

/// A repository's keys.
pub struct Keys {
    pub full: FullKey,
    pub push: PushKey,
    init: InitRequest,
}

impl Peer {
    /// Starts a server without a floor.
    pub fn start() -> Self {
        Self::start_protecting(0)
    }

    /// Starts a server with a floor of so many seconds.
    pub fn start_protecting(secs: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        server::init(folder.path(), &format!("127.0.0.1:{port}"), secs).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let path = folder.path().join("audit.log");
        let audit = Some(AuditOptions { path, bytes_max: 1 << 24, kept: 1 });
        let running = server::start(folder.path(), address, server::Options { audit, ..Default::default() }).unwrap();
        Self { folder, running }
    }

    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// Joins alice's account.
    pub fn join(&self, can: &str) -> Client {
        self.join_with(Invitation::new(name("alice"), can.parse::<Permissions>().unwrap()))
    }

    pub fn join_with(&self, invitation: Invitation) -> Client {
        let token = server::invite_to(self.data(), &invitation).unwrap();
        let identity = Identity::generate().unwrap();
        let url = client::join(&token, &identity).unwrap().url;
        let remote = Remote::connect(&url, &identity, token.fingerprint).unwrap();
        remote.set_retry_timeout(Duration::from_secs(5));
        let fingerprint = identity.fingerprint().to_string();
        Client { remote, fingerprint, identity, url, server: token.fingerprint }
    }

    /// All bytes of files in alice's folder, without the indexes and the reserves: what `du --apparent-size` would
    /// count.
    pub fn bytes_on_disk(&self) -> u64 {
        fn sum(folder: &Path) -> u64 {
            let entries = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
            let of = |entry: std::fs::DirEntry| match entry.metadata() {
                Ok(_) if ["index", "reserve"].iter().any(|name| entry.file_name() == *name) => 0,
                Ok(meta) if meta.is_dir() => sum(&entry.path()),
                Ok(meta) => meta.len(),
                Err(_) => 0,
            };
            entries.map(of).sum()
        }
        sum(&self.data().join("accounts/alice"))
    }
}

impl Client {
    /// Connects to another repository of the account.
    pub fn at(&self, repository: &str) -> Remote {
        let url = RepoUrl { name: Some(name(repository)), ..self.url.clone() };
        Remote::connect(&url, &self.identity, self.server).unwrap()
    }
}

impl Keys {
    pub fn new() -> Self {
        let full = FullKey::random(RepoId(random()));
        let (push, client) = full.new_client("host", None, DomainId::OWNER, now());
        let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: vec![client] });
        let config = full.config(now(), ChunkerParams::default());
        Self { init: InitRequest { config, roster, slots: vec![] }, full, push }
    }

    /// Makes the repository.
    pub fn init(&self, remote: &Remote) {
        self.try_init(remote).unwrap();
    }

    pub fn try_init(&self, remote: &Remote) -> bkfs_store::Result<()> {
        remote.init(&self.init)
    }

    /// Adds a client to the roster, in a trust domain of its own. Returns its key.
    pub fn enrol(&self, admin: &Remote, label: &str) -> PushKey {
        self.enrol_in(admin, label, DomainId(random()))
    }

    /// Adds a client of a trust domain to the roster. Returns its key.
    pub fn enrol_in(&self, admin: &Remote, label: &str, domain: DomainId) -> PushKey {
        let (push, client) = self.full.new_client(label, None, domain, now());
        self.update(admin, |roster| roster.clients.push(client.clone())).unwrap();
        push
    }

    /// Ends a client on the roster.
    pub fn end(&self, admin: &Remote, key: &PushKey) {
        self.update(admin, |roster| {
            let client = roster.clients.iter_mut().find(|client| client.id == key.client_id());
            client.unwrap().until = Some(now());
        })
        .unwrap();
    }

    /// Signs a changed roster, and stores it.
    pub fn update(&self, admin: &Remote, change: impl Fn(&mut Roster)) -> bkfs_store::Result<()> {
        let opened = admin.open(&OpenRequest::default()).unwrap();
        let verified =
            bkfs_store::format::roster::verify_roster(&opened.roster, &self.full.admin.verifying_key(), self.full.repo);
        let mut roster = verified.unwrap();
        roster.number += 1;
        change(&mut roster);
        admin.put_roster(&self.full.sign_roster(&roster))
    }
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn now() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time { secs: now.as_secs() as i64, nanos: 0 }
}

/// A pack of about so many bytes that do not compress. No two are the same.
pub fn pack(push: &PushKey, bytes: usize) -> PackUpload {
    pack_of(push, 1, bytes).0
}

/// A pack of so many frames, each with one chunk of so many bytes, and the chunks' ids.
pub fn pack_of(push: &PushKey, frames: usize, bytes: usize) -> (PackUpload, Vec<ChunkId>) {
    let key = DataKey::random();
    let mut writer = PackWriter::new(ChunkKind::Data, push.repo, &push.signing);
    writer.add_wrap(&push.seal().unwrap().wrap(push.repo, &key));
    let mut ids = Vec::new();
    for _ in 0..frames {
        let mut chunk = vec![0; bytes];
        blake3::Hasher::new().update(&random::<32>()).finalize_xof().fill(&mut chunk);
        let mut frame = FrameBuilder::new();
        frame.push(&chunk);
        let id = push.ids().data_id(&chunk);
        writer.add(&frame.seal(push.repo, ChunkKind::Data, &key, 1), &[id]);
        ids.push(id);
    }
    (writer.finish(), ids)
}

/// Stores a pack.
pub fn put(remote: &Remote, push: &PushKey, bytes: usize) -> bkfs_store::Result<()> {
    remote.put_pack(Lease::default(), &pack(push, bytes))
}

/// Commits an empty snapshot whose record has at least so many bytes.
pub fn commit(remote: &Remote, push: &PushKey, bytes: usize) -> bkfs_store::Result<SnapshotId> {
    let opened = remote.open(&OpenRequest { client: Some(push.client_id()), seen: None })?;
    commit_in(remote, push, bytes, &opened)
}

/// The same, in a session that was opened before.
pub fn commit_in(remote: &Remote, push: &PushKey, bytes: usize, opened: &Opened) -> bkfs_store::Result<SnapshotId> {
    let time = now();
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(&random::<32>()).finalize_xof().fill(&mut noise);
    let noise: String = noise.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    let snapshot = Snapshot {
        time,
        host: "host".into(),
        user: "user".into(),
        target: "home".into(),
        paths: noise.as_bytes().chunks(4000).map(|path| PathBytes(path.to_vec())).collect(),
        tags: vec![],
        root: Node { mode: 0o755, mtime: time, ..Node::new(b"", NodeKind::Directory) },
        stats: PushStats::default(),
        program: "test".into(),
        sequence: opened.last.map_or(1, |last| last.sequence + 1),
        previous: opened.last.map(|last| last.id),
        log_len: opened.now.log_len,
        log_head: opened.now.log_head,
    };
    let key = DataKey::random();
    let wrap = push.seal().unwrap().wrap(push.repo, &key);
    let bytes = snapshot::seal(&snapshot, push, &push.ids(), &key, &wrap);
    Ok(remote.commit(opened.lease, &bytes)?.snapshot)
}
