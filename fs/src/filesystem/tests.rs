//! Tests of identities, some of which mount something and print 'skipped' where that is not possible.

use std::{fs, path::Path};

use super::{kind::stable_name, testing::Mounts, *};

fn info(line: &str) -> MountInfo {
    MountInfo::parse(line.as_bytes()).unwrap()
}

#[test]
fn lines_of_the_kernel_are_understood() {
    let found = info(r"36 35 98:0 /mnt1 /mnt\0402 ro,noatime master:1 - ext3 /dev/root rw,errors=continue");
    assert_eq!(
        (found.major, found.minor, &found.kind[..], &found.source[..]),
        (98, 0, &b"ext3"[..], &b"/dev/root"[..])
    );
    assert!(!found.is_read_only, "only this mount of it is");
    assert!(info(r"1 2 7:0 / /a rw - squashfs /dev/loop0 ro,errors=continue").is_read_only);
    assert_eq!(info(r"1 2 0:41 / /a rw - fuse.sshfs me\100nas:/a\040b rw").source, b"me@nas:/a b");
    for line in ["", "1 2 x / /a rw - ext4 /dev/a rw", "1 2 8:1 / /a rw ext4 /dev/a rw", "1 2 8:1 / /a rw -"] {
        assert_eq!(MountInfo::parse(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn layers_of_an_overlay_are_found_if_they_are_whole_paths() {
    let layers = |options: &str| info(&format!("1 2 0:39 / /m rw - overlay overlay {options}")).layers();
    let paths = |paths: &[&str]| Some(paths.iter().map(|path| path.into()).collect::<Vec<_>>());
    assert_eq!(layers("ro,lowerdir=/a:/b,redirect_dir=on"), paths(&["/a", "/b"]));
    assert_eq!(layers("rw,lowerdir=/a,upperdir=/u,workdir=/w"), paths(&["/a", "/u"]));
    assert_eq!(layers(r"ro,lowerdir+=/a\054b,lowerdir+=/c:d,datadir+=/e"), paths(&["/a,b", "/c:d", "/e"]));
    assert_eq!(
        layers(r"ro,lowerdir=/with\134:colon:/with\040space::/data"),
        paths(&["/with:colon", "/with space", "/data"])
    );
    assert_eq!(layers("ro,lowerdir=a:/b"), None);
    assert_eq!(layers("ro"), None);
}

#[test]
fn every_kind_has_its_rule() {
    let rule = |kind: &str, options: &str| Rule::of(&info(&format!("1 2 0:39 / /m rw - {kind} none {options}")));
    for (kind, expected) in [
        ("ext4", Rule::Uuid),
        ("fuseblk", Rule::Uuid),
        ("fuseblk.ntfs", Rule::Uuid),
        ("squashfs", Rule::Image),
        ("nfs4", Rule::Name),
        ("zfs", Rule::Name),
        ("fuse.mergerfs", Rule::Name),
        ("overlay", Rule::Overlay),
        ("proc", Rule::Pseudo),
        ("fuse.lxcfs", Rule::Pseudo),
        ("fuse", Rule::Fuse),
        ("fuse.squashfuse", Rule::Fuse),
        ("something", Rule::Unknown),
    ] {
        assert_eq!(rule(kind, "rw"), expected, "{kind}");
    }
    assert_eq!((rule("udf", "rw"), rule("udf", "ro")), (Rule::Uuid, Rule::Image));
    let zfs = info("1 2 0:39 / /m ro - zfs tank/home@daily-3 ro");
    assert_eq!(stable_name(&zfs), b"tank/home");
    assert_eq!(stable_name(&info("1 2 0:39 / /m rw - nfs4 me@nas:/home rw")), b"me@nas:/home");
}

#[test]
fn a_uuid_is_folded_as_the_kernel_does() {
    // A file system's UUID and the id that `statfs` returned for it.
    let (uuid, statfs) = ("8a5f4c1c-e2ea-42a6-b460-a9c8a86e3fdd", 0x7b7d_844a_d4e5_3f3e);
    assert_eq!(uuid::fold_name(uuid.as_ref()), Some(statfs));
    assert!(uuid::fold_name("ABCD-1234".as_ref()).is_some());
    for odd in ["", "xyz", "abc", "00000000-0000", "8a5f4c1c-e2ea-42a6-b460-a9c8a86e3fdd00"] {
        assert_eq!(uuid::fold_name(odd.as_ref()), None, "{odd}");
    }
}

fn of(path: &Path) -> Filesystem {
    let handle = fs::File::open(path).unwrap();
    let stat = Stat::of_handle(&handle).unwrap();
    Filesystems::default().of_handle(&handle, &stat)
}

#[test]
fn proc_and_sysfs_make_their_files_when_they_are_read() {
    for path in ["/proc/self/status", "/proc", "/sys", "/sys/kernel"] {
        assert_eq!(of(path.as_ref()).sizes, Sizes::Meaningless, "{path}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(of(dir.path()).sizes, Sizes::Exact);
}

#[test]
fn another_mount_of_a_file_system_is_the_same_and_another_file_system_is_not() {
    let mut mounts = Mounts::new();
    let tmpfs = ["-t", "tmpfs", "tmpfs"];
    let Some(one) = mounts.mount(&tmpfs, "one") else { return };
    let Some(two) = mounts.mount(&tmpfs, "two") else { return };
    let Some(bound) = mounts.mount(&["--bind", one.to_str().unwrap()], "bound") else { return };
    assert_eq!(of(&one), of(&bound));
    assert_ne!(of(&one).id, of(&two).id);
    assert_eq!(of(&one).sizes, Sizes::Exact);
    // A file of another file system, in a directory of this one.
    fs::write(two.join("file"), "x").unwrap();
    fs::write(one.join("place"), "").unwrap();
    let (file, place) = (two.join("file"), one.join("place"));
    assert!(mounts.mount_at(&["--bind", file.to_str().unwrap()], &place));
    let handle = fs::File::open(&one).unwrap();
    let dir = Stat::of_handle(&handle).unwrap();
    let stat = Stat::of(&handle, c"place").unwrap();
    let mut known = Filesystems::default();
    assert_eq!(known.of_handle(&handle, &dir), of(&one));
    assert_eq!(known.of_entry(&handle, dir.mount, b"place", &stat), of(&two));
}

#[test]
fn a_disk_image_is_its_file_while_it_is_read_only() {
    let mut mounts = Mounts::new();
    let disk = mounts.path("disk");
    fs::File::create(&disk).unwrap().set_len(4 << 20).unwrap();
    if !testing::run(std::process::Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk)) {
        return;
    }
    let mut mounted = |options: &str| {
        let place = mounts.mount(&["-o", options, disk.to_str().unwrap()], "place")?;
        let found = of(&place);
        mounts.unmount_last();
        Some(found)
    };
    let Some(written) = mounted("loop") else { return };
    let read = mounted("loop,ro").unwrap();
    assert!(written != read && mounted("loop,ro") == Some(read));
    // The image is written by somebody else, who knows nothing of change times.
    fs::File::options().write(true).open(&disk).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let now = mounted("loop,ro").unwrap();
    assert!(now != read && now.sizes == Sizes::Exact);
    assert_eq!(mounted("loop"), Some(written));
}

#[test]
fn an_overlay_is_its_layers() {
    let mut mounts = Mounts::new();
    let Some(one) = mounts.mount(&["-t", "tmpfs", "tmpfs"], "one") else { return };
    let Some(two) = mounts.mount(&["-t", "tmpfs", "tmpfs"], "two") else { return };
    let mut ids = Vec::new();
    for (name, lower) in [("a", [&one, &two]), ("b", [&one, &two]), ("c", [&two, &one])] {
        let options = format!("lowerdir={}:{}", lower[0].display(), lower[1].display());
        let Some(place) = mounts.mount(&["-t", "overlay", "overlay", "-o", &options], name) else { return };
        ids.push(of(&place));
    }
    assert!(ids[0] == ids[1] && ids[0].id != ids[2].id && ids[0].sizes == Sizes::Exact);
    // Something else appears at the path of a layer: nobody can tell what the overlay shows.
    let Some(_) = mounts.mount(&["-t", "tmpfs", "tmpfs"], "one") else { return };
    let now = of(&mounts.path("a"));
    assert!(now.id != ids[0].id && now == of(&mounts.path("a")));
}
