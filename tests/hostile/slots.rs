//! A server that adds passphrase slots which take long to try.

use bkfs_store::{
    access::Open,
    base::id::{RepoId, SlotId},
    format::keys::{
        FullKey, Slot,
        slot::{SlotParams, seal_slot},
    },
};
use bkfs_transport::message::{Call, Reply};

use super::{
    challenges::{make_source, push},
    liar::LyingServer,
};

#[test]
fn slots_that_a_server_adds_neither_hide_the_owners_nor_take_long() {
    let server = LyingServer::start();
    let person = server.person();
    make_source(&person.path("src"), 0..2);
    assert!(push(&person).status.success());
    // Each is as expensive as a slot may be.
    let params = SlotParams { memory_kib: 64 * 1024, passes: 32, lanes: 4 };
    let costly = seal_slot(&FullKey::random(RepoId([9; 16])), b"another", params, &Default::default()).unwrap();
    server.liar.tell(move |liar, call| {
        let Call::Open(request, _) = call else { return None };
        let mut opened = liar.store.open(request).unwrap();
        let added = (1..=63u8).map(|number| Slot { id: SlotId([number; 16]), ..costly.clone() });
        opened.slots = added.chain(opened.slots).collect();
        Some(Reply::Opened(Box::new(opened)).into())
    });
    // The cheapest is tried first: it is the owner's.
    assert_eq!(person.run(["cat", "latest:f1"]).len(), person.run(["cat", "latest:f1"]).len());
    let output = person.command().env("BKFS_PASSWORD", "wrong").args(["cat", "latest:f1"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(12), "{text}");
    assert!(text.contains("wrong passphrase") && text.contains("4 tried, 60 refused"), "{text}");
}
