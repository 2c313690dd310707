//! What keeps a mount from being made, and that none is left behind.

use std::{fs, process::Command};

use crate::{common::program::Person, expect, make_source};

fn pushed() -> Person {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    person
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn bad_mountpoints_are_named() {
    let person = pushed();
    let absent = person.path("absent");
    expect(&person.output(["mount", absent.to_str().unwrap()]), 1, &["absent", "not there", "mkdir"]);
    let src = person.path("src");
    expect(&person.output(["mount", src.to_str().unwrap()]), 1, &["src", "not empty"]);
    let file = src.join("hello");
    expect(&person.output(["mount", file.to_str().unwrap()]), 1, &["hello", "no folder"]);
    assert!(!mounts().contains(person.dir.path().to_str().unwrap()));
}

#[test]
fn a_wrong_passphrase_mounts_nothing() {
    let person = pushed();
    let point = person.path("mount");
    fs::create_dir(&point).unwrap();
    for extra in [&[][..], &["--background"]] {
        let output =
            person.command().env("BKFS_PASSWORD", "wrong").arg("mount").args(extra).arg(&point).output().unwrap();
        // Without /dev/fuse that is what is said.
        if crate::common::program::no_mount().is_some() {
            expect(&output, 1, &["fuse"]);
        } else {
            expect(&output, 12, &["wrong passphrase"]);
        }
    }
    assert!(!mounts().contains(point.to_str().unwrap()));
}

#[test]
fn without_the_device_the_package_is_named() {
    // A mount namespace whose /dev holds nothing.
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /dev && exec \"$0\" \"$@\""]);
    let works = command.arg("true").output().is_ok_and(|output| output.status.success());
    if !works {
        crate::skip!("no mount namespaces here");
    }
    let person = pushed();
    let point = person.path("mount");
    fs::create_dir(&point).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /dev && exec \"$0\" \"$@\""]);
    for (name, value) in person.command().get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    let output = command.arg(env!("CARGO_BIN_EXE_bkfs")).arg("mount").arg(&point).output().unwrap();
    expect(&output, 1, &["/dev/fuse", "package fuse3", "bkfs restore"]);
}

#[test]
fn without_fusermount3_the_package_is_named() {
    if rustix::process::geteuid().is_root() {
        crate::skip!("root mounts without it");
    }
    let person = pushed();
    let point = person.path("mount");
    fs::create_dir(&point).unwrap();
    let output = person.command().env("PATH", "/no/such").arg("mount").arg(&point).output().unwrap();
    expect(&output, 1, &["fusermount3", "package fuse3", "bkfs restore"]);
}
