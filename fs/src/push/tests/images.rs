//! Tests of sources on images and overlays, whose times prove nothing, and on disks, whose times do. Where something is
//! missing to make or mount an image, they print 'skipped'.

use std::{fs, path::Path, process::Command};

use super::{Case, noise};
use crate::filesystem::testing::{Mounts, run};

/// Makes an image with a file `f` that says the same in each image, whatever it holds.
fn image(mounts: &Mounts, name: &str, text: &str) -> Option<std::path::PathBuf> {
    let (folder, image) = (mounts.path(&format!("{name}.d")), mounts.path(name));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("f"), text).unwrap();
    let mut make = Command::new("mksquashfs");
    make.arg(&folder).arg(&image).args(["-noappend", "-quiet", "-no-progress", "-all-time", "1700000000"]);
    run(make.args(["-mkfs-time", "1700000000", "-root-uid", "0"])).then_some(image)
}

fn loop_mount(mounts: &mut Mounts, image: &Path, place: &Path) -> bool {
    fs::create_dir_all(place).unwrap();
    mounts.mount_at(&["-o", "loop", image.to_str().unwrap()], place)
}

/// A push of what is at a place. Returns how many bytes it read, and checks what it holds of `f`.
fn push(case: &mut Case, place: &Path, text: &str) -> u64 {
    case.options.base = Some(place.into());
    let report = case.push();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    super::read_back(case, "f", text.as_bytes());
    report.stats.bytes_read
}

#[test]
fn another_image_at_the_same_place_is_read_and_the_same_one_is_not() {
    let (mut case, mut mounts) = (Case::new(), Mounts::new());
    let Some(a) = image(&mounts, "a", "one") else { return };
    let Some(b) = image(&mounts, "b", "two") else { return };
    let place = mounts.path("place");
    for (image, text, read) in [(&a, "one", 3), (&a, "one", 0), (&b, "two", 3), (&b, "two", 0), (&a, "one", 3)] {
        if !loop_mount(&mut mounts, image, &place) {
            return;
        }
        assert_eq!(push(&mut case, &place, text), read);
        assert_eq!(push(&mut case, &place, text), 0, "nothing was mounted since");
        mounts.unmount_last();
    }
    // The image itself is made anew in the same file.
    fs::copy(&b, &a).unwrap();
    assert!(loop_mount(&mut mounts, &a, &place));
    assert_eq!(push(&mut case, &place, "two"), 3);
}

#[test]
fn an_overlay_is_trusted_no_more_than_its_images() {
    let (mut case, mut mounts) = (Case::new(), Mounts::new());
    let Some(a) = image(&mounts, "a", "one") else { return };
    let Some(b) = image(&mounts, "b", "two") else { return };
    let (lower, other, place) = (mounts.path("lower"), mounts.path("other"), mounts.path("place"));
    fs::create_dir_all(&other).unwrap();
    fs::create_dir_all(&place).unwrap();
    for (image, text, read) in [(&a, "one", 3), (&a, "one", 0), (&b, "two", 3)] {
        if !loop_mount(&mut mounts, image, &lower) {
            return;
        }
        let whole = format!("lowerdir={}:{}", lower.display(), other.display());
        if !mounts.mount_at(&["-t", "overlay", "overlay", "-o", &whole], &place) {
            return;
        }
        assert_eq!(push(&mut case, &place, text), read);
        mounts.unmount_last();
        mounts.unmount_last();
    }
    // With layers by relative paths, only the mount tells what it shows.
    let at = mounts.path("");
    for (image, text) in [(&b, "two"), (&a, "one")] {
        assert!(loop_mount(&mut mounts, image, &lower));
        let mut mount = Command::new("mount");
        mount.current_dir(&at).args(["-t", "overlay", "overlay", "-o", "lowerdir=lower:other"]).arg(&place);
        assert!(run(&mut mount));
        assert_eq!(push(&mut case, &place, text), 3);
        assert_eq!(push(&mut case, &place, text), 0);
        assert!(run(Command::new("umount").arg(&place)));
        mounts.unmount_last();
    }
}

#[test]
fn a_disk_that_is_mounted_again_is_not_read_again() {
    let (mut case, mut mounts) = (Case::new(), Mounts::new());
    let (disk, place) = (mounts.path("disk"), mounts.path("place"));
    fs::File::create(&disk).unwrap().set_len(4 << 20).unwrap();
    if !run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk)) || !loop_mount(&mut mounts, &disk, &place) {
        return;
    }
    fs::write(place.join("f"), "text").unwrap();
    fs::write(place.join("other"), noise(1, 1000)).unwrap();
    assert_eq!(push(&mut case, &place, "text"), 1004);
    // Mounting it changes the file that holds it. That says nothing about what is in it.
    for _ in 0..2 {
        mounts.unmount_last();
        assert!(loop_mount(&mut mounts, &disk, &place));
        assert_eq!(push(&mut case, &place, "text"), 0);
    }
    fs::write(place.join("f"), "new text").unwrap();
    assert_eq!(push(&mut case, &place, "new text"), 8);
}

#[test]
fn a_folder_that_is_bound_again_is_not_read_again_and_another_disk_is() {
    let (mut case, mut mounts) = (Case::new(), Mounts::new());
    let place = mounts.path("place");
    fs::create_dir(&place).unwrap();
    let mut disks = Vec::new();
    for name in ["one", "two"] {
        let Some(disk) = mounts.mount(&["-t", "tmpfs", "tmpfs"], name) else { return };
        fs::write(disk.join("f"), name).unwrap();
        disks.push(disk);
    }
    for (disk, text, read) in [(0, "one", 3), (0, "one", 0), (1, "two", 3), (1, "two", 0), (0, "one", 3)] {
        assert!(mounts.mount_at(&["--bind", disks[disk].to_str().unwrap()], &place));
        assert_eq!(push(&mut case, &place, text), read);
        mounts.unmount_last();
    }
}
