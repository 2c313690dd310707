//! Sources that are missing or unreadable, and repositories on a full disk.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::{common::program::Person, expect, make_source};

/// Returns the program as an ordinary user, or `None` if that is not possible: only root can become another user.
pub fn as_nobody(person: &Person) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        return Some(person.command());
    }
    // The user must have access to the program and to the test's folder.
    let program = person.copied_program();
    fs::set_permissions(person.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    for (name, value) in person.command().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let works = Command::new("setpriv").args(["--reuid=65534", "--regid=65534", "--clear-groups", "true"]).status();
    works.is_ok_and(|status| status.success()).then_some(command)
}

fn chown(path: &Path, id: u32) {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(id), Some(id)).unwrap();
    }
}

#[test]
fn unreadable_files_are_named_and_the_rest_is_pushed() {
    let person = Person::new();
    let Some(mut init) = as_nobody(&person) else { crate::skip!("cannot become another user") };
    let source = person.path("src");
    make_source(&source);
    fs::write(source.join("secret"), "secret").unwrap();
    fs::set_permissions(source.join("secret"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::create_dir(source.join("closed")).unwrap();
    fs::write(source.join("closed/inside"), "x").unwrap();
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    for name in ["repo", "config", "cache"] {
        fs::create_dir(person.path(name)).unwrap();
        chown(&person.path(name), 65534);
    }
    expect(&init.arg("init").output().unwrap(), 0, &[]);
    let output = as_nobody(&person).unwrap().args(["push", "-C"]).arg(&source).arg(".").output().unwrap();
    expect(&output, 3, &["secret", "closed", "Permission denied", "2 parts"]);
    let output = as_nobody(&person).unwrap().args(["cat", "latest:hello"]).output().unwrap();
    expect(&output, 0, &[]);
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_unreadable_parent_folder_does_not_prevent_a_push() {
    let person = Person::new();
    let Some(mut init) = as_nobody(&person) else { crate::skip!("cannot become another user") };
    // Like a /home where users cannot list the folders of others.
    let (home, own) = (person.path("home"), person.path("home/own"));
    make_source(&own);
    for name in ["repo", "config", "cache"] {
        fs::create_dir(person.path(name)).unwrap();
        chown(&person.path(name), 65534);
    }
    expect(&init.arg("init").output().unwrap(), 0, &[]);
    let closed = |mode| fs::set_permissions(&home, fs::Permissions::from_mode(mode)).unwrap();
    closed(0o311);
    let push = |args: &[&str]| as_nobody(&person).unwrap().arg("push").args(args).output().unwrap();
    let list = |target: &str| {
        let output = as_nobody(&person).unwrap().args(["ls", "-R", "--target", target, "latest"]).output().unwrap();
        crate::text(&output.stdout)
    };
    expect(&push(&["--target", "own", own.to_str().unwrap()]), 0, &[]);
    let below = own.strip_prefix("/").unwrap().display().to_string();
    assert!(
        list("own").ends_with(&format!("{below}/\n{below}/hello\n{below}/sub/\n{below}/sub/big\n{below}/sub/small\n"))
    );
    expect(&push(&["--target", "sub", "-C", home.to_str().unwrap(), "own/sub"]), 0, &[]);
    assert_eq!(list("sub"), "own/\nown/sub/\nown/sub/big\nown/sub/small\n");
    // The folder itself cannot be read.
    expect(&push(&[home.to_str().unwrap()]), 3, &["/home: Permission denied"]);
    closed(0o600);
    expect(&push(&[own.to_str().unwrap()]), 1, &["home/own: Permission denied"]);
    closed(0o755);
}

#[test]
fn a_path_with_links_means_what_it_means_to_cat() {
    let person = Person::with_repo();
    let source = person.path("src");
    fs::create_dir_all(source.join("real/sub/deep")).unwrap();
    fs::write(source.join("real/sub/f"), "right").unwrap();
    fs::write(source.join("f"), "wrong").unwrap();
    std::os::unix::fs::symlink("real/sub/deep", source.join("d")).unwrap();
    std::os::unix::fs::symlink("real", source.join("link")).unwrap();
    let base = source.to_str().unwrap();
    person.run(["push", "-C", base, "--target", "up", "d/../f"]);
    assert_eq!(person.run(["ls", "-R", "--target", "up", "latest"]), "real/\nreal/sub/\nreal/sub/f\n");
    assert_eq!(person.run(["cat", "--target", "up", "latest:real/sub/f"]), "right");
    person.run(["push", "-C", base, "--target", "link", "link", "link/sub"]);
    let listed = person.run(["ls", "-R", "--target", "link", "latest"]);
    assert_eq!(listed, "link\nreal/\nreal/sub/\nreal/sub/deep/\nreal/sub/f\n");
}

#[test]
fn a_missing_source_is_named() {
    let person = Person::with_repo();
    expect(&person.output(["push", "/no/such/folder"]), 1, &["/no/such/folder", "nothing was pushed"]);
    expect(&person.output(["push", "-C", "/no/such/base", "."]), 1, &["/no/such/base"]);
    expect(&person.output(["push", "-C", "/etc/hostname", "."]), 1, &["/etc/hostname", "not a folder"]);
    // One of several is missing: in a series that exists, the others are pushed.
    make_source(&person.path("src"));
    let source = person.path("src");
    person.run(["push", "--target", "t", source.to_str().unwrap()]);
    let output = person.output(["push", "--target", "t", "/no/such/folder", source.to_str().unwrap()]);
    expect(&output, 3, &["bkfs: /no/such/folder: No such file", "1 part"]);
    assert_eq!(person.run(["snapshots", "--json"]).matches("\"received\"").count(), 2);
}

/// A disk of 8 MB. It is unmounted when dropped.
pub struct SmallDisk {
    /// Where it is mounted.
    pub path: std::path::PathBuf,
}

impl SmallDisk {
    /// Mounts a small disk, or returns `None` if that is not possible.
    pub fn new(path: &Path) -> Option<Self> {
        Self::with_size(path, 8)
    }

    /// Does the same, with a size in MiB.
    pub fn with_size(path: &Path, mib: usize) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self { path: path.to_owned() })
    }

    /// Makes the disk larger.
    pub fn grow(&self) {
        let status = Command::new("mount").args(["-o", "remount,size=128m"]).arg(&self.path).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    if !rustix::process::geteuid().is_root() {
        crate::skip!("only root can mount a small disk");
    }
    let person = Person::new();
    let Some(disk) = SmallDisk::new(&person.path("disk")) else { crate::skip!("nothing can be mounted") };
    let repo = disk.path.join("repo");
    let run = |args: &[&str]| person.command().env("BKFS_REPOSITORY", &repo).args(args).output().unwrap();
    expect(&run(&["init"]), 0, &[]);
    let source = person.path("src");
    make_source(&source);
    expect(&run(&["push", "-C", source.to_str().unwrap(), "."]), 0, &[]);
    fs::write(source.join("huge"), crate::noise(3, 24 << 20)).unwrap();
    expect(&run(&["push", "-C", source.to_str().unwrap(), "."]), 1, &["no space left", "nothing was lost"]);
    expect(&run(&["cat", "latest:hello"]), 0, &[]);
    expect(&run(&["check", "--read-data"]), 0, &[]);
    // With enough room, the same command succeeds.
    disk.grow();
    expect(&run(&["push", "-C", source.to_str().unwrap(), "."]), 0, &[]);
    expect(&run(&["check", "--read-data"]), 0, &[]);
}
