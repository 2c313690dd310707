//! Sources on unusual file systems: images, overlays, and files that the kernel makes.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    common::program::{Person, cannot_mount},
    expect, text,
};

/// What mount(8) mounted for a test. It is unmounted when dropped, last first.
struct Mounts(Vec<PathBuf>);

impl Mounts {
    fn add(&mut self, args: &[&str], place: &Path) -> bool {
        fs::create_dir_all(place).unwrap();
        let is_mounted = run(Command::new("mount").args(args).arg(place));
        if is_mounted {
            self.0.push(place.to_owned());
        }
        is_mounted
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for place in self.0.iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(place).status();
        }
    }
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Makes an image in which two folders hold one file.
fn image(person: &Person, name: &str, folders: [&str; 2], text: &str) -> Option<PathBuf> {
    let (tree, image) = (person.path(&format!("{name}.d")), person.path(&format!("{name}.sq")));
    for folder in folders {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::write(tree.join(folders[0]).join("f"), text).unwrap();
    fs::hard_link(tree.join(folders[0]).join("f"), tree.join(folders[1]).join("f")).unwrap();
    let mut make = Command::new("mksquashfs");
    make.arg(&tree).arg(&image).args(["-quiet", "-no-progress", "-all-time", "1700000000"]);
    run(make.args(["-mkfs-time", "1700000000"])).then_some(image)
}

#[test]
fn different_files_behind_an_overlay_stay_different() {
    let person = Person::with_repo();
    let a = image(&person, "A", ["a", "c"], "one");
    let (Some(a), Some(b)) = (a, image(&person, "B", ["b", "d"], "two")) else {
        crate::skip!("mksquashfs is missing");
    };
    let mut mounts = Mounts(Vec::new());
    let (at_a, at_b, source) = (person.path("at a"), person.path("at b"), person.path("source"));
    let lower = format!("lowerdir={}:{}", at_a.display(), at_b.display());
    let is_mounted = mounts.add(&["-o", "loop", a.to_str().unwrap()], &at_a)
        && mounts.add(&["-o", "loop", b.to_str().unwrap()], &at_b)
        && mounts.add(&["-t", "overlay", "overlay", "-o", &lower], &source);
    if !is_mounted {
        crate::skip!("images and overlays cannot be mounted");
    }
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(source.join("a/f")), inode(source.join("b/f")), "the test needs equal numbers");
    let files = [("a/f", "one"), ("b/f", "two"), ("c/f", "one"), ("d/f", "two")];
    let check = |folder: &Path| {
        for (path, expected) in files {
            assert_eq!(fs::read_to_string(folder.join(path)).unwrap(), expected, "{path} in {}", folder.display());
        }
        assert_eq!(inode(folder.join("a/f")), inode(folder.join("c/f")));
        assert_eq!(inode(folder.join("b/f")), inode(folder.join("d/f")));
        assert_ne!(inode(folder.join("a/f")), inode(folder.join("b/f")));
    };
    // The first push, one with what it remembers, and one that has lost that.
    for round in 0..3 {
        if round == 2 {
            fs::remove_dir_all(person.path("cache")).unwrap();
        }
        person.push(&source);
        for (path, expected) in files {
            assert_eq!(person.run(["cat", &format!("latest:{path}")]), expected);
        }
        let restored = person.path(&format!("restored {round}"));
        person.run(["restore", "latest", restored.to_str().unwrap(), "--verify"]);
        check(&restored);
    }
    person.run(["check", "--read-data"]);
    match cannot_mount() {
        Some(reason) => println!("skipped the mount: {reason}"),
        None => check(&person.mount(&[]).latest()),
    }
}

#[test]
fn a_changed_image_at_the_same_place_is_pushed() {
    let person = Person::with_repo();
    let a = image(&person, "A", ["a", "c"], "one");
    let (Some(a), Some(b)) = (a, image(&person, "B", ["a", "c"], "two")) else {
        crate::skip!("mksquashfs is missing");
    };
    let source = person.path("source");
    for (image, expected) in [(&a, "one"), (&b, "two")] {
        let mut mounts = Mounts(Vec::new());
        if !mounts.add(&["-o", "loop", image.to_str().unwrap()], &source) {
            crate::skip!("images cannot be mounted");
        }
        person.push(&source);
        assert_eq!(person.run(["cat", "latest:c/f"]), expected);
    }
}

#[test]
fn files_that_the_kernel_makes_are_kept_as_they_read() {
    let person = Person::with_repo();
    expect(&person.output(["push", "/proc/version", "/proc/filesystems"]), 0, &[]);
    for path in ["proc/version", "proc/filesystems"] {
        assert_eq!(
            person.run(["cat", &format!("latest:{path}")]),
            fs::read_to_string(Path::new("/").join(path)).unwrap()
        );
    }
    expect(&person.output(["push", "/proc/version", "/proc/filesystems"]), 0, &[]);
    // These say that they have 4096 bytes. Some files beside them cannot be read.
    let Ok(expected) = fs::read_to_string("/sys/class/net/lo/address") else {
        crate::skip!("/sys/class/net/lo is missing");
    };
    let output = person.output(["push", "--target", "lo", "/sys/class/net/lo/address", "/sys/class/net/lo/mtu"]);
    // `lo` is a link, which the path leads through.
    expect(&output, 0, &[]);
    let shown = text(&person.output(["ls", "-R", "--target", "lo", "latest"]).stdout);
    let address = shown.lines().find(|line| line.ends_with("/address")).unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(person.run(["cat", "--target", "lo", &format!("latest:{address}")]), expected);
}
