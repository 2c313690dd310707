//! Tests of records, the known-set and losses.

use std::fs::OpenOptions;

use bkfs_store::{
    base::id::{ChunkId, Hash, Incarnation},
    format::{
        loss::Lost,
        tree::{Subtree, Totals},
    },
};

use super::{
    record::{CachedEntry, RecordStamp, RecordWriter, STAMP},
    *,
};

fn subtree(entries: u64) -> Subtree {
    Subtree { id: ChunkId([5; 32]), entries, totals: Totals { files: entries, ..Totals::default() } }
}

fn write(cache: &Cache, key: [u8; 16], generation: u8, count: usize, node: usize) {
    let mut spool = cache.spool();
    let mut writer = RecordWriter::new(key, RecordStamp { generation: [generation; 8], epoch: 3 });
    for i in 0..count {
        let mut stamp = [0; STAMP];
        stamp[0] = u8::from(i % 10 == 0);
        let name = format!("{i:06}");
        let entry = CachedEntry {
            name: name.as_bytes(),
            stamp: &stamp,
            is_distrusted: i % 3 == 0,
            is_calm: i % 2 == 0,
            node: &vec![i as u8; node],
        };
        writer.add(&entry, &mut spool);
    }
    writer.finish(&subtree(count as u64), &mut spool);
    cache.apply(spool, None).unwrap();
}

fn read(cache: &Cache, key: [u8; 16]) -> (usize, Option<Subtree>) {
    let mut cursor = Cursor::new(cache, key);
    let mut count = 0;
    while let Some(entry) = cursor.entry() {
        assert_eq!(entry.name, format!("{count:06}").as_bytes());
        assert_eq!((entry.is_distrusted, entry.is_dir()), (count % 3 == 0, count % 10 == 0));
        assert!(entry.node.iter().all(|b| *b == count as u8));
        count += 1;
        cursor.advance();
    }
    (count, cursor.subtree())
}

#[test]
fn records_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap();
    assert!(Cursor::new(&cache, [0; 16]).is_absent());
    for (key, count, node) in [(1, 0, 0), (2, 1, 5), (3, 5000, 100), (4, 3, 300_000)] {
        write(&cache, [key; 16], key, count, node);
        assert_eq!(read(&cache, [key; 16]), (count, Some(subtree(count as u64))));
    }
    drop(cache);
    let cache = Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap();
    assert_eq!(read(&cache, [3; 16]).0, 5000);
    // A shorter record over a longer one hides its rest.
    write(&cache, [3; 16], 9, 2, 100);
    assert_eq!(read(&cache, [3; 16]), (2, Some(subtree(2))));
}

#[test]
fn a_mix_of_generations_or_any_damage_ends_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap();
    write(&cache, [1; 16], 1, 5000, 100);
    let segments: Vec<_> = (0..).map_while(|n| cache.segment(&[1; 16], n)).collect();
    assert!(segments.len() > 3);
    write(&cache, [1; 16], 2, 5000, 100);
    let mut spool = cache.spool();
    spool.put(&[1; 16], 2, &segments[2]);
    cache.apply(spool, None).unwrap();
    let (count, tree) = read(&cache, [1; 16]);
    assert!(count > 0 && count < 5000 && tree.is_none());
    for at in [0, 1, 5, 10, 11, 40, segments[0].len() - 1] {
        let mut bytes = segments[0].clone();
        bytes[at] ^= 0x41;
        let mut spool = cache.spool();
        spool.put(&[1; 16], 0, &bytes);
        cache.apply(spool, None).unwrap();
        assert_eq!(read(&cache, [1; 16]), (0, None), "flipped at {at}");
    }
}

#[test]
fn removing_a_directory_removes_all_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap();
    write(&cache, [1; 16], 1, 15, 10);
    let below = crate::walk::child_key(&[1; 16], b"000010");
    let other = crate::walk::child_key(&[1; 16], b"000001");
    write(&cache, below, 1, 3000, 100);
    write(&cache, other, 1, 3, 10);
    let mut spool = cache.spool();
    spool.remove(&[1; 16]);
    cache.apply(spool, None).unwrap();
    assert_eq!((read(&cache, [1; 16]).0, read(&cache, below).0, read(&cache, other).0), (0, 0, 3));
}

/// A point of the log.
fn at(log_len: u64) -> Seen {
    Seen { incarnation: Incarnation([1; 16]), log_len, log_head: Hash([2; 32]) }
}

/// The view of a session that opened at a point of the log and was told of no loss.
fn nothing_lost(cache: &Cache, log_len: u64) -> LossView {
    cache.note_lost(&Lost::Ids(vec![]), at(log_len)).unwrap()
}

/// Two pushes of one machine, to two targets, share a known-set.
#[test]
fn a_session_does_not_add_what_a_later_session_noted_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap();
    let ids: Vec<_> = (0..4u8).map(|i| ChunkId([i; 32])).collect();
    let older = nothing_lost(&cache, 7);
    cache.add_known(&mut ids[..1].to_vec(), &older).unwrap();
    let later = cache.note_lost(&Lost::Ids(ids[1..2].to_vec()), at(8)).unwrap();
    cache.add_known(&mut ids[1..3].to_vec(), &older).unwrap();
    assert_eq!(
        cache.known(&ids),
        [true, false, false, false],
        "the older session learned too early that they are stored"
    );
    cache.add_known(&mut ids[3..].to_vec(), &later).unwrap();
    assert_eq!(cache.known(&ids), [true, false, false, true]);

    // A session that opened earlier but notes its losses only now knows less than the cache.
    assert_eq!((older.epoch(), later.epoch()), (Some(0), Some(1)));
    assert_eq!(nothing_lost(&cache, 7).epoch(), None);
    assert_eq!(cache.note_lost(&Lost::Ids(ids[..1].to_vec()), at(7)).unwrap().epoch(), None);
    cache.add_known(&mut ids[3..].to_vec(), &later).unwrap();
    assert_eq!(cache.known(&ids), [false, false, false, true]);
    assert_eq!(nothing_lost(&cache, 8).epoch(), Some(2));

    // Another incarnation of the store.
    let other = Seen { incarnation: Incarnation([9; 16]), ..at(2) };
    let reborn = cache.note_lost(&Lost::Everything, other).unwrap();
    cache.add_known(&mut ids.clone(), &later).unwrap();
    assert_eq!(cache.known(&ids), [false; 4]);
    cache.add_known(&mut ids.clone(), &reborn).unwrap();
    assert_eq!(cache.known(&ids), [true; 4]);
}

#[test]
fn losses_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap();
    write(&cache, [1; 16], 1, 10, 10);
    assert_eq!((cache.epoch(), Cursor::new(&cache, [1; 16]).epoch()), (0, 3));
    let ids: Vec<_> = (0..10u8).map(|i| ChunkId([i; 32])).collect();
    cache.add_known(&mut ids.clone(), &nothing_lost(&cache, 7)).unwrap();
    cache.note_lost(&Lost::Ids(ids[..2].to_vec()), at(7)).unwrap();
    cache.note_lost(&Lost::Ids(ids[2..4].to_vec()), at(7)).unwrap();
    assert_eq!(cache.epoch(), 2);
    assert_eq!(cache.known(&ids), (0..10).map(|i| i >= 4).collect::<Vec<_>>());
    let lost = |epoch| match cache.losses(epoch) {
        Losses::None => vec![],
        Losses::Some { since } => (0..10).filter(|i| cache.is_lost(&ids[*i], since)).collect(),
        Losses::All => vec![99],
    };
    assert_eq!((lost(0), lost(1), lost(2)), (vec![0, 1, 2, 3], vec![2, 3], vec![]));
    cache.note_lost(&Lost::Everything, at(7)).unwrap();
    assert_eq!((lost(0), lost(2), lost(3)), (vec![99], vec![99], vec![]));
    assert!(!cache.known(&ids).contains(&true));
    // A report without losses changes nothing.
    cache.note_lost(&Lost::Ids(vec![]), at(7)).unwrap();
    assert_eq!(cache.epoch(), 3);
}

#[test]
fn the_known_set_and_the_point_last_seen_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap();
    let ids: Vec<_> = (0..100u8).map(|i| ChunkId([i; 32])).collect();
    cache.add_known(&mut ids[..50].to_vec(), &nothing_lost(&cache, 7)).unwrap();
    assert_eq!(cache.known(&ids), (0..100).map(|i| i < 50).collect::<Vec<_>>());
    cache.note_lost(&Lost::Ids(ids[10..20].to_vec()), at(7)).unwrap();
    assert_eq!(cache.known(&ids[5..15]), [vec![true; 5], vec![false; 5]].concat());
    let seen = Seen { incarnation: Incarnation([1; 16]), log_len: 7, log_head: Hash([2; 32]) };
    assert_eq!(cache.seen(), None);
    cache.apply(cache.spool(), Some(seen)).unwrap();
    assert_eq!(cache.seen(), Some(seen));
    assert_eq!(Cache::open(dir.path(), RepoId([2; 16]), ClientId([7; 16])).unwrap().seen(), None);
}

#[test]
fn a_damaged_environment_is_recreated() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap();
    write(&cache, [1; 16], 1, 5000, 100);
    let folder = cache.folder.clone();
    drop(cache);
    let path = folder.join("data.mdb");
    let len = std::fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(len / 2).unwrap();
    let cache = Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap();
    assert!(Cursor::new(&cache, [1; 16]).is_absent());
    drop(cache);
    std::fs::write(&path, b"not a database").unwrap();
    assert_eq!(Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap().seen(), None);
}

#[test]
fn only_one_push_of_a_target_runs_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), RepoId([1; 16]), ClientId([7; 16])).unwrap();
    let held = cache.lock_target(TargetTag([1; 16])).unwrap();
    assert!(matches!(cache.lock_target(TargetTag([1; 16])), Err(Error::Locked { .. })));
    assert!(cache.lock_target(TargetTag([2; 16])).is_ok());
    drop(held);
    assert!(cache.lock_target(TargetTag([1; 16])).is_ok());
}
