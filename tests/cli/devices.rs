//! Block devices as files of a snapshot.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    common::program::Person,
    expect, noise,
    profiles::{bare, with_profile, write},
    text,
};

const MIB: usize = 1 << 20;
/// The size of the device. It is no multiple of the blocks in which zeros are searched for.
const SIZE: usize = 64 * MIB + 512;

/// A loop device. It is given back when dropped.
struct Loop {
    path: PathBuf,
    contents: Vec<u8>,
}

impl Loop {
    /// Makes a device that is mostly empty, or returns why that is not possible.
    fn new(person: &Person) -> Result<Self, String> {
        let image = person.path("image");
        let mut contents = vec![0; SIZE];
        for (at, len) in [(0, 3 * MIB), (10 * MIB + 4096, 100), (40 * MIB, 2 * MIB), (SIZE - 512, 512)] {
            contents[at..at + len].copy_from_slice(&noise(at as u64 + 1, len));
        }
        fs::write(&image, &contents).unwrap();
        let made = Command::new("losetup").args(["-f", "--show"]).arg(&image).output().map_err(|e| e.to_string())?;
        if !made.status.success() {
            return Err(format!("no loop device can be made: {}", text(&made.stderr)));
        }
        Ok(Self { path: text(&made.stdout).trim().into(), contents })
    }

    /// Writes to the device itself.
    fn change(&mut self, at: usize, bytes: &[u8]) {
        let device = File::options().write(true).open(&self.path).unwrap();
        device.write_all_at(bytes, at as u64).unwrap();
        device.sync_all().unwrap();
        self.contents[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.path).status();
    }
}

fn push(person: &Person, args: &[&str]) -> serde_json::Value {
    let mut all = vec!["push", "--json", "--target", "disk"];
    all.extend(args);
    serde_json::from_str(&person.run(&all)).unwrap()
}

fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_device_is_stored_as_what_it_holds() {
    let person = Person::with_repo();
    let mut device = match Loop::new(&person) {
        Ok(device) => device,
        Err(why) => crate::skip!("{why}"),
    };
    fs::create_dir(person.path("by-id")).unwrap();
    let link = person.path("by-id/disk");
    symlink(&device.path, &link).unwrap();
    let path = link.to_str().unwrap();
    // Without the option, the link is a link.
    push(&person, &[path]);
    assert!(person.run(["ls", "-lR", "latest"]).contains(" -> "));
    let first = push(&person, &["--devices", path]);
    assert_eq!((first["files"].as_u64(), first["bytes"].as_u64()), (Some(1), Some(SIZE as u64)), "{first}");
    // Holes take no space, and all was read.
    let added = first["bytes_added"].as_u64().unwrap();
    assert!((5 * MIB as u64..6 * MIB as u64).contains(&added), "{first}");
    assert_eq!(first["bytes_read"].as_u64(), Some(SIZE as u64));
    let out = person.path("out");
    let restore = |person: &Person| {
        let _ = fs::remove_dir_all(&out).or_else(|_| fs::remove_file(&out));
        person.run(["restore", "--target", "disk", &format!("latest:{path}"), out.to_str().unwrap()]);
        let found = if out.is_dir() { out.join("disk") } else { out.clone() };
        assert!(fs::symlink_metadata(&found).unwrap().is_file());
        found
    };
    let restored = restore(&person);
    assert!(read(&restored) == device.contents);
    let blocks = fs::metadata(&restored).unwrap().blocks() * 512;
    assert!(blocks < 7 * MIB as u64, "the file of {SIZE} bytes takes {blocks}");
    // Nothing changed: it is read all the same, and nothing is sent.
    let same = push(&person, &["--devices", path]);
    assert_eq!((same["bytes_read"].as_u64(), same["files_unchanged"].as_u64()), (Some(SIZE as u64), Some(1)), "{same}");
    // The folders on the way have changed, as this test restores beside them.
    assert!(same["bytes_added"].as_u64().unwrap() < 1000, "{same}");
    // One sector among data, and one in a hole.
    device.change(41 * MIB, &noise(77, 512));
    device.change(20 * MIB + 1024, &noise(78, 512));
    let changed = push(&person, &["--devices", path]);
    assert!(changed["bytes_added"].as_u64().unwrap() < 2 * MIB as u64, "{changed}");
    assert!(read(&restore(&person)) == device.contents);
    person.run(["check", "--read-data"]);
}

#[test]
fn only_a_device_that_is_named_is_read() {
    let person = Person::with_repo();
    let device = match Loop::new(&person) {
        Ok(device) => device,
        Err(why) => crate::skip!("{why}"),
    };
    let source = person.path("src");
    fs::create_dir(&source).unwrap();
    symlink(&device.path, source.join("link")).unwrap();
    let meta = fs::metadata(&device.path).unwrap();
    assert!(meta.file_type().is_block_device());
    let node = rustix::fs::mknodat(
        rustix::fs::CWD,
        source.join("node"),
        rustix::fs::FileType::BlockDevice,
        rustix::fs::Mode::RUSR,
        meta.rdev(),
    );
    if node.is_err() {
        crate::skip!("no device node can be made here");
    }
    let base = source.to_str().unwrap();
    let kinds = || {
        let listed = person.run(["ls", "--json", "-R", "--target", "disk", "latest"]);
        let kind = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].to_string();
        listed.lines().map(kind).collect::<Vec<_>>().join(" ")
    };
    push(&person, &["--devices", "-C", base, "."]);
    assert!(kinds().contains("symlink") && !kinds().contains("file"), "{}", kinds());
    // A device node is as it always was, unless it is named and the option is given.
    push(&person, &["-C", base, "node"]);
    assert!(!kinds().contains("file"), "{}", kinds());
    push(&person, &["--devices", "-C", base, ".", "node"]);
    assert!(kinds().contains("file") && kinds().contains("symlink"), "{}", kinds());
    let output = person.command().args(["cat", "--target", "disk", "latest:node"]).output().unwrap();
    expect(&output, 0, &[]);
    assert!(output.stdout == device.contents);
    // A file that is named is a file, and its link stays a link.
    fs::File::create(source.join("f")).unwrap().write_all(b"x").unwrap();
    symlink("f", source.join("to f")).unwrap();
    push(&person, &["--devices", "-C", base, "f", "to f"]);
    assert_eq!(kinds(), "\"file\" \"symlink\"");
}

#[test]
fn a_profile_reads_devices_and_a_watch_does_not() {
    let person = with_profile("");
    let device = match Loop::new(&person) {
        Ok(device) => device,
        Err(why) => crate::skip!("{why}"),
    };
    let profile = format!(
        "[profile.home]\nrepositories = '{}'\nsources = '{}'\ntarget = 'disk'\ndevices = true\n",
        person.repo,
        device.path.display()
    );
    write(&person, "home.toml", &profile);
    expect(&bare(&person).arg("run").output().unwrap(), 0, &[]);
    let output = person.command().args(["cat", &format!("latest:/dev/{}", device.name())]).output().unwrap();
    expect(&output, 0, &[]);
    assert!(output.stdout == device.contents);
    expect(&person.output(["watch", "--devices", "/dev"]), 1, &["`bkfs watch` takes no --devices"]);
}
