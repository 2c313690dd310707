//! Packs that the store has made of a client's frames. No client's signature is on them, and they must be as safe from
//! a disk that forgets as any other pack.

use std::fs;

use bkfs_store::{
    access::{Maintain, Push as _, Read, ReadRequest},
    format::{
        frame::{ChunkKind, FrameBuilder},
        pack::{FOOTER_LEN, Footer, Pack, PackWriter},
        tree::Node,
    },
};

use crate::{CLOCK, Place, Push, forget, push, reader, support::push_key, verify};

/// The copied pack of a repository, and where its table is.
fn copied(place: &Place) -> (std::path::PathBuf, std::ops::Range<usize>) {
    let repo = place.open();
    let first = push(&*repo, 0..12);
    push(&*repo, [3, 7]);
    forget(&*repo, first, true);
    assert_eq!(place.prune(&repo).stats.repacked, 1);
    for info in repo.packs(None, 100).unwrap() {
        let path = place.folder.path().join(format!("repo/packs/{:02x}/{}", info.id.0[0], info.id));
        let bytes = fs::read(&path).unwrap();
        let footer = Footer::parse(&bytes).unwrap();
        if Pack::parse(&bytes.into()).unwrap().table.is_copied {
            return (path, footer.table_offset..footer.table_offset + footer.table_len);
        }
    }
    panic!("no pack is a copy");
}

/// A rebuilt index reads only tables. What it takes from them must be what was written: a wrong id hides a chunk, and a
/// wrong wrap hides everything that is sealed with its key.
#[test]
fn damage_to_the_table_of_a_copied_pack_is_mended_when_the_index_is_rebuilt() {
    let (place, repo) = Place::new(0);
    let (path, table) = copied(&place);
    let whole = fs::read(&path).unwrap();
    let snapshot = reader(&repo).snapshots().unwrap().pop().unwrap();
    let Node { subtree: Some(_), .. } = snapshot.snapshot.root else { panic!() };
    for at in table.clone().step_by(97).chain((table.end - 64..table.end + FOOTER_LEN).step_by(4)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(&path, bytes).unwrap();
        verify(&place.open(), snapshot.id, &[3, 7].into());
        assert!(fs::read(&path).unwrap() == whole, "byte {at} is mended");
    }
}

/// A sweep that dies when some of its packs are gone has copied what its other packs need, too. The sweep that
/// continues has fewer packs to copy from, so it would not make the same pack of copies again.
#[test]
fn a_sweep_that_fails_halfway_leaves_no_second_copy() {
    let kept = 0..40;
    let prune = |is_in_the_way: bool| {
        let (place, repo) = Place::new(3600);
        let dead: Vec<_> = kept.clone().map(|n| push(&*repo, [n, 100 + n])).collect();
        CLOCK.set(CLOCK.get() + 7200);
        let last = push(&*repo, kept.clone());
        dead.iter().for_each(|id| forget(&*repo, *id, true));
        if is_in_the_way {
            // The first pack that is going to be moved. By then, the sweep has recorded some packs as gone, but not
            // all.
            let first = repo.packs(None, 1).unwrap()[0].id;
            let obstacle = place.folder.path().join(format!("repo/grave/{first}"));
            fs::create_dir_all(&obstacle).unwrap();
            let options = crate::PruneOptions { is_confirmed: true, ..Default::default() };
            let cache = place.folder.path();
            crate::prune(repo.clone(), cache, &options).unwrap_err();
            fs::remove_dir(&obstacle).unwrap();
        }
        let report = place.prune(&repo);
        assert!(report.swept.packs > 1, "{report:?}");
        verify(&place.open(), last, &kept.clone().collect());
        super::reframe::pack_bytes(&repo)
    };
    assert_eq!(prune(true), prune(false));
}

/// Two packs with the same frame, which can happen if two clients lose a reply. Neither is removed in the belief that
/// the other stays.
#[test]
fn two_packs_that_are_both_removed_do_not_rely_on_each_other() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, [1, 2]);
    let packs = repo.packs(None, 10).unwrap();
    let pack = packs.iter().map(|info| Pack::parse(&repo.read_pack(info.id).unwrap()).unwrap());
    let pack = pack.into_iter().find(|pack| pack.table.kind == ChunkKind::Data).unwrap();
    let shared = pack
        .table
        .frames
        .iter()
        .position(|frame| frame.ids == [push_key().ids().data_id(&crate::contents(1))])
        .unwrap();

    let (key, push_again) = (push_key(), Push::begin(&*repo, &[1, 4].into()));
    let mut other = PackWriter::new(ChunkKind::Data, key.repo, &key.signing);
    other.add_wrap(&pack.table.wraps[0]);
    other.add_wrap(&key.seal().unwrap().wrap(key.repo, &push_again.key));
    other.add(&pack.frame(shared).unwrap(), &pack.table.frames[shared].ids);
    let mut frame = FrameBuilder::new();
    let bytes = crate::contents(5);
    frame.push(&bytes);
    other.add(&frame.seal(key.repo, ChunkKind::Data, &push_again.key, 1), &[key.ids().data_id(&bytes)]);
    repo.put_pack(push_again.opened.lease, &other.finish()).unwrap();
    let second = push_again.finish(&*repo);

    let last = push(&*repo, [1]);
    forget(&*repo, first, true);
    forget(&*repo, second, true);
    assert_eq!(place.prune(&repo).stats.repacked, 2);
    verify(&repo, last, &[1].into());
    verify(&place.open(), last, &[1].into());
}

#[test]
fn a_pack_that_parity_mends_is_mended_and_pruned() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..12);
    let second = push(&*repo, [3, 7]);
    repo.wait_for_parity();
    let id = push_key().ids().data_id(&crate::contents(7));
    let frame = &repo.read(&ReadRequest { ids: vec![id], neighbour_bytes: 0, avoid: vec![] }).unwrap().frames[0];
    let path = place.folder.path().join(format!("repo/packs/{:02x}/{}", frame.pack.0[0], frame.pack));
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(64).position(|window| window == &frame.bytes[..64]).unwrap();
    bytes[at + 1000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    forget(&*repo, first, true);
    let report = place.prune(&repo);
    assert_eq!((report.stats.repacked, report.swept.packs, report.swept.damaged), (1, 2, 0), "{report:?}");
    assert!(!path.exists());
    verify(&place.open(), second, &[3, 7].into());
}
