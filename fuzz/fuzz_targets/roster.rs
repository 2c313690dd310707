//! Rosters: the input as it is, behind the signature, and after another roster; and the labels in them, behind the
//! seal.

#![no_main]

use std::collections::HashSet;

use bkfs_fuzz::{encodes_back, keys, support::time};
use bkfs_store::{
    crypto::{AeadKey, signed::Signed},
    format::roster::{self, Roster, RosterClient, RosterView},
};

fn label(data: &[u8]) {
    let keys = keys();
    let key = AeadKey::new(&keys.full.seal.seed().derive("bkfs v1 client label"));
    let client = &keys.roster.clients[0];
    let aad = [&b"bkfslabl"[..], &keys.full.repo.0, &client.id.0].concat();
    let sealed = RosterClient { label: key.seal(data, &aad), ..client.clone() };
    if let Ok(label) = keys.full.open_label(&sealed) {
        let again = RosterClient { label: keys.full.seal_label(client.id, &label), ..client.clone() };
        let short = keys.full.open_label(&again).expect("a label of ours opens");
        assert!(short.len() <= 255 && label.starts_with(&short));
        assert!(label.len() <= 255, "a label is at most 255 bytes long");
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (keys, admin) = (keys(), keys().full.admin.verifying_key());
    let _ = roster::verify_roster(data, &admin, keys.full.repo);
    label(data);
    let signed = Signed::new(&Roster::HEADER.magic, data.to_vec(), &keys.full.admin).encode();
    let Ok(roster) = roster::verify_roster(&signed, &admin, keys.full.repo) else { return };
    encodes_back(&roster);
    assert!(signed.len() <= 8 << 20 && roster.clients.len() <= 10_000 && roster.number > 0);
    let ids: HashSet<_> = roster.clients.iter().map(|client| client.id).collect();
    assert_eq!(ids.len(), roster.clients.len());
    for client in &roster.clients {
        assert_eq!(client.key().expect("a checked key").client_id(), client.id);
        assert!(client.label.len() <= 512 && client.since.nanos < 1_000_000_000);
        let is_active = roster.active_client(client.id, time(1), String::new).is_ok();
        assert_eq!(is_active, client.until.is_none_or(|until| time(1) < until));
        let _ = keys.full.open_label(client);
    }
    let mut view = RosterView::new(&keys.full.sign_roster(&keys.roster), admin, keys.full.repo).expect("a good roster");
    for advance in [true, false] {
        let before = view.newest().clone();
        let taken = if advance { view.advance(&signed) } else { view.renew(&signed) }.is_ok();
        assert_eq!(view.newest(), if taken { &roster } else { &before });
        assert_eq!(view.newest().clients[0].public, before.clients[0].public, "a client's key never changes");
    }
});
