//! What `/proc/self/mountinfo` says of a mount.

use std::{
    ffi::OsString,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{ffi::OsStringExt, fs::MetadataExt},
    },
    path::PathBuf,
};

/// What the kernel says of a mount and its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Device number of the file system.
    pub major: u32,
    /// Device number of the file system.
    pub minor: u32,
    /// Kind of the file system: `ext4`, `fuse.sshfs`.
    pub kind: Vec<u8>,
    /// What is mounted: a device, a server's folder, a name.
    pub source: Vec<u8>,
    /// Whether the file system as a whole is read-only, not only this mount of it.
    pub is_read_only: bool,
    /// The options of the file system, separated by commas and escaped.
    options: Vec<u8>,
}

impl MountInfo {
    /// The mount that holds an open file; none if the kernel does not show it.
    pub fn of(handle: BorrowedFd<'_>) -> Option<Self> {
        // The ids that `statx` returns may be of another kind.
        let shown = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_fd().as_raw_fd())).ok()?;
        let id = shown.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
        let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
        let line = mounts.split(|byte| *byte == b'\n').find(|line| {
            let first = line.split(|byte| *byte == b' ').next();
            first == Some(id.as_bytes())
        })?;
        Self::parse(line)
    }

    /// Parses `id parent major:minor root point options optional... - kind source options`.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = std::str::from_utf8(fields.nth(2)?).ok()?;
        let (major, minor) = device.split_once(':')?;
        fields.by_ref().find(|field| *field == b"-")?;
        let kind = unescape(fields.next()?);
        let source = unescape(fields.next()?);
        let options = fields.next().unwrap_or_default().to_vec();
        let is_read_only = options.split(|byte| *byte == b',').any(|option| option == b"ro");
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        Some(Self { major, minor, kind, source, is_read_only, options })
    }

    /// The numbers of the block device that holds the file system. A file system over several devices has a number of
    /// its own, which is no block device's; then the source is one of them.
    pub fn block_device(&self) -> (u32, u32) {
        let source = PathBuf::from(OsString::from_vec(self.source.clone()));
        match source.metadata().ok().filter(|_| self.major == 0 && source.is_absolute()).map(|found| found.rdev()) {
            Some(device) if device != 0 => (rustix::fs::major(device), rustix::fs::minor(device)),
            _ => (self.major, self.minor),
        }
    }

    /// The folders that an overlay shows, the upper one first; none if it does not say all of them by whole paths.
    pub fn layers(&self) -> Option<Vec<PathBuf>> {
        let mut layers = Vec::new();
        for option in self.options.split(|byte| *byte == b',') {
            let Some(at) = option.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (&option[..at], unescape(&option[at + 1..]));
            match name {
                b"upperdir" | b"lowerdir+" | b"datadir+" => layers.push(value),
                b"lowerdir" => layers.extend(split_layers(&value)),
                _ => {}
            }
        }
        let layers: Vec<PathBuf> = layers.into_iter().map(|path| OsString::from_vec(path).into()).collect();
        // A relative path is relative to where mount(8) ran.
        (!layers.is_empty() && layers.iter().all(|path| path.is_absolute())).then_some(layers)
    }
}

/// Splits paths at colons. A backslash escapes the byte after it.
fn split_layers(value: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut path) = (Vec::new(), Vec::new());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => path.extend(bytes.next()),
            // Two colons stand before a layer that only has data.
            b':' if path.is_empty() => {}
            b':' => all.push(std::mem::take(&mut path)),
            byte => path.push(*byte),
        }
    }
    all.push(path);
    all
}

/// Replaces `\040` and the like by the byte.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    bytes
}
