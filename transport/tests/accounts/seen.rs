//! What a client sees that may only push: what it needs to push, and nothing about others.

use std::time::Duration;

use bkfs_store::{
    Error, ErrorKind,
    access::{Challenge, Lease, Open, OpenRequest, Push, Seen},
    base::id::{ChunkId, Hash},
    format::{
        pack::{Pack, PackUpload, Proven},
        roster::{Signers, Standing},
    },
};

use crate::peer::{Keys, Peer, commit, pack, put};

#[test]
fn a_push_only_client_sees_nothing_of_others() {
    let (peer, keys) = (Peer::start(), Keys::new());
    let admin = peer.join("all");
    keys.init(&admin.remote);
    let key = keys.enrol(&admin.remote, "laptop");
    for _ in 0..3 {
        commit(&admin.remote, &keys.push, 10).unwrap();
    }
    for _ in 0..5 {
        put(&admin.remote, &keys.push, 1000).unwrap();
    }
    let laptop = peer.join("push");
    let ask = |client| laptop.remote.open(&OpenRequest { client: Some(client), seen: None }).unwrap();
    // Before it has shown a key it is told nothing of any client.
    for client in [keys.push.client_id(), key.client_id()] {
        let opened = ask(client);
        assert_eq!((opened.last, opened.standing), (None, None));
    }
    laptop.remote.show(&key);
    let own = ask(key.client_id());
    assert_eq!((own.last, own.standing), (None, Some(Standing::Active)));
    let other = ask(keys.push.client_id());
    assert_eq!((other.last, other.standing), (None, None), "the count and the newest id of another client");
    for opened in [own, other] {
        assert!(opened.roster.is_empty() && opened.slots.is_empty() && opened.snapshots.is_empty());
        assert_eq!(opened.chunks, 1, "not how many there are");
    }
    let id = commit(&laptop.remote, &key, 10).unwrap();
    assert_eq!(ask(key.client_id()).last.unwrap().id, id);
    let waited = laptop.remote.wait_log(0, Duration::ZERO);
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::NoPermission);
    // An admin sees all of it.
    let opened = admin.remote.open(&OpenRequest { client: Some(key.client_id()), seen: None }).unwrap();
    assert!(opened.last.is_some() && !opened.roster.is_empty() && opened.chunks == 5);
}

#[test]
fn a_push_only_client_still_notices_a_rollback() {
    let (peer, keys) = (Peer::start(), Keys::new());
    let admin = peer.join("all");
    keys.init(&admin.remote);
    let laptop = peer.join("push");
    laptop.remote.show(&keys.push);
    let before = laptop.remote.open(&OpenRequest::default()).unwrap().now;
    commit(&admin.remote, &keys.push, 10).unwrap();
    let open =
        |seen| laptop.remote.open(&OpenRequest { client: Some(keys.push.client_id()), seen: Some(seen) }).unwrap();
    let opened = open(before);
    assert_eq!(opened.head_at_seen, Some(before.log_head));
    assert!(opened.now.log_len > before.log_len && opened.last.is_some());
    let other = Seen { log_head: Hash([7; 32]), ..before };
    assert_ne!(open(other).head_at_seen, Some(other.log_head), "a history that this store never had");
}

/// The only chunk of a pack.
fn chunk(upload: &PackUpload) -> ChunkId {
    Pack::parse(&upload.bytes).unwrap().table.frames[0].ids[0]
}

#[test]
fn a_push_only_client_asks_only_as_itself_and_verifies_proofs_without_a_roster() {
    let (peer, keys) = (Peer::start(), Keys::new());
    let admin = peer.join("all");
    keys.init(&admin.remote);
    let group = keys.full.domain("servers");
    let (key, mate) = (keys.enrol_in(&admin.remote, "a", group), keys.enrol_in(&admin.remote, "b", group));
    let [owners, mates, own] = [&keys.push, &mate, &key].map(|key| pack(key, 1000));
    for pack in [&owners, &mates] {
        admin.remote.put_pack(Lease::default(), pack).unwrap();
    }
    let laptop = peer.join("push");
    let ids = [&owners, &mates].map(chunk);
    let has = |client| laptop.remote.has(client, &ids);
    let refused = |result: Result<(), Error>| assert_eq!(result.unwrap_err().kind(), ErrorKind::NoPermission);
    refused(has(Some(key.client_id())).map(drop));
    laptop.remote.show(&key);
    laptop.remote.open(&OpenRequest { client: Some(key.client_id()), seen: None }).unwrap();
    laptop.remote.put_pack(Lease::default(), &own).unwrap();
    assert_eq!(has(Some(key.client_id())).unwrap(), [false, true], "what its group has, and not what the owner has");
    for other in [None, Some(keys.push.client_id()), Some(mate.client_id())] {
        refused(has(other).map(drop));
        refused(laptop.remote.prove(other, &[Challenge { id: ids[0], at: 1 }]).map(drop));
    }
    // Its push key is all that it needs to verify what the server shows.
    let asked = [chunk(&own), ids[1], ids[0]].map(|id| Challenge { id, at: 77 });
    let proofs = laptop.remote.prove(Some(key.client_id()), &asked).unwrap();
    let signers = Signers::of_endorsements(&proofs.endorsements, key.repo, &key.admin_public).unwrap();
    assert_eq!(proofs.endorsements.len(), 2, "of the clients of the two packs that are shown, and of no others");
    assert_eq!(signers.key(keys.push.client_id()), None);
    let packs: Vec<_> = proofs.packs.iter().map(|pack| pack.open(&signers).unwrap()).collect();
    for (challenge, place) in asked.iter().zip(&proofs.places).take(2) {
        let place = place.unwrap();
        let pack = &packs[place.pack as usize];
        assert!(pack.is_signed && pack.proves(&Proven { id: challenge.id, number: place.number, at: challenge.at }));
    }
    assert!(proofs.places[2].is_none());
    // Signatures of clients that the admin did not endorse are worth nothing.
    let strangers = Signers::of_endorsements(&[], key.repo, &key.admin_public).unwrap();
    assert!(matches!(proofs.packs[0].open(&strangers), Err(Error::NotOnRoster { .. })));
}
