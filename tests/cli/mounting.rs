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
    expect(&person.output(["mount", absent.to_str().unwrap()]), 1, &["absent", "no such folder"]);
    let src = person.path("src");
    expect(&person.output(["mount", src.to_str().unwrap()]), 1, &["src", "not empty"]);
    let file = src.join("hello");
    expect(&person.output(["mount", file.to_str().unwrap()]), 1, &["hello", "not a folder"]);
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
    let person = pushed();
    let point = person.path("mount");
    fs::create_dir(&point).unwrap();
    let Some(mut command) = crate::source::as_nobody(&person) else { crate::skip!("root mounts without it") };
    let output = command.env("PATH", "/no/such").arg("mount").arg(&point).output().unwrap();
    expect(&output, 1, &["fusermount3", "package fuse3", "bkfs restore"]);
}

/// Commands of the system, which must succeed.
fn system(program: &str, args: &[&std::ffi::OsStr]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", crate::text(&output.stderr));
}

#[test]
fn in_the_background_it_returns_when_it_is_ready() {
    if let Some(why) = crate::common::program::no_mount() {
        crate::skip!("{why}");
    }
    let person = pushed();
    let point = person.path("mount");
    fs::create_dir(&point).unwrap();
    person.run(["mount", "--background", "--snapshot", "latest", point.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(point.join("hello")).unwrap(), "hello\n");
    let refused = fs::write(point.join("new"), "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
    system("umount", &[point.as_os_str()]);
    assert!(!mounts().contains(point.to_str().unwrap()));
}

#[test]
fn mount_8_mounts_it_by_its_type() {
    if let Some(why) = crate::common::program::no_mount() {
        crate::skip!("{why}");
    }
    let person = pushed();
    let (point, helper) = (person.path("mount"), person.path("mount.bkfs"));
    fs::create_dir(&point).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bkfs"), &helper).unwrap();
    let key = person.path("full.key");
    person.run(["key", "export-full", key.to_str().unwrap()]);
    // As mount(8) calls it, and with an environment as empty as at boot.
    let options = format!(
        "rw,noauto,_netdev,snapshot=latest,key-file={},config-dir={},cache-dir={}",
        key.display(),
        person.path("boot-config").display(),
        person.path("boot-cache").display()
    );
    let output =
        Command::new(&helper).env_clear().arg(&person.repo).arg(&point).args(["-o", &options]).output().unwrap();
    expect(&output, 0, &[]);
    assert_eq!(fs::read_to_string(point.join("hello")).unwrap(), "hello\n");
    system("umount", &[point.as_os_str()]);
    let output = Command::new(&helper).arg(&person.repo).arg(&point).args(["-o", "snapshto=x"]).output().unwrap();
    expect(&output, 1, &["snapshto"]);
}

#[test]
fn a_signal_unmounts() {
    if let Some(why) = crate::common::program::no_mount() {
        crate::skip!("{why}");
    }
    let person = pushed();
    let mut mount = person.mount(&[]);
    let hello = mount.latest().join("hello");
    assert_eq!(fs::read_to_string(hello).unwrap(), "hello\n");
    // New snapshots appear while it is mounted.
    fs::write(person.path("src/new"), "new\n").unwrap();
    person.push(&person.path("src"));
    let begin = std::time::Instant::now();
    while !mount.latest().join("new").exists() {
        assert!(begin.elapsed().as_secs() < 60, "the new snapshot does not appear");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(mount.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = mount.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!mounts().contains(mount.point.to_str().unwrap()));
}
