//! Noticing that something is mounted or unmounted at the source.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
};

use super::sources::Sources;

/// The mount table, as it was when it was last read.
pub struct Mounts {
    /// The kernel raises an exception on it when the table changes.
    table: File,
    mounted: BTreeSet<Vec<u8>>,
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }
}

impl Mounts {
    /// Reads the table for the first time.
    pub fn open() -> io::Result<Self> {
        let mut mounts = Self { table: File::open("/proc/self/mountinfo")?, mounted: BTreeSet::new() };
        mounts.mounted = mounts.read()?;
        Ok(mounts)
    }

    /// Reads the table, and returns whether anything at the source is mounted or unmounted since it was last read.
    pub fn have_changed(&mut self, sources: &Sources) -> bool {
        let Ok(mounted) = self.read() else { return true };
        if mounted == self.mounted {
            return false;
        }
        let before = std::mem::replace(&mut self.mounted, mounted);
        let mut differing = before.symmetric_difference(&self.mounted);
        differing.any(|line| mount_point(line).is_none_or(|at| sources.is_affected_by_mount(&at)))
    }

    /// The lines of the table.
    fn read(&mut self) -> io::Result<BTreeSet<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.table.rewind()?;
        self.table.read_to_end(&mut bytes)?;
        Ok(bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
    }
}

/// The mount point in a line of the table: its fifth field, in which blanks and backslashes are octal numbers.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = rest.get(1..4).filter(|_| *byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(decoded) => {
                path.push(decoded);
                rest = &rest[4..];
            }
            None => {
                path.push(*byte);
                rest = after;
            }
        }
    }
    Some(PathBuf::from(OsString::from_vec(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_decoded() {
        let line = b"36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some("/mnt/a b\\c".into()));
        assert_eq!(mount_point(b"36 35 98:0"), None);
        assert_eq!(mount_point(b"1 2 3 / /x\\9 rw"), Some("/x\\9".into()));
    }

    #[test]
    fn a_table_that_did_not_change_says_so() {
        assert!(!Mounts::open().unwrap().have_changed(&Sources::new(&[])));
    }
}
