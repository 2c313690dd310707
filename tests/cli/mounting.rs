//! Mounting: what prevents it, signals, lost servers, and that no mount is left behind.

use std::{
    fs, io,
    path::Path,
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::{
    common::program::{Person, Server},
    expect, make_source, network,
};

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
        // Without /dev/fuse, that is the error.
        if crate::common::program::cannot_mount().is_some() {
            expect(&output, 1, &["fuse"]);
        } else {
            expect(&output, 12, &["wrong passphrase"]);
        }
    }
    assert!(!mounts().contains(point.to_str().unwrap()));
}

#[test]
fn without_the_device_the_package_is_named() {
    // A mount namespace with an empty /dev.
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

/// Runs a command of the system, and asserts that it succeeds.
fn system(program: &str, args: &[&std::ffi::OsStr]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", crate::text(&output.stderr));
}

#[test]
fn a_mount_in_the_background_returns_when_it_is_ready() {
    if let Some(why) = crate::common::program::cannot_mount() {
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
fn mount_8_mounts_a_repository_by_its_type() {
    if let Some(why) = crate::common::program::cannot_mount() {
        crate::skip!("{why}");
    }
    let person = pushed();
    let (point, helper) = (person.path("mount"), person.path("mount.bkfs"));
    fs::create_dir(&point).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bkfs"), &helper).unwrap();
    let key = person.path("full.key");
    person.run(["key", "export-full", key.to_str().unwrap()]);
    // Called like mount(8) does, in an environment as empty as at boot.
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
    if let Some(why) = crate::common::program::cannot_mount() {
        crate::skip!("{why}");
    }
    let person = pushed();
    let mut mount = person.mount(&[]);
    let hello = mount.latest().join("hello");
    assert_eq!(fs::read_to_string(hello).unwrap(), "hello\n");
    // New snapshots appear while it is mounted.
    fs::write(person.path("src/new"), "new\n").unwrap();
    person.push(&person.path("src"));
    let begin = Instant::now();
    while !mount.latest().join("new").exists() {
        assert!(begin.elapsed().as_secs() < 60, "the new snapshot does not appear");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(mount.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = mount.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!mounts().contains(mount.point.to_str().unwrap()));
}

/// Reads a file on its own thread, because a mount that hangs would block it. Returns the result and how long it took.
fn read_within(limit: Duration, path: &Path) -> (io::Result<Vec<u8>>, Duration) {
    let (send, receive) = mpsc::channel();
    let (begin, path) = (Instant::now(), path.to_owned());
    let shown = path.display().to_string();
    std::thread::spawn(move || send.send(fs::read(path)));
    let read = receive.recv_timeout(limit);
    (read.unwrap_or_else(|_| panic!("reading {shown} hangs for {limit:?}")), begin.elapsed())
}

#[test]
fn a_mount_outlives_its_server() {
    if let Some(why) = crate::common::program::cannot_mount() {
        crate::skip!("{why}");
    }
    let (operator, server, person) = network::pushed();
    let source = person.path("src");
    // So long that reading another file does not fetch all of it.
    fs::write(source.join("far"), crate::noise(7, 12 << 20)).unwrap();
    person.push(&source);
    let mount = person.mount(&[]);
    let (far, hello) = (mount.latest().join("far"), mount.latest().join("hello"));
    assert_eq!(fs::read_to_string(&hello).unwrap(), "hello\n");
    assert_eq!(fs::read_dir(mount.latest().join("sub")).unwrap().count(), 2);

    network::kill(&server);
    let address = server.address.clone();
    drop(server);
    // Only silence shows that the server is gone. To detect it takes a while, and then a few attempts to connect.
    let (lost, took) = read_within(Duration::from_secs(90), &far);
    assert_eq!(lost.unwrap_err().raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "after {took:?}");
    // From now on the loss is known: reads fail at once, except one at a time that tries to connect.
    let (lost, _) = read_within(Duration::from_secs(30), &far);
    assert_eq!(lost.unwrap_err().raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    // Cached data can still be read.
    let (cached, took) = read_within(Duration::from_secs(30), &hello);
    assert_eq!(cached.unwrap(), b"hello\n");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(fs::metadata(&far).unwrap().len(), 12 << 20);
    assert_eq!(fs::read_dir(mount.latest().join("sub")).unwrap().count(), 2);

    let _server = Server::run(&operator, &operator.path("server"), &address);
    let begin = Instant::now();
    let recovered = loop {
        match read_within(Duration::from_secs(90), &far).0 {
            Ok(bytes) => break bytes,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(60), "it does not recover: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(recovered == fs::read(source.join("far")).unwrap(), "it reads something else");
    // New snapshots appear again, too.
    fs::write(source.join("new"), "new\n").unwrap();
    person.push(&source);
    while !mount.latest().join("new").exists() {
        assert!(begin.elapsed() < Duration::from_secs(120), "the new snapshot does not appear");
        std::thread::sleep(Duration::from_millis(50));
    }
}
