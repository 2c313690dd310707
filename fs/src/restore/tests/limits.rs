//! Destinations that cannot hold everything: real file systems with rounded times, without owners or hard links.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use bkfs_store::base::time::Time;

use super::{fake::*, *};
use crate::restore::{Limit, place};

/// A file system in a file. It is unmounted when it is dropped.
struct Disk {
    dir: tempfile::TempDir,
    device: Option<String>,
}

impl Disk {
    /// Makes and mounts a file system. Returns the reason if that cannot be done here.
    fn new(make: &[&str], mount: &[&str]) -> Result<Self, String> {
        if !is_root() {
            return Err("only root mounts disks".into());
        }
        let mut disk = Self { dir: tempfile::tempdir().unwrap(), device: None };
        let image = disk.dir.path().join("image");
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        fs::create_dir(disk.path()).unwrap();
        run(make, &[&image])?;
        let device = run(&["losetup", "-f", "--show"], &[&image])?;
        disk.device = Some(device.trim().to_owned());
        run(mount, &[Path::new(device.trim()), &disk.path()])?;
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(&["umount"], &[&self.path()]);
        if let Some(device) = &self.device {
            let _ = run(&["losetup", "-d"], &[Path::new(device)]);
        }
    }
}

fn run(command: &[&str], paths: &[&Path]) -> Result<String, String> {
    let output = Command::new(command[0]).args(&command[1..]).args(paths).output();
    match output {
        Err(error) => Err(format!("{}: {error}", command[0])),
        Ok(output) if !output.status.success() => {
            Err(format!("{}: {}", command[0], String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

macro_rules! disk {
    ($make:expr, $mount:expr) => {
        match Disk::new(&$make, &$mount) {
            Ok(disk) => disk,
            Err(why) => {
                println!("skipped: {why}");
                return;
            }
        }
    };
}

/// Returns which limits a restore met, and which of them cost something that is stored.
fn met(report: &RestoreReport) -> Vec<(Limit, u64, bool)> {
    report.limits.iter().map(|met| (met.limit, met.entries, met.is_loss)).collect()
}

#[test]
fn rounded_times_are_the_same_the_next_time() {
    let disk = disk!(["mkfs.ext4", "-q", "-I", "128", "-O", "^metadata_csum"], ["mount"]);
    let mut fake = Fake::default();
    let sub = fake.folder("sub", vec![inline("g", b"g")]);
    let root = fake.folder("", vec![inline("f", b"stored"), symlink("l", "f"), sub]);
    let dest = disk.path().join("d");
    let first = restore(&fake, &root, &dest);
    assert!(first.is_whole(), "{:?} {:?}", first.problems, first.limits);
    assert_eq!((first.files, met(&first)), (2, vec![(Limit::TimeDetail, 5, false)]));
    // Without, with a comparison of contents, and set once more: nothing is fetched again.
    for (overwrite, verify) in [(false, false), (false, true), (true, false), (true, true)] {
        fake.reads.lock().clear();
        let again = try_restore(&fake, &root, &dest, &RestoreOptions { overwrite, verify, ..options() }).unwrap();
        assert!(again.is_whole(), "{:?} {:?}", again.problems, again.limits);
        assert_eq!((again.files, again.kept), (0, 4));
        assert!(met(&again).iter().all(|(limit, ..)| *limit == Limit::TimeDetail), "{:?}", again.limits);
    }
    // What was edited within the same second is not the same.
    fs::write(dest.join("f"), "edited").unwrap();
    assert_eq!(restore(&fake, &root, &dest).problems_total, 1);
    fs::write(dest.join("f"), "stored").unwrap();
    fs::File::options()
        .write(true)
        .open(dest.join("f"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_001))
        .unwrap();
    assert_eq!(restore(&fake, &root, &dest).problems_total, 1, "another second");
}

#[test]
fn whole_seconds_are_no_rounding_where_times_are_kept_in_full() {
    let fake = Fake::default();
    let dir = tempfile::tempdir().unwrap();
    let file = inline("f", b"stored");
    restore(&fake, &file, dir.path());
    let second = std::time::UNIX_EPOCH + std::time::Duration::from_secs(file.mtime.secs as u64);
    fs::File::options().write(true).open(dir.path().join("f")).unwrap().set_modified(second).unwrap();
    let before = fs::metadata(dir.path()).unwrap().mtime_nsec();
    assert_eq!(restore(&fake, &file, dir.path()).problems_total, 1);
    // To ask the file system did not touch the folder.
    assert_eq!(fs::metadata(dir.path()).unwrap().mtime_nsec(), before);
    assert_eq!(names(dir.path()), ["f"]);
}

#[test]
fn times_out_of_range_are_reported_once() {
    let disk = disk!(["mkfs.ext4", "-q", "-I", "128", "-O", "^metadata_csum"], ["mount"]);
    let mut fake = Fake::default();
    let late = |name| Node { mtime: Time { secs: 5_000_000_000, nanos: 0 }, ..inline(name, b"from 2128") };
    let root = fake.folder("", vec![late("a"), late("b"), late("c"), inline("f", b"f")]);
    let root = Node { mtime: Time { secs: 1_000_000_000, nanos: 0 }, ..root };
    let dest = disk.path().join("d");
    let first = restore(&fake, &root, &dest);
    assert_eq!(first.problems_total, 0, "{:?}", first.problems);
    assert_eq!(met(&first), [(Limit::TimeDetail, 1, false), (Limit::TimeRange, 3, true)]);
    assert!(!first.is_whole());
    for overwrite in [false, true] {
        let again = try_restore(&fake, &root, &dest, &RestoreOptions { overwrite, ..options() }).unwrap();
        assert!(again.is_whole(), "nothing is left to do: {:?} {:?}", again.problems, again.limits);
        assert_eq!((again.files, again.kept), (0, 4));
    }
}

#[test]
fn a_disk_without_owners_and_hard_links_is_named_once() {
    let disk = disk!(["mkfs.exfat"], ["mount.exfat-fuse"]);
    let mut fake = Fake::default();
    let owned = |name: &str| Node { uid: 1234, mode: 0o4750, ..inline(name, b"of another") };
    let sub = fake.folder("sub", vec![linked(inline("third", b"linked"), 1, 3)]);
    let root = fake.folder(
        "",
        vec![
            linked(inline("first", b"linked"), 1, 3),
            linked(inline("second", b"linked"), 1, 3),
            owned("x"),
            owned("y"),
            Node { xattrs: Some(vec![xattr("user.a", b"1")]), ..owned("z") },
            sub,
        ],
    );
    let dest = disk.path().join("d");
    let first = restore(&fake, &root, &dest);
    assert_eq!((first.problems_total, first.files), (0, 6), "{:?}", first.problems);
    let losses = |report: &RestoreReport| report.limits.iter().filter(|met| met.is_loss).map(|met| met.limit).collect();
    let lost: Vec<_> = losses(&first);
    assert_eq!(lost, [Limit::Owners, Limit::Modes, Limit::Xattrs]);
    assert!(met(&first).contains(&(Limit::HardLinks, 2, false)), "{:?}", first.limits);
    for name in ["first", "second", "sub/third"] {
        assert_eq!(fs::read(dest.join(name)).unwrap(), b"linked", "{name}");
    }
    let again = restore(&fake, &root, &dest);
    assert!(again.is_whole(), "{:?} {:?}", again.problems, again.limits);
    assert_eq!((again.files, again.kept), (0, 7));
    let over = try_restore(&fake, &root, &dest, &RestoreOptions { overwrite: true, ..options() }).unwrap();
    assert!(over.is_whole() && over.files == 0, "{:?} {:?}", over.problems, over.limits);
}

#[test]
fn a_single_file_gets_the_name_that_cp_would_give_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("file"), "there").unwrap();
    std::os::unix::fs::symlink("folder", at("link to folder")).unwrap();
    std::os::unix::fs::symlink("file", at("link to file")).unwrap();
    let placed = |node: Node, dest: &Path| {
        let (node, folder) = place(node, dest);
        (String::from_utf8(node.name).unwrap(), folder.to_owned())
    };
    let file = |dest: PathBuf| placed(inline("stored", b"s"), &dest);
    assert_eq!(file(at("new")), ("new".into(), at("")));
    assert_eq!(file(at("file")), ("file".into(), at("")));
    assert_eq!(file(at("link to file")), ("link to file".into(), at("")));
    assert_eq!(file(at("a/b/new")), ("new".into(), at("a/b")));
    assert_eq!(file("new".into()), ("new".into(), ".".into()));
    for folder in ["folder", "folder/", "new/", "new/.", "link to folder", ".", ".."] {
        assert_eq!(file(at(folder)), ("stored".into(), at(folder)), "{folder}");
    }
    assert_eq!(file("/".into()), ("stored".into(), "/".into()));
    // A folder's contents always appear in DEST.
    let folder = Fake::default().folder("stored", Vec::new());
    assert_eq!(placed(folder, &at("new")), ("stored".into(), at("new")));
}
