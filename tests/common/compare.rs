//! Comparing two folders, attribute by attribute. rsync is the independent judge. Our own walk is for paths that are
//! longer than the system allows, which rsync cannot open.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

/// Returns whether rsync is installed.
pub fn have_rsync() -> bool {
    Command::new("rsync").arg("--version").output().is_ok_and(|out| out.status.success())
}

/// Returns what rsync would do to make `copy` the same as `source`, or an empty text if they are the same. Contents are
/// compared, too. `names` are the entries of `source` to compare; if there are none, the whole folder is compared.
pub fn rsync(source: &Path, names: &[OsString], copy: &Path) -> String {
    let mut command = Command::new("rsync");
    command.args(["-aHAXnc", "--numeric-ids", "--modify-window=-1", "--delete", "--itemize-changes"]);
    let slash = |path: &Path| path.join("");
    if names.is_empty() {
        command.arg(slash(source));
    }
    command.args(names.iter().map(|name| source.join(name)));
    let output = command.arg(slash(copy)).output().expect("rsync runs");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        text.push_str(&format!("rsync ended with {}\n", output.status));
    }
    text
}

/// Returns the differences between two folders, about 50 at most.
pub fn walk(source: &Path, copy: &Path) -> Vec<String> {
    let open = |path: &Path| -> OwnedFd { File::open(path).expect("the folder opens").into() };
    let mut walk = Walk { differences: Vec::new(), links: HashMap::new(), back: HashMap::new() };
    // Folders to compare are kept as paths from the top and opened one component at a time, so no path is too long and
    // few handles are open.
    let (a, b) = (open(source), open(copy));
    walk.attributes(&PathBuf::from("."), &a, &b, OsStr::new("."));
    let mut folders = vec![PathBuf::new()];
    while let Some(path) = folders.pop() {
        match (descend(&a, &path), descend(&b, &path)) {
            (Ok(a), Ok(b)) => walk.folder(&path, &a, &b, &mut folders),
            (a, b) => walk.note(&path, format!("cannot be opened: {:?} {:?}", a.err(), b.err())),
        }
        if walk.differences.len() > 50 {
            break;
        }
    }
    walk.differences
}

struct Walk {
    differences: Vec<String>,
    /// Inodes with several names: from the source to the copy, and back.
    links: HashMap<(u64, u64), (u64, u64)>,
    back: HashMap<(u64, u64), (u64, u64)>,
}

fn descend(top: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(top, ".", flags, Mode::empty())?;
    for name in path {
        at = rustix::fs::openat(&at, name, flags, Mode::empty())?;
    }
    Ok(at)
}

fn list(folder: &OwnedFd) -> BTreeMap<OsString, Stat> {
    let mut entries = BTreeMap::new();
    for entry in Dir::read_from(folder).expect("the folder is listed") {
        let name = OsStr::from_bytes(entry.expect("an entry is read").file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            let stat = rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW).expect("a listed entry is there");
            entries.insert(name, stat);
        }
    }
    entries
}

impl Walk {
    fn note(&mut self, path: &Path, what: impl std::fmt::Display) {
        self.differences.push(format!("{path:?}: {what}"));
    }

    fn folder(&mut self, path: &Path, a: &OwnedFd, b: &OwnedFd, folders: &mut Vec<PathBuf>) {
        let (in_a, mut in_b) = (list(a), list(b));
        for (name, stat) in in_a {
            let at = path.join(&name);
            if in_b.remove(&name).is_none() {
                self.note(&at, "is missing");
                continue;
            }
            self.attributes(&at, a, b, &name);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                folders.push(at);
            }
        }
        for name in in_b.keys() {
            self.note(&path.join(name), "is an extra entry");
        }
    }

    fn attributes(&mut self, path: &Path, a: &OwnedFd, b: &OwnedFd, name: &OsStr) {
        let stat = |fd| rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).expect("an entry has attributes");
        let (sa, sb) = (stat(a), stat(b));
        let kind = FileType::from_raw_mode(sa.st_mode);
        let size = |s: &Stat| if kind == FileType::Directory { 0 } else { s.st_size };
        let links = |s: &Stat| if kind == FileType::Directory { 0 } else { s.st_nlink };
        let facts = |s: &Stat| {
            let device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
            [
                ("mode", u64::from(s.st_mode)),
                ("uid", s.st_uid.into()),
                ("gid", s.st_gid.into()),
                ("size", size(s) as u64),
                ("mtime", s.st_mtime as u64),
                ("ns of mtime", s.st_mtime_nsec),
                ("links", links(s)),
                ("device", if device { s.st_rdev } else { 0 }),
            ]
        };
        for ((what, va), (_, vb)) in facts(&sa).into_iter().zip(facts(&sb)) {
            if va != vb {
                self.note(path, format!("{what} {va} became {vb} (octal {va:o}, {vb:o})"));
            }
        }
        if links(&sa) > 1 {
            let (ia, ib) = ((sa.st_dev, sa.st_ino), (sb.st_dev, sb.st_ino));
            if *self.links.entry(ia).or_insert(ib) != ib || *self.back.entry(ib).or_insert(ia) != ia {
                self.note(path, "is linked to other names");
            }
        }
        let (xa, xb) = (xattrs(a, name), xattrs(b, name));
        if xa != xb {
            self.note(path, format!("attributes {xa:?} became {xb:?}"));
        }
        match kind {
            FileType::Symlink => {
                let target = |fd| rustix::fs::readlinkat(fd, name, Vec::new()).expect("a link is read");
                if target(a) != target(b) {
                    self.note(path, "points elsewhere");
                }
            }
            FileType::RegularFile if !same(a, b, name) => self.note(path, "differs in contents"),
            _ => {}
        }
    }
}

fn xattrs(folder: &OwnedFd, name: &OsStr) -> BTreeMap<OsString, Vec<u8>> {
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let names: Vec<OsString> = xattr::list(&path).map(Iterator::collect).unwrap_or_default();
    names.into_iter().map(|n| (n.clone(), xattr::get(&path, &n).ok().flatten().unwrap_or_default())).collect()
}

fn same(a: &OwnedFd, b: &OwnedFd, name: &OsStr) -> bool {
    let open = |fd| -> File {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(fd, name, flags, Mode::empty()).expect("a file opens").into()
    };
    let (a, b) = (open(a), open(b));
    let (mut x, mut y) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    loop {
        let read = |file: &File, buffer: &mut [u8]| {
            let mut filled = 0;
            while filled < buffer.len() {
                match file.read_at(&mut buffer[filled..], at + filled as u64).expect("a file is read") {
                    0 => break,
                    n => filled += n,
                }
            }
            filled
        };
        let (n, m) = (read(&a, &mut x), read(&b, &mut y));
        if x[..n] != y[..m] {
            return false;
        }
        if n == 0 {
            return true;
        }
        at += n as u64;
    }
}
