//! Tests of inode numbers.

use bkfs_store::{base::id::ChunkId, format::tree::Totals};

use super::*;
use crate::vfs::{MountOwner, testing};

fn attr() -> Attr {
    Attr::top_dir(0, MountOwner { uid: 0, gid: 0 }, Default::default())
}

fn table() -> (InodeTable, Arc<DirInstance>) {
    let table = InodeTable::new(tree(), attr());
    match table.get(ROOT) {
        Some(Inode::Dir(root)) => (table, root),
        other => panic!("{other:?}"),
    }
}

fn tree() -> DirKind {
    let root = testing::node(b"", bkfs_store::format::tree::NodeKind::Directory);
    let snapshot = testing::shown(Default::default(), 1, testing::snapshot(0, "t", "h", &[], root));
    let subtree = Subtree { id: ChunkId::default(), entries: 9, totals: Totals::default() };
    DirKind::Tree { subtree, snapshot: Arc::new(snapshot), root: PathKey::ROOT }
}

fn new_dir<'a>(parent: &'a Arc<DirInstance>, key: PathKey, index: u64) -> NewDir<'a> {
    NewDir { key, name: b"d", parent, index, kind: tree(), attr: attr() }
}

/// Returns a key that gives this instance number.
fn key(instance: u64, rest: u8) -> PathKey {
    let mut bytes = [rest; 16];
    bytes[..8].copy_from_slice(&instance.to_le_bytes());
    PathKey(bytes)
}

#[test]
fn numbers_lead_back_to_entries() {
    let (table, root) = table();
    let dir = table.hold_dir(new_dir(&root, root.key.child(b'd', &[b"3"]), 3));
    assert_ne!(dir.ino(), ROOT);
    assert!(matches!(table.get(dir.ino()), Some(Inode::Dir(found)) if Arc::ptr_eq(&found, &dir)));
    for index in [0, 1, 200_000, ENTRIES_MAX - 1] {
        let ino = dir.entry_ino(index).unwrap();
        assert!(ino < 1 << 62);
        assert!(matches!(table.get(ino), Some(Inode::Entry(found, at)) if at == index && Arc::ptr_eq(&found, &dir)));
    }
    assert_eq!(dir.entry_ino(ENTRIES_MAX), None);
    let first = root.entry_ino(0).unwrap();
    assert!(first != ROOT && matches!(table.get(first), Some(Inode::Entry(_, 0))));
    for unknown in [0, 2, u64::MAX, 1 << 63, 77 << ENTRY_BITS, LINK | 5] {
        assert!(table.get(unknown).is_none(), "{unknown:x}");
    }
}

#[test]
fn a_record_is_kept_while_it_is_referenced() {
    let (table, root) = table();
    let dir = table.hold_dir(new_dir(&root, key(50, 1), 0));
    let (ino, entry) = (dir.ino(), dir.entry_ino(7).unwrap());
    table.hold_entry(&dir);
    table.hold_entry(&dir);
    table.hold_dir(new_dir(&root, key(50, 1), 0));
    table.forget(ino, 2);
    assert!(table.get(entry).is_some(), "an entry in it is held");
    table.forget(entry, 1);
    assert!(table.get(ino).is_some());
    table.forget(entry, 1);
    assert!(table.get(ino).is_none() && table.get(entry).is_none());
    assert_eq!(table.len(), (1, 0));
    // Too many references, unknown numbers, and the root do no harm.
    table.forget(ino, 9);
    table.forget(ROOT, u64::MAX);
    assert!(table.get(ROOT).is_some());
}

#[test]
fn numbers_are_the_same_after_forgetting() {
    let (table, root) = table();
    let path = root.key.child(b'd', &[b"x"]);
    let before = table.hold_dir(new_dir(&root, path, 0)).ino();
    assert_eq!(table.peek_dir(path), before);
    table.forget(before, 1);
    assert_eq!(table.peek_dir(path), before);
    assert_eq!(table.hold_dir(new_dir(&root, path, 0)).ino(), before);
}

#[test]
fn two_directories_never_share_a_number() {
    let (table, root) = table();
    let (one, other) = (key(50, 1), key(50, 2));
    let first = table.hold_dir(new_dir(&root, one, 0));
    let second = table.hold_dir(new_dir(&root, other, 1));
    assert_ne!(first.ino(), second.ino());
    table.forget(first.ino(), 1);
    // The displaced directory keeps its number, although the other has become free.
    assert_eq!(table.hold_dir(new_dir(&root, other, 1)).ino(), second.ino());
    assert_eq!(table.peek_dir(other), second.ino());
    table.forget(second.ino(), 2);
    assert_eq!(table.peek_dir(other), first.ino());
    // No directory gets the number of the root, or 0.
    for wanted in [0, ROOT_INSTANCE, INSTANCE_MASK] {
        let dirs = [3, 4].map(|rest| table.hold_dir(new_dir(&root, key(wanted, rest), 0)).ino());
        assert!(dirs[0] != dirs[1] && dirs.iter().all(|ino| *ino > ENTRY_MASK && *ino < LINK), "{dirs:?}");
    }
}

#[test]
fn names_of_an_inode_share_a_number() {
    let (table, root) = table();
    let (here, there) = (table.hold_dir(new_dir(&root, key(60, 1), 0)), table.hold_dir(new_dir(&root, key(61, 1), 1)));
    let group = link_key(&PathKey::ROOT, HardLinkGroup([7; 16]), 10, b"content");
    let ino = table.hold_link(group, &here, 4);
    assert_eq!(table.hold_link(group, &there, 9), ino);
    assert_eq!(table.peek_link(group), ino);
    assert!(matches!(table.get(ino), Some(Inode::Entry(dir, 4)) if Arc::ptr_eq(&dir, &here)));
    // The directory of the first name may be forgotten before the file.
    table.forget(here.ino(), 1);
    assert!(matches!(table.get(ino), Some(Inode::Entry(_, 4))));
    table.forget(ino, 1);
    assert!(table.get(ino).is_some());
    table.forget(ino, 1);
    assert!(table.get(ino).is_none());
    let others = [
        link_key(&PathKey::ROOT, HardLinkGroup([8; 16]), 10, b"content"),
        link_key(&PathKey::ROOT, HardLinkGroup([7; 16]), 10, b"changed"),
        link_key(&key(9, 9), HardLinkGroup([7; 16]), 10, b"content"),
    ];
    assert!(others.iter().all(|other| table.peek_link(*other) != ino));
    // A collision of hashes.
    let (one, other) = (key(5, 1), key(5, 2));
    let (a, b) = (table.hold_link(one, &there, 0), table.hold_link(other, &there, 1));
    assert_ne!(a, b);
    table.forget(a, 1);
    assert_eq!(table.hold_link(other, &there, 1), b);
}

#[test]
fn references_of_many_threads_are_counted() {
    let (table, root) = table();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..2000u64 {
                    let dir = table.hold_dir(new_dir(&root, key(100 + n % 3, 1), 0));
                    table.hold_entry(&dir);
                    assert!(table.get(dir.entry_ino(1).unwrap()).is_some());
                    table.forget(dir.entry_ino(1).unwrap(), 1);
                    table.forget(dir.ino(), 1);
                }
            });
        }
    });
    assert_eq!(table.len(), (1, 0));
}
