//! Packs that the store has made of a client's frames: no client's signature is on them, and they must be as safe from a disk that forgets as
//! any other.

use std::fs;

use bkfs_store::{
    pack::{FOOTER_LEN, Footer, Pack},
    tree::Node,
};

use crate::{Place, forget, push, reader, verify};

/// The copied pack of a repository, and where its table is.
fn copied(place: &Place) -> (std::path::PathBuf, std::ops::Range<usize>) {
    let repo = place.open();
    let first = push(&*repo, 0..12);
    push(&*repo, [3, 7]);
    forget(&*repo, first, true);
    assert_eq!(place.prune(&repo).stats.repacked, 1);
    for info in bkfs_store::access::Access::packs(&*repo, None, 100).unwrap() {
        let path = place.folder.path().join(format!("repo/packs/{:02x}/{}", info.id.0[0], info.id));
        let bytes = fs::read(&path).unwrap();
        let footer = Footer::parse(&bytes).unwrap();
        if Pack::parse(&bytes.into()).unwrap().table.is_copied {
            return (path, footer.table_offset..footer.table_offset + footer.table_len);
        }
    }
    panic!("there is one");
}

/// An index that is made anew reads tables only. What it takes from them must be what was written: a wrong id hides a chunk, and a wrong wrap all
/// that is sealed with its key.
#[test]
fn damage_to_the_table_of_a_copied_pack_is_not_taken_for_what_was_written() {
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
