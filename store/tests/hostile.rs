//! Hostile clients on the roster, and rosters that would bring them back.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use bkfs_store::{
    Error,
    access::{
        Filter, ForgetRequest, InitRequest, Lease, Maintain, Manage, MovedFrame, Open, OpenRequest, PruneLimits,
        PruneReply, PruneRequest, Push, Read,
    },
    base::{id::*, time::Time},
    crypto::{DataKey, Wrap},
    format::{
        filter::{FILTER_IDS, encode_filter, filter_key},
        frame::{ChunkKind, FRAME_MAX, FrameBuilder},
        keys::{
            PushKey, Slot,
            slot::{self, SlotParams},
        },
        loss::FrameBits,
        pack::PackWriter,
        roster::RosterView,
    },
    owner::keyring::KeyRing,
    repository::{Repository, prune::Caller},
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
    let (thief, entry) = full.new_client("thief", None, DomainId::OWNER, time(1));
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
    assert_eq!(repository.has(None, &ids).unwrap(), [true, false]);
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
    let (_, entry) = full.new_client("beta", None, DomainId::OWNER, time(1));
    let next = full.sign_roster(&view().with_client(entry));
    repository.put_roster(&next).unwrap();
    assert!(repository.put_roster(&next).is_err());
}

#[test]
fn no_more_slots_are_stored_than_are_tried() {
    let repository = repository();
    let slot = |number: u8| slot::seal_slot(&full_key(), &[number], SlotParams::LEAST, &Default::default()).unwrap();
    assert!(repository.put_slot(&Slot { id: SlotId([0; 16]), bytes: vec![0; slot::SLOT_MAX + 1] }).is_err());
    let slots: Vec<Slot> = (0..slot::SLOTS_MAX as u8).map(slot).collect();
    slots.iter().for_each(|slot| repository.put_slot(slot).unwrap());
    assert!(matches!(repository.put_slot(&slot(99)), Err(Error::TooLarge { .. })));
    repository.put_slot(&slots[0]).unwrap();
    let opened = repository.open(&OpenRequest::default()).unwrap();
    let last = slots.len() as u8 - 1;
    assert_eq!(slot::open_any(&opened.slots, &[last], &seal_keys()).unwrap().1.encode(), full_key().encode());
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
    assert_eq!(repository.has(None, &[id]).unwrap(), [true]);
}

/// Runs something that would take hours if its cost were the square of what a client sends.
fn ends(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(run);
    let started = std::time::Instant::now();
    while !thread.is_finished() {
        assert!(started.elapsed() < std::time::Duration::from_secs(120), "it does not end");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    thread.join().unwrap();
}

/// A pack of frames of one byte each, with the ids that each frame is said to hold. No frame holds what it claims.
fn claiming(push: &PushKey, claims: &[Vec<ChunkId>]) -> bkfs_store::format::pack::PackUpload {
    let (full, key) = (full_key(), DataKey::random());
    let mut pack = PackWriter::new(ChunkKind::Data, push.repo, &push.signing);
    pack.add_wrap(&full.seal.public().wrap(full.repo, &key));
    let mut frame = FrameBuilder::new();
    frame.push(b"x");
    let sealed = frame.seal(push.repo, ChunkKind::Data, &key, 1);
    claims.iter().for_each(|ids| pack.add(&sealed, ids));
    pack.finish()
}

/// An id with three chosen bytes at its beginning.
fn crowded(number: u32) -> ChunkId {
    let mut id = ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes());
    id.0[..3].copy_from_slice(b"abc");
    id
}

#[test]
fn ids_that_begin_alike_do_not_make_look_ups_slow() {
    ends(|| {
        let repository = repository();
        let ids: Vec<ChunkId> = (0..262_144).map(crowded).collect();
        let claims: Vec<Vec<ChunkId>> = ids.chunks(4).map(<[_]>::to_vec).collect();
        repository.put_pack(Lease::default(), &claiming(&push_key(), &claims)).unwrap();
        let asked: Vec<ChunkId> = (262_144 - 30_000..262_144 + 30_000).map(crowded).collect();
        let has = repository.has(None, &asked).unwrap();
        assert_eq!(has, (0..60_000).map(|n| n < 30_000).collect::<Vec<_>>());
        assert_eq!(repository.places(&asked).unwrap().iter().filter(|place| **place != 0).count(), 30_000);
    });
}

#[test]
fn copies_of_one_chunk_do_not_make_a_prune_slow() {
    ends(|| {
        static NOW: AtomicI64 = AtomicI64::new(1);
        let repository = repository().with_clock(|| Time { secs: NOW.load(SeqCst), nanos: 0 });
        let claims: Vec<Vec<ChunkId>> = (0..65_536).map(|n| vec![crowded(1), crowded(n + 2)]).collect();
        repository.put_pack(Lease { session: 1, generation: 1 }, &claiming(&push_key(), &claims)).unwrap();
        // Nothing is live, and the pack's session has ended.
        for _ in 0..8 {
            NOW.fetch_add(86_400, SeqCst);
            repository.forget(&ForgetRequest::default()).unwrap();
        }
        let begun = repository.prune(&PruneRequest::Begin { dry_run: false, ends_pushes: false }).unwrap();
        let PruneReply::Begun { prune, log_len } = begun else { panic!("{begun:?}") };
        let filters = (0..=255).map(|first| Filter { first, bytes: encode_filter(&mut []) }).collect();
        repository.prune(&PruneRequest::Live { prune, filters }).unwrap();
        let limits = PruneLimits::default();
        let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run: false, is_confirmed: true, hold: false };
        let reply = repository.prune(&condemn).unwrap();
        assert!(matches!(&reply, PruneReply::Condemned(stats) if stats.dropped == 1), "{reply:?}");
        // Now all copies are dead.
        assert_eq!(repository.has(None, &vec![crowded(1); 65_536]).unwrap(), vec![false; 65_536]);
    });
}

#[test]
fn a_request_of_empty_items_does_not_grow() {
    // Each empty tombstone is one byte, and 24 in memory.
    let mut bytes = bkfs_store::base::codec::encode(&ForgetRequest::default());
    let list = bytes.iter().position(|byte| *byte == 0x80).unwrap();
    let (mut head, tail) = (bytes[..list].to_vec(), bytes.split_off(list + 1));
    head.extend([0x9a, 0, 0x7f, 0, 0]);
    head.extend(vec![0x40; 0x7f_0000]);
    head.extend(tail);
    let error = bkfs_store::base::codec::decode::<ForgetRequest>("a request", &head).unwrap_err();
    assert!(error.to_string().contains("more than 8192 items"), "{error}");
}

/// A pack of `frames` frames, each with four chunks whose ids begin alike, and all ids.
fn put_crowded(repository: &Repository, frames: u32) -> (PackId, Vec<ChunkId>) {
    let ids: Vec<ChunkId> = (0..frames * 4).map(crowded).collect();
    let claims: Vec<Vec<ChunkId>> = ids.chunks(4).map(<[_]>::to_vec).collect();
    let upload = claiming(&push_key(), &claims);
    repository.put_pack(Lease::default(), &upload).unwrap();
    (upload.id, ids)
}

/// Begins a dry run in which everything is live. Returns its number.
fn all_live(repository: &Repository) -> u64 {
    let begun = repository.prune(&PruneRequest::Begin { dry_run: true, ends_pushes: false }).unwrap();
    let PruneReply::Begun { prune, .. } = begun else { panic!("{begun:?}") };
    let filters = (0..=255).map(|first| Filter { first, bytes: vec![1, 0, 1] }).collect();
    repository.prune(&PruneRequest::Live { prune, filters }).unwrap();
    prune
}

#[test]
fn only_frames_that_a_pack_has_can_be_said_to_have_moved() {
    let repository = repository();
    let (pack, _) = put_crowded(&repository, 1000);
    let prune = all_live(&repository);
    let say = |frames: &[(u32, Vec<u8>)]| {
        let claim =
            |(frame, bits): &(u32, Vec<u8>)| MovedFrame { pack, frame: *frame, chunks: FrameBits::from_bytes(bits) };
        repository.prune(&PruneRequest::Moved { prune, frames: frames.iter().map(claim).collect() })
    };
    // Frames that do not exist, and bits of chunks that the frame does not hold.
    for frames in [vec![(1000, vec![15])], vec![(u32::MAX, vec![15])], vec![(3, vec![0; 80])], vec![(3, vec![31])]] {
        let refused = say(&frames).unwrap_err();
        assert!(matches!(refused, Error::Invalid(_)), "{refused}");
    }
    assert!(say(&[(2, vec![15]), (1000, vec![])]).is_err());
    say(&(0..1000).map(|frame| (frame, vec![15])).collect::<Vec<_>>()).unwrap();
    say(&vec![(999, vec![8]); 1000]).unwrap();
}

#[test]
fn the_ids_of_one_first_byte_are_not_looked_through_without_end() {
    let repository = repository();
    put_crowded(&repository, 65_536);
    let begun = repository.prune(&PruneRequest::Begin { dry_run: true, ends_pushes: false }).unwrap();
    let PruneReply::Begun { prune, .. } = begun else { panic!("{begun:?}") };
    let filters = vec![Filter { first: b'a', bytes: vec![1, 0, 1] }; 65_536];
    let asked = AtomicI64::new(0);
    let is_gone = || asked.fetch_add(1, SeqCst) < 0;
    let refused = repository.prune_for(&PruneRequest::Live { prune, filters }, Caller::new(&is_gone)).unwrap_err();
    assert!(refused.to_string().contains("too many small filters"), "{refused}");
    // Once for each filter, and once for each 65,536 rows.
    assert_eq!(asked.load(SeqCst), 48 * (1 + 4) + 1);
}

#[test]
fn marking_ends_when_its_caller_is_gone() {
    let repository = repository();
    put_crowded(&repository, 65_536);
    let begun = repository.prune(&PruneRequest::Begin { dry_run: true, ends_pushes: false }).unwrap();
    let PruneReply::Begun { prune, log_len } = begun else { panic!("{begun:?}") };
    let filters: Vec<Filter> = (0..=255).map(|first| Filter { first, bytes: vec![1, 0, 1] }).collect();
    let live = PruneRequest::Live { prune, filters };
    let asked = AtomicI64::new(0);
    // It goes while the rows of the only byte are looked at that has any.
    let is_gone = || asked.fetch_add(1, SeqCst) == i64::from(b'a') + 1;
    let ended = repository.prune_for(&live, Caller::new(&|| is_gone())).unwrap_err();
    assert!(matches!(ended, Error::Interrupted), "{ended}");
    assert!(asked.load(SeqCst) < 256);
    // What was looked at in part does not count as marked.
    let limits = PruneLimits::default();
    let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run: true, is_confirmed: true, hold: false };
    assert!(matches!(repository.prune(&condemn), Err(Error::Invalid(_))));
    repository.prune(&live).unwrap();
    let PruneReply::Condemned(stats) = repository.prune(&condemn).unwrap() else { panic!("condemned") };
    assert_eq!((stats.packs, stats.dropped, stats.repacked, stats.mixed_bytes), (1, 0, 0, 0), "{stats:?}");
}

#[test]
fn an_honest_prune_of_very_many_ids_that_begin_alike_is_not_refused() {
    let repository = repository();
    let (_, ids) = put_crowded(&repository, 65_536);
    let begun = repository.prune(&PruneRequest::Begin { dry_run: true, ends_pushes: false }).unwrap();
    let PruneReply::Begun { prune, log_len } = begun else { panic!("{begun:?}") };
    let send = |first: u8, keys: &mut [u64]| {
        let filters = vec![Filter { first, bytes: encode_filter(keys) }];
        repository.prune(&PruneRequest::Live { prune, filters }).unwrap();
    };
    (0..=255).filter(|first| *first != b'a').for_each(|first| send(first, &mut []));
    // A client has committed trees that name more chunks than are stored. They come first, in full filters.
    for part in 0..3u64 {
        let mut keys: Vec<u64> = (0..FILTER_IDS as u64).map(|n| (part << 40) + (n << 12)).collect();
        send(b'a', &mut keys);
    }
    let mut keys: Vec<u64> = ids.iter().map(filter_key).collect();
    send(b'a', &mut keys);
    // Snapshots are committed again and again while it marks.
    for round in 0..40 {
        send(b'a', &mut [round << 20, (round << 20) + 1]);
    }
    let limits = PruneLimits::default();
    let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run: true, is_confirmed: true, hold: false };
    let PruneReply::Condemned(stats) = repository.prune(&condemn).unwrap() else { panic!("condemned") };
    assert_eq!((stats.packs, stats.dropped, stats.repacked), (1, 0, 0), "{stats:?}");
}
