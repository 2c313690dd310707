//! Everything that is stored counts, and no number of clients at once exceeds a limit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bkfs_store::{
    Error, ErrorKind,
    access::{
        Filter, ForgetRequest, Maintain, Manage, Open, OpenRequest, PruneLimits, PruneReply, PruneRequest, Push,
        SignedTombstone, Unused,
    },
    base::id::{ChunkId, DomainId},
    format::{
        filter::{encode_filter, filter_key},
        tombstone::Tombstone,
    },
};
use bkfs_transport::{
    client::Remote,
    server::{self, Limits},
};

use crate::peer::{Client, Keys, Peer, commit, commit_in, name, now, pack, pack_of, put};

const KIB: u64 = 1024;

/// Limits alice's account.
fn limit(peer: &Peer, change: impl FnOnce(&mut Limits)) {
    server::set_limits(peer.data(), &name("alice"), change).unwrap();
}

fn a_repository() -> (Peer, Client, Keys) {
    let (peer, keys) = (Peer::start(), Keys::new());
    let client = peer.join("all");
    keys.init(&client.remote);
    (peer, client, keys)
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, what: &str) {
    let error = result.err().unwrap();
    assert!(matches!(error, Error::OverQuota { .. }) && error.kind() == ErrorKind::Full, "{error}");
    assert!(error.to_string().contains(what), "{error}");
}

#[test]
fn snapshots_and_their_copies_count() {
    let (peer, client, keys) = a_repository();
    limit(&peer, |limits| limits.bytes = Some(400 * KIB));
    let mut stored = 0;
    let error = loop {
        match commit(&client.remote, &keys.push, 30_000) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "nothing stops it: {} bytes are on the disk", peer.bytes_on_disk());
    };
    refused(Err::<(), _>(error), "alice");
    let bytes = peer.bytes_on_disk();
    assert!(stored >= 4 && bytes <= 400 * KIB && bytes > 300 * KIB, "{stored} snapshots, {bytes} bytes");
    // What is stored can still be read, and committed again because a reply was lost.
    assert_eq!(client.remote.open(&OpenRequest::default()).unwrap().snapshots.len(), stored);
}

#[test]
fn a_commit_whose_reply_was_lost_is_repeated_although_the_quota_is_used_up() {
    let (peer, client, keys) = a_repository();
    commit(&client.remote, &keys.push, 100).unwrap();
    let opened = client.remote.open(&OpenRequest::default()).unwrap();
    let (lease, bytes) = (opened.lease, opened.snapshots[0].bytes.clone());
    limit(&peer, |limits| limits.bytes = Some(1));
    refused(commit(&client.remote, &keys.push, 100), "used up");
    assert_eq!(client.remote.commit(lease, &bytes).unwrap().snapshot, opened.snapshots[0].id);
}

#[test]
fn parity_counts_and_is_known_before_the_bytes_come() {
    let (peer, client, keys) = a_repository();
    let before = peer.bytes_on_disk();
    // A pack of 100,000 bytes gets about 9,000 bytes of parity.
    limit(&peer, |limits| limits.bytes = Some(before + 104_000));
    refused(put(&client.remote, &keys.push, 100_000), "needs 1");
    limit(&peer, |limits| limits.bytes = Some(before + 115_000));
    put(&client.remote, &keys.push, 100_000).unwrap();
}

#[test]
fn a_running_server_sees_a_lowered_quota_at_once() {
    let (peer, client, keys) = a_repository();
    limit(&peer, |limits| limits.bytes = Some(10_000 * KIB));
    put(&client.remote, &keys.push, 300_000).unwrap();
    limit(&peer, |limits| limits.bytes = Some(200 * KIB));
    refused(put(&client.remote, &keys.push, 1000), "its limit is 204800 bytes");
    let room = client.remote.open(&OpenRequest::default()).unwrap().room.unwrap();
    assert!(room.left() == 0 && room.limit == 200 * KIB && room.used > 300_000, "{room:?}");
    limit(&peer, |limits| limits.bytes = None);
    put(&client.remote, &keys.push, 1000).unwrap();
    assert_eq!(client.remote.open(&OpenRequest::default()).unwrap().room, None);
}

#[test]
fn many_clients_at_once_do_not_exceed_a_quota() {
    let (peer, client, keys) = a_repository();
    let quota = peer.bytes_on_disk() + 1_500_000;
    limit(&peer, |limits| limits.bytes = Some(quota));
    let stored = AtomicU64::new(0);
    // Each checks before any of the others has stored: all of them would fit alone.
    let clients: Vec<Client> = (0..8).map(|_| peer.join("push")).collect();
    std::thread::scope(|scope| {
        for client in [&client].into_iter().chain(&clients) {
            scope.spawn(|| {
                let packs: Vec<_> = (0..3).map(|_| pack(&keys.push, 200_000)).collect();
                for pack in packs {
                    match client.remote.put_pack(Default::default(), &pack) {
                        Ok(()) => drop(stored.fetch_add(1, Relaxed)),
                        Err(error) => assert!(matches!(error, Error::OverQuota { .. }), "{error}"),
                    }
                }
            });
        }
    });
    let stored = stored.load(Relaxed);
    // Parity is made in the background. It was reserved with its pack.
    peer.running.stop();
    assert!((5..=6).contains(&stored), "{stored} packs were stored");
}

#[test]
fn an_upload_that_fails_gives_its_room_back() {
    let (peer, client, keys) = a_repository();
    limit(&peer, |limits| limits.bytes = Some(peer.bytes_on_disk() + 300_000));
    let stranger = Keys::new();
    for _ in 0..10 {
        // Its signature is wrong here: the server refuses it after it has received the bytes.
        assert!(!matches!(put(&client.remote, &stranger.push, 200_000).unwrap_err(), Error::OverQuota { .. }));
    }
    put(&client.remote, &keys.push, 200_000).unwrap();
}

#[test]
fn what_is_forgotten_and_pruned_is_room_again() {
    let (peer, client, keys) = a_repository();
    let remote = &client.remote;
    let opened = remote.open(&OpenRequest { client: Some(keys.push.client_id()), seen: None }).unwrap();
    remote.put_pack(opened.lease, &pack(&keys.push, 300_000)).unwrap();
    commit_in(remote, &keys.push, 50_000, &opened).unwrap();
    limit(&peer, |limits| limits.bytes = Some(peer.bytes_on_disk() + 20_000));
    refused(put(remote, &keys.push, 100_000), "used up");
    // Forgetting and pruning are never refused.
    limit(&peer, |limits| limits.bytes = Some(1));
    forget_all(remote, &keys);
    prune(remote, &[]).unwrap();
    assert!(remote.packs(None, 10).unwrap().is_empty());
    // The snapshot's record stays: readers see by it that it was forgotten, and by whom.
    limit(&peer, |limits| limits.bytes = Some(350_000));
    put(remote, &keys.push, 200_000).unwrap();
}

/// Forgets all snapshots for good.
fn forget_all(remote: &Remote, keys: &Keys) {
    let opened = remote.open(&OpenRequest::default()).unwrap();
    let log_len = opened.now.log_len;
    let sign = |snapshot| Tombstone { repo: keys.full.repo, snapshot, is_broken: false, log_len }.sign(&keys.full);
    let tombstones = opened.snapshots.iter().map(|snapshot| SignedTombstone(sign(snapshot.id))).collect();
    remote.forget(&ForgetRequest { tombstones, now: true, empty_trash: false }).unwrap();
}

/// A prune to which only some chunks are live.
fn prune(remote: &Remote, live: &[ChunkId]) -> Result<(), Error> {
    let PruneReply::Begun { prune, log_len } =
        remote.prune(&PruneRequest::Begin { dry_run: false, ends_pushes: false }).unwrap()
    else {
        panic!("it does not begin");
    };
    let filter = |first: u8| {
        let mut ids: Vec<_> = live.iter().filter(|id| id.0[0] == first).map(filter_key).collect();
        Filter { first, bytes: encode_filter(&mut ids) }
    };
    let filters = (0..=u8::MAX).map(filter).collect();
    remote.prune(&PruneRequest::Live { prune, filters }).unwrap();
    let limits = PruneLimits { unused: Unused::Bytes(0), repack_bytes: None };
    let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run: false, is_confirmed: true, hold: false };
    remote.prune(&condemn)?;
    loop {
        match remote.prune(&PruneRequest::Sweep)? {
            PruneReply::Swept(swept) if swept.left > 0 => {}
            _ => return Ok(()),
        }
    }
}

#[test]
fn prunes_that_copy_nearly_everything_each_time_do_not_fill_the_disk() {
    let (peer, keys) = (Peer::start_protecting(86_400), Keys::new());
    let client = peer.join("all");
    keys.init(&client.remote);
    let opened = client.remote.open(&OpenRequest { client: Some(keys.push.client_id()), seen: None }).unwrap();
    let (pack, mut live) = pack_of(&keys.push, 40, 10_000);
    client.remote.put_pack(opened.lease, &pack).unwrap();
    // From now on, no push needs it.
    commit_in(&client.remote, &keys.push, 10, &opened).unwrap();
    let stored = peer.bytes_on_disk();
    limit(&peer, |limits| limits.bytes = Some(stored));
    let mut rounds = 0;
    let refusal = loop {
        live.pop();
        match prune(&client.remote, &live) {
            Ok(()) => rounds += 1,
            Err(error) => break error,
        }
        assert!(rounds < 20, "nothing stops it: {} bytes are on the disk", peer.bytes_on_disk());
    };
    refused(Err::<(), _>(refusal), "the grave");
    let bytes = peer.bytes_on_disk();
    assert!(rounds > 0 && bytes < 3 * stored, "{rounds} rounds made {stored} bytes to {bytes}");
    // What needs no copies is pruned all the same.
    limit(&peer, |limits| limits.bytes = Some(1));
    client.remote.prune(&PruneRequest::Abort).unwrap();
    prune(&client.remote, &[]).unwrap();
    assert!(client.remote.packs(None, 10).unwrap().is_empty());
}

#[test]
fn records_of_the_log_have_bounds_in_a_full_account() {
    let (peer, client, keys) = a_repository();
    limit(&peer, |limits| limits.bytes = Some(1));
    // The log is short: an admin can still end clients, whatever the quota is.
    let key = keys.enrol(&client.remote, "laptop");
    keys.end(&client.remote, &key);
    // But nobody fills the disk with rosters.
    let fillers: Vec<_> = (0..9_900).map(|_| keys.full.new_client("x", None, DomainId::OWNER, now()).1).collect();
    keys.update(&client.remote, |roster| roster.clients.extend(fillers.clone())).unwrap();
    let mut stored = 1;
    let refusal = loop {
        match keys.update(&client.remote, |_| {}) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "nothing stops it: {} bytes are on the disk", peer.bytes_on_disk());
    };
    refused(Err::<(), _>(refusal), "used up");
    let bytes = peer.bytes_on_disk();
    assert!(bytes < 160 << 20, "{stored} rosters, {bytes} bytes");
}

#[test]
fn snapshots_files_and_repositories_are_limited() {
    let (peer, client, keys) = a_repository();
    limit(&peer, |limits| *limits = Limits { snapshots: Some(2), repositories: Some(2), ..Limits::default() });
    for _ in 0..2 {
        commit(&client.remote, &keys.push, 10).unwrap();
    }
    refused(commit(&client.remote, &keys.push, 10), "2 snapshots");
    forget_all(&client.remote, &keys);
    commit(&client.remote, &keys.push, 10).unwrap();
    put(&client.remote, &keys.push, 1000).unwrap();
    Keys::new().init(&client.at("photos"));
    refused(Keys::new().try_init(&client.at("music")), "2 repositories");
    limit(&peer, |limits| *limits = Limits { files: Some(1), ..Limits::default() });
    refused(put(&client.remote, &keys.push, 1000), "files");
}

#[test]
fn accounts_below_one_share_its_quota() {
    let (peer, client, keys) = a_repository();
    let bob = peer.join_with(server::Invitation::new(name("bob"), "all".parse().unwrap()));
    let bobs = Keys::new();
    bobs.init(&bob.remote);
    let company = server::Invitation::new(name("company"), "read".parse().unwrap());
    server::invite_to(peer.data(), &company).unwrap();
    server::set_limits(peer.data(), &name("company"), |limits| limits.bytes = Some(500_000)).unwrap();
    for child in ["alice", "bob"] {
        server::set_parent(peer.data(), &name(child), Some(name("company"))).unwrap();
    }
    put(&client.remote, &keys.push, 200_000).unwrap();
    put(&bob.remote, &bobs.push, 200_000).unwrap();
    refused(put(&bob.remote, &bobs.push, 100_000), "company");
    refused(put(&client.remote, &keys.push, 100_000), "company");
    server::set_parent(peer.data(), &name("bob"), None).unwrap();
    put(&client.remote, &keys.push, 100_000).unwrap();
    put(&bob.remote, &bobs.push, 900_000).unwrap();
}
