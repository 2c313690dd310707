//! Hostile clients on the roster, and rosters that would bring them back.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use bkfs_store::{
    Error,
    access::{InitRequest, Lease, Manage, Open, OpenRequest, Push, Read},
    base::{id::*, time::Time},
    crypto::{DataKey, Wrap},
    format::{
        frame::{ChunkKind, FRAME_MAX, FrameBuilder},
        keys::{
            PushKey, Slot,
            slot::{self, SlotParams},
        },
        pack::PackWriter,
        roster::RosterView,
    },
    owner::keyring::KeyRing,
    repository::Repository,
};
use support::*;

fn repository() -> Repository {
    let repository = Repository::memory().unwrap();
    let roster = full_key().sign_roster(&roster());
    repository.init(&InitRequest { config: config(), roster, slots: vec![] }).unwrap();
    repository
}

fn view() -> RosterView {
    let full = full_key();
    RosterView::new(&full.sign_roster(&roster()), full.admin.verifying_key(), full.repo).unwrap()
}

/// A pack with the given wrap and one frame that is sealed under `key`.
fn pack(push: &PushKey, key: &DataKey, wrap: &Wrap, chunk: &[u8]) -> bkfs_store::format::pack::PackUpload {
    let mut frame = FrameBuilder::new();
    frame.push(chunk);
    let mut pack = PackWriter::new(ChunkKind::Data, push.repo, &push.signing);
    pack.add_wrap(wrap);
    pack.add(&frame.seal(push.repo, ChunkKind::Data, key, 1), &[push.ids().data_id(chunk)]);
    pack.finish()
}

#[test]
fn garbage_under_a_data_keys_id_does_not_hide_the_key() {
    let full = full_key();
    let repository = repository();
    let (thief, entry) = full.new_client("thief", None, false, time(1));
    repository.put_roster(&full.sign_roster(&view().with_client(entry))).unwrap();

    let key = DataKey::random();
    let good = full.seal.public().wrap(full.repo, &key);
    repository.put_pack(Lease::default(), &pack(&push_key(), &key, &good, b"mine")).unwrap();
    let rubbish = Wrap { sealed: vec![0; 48], ..good };
    repository.put_pack(Lease::default(), &pack(&thief, &key, &rubbish, b"rubbish")).unwrap();

    assert_eq!(repository.wraps(&[key.id()]).unwrap().len(), 2);
    let ring = KeyRing::new(full, Arc::new(repository));
    assert_eq!(ring.data_key(key.id()).unwrap().id(), key.id());
}

#[test]
fn a_client_that_has_ended_cannot_put_packs() {
    let full = full_key();
    let repository = repository();
    let push = push_key();
    let key = DataKey::random();
    let wrap = full.seal.public().wrap(full.repo, &key);
    repository.put_pack(Lease::default(), &pack(&push, &key, &wrap, b"before")).unwrap();

    let ended = view().without_client(push.client_id(), Time { secs: 1, nanos: 0 }).unwrap();
    repository.put_roster(&full.sign_roster(&ended)).unwrap();
    let refused = repository.put_pack(Lease::default(), &pack(&push, &key, &wrap, b"after"));
    assert!(matches!(refused, Err(Error::NotOnRoster { .. })), "{refused:?}");
    let ids = [push.ids().data_id(b"before"), push.ids().data_id(b"after")];
    assert_eq!(repository.has(&ids).unwrap(), [true, false]);
}

#[test]
fn rosters_are_consecutive_and_drop_no_client() {
    let full = full_key();
    let repository = repository();
    let mut dropped = roster();
    (dropped.number, dropped.clients) = (2, vec![]);
    let mut gap = roster();
    gap.number = 3;
    for bad in [&roster(), &gap, &dropped] {
        assert!(repository.put_roster(&full.sign_roster(bad)).is_err());
    }
    let (_, entry) = full.new_client("beta", None, false, time(1));
    let next = full.sign_roster(&view().with_client(entry));
    repository.put_roster(&next).unwrap();
    assert!(repository.put_roster(&next).is_err());
}

#[test]
fn no_more_slots_are_stored_than_are_tried() {
    let repository = repository();
    let slot = |number: u8| slot::seal_slot(&full_key(), &[number], SlotParams::LEAST).unwrap();
    assert!(repository.put_slot(&Slot { id: SlotId([0; 16]), bytes: vec![0; slot::SLOT_MAX + 1] }).is_err());
    let slots: Vec<Slot> = (0..slot::SLOTS_MAX as u8).map(slot).collect();
    slots.iter().for_each(|slot| repository.put_slot(slot).unwrap());
    assert!(matches!(repository.put_slot(&slot(99)), Err(Error::TooLarge { .. })));
    repository.put_slot(&slots[0]).unwrap();
    let opened = repository.open(&OpenRequest::default()).unwrap();
    let last = slots.len() as u8 - 1;
    assert_eq!(slot::open_any(&opened.slots, &[last]).unwrap().encode(), full_key().encode());
}

/// The largest page (a node with very large attributes), in the largest frame that it can make.
#[test]
fn the_largest_frame_fits_a_pack() {
    let full = full_key();
    let repository = repository();
    let push = push_key();
    let key = DataKey::random();
    let wrap = full.seal.public().wrap(full.repo, &key);
    let mut noise = vec![0; bkfs_store::format::frame::BODY_MAX - 8];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let upload = pack(&push, &key, &wrap, &noise);
    repository.put_pack(Lease::default(), &upload).unwrap();
    assert!(upload.bytes.len() > 8 << 20 && upload.bytes.len() < FRAME_MAX + (64 << 10));
    let id: ChunkId = push.ids().data_id(&noise);
    assert_eq!(repository.has(&[id]).unwrap(), [true]);
}
