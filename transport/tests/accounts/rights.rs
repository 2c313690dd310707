//! Rights that are taken away end at once, whatever the client does.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use bkfs_store::{
    Error, ErrorKind,
    access::{Lease, Open, OpenRequest, Push, Read},
    base::id::ChunkId,
};
use bkfs_transport::{
    Permissions,
    client::Remote,
    server::{self, Invitation},
};

use crate::peer::{Client, Keys, Peer, commit, name, pack, put};

fn a_repository() -> (Peer, Client, Keys) {
    let (peer, keys) = (Peer::start(), Keys::new());
    let client = peer.join("all");
    keys.init(&client.remote);
    (peer, client, keys)
}

#[track_caller]
fn no_permission<T>(result: Result<T, Error>) {
    let error = result.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoPermission, "{error}");
}

#[track_caller]
fn ended<T>(result: Result<T, Error>) {
    let error = result.err().unwrap();
    assert!(matches!(error, Error::ClientEnded { .. }), "{error}");
}

/// All that a client may do that pushes.
fn tries(remote: &Remote, keys: &Keys) -> Vec<Result<(), Error>> {
    vec![
        remote.open(&OpenRequest::default()).map(drop),
        remote.has(None, &[ChunkId([1; 32])]).map(drop),
        put(remote, &keys.push, 1000),
        remote.wait_log(0, Duration::ZERO).map(drop),
        remote.commit(Lease::default(), b"any").map(drop),
    ]
}

#[test]
fn a_revoked_client_may_do_nothing_on_the_connection_that_it_has() {
    let (peer, _, keys) = a_repository();
    let laptop = peer.join("push,read");
    put(&laptop.remote, &keys.push, 1000).unwrap();
    server::revoke(peer.data(), &name("alice"), &laptop.fingerprint).unwrap();
    for tried in tries(&laptop.remote, &keys) {
        no_permission(tried);
    }
    server::permit(peer.data(), &name("alice"), &laptop.fingerprint, None, Permissions::PUSH).unwrap();
    put(&laptop.remote, &keys.push, 1000).unwrap();
    no_permission(laptop.remote.snapshots(0, 1));
}

#[test]
fn what_runs_ends_when_its_client_is_revoked() {
    let (peer, client, _) = a_repository();
    let laptop = peer.join("read");
    let len = client.remote.wait_log(0, Duration::ZERO).unwrap();
    laptop.remote.set_retry_timeout(Duration::from_secs(30));
    let (is_waiting, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let error = loop {
                is_waiting.store(true, SeqCst);
                match laptop.remote.wait_log(len, Duration::from_secs(10)) {
                    // The wait may end by itself on a busy machine.
                    Ok(_) => continue,
                    Err(error) => break error,
                }
            };
            is_over.store(true, SeqCst);
            error
        });
        while !is_waiting.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!is_over.load(SeqCst));
        server::revoke(peer.data(), &name("alice"), &laptop.fingerprint).unwrap();
        no_permission(Err::<(), _>(waiter.join().unwrap()));
    });
}

#[test]
fn rights_are_of_one_repository() {
    let (peer, admin, keys) = a_repository();
    let photos = Keys::new();
    photos.init(&admin.at("photos"));
    let only = Invitation {
        repository: Some(name("photos")),
        ..Invitation::new(name("alice"), Permissions::PUSH.union(Permissions::READ))
    };
    let laptop = peer.join_with(only);
    put(&laptop.at("photos"), &photos.push, 1000).unwrap();
    for tried in tries(&laptop.remote, &keys) {
        no_permission(tried);
    }
    // A repository that does not exist looks no different.
    no_permission(laptop.at("other").open(&OpenRequest::default()));
    server::permit(peer.data(), &name("alice"), &laptop.fingerprint, Some(&name("main")), Permissions::READ).unwrap();
    laptop.remote.snapshots(0, 1).unwrap();
    no_permission(put(&laptop.remote, &keys.push, 1000));
    put(&laptop.at("photos"), &photos.push, 1000).unwrap();
    server::permit(peer.data(), &name("alice"), &laptop.fingerprint, Some(&name("photos")), Permissions::NONE).unwrap();
    no_permission(put(&laptop.at("photos"), &photos.push, 1000));
}

#[test]
fn a_client_that_was_ended_on_the_roster_neither_opens_nor_asks_nor_stores() {
    let (peer, admin, keys) = a_repository();
    let key = keys.enrol(&admin.remote, "laptop");
    let laptop = peer.join("push");
    laptop.remote.show(&key);
    laptop.remote.open(&OpenRequest::default()).unwrap();
    laptop.remote.has(Some(key.client_id()), &[ChunkId([1; 32])]).unwrap();
    put(&laptop.remote, &key, 1000).unwrap();
    keys.end(&admin.remote, &key);
    ended(laptop.remote.open(&OpenRequest { client: Some(key.client_id()), seen: None }));
    ended(laptop.remote.has(None, &[ChunkId([1; 32])]));
    ended(put(&laptop.remote, &key, 1000));
    // It does not help to stop showing its key, or to upload what another client has signed.
    let again = laptop.at("main");
    ended(again.open(&OpenRequest::default()));
    ended(again.put_pack(Lease::default(), &pack(&keys.push, 1000)));
    // A new key does.
    let second = keys.enrol(&admin.remote, "laptop");
    again.show(&second);
    again.open(&OpenRequest { client: Some(second.client_id()), seen: None }).unwrap();
    put(&again, &second, 1000).unwrap();
}

#[test]
fn a_commit_counts_against_its_sender() {
    let (peer, admin, keys) = a_repository();
    let key = keys.enrol(&admin.remote, "laptop");
    let laptop = peer.join("push");
    commit(&laptop.remote, &key, 10).unwrap();
    keys.end(&admin.remote, &key);
    ended(laptop.remote.has(None, &[ChunkId([1; 32])]));
}

/// Whoever may read has the snapshots of all clients, and can send them again.
#[test]
fn a_snapshot_of_another_client_that_is_sent_again_shows_no_key() {
    let (peer, admin, keys) = a_repository();
    let (theirs, own) = (keys.enrol(&admin.remote, "theirs"), keys.enrol(&admin.remote, "own"));
    commit(&admin.remote, &theirs, 10).unwrap();
    let laptop = peer.join("push,read");
    laptop.remote.show(&own);
    laptop.remote.open(&OpenRequest::default()).unwrap();
    let stored = laptop.remote.snapshots(0, 1).unwrap().remove(0).bytes;
    server::permit(peer.data(), &name("alice"), &laptop.fingerprint, None, Permissions::PUSH).unwrap();
    laptop.remote.commit(Lease::default(), &stored).unwrap();
    no_permission(laptop.remote.has(Some(theirs.client_id()), &[ChunkId([1; 32])]));
    let open = |client| laptop.remote.open(&OpenRequest { client: Some(client), seen: None });
    assert_eq!(open(theirs.client_id()).unwrap().last, None);
    // Nor does it help when its own client has ended.
    keys.end(&admin.remote, &own);
    ended(open(own.client_id()));
    ended(put(&laptop.remote, &theirs, 1000));
}

#[test]
fn an_identity_that_shows_no_key_gains_nothing_by_the_snapshots_of_others() {
    let (peer, admin, keys) = a_repository();
    let (theirs, own) = (keys.enrol(&admin.remote, "theirs"), keys.enrol(&admin.remote, "own"));
    commit(&admin.remote, &theirs, 10).unwrap();
    let stored = admin.remote.snapshots(0, 1).unwrap().remove(0).bytes;
    let laptop = peer.join("push");
    commit(&laptop.remote, &own, 10).unwrap();
    laptop.remote.commit(Lease::default(), &stored).unwrap();
    keys.end(&admin.remote, &own);
    ended(put(&laptop.remote, &theirs, 1000));
    assert_eq!(admin.remote.revoke_holders(own.client_id()).unwrap().len(), 1);
    no_permission(put(&laptop.remote, &theirs, 1000));
}

#[test]
fn an_admin_ends_the_identities_of_an_ended_client() {
    let (peer, admin, keys) = a_repository();
    let key = keys.enrol(&admin.remote, "laptop");
    let (laptop, other) = (peer.join("push,read"), peer.join("push,read"));
    laptop.remote.show(&key);
    laptop.remote.open(&OpenRequest::default()).unwrap();
    other.remote.open(&OpenRequest::default()).unwrap();
    // The admin key must have ended it: permission alone ends nobody.
    let error = admin.remote.revoke_holders(key.client_id()).unwrap_err();
    assert!(error.to_string().contains("still on the roster"), "{error}");
    no_permission(other.remote.revoke_holders(key.client_id()));
    keys.end(&admin.remote, &key);
    laptop.remote.snapshots(0, 1).unwrap();
    let revoked = admin.remote.revoke_holders(key.client_id()).unwrap();
    assert_eq!(revoked.iter().map(ToString::to_string).collect::<Vec<_>>(), std::slice::from_ref(&laptop.fingerprint));
    no_permission(laptop.remote.snapshots(0, 1));
    other.remote.snapshots(0, 1).unwrap();
    assert!(admin.remote.revoke_holders(key.client_id()).unwrap().is_empty(), "it can be repeated");
    assert!(server::account(peer.data(), &name("alice")).unwrap().clients.iter().any(|client| client.is_revoked));
}

#[test]
fn an_admin_of_one_repository_ends_rights_there_only() {
    let (peer, admin, keys) = a_repository();
    let photos = Keys::new();
    photos.init(&admin.at("photos"));
    let of_photos = Invitation { repository: Some(name("photos")), ..Invitation::new(name("alice"), Permissions::ALL) };
    let of_photos = peer.join_with(of_photos);
    let key = photos.enrol(&admin.at("photos"), "laptop");
    let laptop = peer.join("push,read");
    let there = laptop.at("photos");
    there.show(&key);
    there.open(&OpenRequest::default()).unwrap();
    photos.end(&admin.at("photos"), &key);
    assert_eq!(of_photos.at("photos").revoke_holders(key.client_id()).unwrap().len(), 1);
    no_permission(there.snapshots(0, 1));
    put(&laptop.remote, &keys.push, 1000).unwrap();
}

#[test]
fn a_proof_that_is_wrong_ties_nobody() {
    let (peer, _, keys) = a_repository();
    let laptop = peer.join("push");
    let stranger = Keys::new();
    laptop.remote.show(&stranger.push);
    let error = laptop.remote.open(&OpenRequest::default()).unwrap_err();
    assert!(matches!(error, Error::NotOnRoster { .. }), "{error}");
    let account = server::account(peer.data(), &name("alice")).unwrap();
    assert!(account.clients.iter().all(|client| client.keys.is_empty()), "{account:?}");
    drop(keys);
}

#[test]
fn a_removed_account_is_gone_while_the_server_runs() {
    let (peer, client, keys) = a_repository();
    put(&client.remote, &keys.push, 1000).unwrap();
    server::remove_account(peer.data(), &name("alice")).unwrap();
    no_permission(client.remote.open(&OpenRequest::default()));
    assert!(!peer.data().join("accounts/alice").exists());
    assert_eq!(std::fs::read_dir(peer.data().join("accounts")).unwrap().count(), 0);
    let again = peer.join("all");
    assert_eq!(again.remote.open(&OpenRequest::default()).unwrap_err().kind(), ErrorKind::NoRepository);
    let keys = Keys::new();
    keys.init(&again.remote);
    put(&again.remote, &keys.push, 1000).unwrap();
}
