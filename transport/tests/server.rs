//! A real server and real clients on loopback.

#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use bkfs_store::{
    Error, ErrorKind,
    access::{
        ForgetRequest, InitRequest, Lease, Maintain, Manage, Open, OpenRequest, Push, Read, ReadRequest,
        SignedTombstone,
    },
    base::{
        id::{ChunkId, DomainId, RepoId, SnapshotId},
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
        tombstone::Tombstone,
        tree::{Node, NodeKind},
    },
};
use bkfs_transport::{
    Identity, Name, Permissions, RepoUrl,
    client::{self, Remote},
    server::{self, RunningServer},
};

const HOUR: Duration = Duration::from_secs(3600);

/// The folder of a server.
struct ServerFolder(tempfile::TempDir);

impl ServerFolder {
    /// Makes a server without a floor, and starts it on a free port.
    fn start_new() -> (Self, RunningServer) {
        Self::start_with_floor(0)
    }

    /// The same with a floor.
    fn start_with_floor(protect_secs: u64) -> (Self, RunningServer) {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        server::init(folder.path(), &format!("127.0.0.1:{port}"), protect_secs).unwrap();
        let folder = Self(folder);
        let running = folder.start(port);
        (folder, running)
    }

    fn start(&self, port: u16) -> RunningServer {
        server::start(self.0.path(), SocketAddr::from(([127, 0, 0, 1], port)), server::Options::default()).unwrap()
    }

    fn data(&self) -> &Path {
        self.0.path()
    }

    /// Joins an account as a new client. Returns its identity, the URL, and the fingerprint of the server.
    fn join(&self, account: &str, can: &str) -> (Identity, RepoUrl, bkfs_store::base::id::Hash) {
        let name: Name = account.parse().unwrap();
        let token = server::invite(self.data(), &name, can.parse().unwrap(), None, HOUR).unwrap();
        let identity = Identity::generate().unwrap();
        let url = client::join(&token, &identity).unwrap().url;
        (identity, url, token.fingerprint)
    }

    fn remote(&self, account: &str, can: &str) -> Remote {
        let (identity, url, fingerprint) = self.join(account, can);
        Remote::connect(&url, &identity, fingerprint).unwrap()
    }
}

fn repository() -> (InitRequest, PushKey) {
    let (request, push, _) = repository_with_full_key();
    (request, push)
}

fn repository_with_full_key() -> (InitRequest, PushKey, FullKey) {
    let full = FullKey::random(RepoId(random()));
    let now = Time { secs: 1_000_000_000, nanos: 0 };
    let (push, client) = full.new_client("host", None, DomainId::OWNER, now);
    let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: vec![client] });
    (InitRequest { config: full.config(now, ChunkerParams::default()), roster, slots: vec![] }, push, full)
}

/// Commits an empty snapshot.
fn commit(remote: &Remote, push: &PushKey) -> SnapshotId {
    let opened = remote.open(&OpenRequest { client: Some(push.client_id()), seen: None }).unwrap();
    let time = Time { secs: 1_700_000_000, nanos: 0 };
    let snapshot = Snapshot {
        time,
        host: "host".into(),
        user: "user".into(),
        target: "home".into(),
        paths: vec![PathBytes(b"/home".to_vec())],
        tags: vec![],
        root: empty_root(time),
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
    remote.commit(opened.lease, &bytes).unwrap().snapshot
}

fn empty_root(mtime: Time) -> Node {
    Node { mode: 0o755, mtime, ..Node::new(b"", NodeKind::Directory) }
}

fn forget_request(remote: &Remote, full: &FullKey, snapshots: &[SnapshotId], now: bool) -> ForgetRequest {
    let log_len = remote.open(&OpenRequest::default()).unwrap().now.log_len;
    let sign = |id: &SnapshotId| {
        SignedTombstone(Tombstone { repo: full.repo, snapshot: *id, log_len, is_broken: false }.sign(full))
    };
    ForgetRequest { tombstones: snapshots.iter().map(sign).collect(), now, empty_trash: false }
}

fn pack(push: &PushKey, bytes: usize) -> (PackUpload, ChunkId) {
    let key = DataKey::random();
    let mut writer = PackWriter::new(ChunkKind::Data, push.repo, &push.signing);
    writer.add_wrap(&push.seal().unwrap().wrap(push.repo, &key));
    let mut last = ChunkId::default();
    for i in 0..bytes.div_ceil(100_000) {
        let mut chunk = vec![0; 100_000];
        blake3::Hasher::new().update(&(i as u64).to_le_bytes()).finalize_xof().fill(&mut chunk);
        let mut frame = FrameBuilder::new();
        frame.push(&chunk);
        last = push.ids().data_id(&chunk);
        writer.add(&frame.seal(push.repo, ChunkKind::Data, &key, 1), &[last]);
    }
    (writer.finish(), last)
}

#[test]
fn a_pack_is_stored_and_read_back() {
    let (folder, running) = ServerFolder::start_new();
    let remote = folder.remote("alice", "all");
    assert_eq!(remote.open(&OpenRequest::default()).unwrap_err().kind(), ErrorKind::NoRepository);
    let (request, push) = repository();
    remote.init(&request).unwrap();
    assert!(matches!(remote.init(&request), Err(Error::RepositoryExists { .. })));
    let (upload, id) = pack(&push, 12_000_000);
    remote.put_pack(Lease::default(), &upload).unwrap();
    remote.put_pack(Lease::default(), &upload).unwrap();
    assert_eq!(remote.has(None, &[id, ChunkId([1; 32])]).unwrap(), [true, false]);
    let (_, first) = pack(&push, 1000);
    assert_eq!(remote.places(&[id, first, id]).unwrap(), [119, 0, 119]);
    let reply =
        remote.read(&ReadRequest { ids: vec![id, ChunkId([1; 32])], neighbour_bytes: 0, avoid: vec![] }).unwrap();
    assert_eq!((reply.frames.len(), reply.done, reply.missing.len()), (1, 2, 1));
    assert_eq!(remote.read_pack(upload.id).unwrap(), upload.bytes);
    assert_eq!(remote.packs(None, 10).unwrap().len(), 1);
    assert_eq!(remote.open(&OpenRequest::default()).unwrap().chunks, 120);
    assert_eq!(remote.log(0, 10).unwrap().len(), 3);
    assert_eq!(remote.wait_log(3, Duration::from_millis(10)).unwrap(), 3);
    running.stop();
}

#[test]
fn a_client_keeps_to_its_bandwidth() {
    let (folder, running) = ServerFolder::start_new();
    let remote = folder.remote("alice", "all");
    let (request, push) = repository();
    remote.init(&request).unwrap();
    let (upload, _) = pack(&push, 300_000);
    // Slower is always possible, faster must not be. The first tenth of a second may pass at once.
    let least = Duration::from_secs_f64(upload.bytes.len() as f64 / 500_000.0) - Duration::from_millis(150);
    remote.limit(Some(500_000), None);
    let begin = Instant::now();
    remote.put_pack(Lease::default(), &upload).unwrap();
    assert!(begin.elapsed() >= least, "{:?}", begin.elapsed());
    remote.limit(None, Some(500_000));
    let begin = Instant::now();
    assert_eq!(remote.read_pack(upload.id).unwrap(), upload.bytes);
    assert!(begin.elapsed() >= least, "{:?}", begin.elapsed());
    running.stop();
}

#[test]
fn permissions_are_enforced() {
    let (folder, _running) = ServerFolder::start_new();
    let (request, push) = repository();
    folder.remote("alice", "all").init(&request).unwrap();
    let writer = folder.remote("alice", "push");
    let (upload, id) = pack(&push, 1000);
    writer.put_pack(Lease::default(), &upload).unwrap();
    let opened = writer.open(&OpenRequest::default()).unwrap();
    assert!(opened.slots.is_empty() && opened.snapshots.is_empty());
    let read = ReadRequest { ids: vec![id], neighbour_bytes: 0, avoid: vec![] };
    for error in [
        writer.read(&read).unwrap_err(),
        writer.places(&[id]).unwrap_err(),
        writer.snapshots(0, 10).unwrap_err(),
        writer.read_pack(upload.id).unwrap_err(),
        writer.remove_slot(Default::default()).unwrap_err(),
        folder.remote("alice", "read").put_pack(Lease::default(), &upload).unwrap_err(),
        folder.remote("bob", "push,read").init(&request).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NoPermission, "{error}");
    }
    // A client of another account sees nothing of this one.
    let (identity, url, fingerprint) = folder.join("bob", "all");
    let other = RepoUrl { account: "alice".parse().unwrap(), ..url };
    let error = Remote::connect(&other, &identity, fingerprint).unwrap().open(&OpenRequest::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoPermission, "{error}");
}

#[test]
fn strangers_and_wrong_servers_are_refused() {
    let (folder, _running) = ServerFolder::start_new();
    let (_, url, fingerprint) = folder.join("alice", "all");
    let stranger = Identity::generate().unwrap();
    let error = Remote::connect(&url, &stranger, fingerprint).unwrap().open(&OpenRequest::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoPermission);
    let error = Remote::connect(&url, &stranger, bkfs_store::base::id::Hash([1; 32])).unwrap_err();
    assert!(error.to_string().contains("fingerprint"), "{error}");

    let token = server::invite(folder.data(), &"carol".parse().unwrap(), Permissions::PUSH, None, HOUR).unwrap();
    client::join(&token, &stranger).unwrap();
    let error = client::join(&token, &Identity::generate().unwrap()).unwrap_err();
    assert!(error.to_string().contains("has been used"), "{error}");
}

#[test]
fn a_client_reconnects_to_a_restarted_server() {
    let (folder, running) = ServerFolder::start_new();
    let port = running.local_addr().port();
    let remote = folder.remote("alice", "all");
    let (request, push) = repository();
    remote.init(&request).unwrap();
    let (upload, id) = pack(&push, 3_000_000);
    running.stop();
    let again = std::thread::scope(|scope| {
        let put = scope.spawn(|| remote.put_pack(Lease::default(), &upload));
        std::thread::sleep(Duration::from_millis(300));
        let again = folder.start(port);
        put.join().unwrap().unwrap();
        again
    });
    assert_eq!(remote.has(None, &[id]).unwrap(), [true]);
    again.stop();
    remote.set_retry_timeout(Duration::from_millis(100));
    let error = remote.has(None, &[id]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}

#[test]
fn many_clients_and_accounts_work_at_once() {
    let (folder, _running) = ServerFolder::start_new();
    std::thread::scope(|scope| {
        for account in ["alice", "bob"] {
            let (request, push) = repository();
            folder.remote(account, "all").init(&request).unwrap();
            for _ in 0..3 {
                let (folder, push) = (&folder, push.clone());
                scope.spawn(move || {
                    let remote = folder.remote(account, "push,read");
                    for _ in 0..3 {
                        let (upload, id) = pack(&push, 500_000);
                        remote.put_pack(Lease::default(), &upload).unwrap();
                        assert_eq!(remote.has(None, &[id]).unwrap(), [true]);
                    }
                });
            }
        }
    });
}

#[test]
fn a_quota_is_enforced() {
    let (folder, _running) = ServerFolder::start_new();
    let (request, push) = repository();
    let name: Name = "alice".parse().unwrap();
    let token = server::invite(folder.data(), &name, Permissions::ALL, Some(250_000), HOUR).unwrap();
    let identity = Identity::generate().unwrap();
    let url = client::join(&token, &identity).unwrap().url;
    let remote = Remote::connect(&url, &identity, token.fingerprint).unwrap();
    remote.init(&request).unwrap();
    let first = pack(&push, 100_000).0;
    // A client that lost the acknowledgement sends its pack again. It counts once for the quota.
    for _ in 0..3 {
        remote.put_pack(Lease::default(), &first).unwrap();
    }
    remote.put_pack(Lease::default(), &pack(&push, 100_000).0).unwrap();
    let error = remote.put_pack(Lease::default(), &pack(&push, 100_000).0).unwrap_err();
    assert!(error.to_string().contains("quota"), "{error}");
    remote.put_pack(Lease::default(), &first).unwrap();
}

#[test]
fn forgetting_and_expiring_need_permissions_of_their_own() {
    let (folder, _running) = ServerFolder::start_with_floor(0);
    let (request, push, full) = repository_with_full_key();
    let admin = folder.remote("alice", "all");
    admin.init(&request).unwrap();
    let ids: Vec<_> = (0..4).map(|_| commit(&admin, &push)).collect();
    let forget = |remote: &Remote, now| remote.forget(&forget_request(&admin, &full, &ids[..1], now));
    let empty = ForgetRequest { empty_trash: true, ..ForgetRequest::default() };
    for can in ["push", "read", "push,read", "admin", "prune"] {
        let remote = folder.remote("alice", can);
        for error in [forget(&remote, false).unwrap_err(), remote.unforget(&ids[..1]).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::NoPermission, "{can}: {error}");
        }
        assert_eq!(remote.forget(&empty).is_ok(), can == "prune", "{can}");
    }
    let forgetter = folder.remote("alice", "forget");
    for error in [forget(&forgetter, true).unwrap_err(), forgetter.forget(&empty).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NoPermission, "{error}");
        assert!(error.to_string().contains("prune"), "{error}");
    }
    assert_eq!(forget(&forgetter, false).unwrap().forgotten, 1);
    assert_eq!(admin.open(&OpenRequest::default()).unwrap().snapshots.len(), 3);
    forgetter.unforget(&ids[..1]).unwrap();
    assert_eq!(admin.open(&OpenRequest::default()).unwrap().snapshots.len(), 4);
    assert_eq!(forget(&folder.remote("alice", "forget,prune"), true).unwrap().expired, ids[..1]);
    assert_eq!(admin.snapshots(0, 10).unwrap().len(), 3);
    let error = admin.unforget(&ids[..1]).unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("gone for good"), "{error}");
}

#[test]
fn no_credential_passes_the_floor() {
    let (folder, running) = ServerFolder::start_with_floor(3600);
    let port = running.local_addr().port();
    let (request, push, full) = repository_with_full_key();
    let admin = folder.remote("alice", "all");
    admin.init(&request).unwrap();
    let id = commit(&admin, &push);
    let now = |remote: &Remote| remote.forget(&forget_request(remote, &full, &[id], true)).unwrap_err();
    let error = now(&admin);
    assert!(matches!(error, Error::Protected { snapshot, .. } if snapshot == id), "{error}");
    admin.forget(&forget_request(&admin, &full, &[id], false)).unwrap();
    assert!(matches!(now(&admin), Error::Protected { .. }), "not even through the trash");
    let empty = ForgetRequest { empty_trash: true, ..ForgetRequest::default() };
    assert_eq!(admin.forget(&empty).unwrap().expired, []);
    // The floor is in the server's log, so it also holds after a restart.
    running.stop();
    let _again = folder.start(port);
    assert!(matches!(now(&admin), Error::Protected { .. }));
    assert_eq!(admin.open(&OpenRequest::default()).unwrap().protect_secs, 3600);
}
