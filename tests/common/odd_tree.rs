//! A folder with every unusual entry that a file system can hold.
//!
//! Entries that this machine cannot create are left out and named in the result: devices without root, and attributes
//! on a file system that has none.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, PermissionsExt, symlink},
        },
    },
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};

/// The size of the parts that take time.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Number of entries in the large folder.
    pub folder_entries: usize,
    /// Length of the sparse file in bytes.
    pub sparse_bytes: u64,
    /// Whether to create a path longer than the system's limit. Programs that use whole paths cannot read it.
    pub deep: bool,
}

impl Size {
    /// Everything at full size.
    pub const FULL: Size = Size { folder_entries: 200_000, sparse_bytes: 5 << 30, deep: false };
    /// The same kinds of entries, created quickly.
    pub const SMALL: Size = Size { folder_entries: 2_000, sparse_bytes: 64 << 20, deep: true };
}

/// Creates the tree in `root`, which must be an empty folder. Returns what was left out.
pub fn make(root: &Path, size: Size) -> Vec<String> {
    let mut left_out = Vec::new();
    names(root);
    contents(root, size.sparse_bytes);
    many(root, size.folder_entries);
    links(root);
    specials(root, &mut left_out);
    attributes(root, &mut left_out);
    if size.deep {
        deep(root);
    }
    // Last: modes that lock us out unless we are root, and times, which change if anything is created in a folder.
    modes(root, &mut left_out);
    times(root);
    left_out
}

/// Gives the owner access to everything again, so that the tree can be removed without root.
pub fn unlock(root: &Path) {
    let _ = std::process::Command::new("chmod").arg("-R").arg("u+rwX").arg(root).status();
}

fn names(root: &Path) {
    let dir = root.join("names");
    fs::create_dir(&dir).unwrap();
    let long = "l".repeat(255);
    let wide = "ü".repeat(127);
    let every: Vec<u8> = (1..=255).filter(|b| *b != b'/').collect();
    let names: Vec<&[u8]> = vec![
        b"not utf-8 \xff\xfe\x80",
        b"newline\nin it",
        b"\n",
        b"carriage\rreturn",
        b"quote\"s and 'apostrophes' and `ticks`",
        b"-rf",
        b"--delete",
        b"trailing spaces   ",
        b" leading space",
        b" ",
        b"...",
        b"..hidden",
        b"back\\slash",
        b"$HOME ${x} $(id) %s %n *?[a-z]",
        b"\x1b[31mred\x1b[0m",
        b"tab\there",
        b"\x01\x02\x7f",
        "combining e\u{301} and single \u{e9}".as_bytes(),
        "right to left \u{202e}gnp".as_bytes(),
        "😀".as_bytes(),
        "BOM\u{feff}".as_bytes(),
        b"con",
        b"a:b",
        b"latest",
        b"case",
        b"CASE",
        long.as_bytes(),
        wide.as_bytes(),
        &every,
    ];
    for name in &names {
        fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
    }
    for name in names.iter().take(3) {
        let folder = dir.join(OsStr::from_bytes(&[b"folder ", *name].concat()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("x"), "x").unwrap();
    }
    fs::create_dir(dir.join("d".repeat(255))).unwrap();
    fs::write(dir.join("d".repeat(255)).join("f".repeat(255)), "long").unwrap();
}

/// Returns bytes that do not compress. They are the same in every run.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn contents(root: &Path, sparse_bytes: u64) {
    let dir = root.join("contents");
    fs::create_dir(&dir).unwrap();
    // Sizes just below and above every limit: inline files, the smallest and the largest chunk, shared frames.
    for near in [0usize, 256, 4096, 16 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20] {
        for size in [near.saturating_sub(1), near, near + 1] {
            fs::write(dir.join(format!("noise {size}")), noise(size, size as u64)).unwrap();
            fs::write(dir.join(format!("zeros {size}")), vec![0; size]).unwrap();
        }
    }
    fs::write(dir.join("incompressible"), noise(5_000_000, 1)).unwrap();
    fs::write(dir.join("compressible"), "all work and no play makes a dull file\n".repeat(150_000)).unwrap();
    fs::write(dir.join("ones"), vec![0xff; 3_000_000]).unwrap();
    // The same bytes twice, and once more after a prefix.
    fs::write(dir.join("twin"), noise(5_000_000, 1)).unwrap();
    fs::write(dir.join("shifted"), [&b"shift"[..], &noise(5_000_000, 1)].concat()).unwrap();

    let file = File::create(dir.join("sparse")).unwrap();
    file.write_all_at(b"in the middle", sparse_bytes / 2).unwrap();
    file.write_all_at(&noise(100_000, 2), sparse_bytes / 2 + (1 << 20)).unwrap();
    file.write_all_at(b"at the end", sparse_bytes - 10).unwrap();
    File::create(dir.join("all hole")).unwrap().set_len(sparse_bytes / 5).unwrap();
    let file = File::create(dir.join("hole at the end")).unwrap();
    file.write_all_at(&noise(70_000, 3), 0).unwrap();
    file.set_len(10 << 20).unwrap();
    let file = File::create(dir.join("many holes")).unwrap();
    for i in 0..200u64 {
        file.write_all_at(&noise(5000, i), i * 65_536).unwrap();
    }
}

fn many(root: &Path, entries: usize) {
    let dir = root.join("many");
    fs::create_dir(&dir).unwrap();
    for i in 0..entries {
        let mut file = File::create(dir.join(format!("entry {i:07}"))).unwrap();
        if i % 10 == 0 {
            write!(file, "{i}").unwrap();
        }
    }
    let mut at = root.join("nested");
    for level in 0..50 {
        fs::create_dir(&at).unwrap();
        fs::write(at.join("file"), format!("{level}")).unwrap();
        at.push(format!("level {level}"));
    }
    fs::create_dir_all(root.join("empty/empty too/and this")).unwrap();
}

fn links(root: &Path) {
    let dir = root.join("links");
    fs::create_dir_all(dir.join("a/deeper")).unwrap();
    fs::create_dir(dir.join("b")).unwrap();
    fs::write(dir.join("a/first"), noise(300_000, 4)).unwrap();
    for name in ["a/second", "b/third", "a/deeper/fourth", "zzz"] {
        fs::hard_link(dir.join("a/first"), dir.join(name)).unwrap();
    }
    fs::write(dir.join("b/empty"), "").unwrap();
    fs::hard_link(dir.join("b/empty"), dir.join("a/empty")).unwrap();
    for (target, name) in [
        ("nowhere", "dangling"),
        ("/", "root"),
        (".", "here"),
        ("..", "above"),
        ("loop", "loop"),
        ("../../../../../../../etc/passwd", "outside"),
        ("a/first", "relative"),
        ("a//./first", "odd way"),
        ("a/first/", "slash at the end"),
        (" ", "space"),
        ("new\nline", "newline"),
        ("/proc/self/fd/0", "magic"),
    ] {
        symlink(target, dir.join(name)).unwrap();
    }
    symlink(OsStr::from_bytes(b"\xff\xfe not utf-8"), dir.join("bytes")).unwrap();
    symlink(vec!["t"; 2000].join("/") + "x", dir.join("long")).unwrap();
    symlink("one inode", dir.join("a/link")).unwrap();
    fs::hard_link(dir.join("a/link"), dir.join("b/link")).unwrap();
}

fn specials(root: &Path, left_out: &mut Vec<String>) {
    let dir = root.join("specials");
    fs::create_dir(&dir).unwrap();
    let mut make = |name: &str, kind, device| {
        if let Err(error) = rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o640), device) {
            left_out.push(format!("{name}: {error}"));
        }
    };
    make("fifo", FileType::Fifo, 0);
    make("socket", FileType::Socket, 0);
    make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    make("large numbers", FileType::CharacterDevice, rustix::fs::makedev(4095, 1_048_575));
    make("block", FileType::BlockDevice, rustix::fs::makedev(7, 200));
    fs::hard_link(dir.join("fifo"), dir.join("fifo too")).unwrap();
}

/// Encodes a POSIX ACL as the kernel does.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn attributes(root: &Path, left_out: &mut Vec<String>) {
    const NONE: u32 = u32::MAX;
    let dir = root.join("attributes");
    fs::create_dir_all(dir.join("folder")).unwrap();
    fs::write(dir.join("file"), "with attributes").unwrap();
    fs::write(dir.join("acl"), "with an ACL").unwrap();
    fs::write(dir.join("capability"), "with a capability").unwrap();
    symlink("file", dir.join("symlink")).unwrap();
    let access =
        acl(&[(1, 7, NONE), (2, 6, 1), (2, 4, 12345), (4, 4, NONE), (8, 2, 54321), (16, 7, NONE), (32, 0, NONE)]);
    let default = acl(&[(1, 7, NONE), (2, 5, 2), (4, 5, NONE), (16, 5, NONE), (32, 0, NONE)]);
    let every: Vec<u8> = (0..=255).collect();
    // cap_net_raw+ep, revision 2.
    let capability: Vec<u8> = [0x0200_0001u32, 0x2000, 0, 0, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    let large = noise(2000, 5);
    let all: &[(&str, &str, &[u8])] = &[
        ("file", "user.binary", &every),
        ("file", "user.empty", b""),
        ("file", "user.odd name\n=\"", b"x"),
        ("file", "user.large", &large),
        ("folder", "user.folder", b"on a folder\0"),
        ("acl", "system.posix_acl_access", &access),
        ("folder", "system.posix_acl_access", &access),
        ("folder", "system.posix_acl_default", &default),
        ("file", "trusted.binary", b"\0\xff"),
        ("symlink", "trusted.link", b"on a link"),
        ("folder", "trusted.folder", &[7; 100]),
        ("capability", "security.capability", &capability),
    ];
    for (file, name, value) in all {
        if let Err(error) = xattr::set(dir.join(file), name, value) {
            left_out.push(format!("{name} of {file}: {error}"));
        }
    }
}

/// Creates a path of more than 4096 bytes, one component at a time.
fn deep(root: &Path) {
    let mut at: OwnedFd = File::open(root).unwrap().into();
    for level in 0..30 {
        let name = format!("{level:02} {}", "deep".repeat(50));
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file: File = rustix::fs::openat(&at, "file", flags, Mode::RUSR).unwrap().into();
        file.write_all_at(format!("on level {level}").as_bytes(), 0).unwrap();
    }
    rustix::fs::symlinkat("file", &at, "link").unwrap();
}

fn modes(root: &Path, left_out: &mut Vec<String>) {
    let dir = root.join("modes");
    fs::create_dir(&dir).unwrap();
    for mode in [0o000, 0o111, 0o222, 0o400, 0o444, 0o600, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777] {
        let path = dir.join(format!("file {mode:04o}"));
        fs::write(&path, format!("{mode:o}")).unwrap();
        if rustix::process::geteuid().is_root() {
            rustix::fs::chownat(CWD, &path, Some(Uid::from_raw(mode)), Some(Gid::from_raw(4242)), AtFlags::empty())
                .unwrap();
        } else if mode & 0o444 == 0 {
            left_out.push(format!("a file with mode {mode:04o}, which only root can read"));
            fs::remove_file(&path).unwrap();
            continue;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if mode & 0o500 == 0o500 || rustix::process::geteuid().is_root() {
            let path = dir.join(format!("folder {mode:04o}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("inside"), "inside").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn times(root: &Path) {
    let dir = root.join("times");
    fs::create_dir(&dir).unwrap();
    let set = |name: &str, secs: i64, nanos: i64| {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: secs, tv_nsec: nanos },
        };
        rustix::fs::utimensat(CWD, dir.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    for (name, secs, nanos) in [
        ("before 1970", -1_500_000_000, 987_654_321),
        ("just before 1970", -1, 999_999_999),
        ("epoch", 0, 0),
        ("one nanosecond", 0, 1),
        ("2038", 1 << 31, 0),
        ("after 2038", 10_000_000_000, 123_456_789),
    ] {
        fs::write(dir.join(name), name).unwrap();
        set(name, secs, nanos);
        let folder = format!("folder {name}");
        fs::create_dir(dir.join(&folder)).unwrap();
        fs::write(dir.join(&folder).join("inside"), name).unwrap();
        set(&folder, secs, nanos);
        let link = format!("link {name}");
        symlink(name, dir.join(&link)).unwrap();
        set(&link, secs, nanos);
    }
    set("", -86_400, 5);
}

/// Returns whether the file system of `dir` supports user attributes.
pub fn has_attributes(dir: &Path) -> io::Result<bool> {
    let probe = dir.join(".probe");
    fs::write(&probe, "")?;
    let can = xattr::set(&probe, "user.probe", b"1").is_ok();
    fs::remove_file(&probe)?;
    Ok(can)
}
