//! Rotations of the seal key: who can read what, what a store refuses, two rotations at once, and rotations that are
//! cut short between their steps. (`crash.rs` cuts the power within the steps.)

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bkfs_store::{
    Error, ErrorKind, Result,
    access::*,
    base::{codec, id::*},
    crypto::{DataKey, Wrap},
    format::{
        keys::{
            FullKey, PushKey, SealKeys, Slot,
            slot::{self, SlotParams},
        },
        log::LogRecord,
        snapshot::SnapshotObject,
        verdict::Verdict,
    },
    owner::{
        prune::{PruneProgress, find_blocking},
        reader::{Contradiction, Reader},
        rotation::{self, NewSealKey, Rotation},
    },
    repository::Repository,
};
use support::world::{World, problems, read_files};

fn repository() -> (Arc<Repository>, World) {
    let (repo, world) = (Arc::new(Repository::memory().unwrap()), World::new());
    repo.init(&world.request).unwrap();
    (repo, world)
}

fn open(repo: &dyn Access) -> Opened {
    repo.open(&OpenRequest::default()).unwrap()
}

fn rotate_with(access: &dyn Access, opened: &Opened, full: &FullKey) -> Result<NewSealKey> {
    let (params, info) = (SlotParams::LEAST, &Default::default());
    Rotation { opened, full, passphrase: b"first", params, info }.run(access)
}

/// Rotates with the passphrase, and returns the owner as the passphrase makes it after that.
fn rotate(repo: &dyn Access, world: &World) -> World {
    let opened = open(repo);
    let full = world.rotated(&opened).unwrap().full;
    rotate_with(repo, &opened, &full).unwrap();
    world.rotated(&open(repo)).unwrap()
}

/// The owner with an older key, as a key file holds it, that was read today.
fn outdated(repo: &dyn Access, world: &World) -> World {
    let seal_keys = SealKeys::verify(&open(repo).seal_keys, &world.config).unwrap();
    let full = seal_keys.complete(&FullKey::decode(&world.full.encode()).unwrap()).unwrap();
    World { full, push: world.push.clone(), config: world.config.clone(), request: world.request.clone() }
}

#[test]
fn the_new_key_reads_everything_and_the_old_one_nothing_new() {
    let (repo, first) = repository();
    let one = first.push(&*repo, &World::files(1)).unwrap();
    let second = rotate(&*repo, &first);
    let two = second.push(&*repo, &World::files(2)).unwrap();
    let third = rotate(&*repo, &first);
    let three = third.push(&*repo, &World::files(3)).unwrap();
    let all = [(one.snapshot, 1), (two.snapshot, 2), (three.snapshot, 3)];

    let found = third.read_all(&third.reader(repo.clone())).unwrap();
    assert!(all.iter().all(|(id, seed)| found[id] == World::files(*seed)) && found.len() == 3);
    assert_eq!(problems(&third.reader(repo.clone()), &*repo, true).unwrap(), Vec::<String>::new());

    for (old, reads) in [(&first, 1), (&second, 2)] {
        let old = outdated(&*repo, old);
        assert_eq!(old.full.older.len(), reads - 1);
        let reader = old.reader(repo.clone());
        let infos = reader.snapshots().unwrap();
        assert_eq!(
            infos.iter().map(|info| info.id).collect::<Vec<_>>(),
            all[..reads].iter().map(|(id, _)| *id).collect::<Vec<_>>()
        );
        for (info, (_, seed)) in infos.iter().zip(&all) {
            assert_eq!(read_files(&reader, &info.snapshot.root).unwrap(), World::files(*seed));
        }
        // What it cannot open is not taken for damage, and cannot be forgotten as broken.
        let kinds = reader.with_snapshots(|list| list.errors().map(Error::kind).collect::<Vec<_>>()).unwrap();
        assert_eq!(kinds, vec![ErrorKind::WrongKey; 3 - reads]);
        let cache = tempfile::tempdir().unwrap();
        let broken = find_blocking(&reader, cache.path(), &PruneProgress::default());
        assert!(matches!(broken, Err(Error::KeyOutdated { .. })), "{broken:?}");
        // Neither do the private keys of an old full key open a wrap in a new pack, whatever number it claims.
        let packs = repo.packs(None, 1000).unwrap();
        let wraps: Vec<Wrap> = packs
            .iter()
            .flat_map(|info| {
                let bytes = repo.read_pack(info.id).unwrap();
                bkfs_store::format::pack::Pack::parse(&bytes).unwrap().table.wraps
            })
            .filter(|wrap| wrap.seal_key > old.full.seal.number())
            .collect();
        assert_eq!(wraps.len(), 2 * (3 - reads));
        for wrap in wraps {
            assert!(matches!(old.full.unwrap(&wrap), Err(Error::KeyOutdated { .. })));
            for seal in old.full.older.iter().chain([&old.full.seal]) {
                for number in [wrap.seal_key, seal.number()] {
                    assert!(seal.unwrap(old.full.repo, &Wrap { seal_key: number, ..wrap.clone() }).is_err());
                }
            }
        }
    }
}

#[test]
fn a_chunk_that_is_also_in_a_newer_pack_is_read_from_the_older_one() {
    let (repo, first) = repository();
    first.push(&*repo, &World::files(1)).unwrap();
    let second = rotate(&*repo, &first);
    // All of it once more, sealed to the new key. What is verified is read first.
    let older: Vec<PackId> = repo.packs(None, 1000).unwrap().iter().map(|info| info.id).collect();
    second.push(&*repo, &World::files(1)).unwrap();
    let all = repo.packs(None, 1000).unwrap();
    let verified: Vec<PackId> = all.iter().map(|info| info.id).filter(|id| !older.contains(id)).collect();
    assert_eq!((older.len(), verified.len()), (2, 2));
    repo.judge(&Verdict { repo: first.full.repo, verified, refused: vec![] }.sign(&second.full)).unwrap();
    let old = outdated(&*repo, &first);
    let reader = old.reader(repo.clone());
    let info = reader.snapshots().unwrap().remove(0);
    assert_eq!(read_files(&reader, &info.snapshot.root).unwrap(), World::files(1));
}

#[test]
fn the_store_refuses_what_is_not_sealed_to_the_newest_key() {
    let (repo, first) = repository();
    let early = first.packs(&World::files(1));
    first.push_packs(&*repo, &early).unwrap();
    let running = first.packs(&World::files(2));
    repo.put_pack(Lease::default(), &running.uploads[0].0).unwrap();
    let second = rotate(&*repo, &first);
    // A push that began before.
    for result in [
        repo.put_pack(Lease::default(), &running.uploads[1].0),
        first.commit(&*repo, &running).map(drop),
        repo.put_pack(Lease::default(), &early.uploads[0].0),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::LeaseRefused { .. }), "{error}");
        assert!(error.to_string().contains("seals to seal key 1, and the newest is seal key 2"), "{error}");
    }
    // One of a key that does not exist.
    let seal_keys = SealKeys::verify(&open(&*repo).seal_keys, &first.config).unwrap();
    let unknown = seal_keys.rotate(&second.full).unwrap().full;
    let push = PushKey { seal_number: unknown.seal.number(), ..second.push.clone() };
    let wrap = push.seal().unwrap().wrap(push.repo, &DataKey::random());
    assert_eq!(wrap.seal_key.0, 3);
    let other = World { push, full: second.full.clone(), config: first.config.clone(), request: first.request.clone() };
    assert!(matches!(other.push(&*repo, &World::files(3)), Err(Error::LeaseRefused { .. })));
    second.push(&*repo, &World::files(2)).unwrap();
}

/// A store that took a snapshot after a rotation that it had hidden from the client: the record of the rotation comes
/// before that of the commit.
struct Hid(Arc<Repository>);

/// Where the commit was, and where the rotation.
const PLACES: [u64; 2] = [3, 4];

fn exchanged(seq: u64) -> u64 {
    match PLACES.iter().position(|place| *place == seq) {
        Some(at) => PLACES[1 - at],
        None => seq,
    }
}

impl Open for Hid {
    fn open(&self, request: &OpenRequest) -> Result<Opened> {
        self.0.open(request)
    }

    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64> {
        self.0.wait_log(len, timeout)
    }
}

impl Read for Hid {
    fn read(&self, request: &ReadRequest) -> Result<ReadReply> {
        self.0.read(request)
    }

    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        self.0.wraps(keys)
    }

    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        self.0.places(ids)
    }

    fn snapshots(&self, _: u64, limit: u32) -> Result<Vec<SnapshotObject>> {
        let snapshots = self.0.snapshots(0, limit)?.into_iter();
        Ok(snapshots.map(|object| SnapshotObject { log_seq: exchanged(object.log_seq), ..object }).collect())
    }

    fn log(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>> {
        let all = self.0.log(0, 1000)?;
        let numbered = |seq: u64| {
            let record: LogRecord = codec::decode("a record", &all[exchanged(seq) as usize]).unwrap();
            LogRecord { seq, ..record }.encode()
        };
        Ok((from..all.len() as u64).take(limit as usize).map(numbered).collect())
    }

    fn mend(&self, id: PackId) -> Result<Mending> {
        self.0.mend(id)
    }

    fn read_pack(&self, id: PackId) -> Result<bytes::Bytes> {
        self.0.read_pack(id)
    }

    fn judge(&self, verdict: &[u8]) -> Result<()> {
        self.0.judge(verdict)
    }
}

#[test]
fn a_rotation_that_was_hidden_from_a_client_is_reported() {
    let (repo, first) = repository();
    let receipt = first.push(&*repo, &World::files(1)).unwrap();
    let second = rotate(&*repo, &first);
    for hides in [false, true] {
        let access: Arc<dyn Read> = if hides { Arc::new(Hid(repo.clone())) } else { repo.clone() };
        let reader = Reader::new(access, second.full.clone(), &second.config, 1 << 20);
        let (found, shown) = reader.with_snapshots(|list| (list.contradictions.clone(), list.snapshots.len())).unwrap();
        assert_eq!((found.len(), shown), (usize::from(hides), 1), "{found:?}");
        if hides {
            let Contradiction::OldSealKey { snapshot, client, used: 1, newest: 2, .. } = found[0] else {
                panic!("{}", found[0]);
            };
            assert_eq!((snapshot, client), (receipt.snapshot, first.push.client_id()));
            assert!(found[0].to_string().contains("a rotation was hidden"), "{}", found[0]);
        }
    }
}

#[test]
fn of_two_rotations_at_once_one_is_refused() {
    let (repo, first) = repository();
    first.push(&*repo, &World::files(1)).unwrap();
    let opened = open(&*repo);
    let winner = rotate_with(&*repo, &opened, &first.full).unwrap();
    let error = rotate_with(&*repo, &opened, &first.full).unwrap_err();
    assert!(matches!(&error, Error::LeaseRefused { reason } if reason.contains("another machine")), "{error}");
    let now = open(&*repo);
    assert_eq!(now.slots.iter().map(|slot| slot.id).collect::<Vec<_>>(), [winner.slot], "nothing is left of the other");
    let world = first.rotated(&now).unwrap();
    assert_eq!(world.full.seal.number().0, 2);
    world.push(&*repo, &World::files(2)).unwrap();
    assert_eq!(world.read_all(&world.reader(repo.clone())).unwrap().len(), 2);
    // Nor does the log take a list that is no next one, or of another admin.
    for bad in [&[][..], b"rubbish", &opened.seal_keys] {
        assert!(repo.put_seal_keys(bad).is_err());
    }
    let before = open(&*repo).now;
    repo.put_seal_keys(&now.seal_keys).unwrap();
    assert_eq!(open(&*repo).now, before, "the same list again changes nothing");
}

#[test]
fn a_slot_that_was_added_meanwhile_stays() {
    let (repo, first) = repository();
    let opened = open(&*repo);
    let added = slot::seal_slot(&first.full, b"added", SlotParams::LEAST, &Default::default()).unwrap();
    repo.put_slot(&added).unwrap();
    rotate_with(&*repo, &opened, &first.full).unwrap();
    let now = open(&*repo);
    let full = first.rotated(&now).unwrap().full;
    // It might be of the next rotation of another machine. It is found to be old, and removed when somebody says so.
    let left = rotation::outdated(&full, &now.slots);
    assert_eq!(left.iter().map(|slot| slot.id).collect::<Vec<_>>(), [added.id]);
    rotation::finish(&*repo, &[added.id]).unwrap();
    rotation::finish(&*repo, &[added.id]).unwrap();
    assert_eq!(open(&*repo).slots.len(), 1);
}

/// A store whose replies stop: after some calls that change it, a call is not passed on, or its reply is lost.
struct Cut {
    access: Arc<Repository>,
    left: AtomicUsize,
    loses_reply: bool,
}

impl Cut {
    fn change(&self, call: impl Fn() -> Result<()>) -> Result<()> {
        let gone = || Error::Unreachable("the process died".into());
        match self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
            Err(_) => Err(gone()),
            Ok(1) if self.loses_reply => call().and_then(|()| Err(gone())),
            Ok(_) => call(),
        }
    }
}

impl Open for Cut {
    fn open(&self, request: &OpenRequest) -> Result<Opened> {
        match self.left.load(SeqCst) {
            0 => Err(Error::Unreachable("the process died".into())),
            _ => self.access.open(request),
        }
    }

    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64> {
        self.access.wait_log(len, timeout)
    }
}

impl Manage for Cut {
    fn init(&self, request: &InitRequest) -> Result<()> {
        self.access.init(request)
    }

    fn put_roster(&self, signed: &[u8]) -> Result<()> {
        self.change(|| self.access.put_roster(signed))
    }

    fn put_seal_keys(&self, signed: &[u8]) -> Result<()> {
        self.change(|| self.access.put_seal_keys(signed))
    }

    fn put_slot(&self, slot: &Slot) -> Result<()> {
        self.change(|| self.access.put_slot(slot))
    }

    fn remove_slot(&self, id: SlotId) -> Result<()> {
        self.change(|| self.access.remove_slot(id))
    }

    fn forget(&self, request: &ForgetRequest) -> Result<ForgetReply> {
        self.access.forget(request)
    }

    fn unforget(&self, snapshots: &[SnapshotId]) -> Result<()> {
        self.access.unforget(snapshots)
    }
}

#[test]
fn a_rotation_that_is_cut_short_loses_nothing_and_is_finished_or_begun_again() {
    for (calls, loses_reply) in (0..5).flat_map(|calls| [(calls, false), (calls, true)]) {
        let (repo, first) = repository();
        first.push(&*repo, &World::files(1)).unwrap();
        let other = slot::seal_slot(&first.full, b"other", SlotParams::LEAST, &Default::default()).unwrap();
        repo.put_slot(&other).unwrap();
        let opened = open(&*repo);
        let cut = Cut { access: repo.clone(), left: AtomicUsize::new(calls), loses_reply };
        let (params, info) = (SlotParams::LEAST, &Default::default());
        let rotation = Rotation { opened: &opened, full: &first.full, passphrase: b"first", params, info };
        let done = rotation.run(&cut);
        // A slot, the list, and two slots that go.
        assert_eq!(done.is_ok(), calls > 4 || calls == 4 && !loses_reply, "{calls} {loses_reply}");

        // Whatever was done, the passphrase gives the newest seal key, and a push can be read.
        let now = open(&*repo);
        let world = first.rotated(&now).unwrap();
        assert_eq!(world.full.seal.number().0, if calls >= 2 { 2 } else { 1 });
        world.push(&*repo, &World::files(2)).unwrap();
        // The next one finishes what is left, or begins again.
        let left: Vec<SlotId> = rotation::outdated(&world.full, &now.slots).iter().map(|slot| slot.id).collect();
        match left.is_empty() {
            true => drop(rotate_with(&*repo, &now, &world.full).unwrap()),
            false => rotation::finish(&*repo, &left).unwrap(),
        }
        let now = open(&*repo);
        assert_eq!(now.slots.len(), 1, "{calls} {loses_reply}");
        let world = first.rotated(&now).unwrap();
        world.push(&*repo, &World::files(3)).unwrap();
        assert_eq!(world.read_all(&world.reader(repo.clone())).unwrap().len(), 3);
    }
}

#[test]
fn an_index_that_is_made_again_knows_the_newest_seal_key() {
    let folder = tempfile::tempdir().unwrap();
    let (place, index) = (folder.path().join("repo"), folder.path().join("index"));
    let first = World::new();
    let repo = Arc::new(Repository::local(&place, &index).unwrap());
    repo.init(&first.request).unwrap();
    first.push(&*repo, &World::files(1)).unwrap();
    let second = rotate(&*repo, &first);
    second.push(&*repo, &World::files(2)).unwrap();
    drop(repo);
    // The index is made again from the log.
    std::fs::remove_dir_all(&index).unwrap();
    let repo = Arc::new(Repository::local(&place, &index).unwrap());
    let world = first.rotated(&open(&*repo)).unwrap();
    assert_eq!(world.read_all(&world.reader(repo.clone())).unwrap().len(), 2);
}
