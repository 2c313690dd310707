//! A destination that numbers names and not files, as sshfs does: every hard link has an inode number of its own. It
//! rounds times to seconds, ignores a change of owner, and knows no rename without replacement.

use std::fs;

use super::{fake::*, *};
use crate::restore::Limit;

#[path = "../../../../tests/common/poor_disk.rs"]
mod poor_disk;

#[test]
fn hard_links_that_cannot_be_recognised_become_copies() {
    if !is_root() || fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        println!("skipped: no FUSE here, or not root");
        return;
    }
    let (real, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lacks = poor_disk::Lacks { time_detail: true, ..Default::default() };
    let _mount = poor_disk::mount(real.path(), dir.path(), lacks).unwrap();
    let mut fake = Fake::default();
    let pieces: Vec<Piece> = (0..30).map(|i| Piece::Data(vec![i; 200_000])).collect();
    let large = fake.file("large", &pieces);
    let also = Node { name: b"also large".to_vec(), ..large.clone() };
    let sub = fake.folder("sub", vec![linked(inline("third", b"linked"), 1, 3), linked(also, 2, 2)]);
    let root = fake.folder(
        "",
        vec![
            linked(inline("first", b"linked"), 1, 3),
            linked(inline("second", b"linked"), 1, 3),
            linked(large, 2, 2),
            Node { uid: 1234, ..inline("owned", b"o") },
            sub,
        ],
    );
    let dest = dir.path().join("d");
    let first = restore(&fake, &root, &dest);
    assert_eq!((first.problems_total, first.files, first.links), (0, 6, 0), "{:?}", first.problems);
    let met = |limit| first.limits.iter().find(|met| met.limit == limit).map(|met| (met.entries, met.is_loss));
    assert_eq!(met(Limit::HardLinks), Some((3, false)));
    assert_eq!(met(Limit::Owners), Some((1, true)), "it was accepted, and had no effect");
    assert!(met(Limit::TimeDetail).is_some_and(|(_, is_loss)| !is_loss));
    for name in ["first", "second", "sub/third"] {
        assert_eq!(fs::read(dest.join(name)).unwrap(), b"linked", "{name}");
    }
    for name in ["large", "sub/also large"] {
        let bytes = fs::read(dest.join(name)).unwrap();
        assert!(bytes.len() == 6_000_000 && bytes.chunks(200_000).enumerate().all(|(i, c)| c[0] == i as u8), "{name}");
    }
    assert!(names(&dest).iter().chain(&names(&dest.join("sub"))).all(|name| !name.ends_with(".partial")));
    for verify in [false, true] {
        let again = try_restore(&fake, &root, &dest, &RestoreOptions { verify, ..options() }).unwrap();
        assert!(again.is_whole(), "{:?} {:?}", again.problems, again.limits);
        assert_eq!((again.files, again.kept), (0, 7));
    }
}
