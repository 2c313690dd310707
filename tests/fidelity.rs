//! The mount and a restore show exactly what was pushed, for real trees and for one with every unusual kind of entry.
//! `docs/SEMANTICS.md` says what is kept of each kind. The judges here are rsync and our own comparison.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    ffi::OsString,
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use common::{
    compare::{self, have_rsync},
    odd_tree::{self, Size, noise},
    program::{Person, Server, cannot_mount},
};

/// How much of a large real tree to push, in bytes and entries.
const BYTES_MAX: u64 = 80 << 20;
const ENTRIES_MAX: u64 = 8_000;

/// Compares two folders, or some of their entries, and describes the differences.
type Judge = fn(&Path, &[OsString], &Path) -> String;

fn by_walk(source: &Path, names: &[OsString], copy: &Path) -> String {
    assert!(names.is_empty(), "the walk compares whole folders");
    compare::walk(source, copy).join("\n")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Pushes a folder or some of its entries, and compares it with the mount and with a restore.
fn faithful(person: &Person, source: &Path, names: &[OsString], judges: &[Judge]) {
    let mut push = person.command();
    push.arg("push").arg("-C").arg(source);
    let pushed = match names {
        [] => push.arg("."),
        names => push.args(names),
    }
    .output()
    .unwrap();
    assert!(pushed.status.success(), "{}: {}", pushed.status, String::from_utf8_lossy(&pushed.stderr));

    let check = |copy: &Path, what: &str| {
        for judge in judges {
            let differences = judge(source, names, copy);
            assert!(differences.is_empty(), "{what} differs from {}:\n{differences}", source.display());
        }
    };
    match cannot_mount() {
        Some(reason) => println!("skipped the mount: {reason}"),
        None => {
            let mount = person.mount(&[]);
            check(&mount.latest(), "the mount");
        }
    }
    let dest = person.path("restored");
    let restored = person.command().args(["restore", "latest"]).arg(&dest).output().unwrap();
    assert!(restored.status.success(), "{}: {}", restored.status, String::from_utf8_lossy(&restored.stderr));
    check(&dest, "what was restored");
}

/// Returns the first entries of a folder, as many as fit the limits.
fn some(folder: &Path) -> Vec<OsString> {
    let (mut bytes, mut entries) = (0, 0);
    let mut names: Vec<OsString> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    names.retain(|name| {
        let (b, e) = weigh(&folder.join(name));
        let fits = b <= BYTES_MAX - bytes && e <= ENTRIES_MAX - entries;
        if fits {
            (bytes, entries) = (bytes + b, entries + e);
        }
        fits
    });
    println!("{}: {} entries, {} bytes", folder.display(), entries, bytes);
    names
}

/// Counts bytes and entries of a tree, until a limit is reached. Returns the maximum if part of the tree cannot be
/// read.
fn weigh(path: &Path) -> (u64, u64) {
    let (mut bytes, mut entries) = (0, 0);
    let mut paths = vec![path.to_owned()];
    while let Some(path) = paths.pop() {
        let Ok(meta) = path.symlink_metadata() else { continue };
        (bytes, entries) = (bytes + meta.len(), entries + 1);
        if bytes > BYTES_MAX || entries > ENTRIES_MAX {
            break;
        }
        match (meta.is_dir(), fs::read_dir(&path)) {
            (true, Ok(list)) => paths.extend(list.flatten().map(|entry| entry.path())),
            (true, Err(_)) => return (u64::MAX, u64::MAX),
            (false, _) if meta.is_file() && fs::File::open(&path).is_err() => return (u64::MAX, u64::MAX),
            (false, _) => {}
        }
    }
    (bytes, entries)
}

#[test]
fn a_tree_with_every_odd_thing() {
    let person = Person::with_repo();
    let source = person.path("source");
    fs::create_dir(&source).unwrap();
    for what in odd_tree::make(&source, Size::SMALL) {
        println!("left out of the tree: {what}");
    }
    faithful(&person, &source, &[], &[by_walk]);
    odd_tree::unlock(person.dir.path());
}

#[test]
fn the_odd_tree_over_the_network() {
    let home = Person::new();
    let server = Server::start(&home, &home.path("server"));
    let person = server.person("alice");
    let source = person.path("source");
    fs::create_dir(&source).unwrap();
    odd_tree::make(&source, Size { deep: false, ..Size::SMALL });
    let judges: &[Judge] = if have_rsync() { &[compare::rsync, by_walk] } else { &[by_walk] };
    faithful(&person, &source, &[], judges);
    odd_tree::unlock(person.dir.path());
}

#[test]
fn the_odd_tree_in_full() {
    if !have_rsync() {
        skip!("rsync is not installed");
    }
    let person = Person::with_repo();
    let source = person.path("source");
    fs::create_dir(&source).unwrap();
    for what in odd_tree::make(&source, Size::FULL) {
        println!("left out of the tree: {what}");
    }
    faithful(&person, &source, &[], &[compare::rsync]);
    let sparse = fs::metadata(person.path("restored/contents/sparse")).unwrap();
    assert!(sparse.len() == 5 << 30 && sparse.blocks() * 512 < 2 << 20, "the holes are kept");
    odd_tree::unlock(person.dir.path());
}

#[test]
fn sources_of_a_cargo_registry() {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let registry = home.map(|home| home.join("registry/src")).and_then(|src| fs::read_dir(src).ok());
    let Some(Ok(index)) = registry.and_then(|mut entries| entries.next()) else { skip!("no cargo registry here") };
    real(&index.path(), true);
}

#[test]
fn usr_share() {
    real(Path::new("/usr/share"), true);
}

#[test]
fn etc() {
    if !is_root() {
        skip!("only root can read all of /etc");
    }
    real(Path::new("/etc"), false);
}

fn real(source: &Path, part: bool) {
    if !have_rsync() {
        skip!("rsync is not installed");
    }
    let names = if part { some(source) } else { Vec::new() };
    if part && names.is_empty() {
        skip!("nothing of a fitting size in {}", source.display());
    }
    faithful(&Person::with_repo(), source, &names, &[compare::rsync]);
}

#[test]
fn a_git_repository() {
    let person = Person::with_repo();
    let source = person.path("source");
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        command.arg("-C").arg(&source).args(args).output().is_ok_and(|out| out.status.success())
    };
    fs::create_dir(&source).unwrap();
    if !git(&["init", "-q"]) {
        skip!("git is not installed");
    }
    for round in 0..5u64 {
        for file in 0..200 {
            let folder = source.join(format!("src/{}", file % 10));
            fs::create_dir_all(&folder).unwrap();
            let text = format!("line {file}\n").repeat(((file * 7 + round * 13) % 300) as usize);
            fs::write(folder.join(format!("file{file}.txt")), text).unwrap();
        }
        fs::write(source.join("blob"), noise(200_000, round)).unwrap();
        assert!(git(&["add", "-A"]) && git(&["commit", "-q", "-m", "round"]));
        if round == 3 {
            assert!(git(&["gc", "-q"]));
        }
    }
    let judges: &[Judge] = if have_rsync() { &[compare::rsync, by_walk] } else { &[by_walk] };
    faithful(&person, &source, &[], judges);
    let restored = person.path("restored");
    let fsck = Command::new("git").arg("-C").arg(&restored).args(["-c", "safe.directory=*", "fsck", "--full"]).output();
    assert!(fsck.unwrap().status.success());
}

/// A second push of a changed tree shows the changes.
#[test]
fn later_versions() {
    let person = Person::with_repo();
    let source = person.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("kept"), noise(1_000_000, 1)).unwrap();
    fs::write(source.join("changed"), noise(1_000_000, 2)).unwrap();
    fs::write(source.join("removed"), "r").unwrap();
    person.push(&source);
    let mut bytes = noise(1_000_000, 2);
    bytes.splice(500_000..500_010, *b"an insertion");
    fs::write(source.join("changed"), bytes).unwrap();
    fs::remove_file(source.join("removed")).unwrap();
    fs::create_dir(source.join("folder")).unwrap();
    faithful(&person, &source, &[], &[by_walk]);
}

#[test]
fn files_that_grow_and_vanish_during_a_push() {
    let person = Person::with_repo();
    let source = person.path("source");
    fs::create_dir_all(source.join("vanishing")).unwrap();
    fs::create_dir_all(source.join("whole")).unwrap();
    for i in 0..300 {
        fs::write(source.join(format!("whole/{i:03}")), noise(20_000, i)).unwrap();
    }
    let content = noise(200 << 20, 7);
    let first = 30 << 20;
    fs::write(source.join("growing"), &content[..first]).unwrap();
    let done = AtomicBool::new(false);
    let pushed = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().append(true).open(source.join("growing")).unwrap();
            for piece in content[first..].chunks(10_000) {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                file.write_all(piece).unwrap();
                // Little at a time, so that the file grows for as long as the push may take.
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        scope.spawn(|| {
            for round in 0u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let path = |i| source.join(format!("vanishing/{i:02}"));
                let i = round % 50;
                fs::write(path(i), noise(50_000, i)).unwrap();
                let _ = fs::remove_file(path((i + 25) % 50));
            }
        });
        let output = person.command().args(["push", "-C"]).arg(&source).arg(".").output().unwrap();
        done.store(true, Ordering::Relaxed);
        output
    });
    let code = pushed.status.code();
    assert!(matches!(code, Some(0 | 3)), "{}: {}", pushed.status, String::from_utf8_lossy(&pushed.stderr));
    let dest = person.path("restored");
    person.run(["restore".as_ref(), "latest".as_ref(), dest.as_os_str()]);
    let differences = compare::walk(&source.join("whole"), &dest.join("whole"));
    assert!(differences.is_empty(), "other files must be intact:\n{}", differences.join("\n"));
    let grown = fs::read(dest.join("growing")).unwrap();
    assert!(grown.len() >= first && content.starts_with(&grown), "it must be what the file was at some time");
    for entry in fs::read_dir(dest.join("vanishing")).unwrap() {
        let entry = entry.unwrap();
        let i: u64 = entry.file_name().to_str().unwrap().parse().unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        assert!(noise(50_000, i).starts_with(&bytes), "{i} must be what the file was at some time");
    }
    person.run(["check", "--read-data"]);
    // When nothing changes any more, the next push is complete.
    fs::remove_dir_all(&dest).unwrap();
    faithful(&person, &source, &[], &[by_walk]);
}
