//! What a client leaves in the audit log: each act, whatever the client does to hide it, and no alarms about the
//! server's disk.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bkfs_store::{
    Error,
    access::{ForgetReply, ForgetRequest, Lease, Maintain, Manage, Open, OpenRequest, Push, Read, SignedTombstone},
    base::id::{PackId, SnapshotId},
    format::{pack::PackUpload, roster::Roster, tombstone::Tombstone, verdict::Verdict},
    repository::backend::{Backend, LocalBackend},
};
use bkfs_transport::{
    client,
    message::{Call, RequestHead},
    stream,
};
use quinn::{Connection, Endpoint, RecvStream};
use tokio::runtime::Runtime;

use crate::peer::{Client, Keys, Peer, commit, name, pack, put};

/// How long something may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for a server on this machine to receive a request, or to notice the end of a connection. If it is not,
/// a test that should fail passes.
const SOON: Duration = Duration::from_millis(500);

/// The end of a connection, in the hands of a client that keeps to no rules.
struct Raw {
    runtime: Runtime,
    connection: Connection,
    _endpoint: Endpoint,
}

impl Raw {
    fn connect(peer: &Peer, client: &Client) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (endpoint, connection) = runtime.block_on(async {
            let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let config = client::quic_config(&client.identity, client.server).unwrap();
            let connecting = endpoint.connect_with(config, peer.running.local_addr(), "bkfs").unwrap();
            let connection = connecting.await.unwrap();
            (endpoint, connection)
        });
        Self { runtime, connection, _endpoint: endpoint }
    }

    /// Sends a request. Returns the stream on which the reply will come.
    fn send(&self, call: &Call) -> RecvStream {
        let repository = bkfs_transport::DEFAULT_REPOSITORY.parse().unwrap();
        let head = RequestHead { account: name("alice"), repository, call: call.number() };
        self.runtime.block_on(async {
            let (mut send, receive) = self.connection.open_bi().await.unwrap();
            send.write_all(&[stream::encode(&head), stream::encode(call)].concat()).await.unwrap();
            send.finish().unwrap();
            receive
        })
    }
}

/// The lines of the audit log that hold all of the texts.
fn lines(peer: &Peer, parts: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(peer.data().join("audit.log")).unwrap();
    text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
}

/// The folder of the repository.
fn folder(peer: &Peer) -> std::path::PathBuf {
    let repository = bkfs_transport::DEFAULT_REPOSITORY.parse().unwrap();
    bkfs_transport::server::folder(peer.data(), &name("alice"), &repository)
}

fn until(what: &str, is_true: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn forget(keys: &Keys, admin: &Client, snapshot: SnapshotId) -> ForgetRequest {
    let log_len = admin.remote.open(&OpenRequest::default()).unwrap().now.log_len;
    let tombstone = Tombstone { repo: keys.full.repo, snapshot, log_len, is_broken: false };
    ForgetRequest { tombstones: vec![SignedTombstone(tombstone.sign(&keys.full))], now: true, empty_trash: false }
}

#[test]
fn an_act_of_a_client_that_leaves_at_once_is_recorded() {
    let (peer, keys) = (Peer::start(), Keys::new());
    let admin = peer.join("all");
    keys.init(&admin.remote);
    let acts = |keys: &Keys, number| {
        let snapshot = commit(&admin.remote, &keys.push, 10).unwrap();
        let mut roster = Roster { repo: keys.full.repo, number, clients: vec![] };
        let opened = admin.remote.open(&OpenRequest::default()).unwrap();
        let admin_key = keys.full.admin.verifying_key();
        let known = bkfs_store::format::roster::verify_roster(&opened.roster, &admin_key, keys.full.repo).unwrap();
        roster.clients = known.clients;
        let verdict = Verdict { repo: keys.full.repo, verified: vec![PackId([number as u8; 32])], refused: vec![] };
        [
            ("forget", Call::Forget(forget(keys, &admin, snapshot))),
            ("judge", Call::Judge(verdict.sign(&keys.full))),
            ("put-roster", Call::PutRoster(keys.full.sign_roster(&roster))),
        ]
    };
    for (number, closes) in [(2, true), (3, false)] {
        for (action, call) in acts(&keys, number) {
            let (action, ok) = (format!("\"action\":\"{action}\""), "\"outcome\":\"ok\"");
            let (before, len) = (lines(&peer, &[&action, ok]).len(), log_len(&admin));
            let raw = Raw::connect(&peer, &admin);
            // Somebody else writes to the repository, so the call waits.
            let lock = LocalBackend::new(&folder(&peer)).lock().unwrap();
            let mut receive = raw.send(&call);
            std::thread::sleep(SOON);
            match closes {
                true => raw.connection.close(0u32.into(), b""),
                false => receive.stop(0u32.into()).unwrap(),
            }
            std::thread::sleep(SOON);
            drop(lock);
            until("the call is made", || log_len(&admin) > len);
            until(&format!("{action} is recorded"), || lines(&peer, &[&action, ok]).len() == before + 1);
        }
    }
}

fn log_len(client: &Client) -> u64 {
    client.remote.open(&OpenRequest::default()).unwrap().now.log_len
}

#[test]
fn empty_acts_do_not_hide_one_that_destroys() {
    let (peer, keys) = (Peer::start(), Keys::new());
    let admin = peer.join("all");
    keys.init(&admin.remote);
    let snapshot = commit(&admin.remote, &keys.push, 10).unwrap();
    let request = forget(&keys, &admin, snapshot);
    for _ in 0..1100 {
        assert_eq!(admin.remote.forget(&ForgetRequest::default()).unwrap(), ForgetReply::default());
    }
    let forgets = || lines(&peer, &["\"action\":\"forget\"", "\"outcome\":\"ok\""]);
    let empty = forgets().len();
    assert_eq!(admin.remote.forget(&request).unwrap().expired, [snapshot]);
    let all = forgets();
    assert_eq!(all.len(), empty + 1, "it has its own line");
    assert!(!all[empty].contains("suppressed"), "{}", all[empty]);
    // The same request again finds nothing to do, and takes nothing of the room for acts that change something.
    let before = all.len();
    // Openings are bounded together with these.
    assert!(before > 900, "{before}");
    assert_eq!(admin.remote.forget(&request).unwrap(), ForgetReply::default());
    let after = forgets();
    assert!(
        after.len() == before || after[before].contains("suppressed"),
        "it has changed nothing: {:?}",
        after.last()
    );
}

/// Fails unless the error is the one of damaged data, and the server has recorded it as refused.
fn expect_refused<T: std::fmt::Debug>(peer: &Peer, action: &str, result: bkfs_store::Result<T>) {
    let error = result.unwrap_err();
    assert!(
        matches!(error, Error::PackDamaged { .. } | Error::SnapshotDamaged { .. } | Error::Damaged { .. }),
        "{error:?}"
    );
    let action = format!("\"action\":\"{action}\"");
    assert_eq!(lines(peer, &[&action, "\"outcome\":\"refused\""]).len(), 1, "{action}: {error}");
    assert!(lines(peer, &[&action, "\"outcome\":\"failed\""]).is_empty(), "{action}: {error}");
}

#[test]
fn rubbish_that_a_client_sends_is_refused_and_is_no_failure_of_the_storage() {
    let (peer, keys) = (Peer::start(), Keys::new());
    let admin = peer.join("all");
    keys.init(&admin.remote);
    let push = peer.join("push");
    let id = PackId(*blake3::hash(b"").as_bytes());
    let empty = PackUpload { id, bytes: Default::default() };
    expect_refused(&peer, "put-pack", push.remote.put_pack(Lease::default(), &empty));
    let lease = push.remote.open(&OpenRequest::default()).unwrap().lease;
    expect_refused(&peer, "commit", push.remote.commit(lease, b"rubbish").map(drop));
    // Names of packs that the repository does not have.
    expect_refused(&peer, "read-pack", admin.remote.read_pack(id));
    expect_refused(&peer, "mend", admin.remote.mend(id));
    let verify = bkfs_store::access::RepairRequest::Verify { pack: id, dry_run: true };
    expect_refused(&peer, "repair", admin.remote.repair(&verify));
    // Signed things.
    let rubbish = || b"rubbish".to_vec();
    expect_refused(&peer, "judge", admin.remote.judge(&rubbish()));
    expect_refused(&peer, "put-roster", admin.remote.put_roster(&rubbish()));
    expect_refused(&peer, "put-seal-keys", admin.remote.put_seal_keys(&rubbish()));
    let tombstones = vec![SignedTombstone(rubbish())];
    expect_refused(&peer, "forget", admin.remote.forget(&ForgetRequest { tombstones, ..Default::default() }));
}

#[test]
fn damage_of_what_is_stored_is_still_a_failure() {
    let (peer, keys) = (Peer::start(), Keys::new());
    let admin = peer.join("all");
    keys.init(&admin.remote);
    let stored = pack(&keys.push, 1000);
    admin.remote.put_pack(Lease::default(), &stored).unwrap();
    put(&admin.remote, &keys.push, 1000).unwrap();
    let packs = folder(&peer).join("packs");
    let folders = std::fs::read_dir(packs).unwrap().map(|folder| folder.unwrap().path());
    let mut files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
    let bytes = |path: &std::path::PathBuf| std::fs::read(path).unwrap();
    std::fs::remove_file(files.find(|path| bytes(path) == stored.bytes).unwrap()).unwrap();
    let error = admin.remote.read_pack(stored.id).unwrap_err();
    assert!(error.to_string().contains("its file is missing"), "{error}");
    // Only refused reads have an entry of their own.
    assert!(lines(&peer, &["\"action\":\"read-pack\""]).is_empty());
}
