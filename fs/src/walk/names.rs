//! The names in a directory, packed. For a directory of a million entries they are most of what is held in memory.

/// Names with their inode numbers. They can be sorted, and are taken from the front.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    /// How many names were taken.
    taken: usize,
}

/// Where one name is in `bytes`.
#[derive(Debug, Clone, Copy)]
struct Row {
    inode: u64,
    /// The offset, and in the low bits the length.
    span: u64,
}

/// Bits for the length of a name: more than enough, as the system's names have at most 255 bytes.
const LEN_BITS: u32 = 16;

impl Row {
    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = (self.span >> LEN_BITS) as usize;
        &bytes[start..start + (self.span & ((1 << LEN_BITS) - 1)) as usize]
    }
}

impl Names {
    /// Adds a name. Ignores one that is longer than any system allows.
    pub fn push(&mut self, inode: u64, name: &[u8]) {
        if name.len() >> LEN_BITS == 0 {
            self.rows.push(Row { inode, span: (self.bytes.len() as u64) << LEN_BITS | name.len() as u64 });
            self.bytes.extend_from_slice(name);
        }
    }

    /// How many names are left.
    pub fn len(&self) -> usize {
        self.rows.len() - self.taken
    }

    /// The names that are left.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.rows[self.taken..].iter().map(|row| row.name(&self.bytes))
    }

    /// Takes the first names, at most `count`.
    pub fn take(&mut self, count: usize) -> impl Iterator<Item = &[u8]> {
        let rows = &self.rows[self.taken..];
        let rows = &rows[..count.min(rows.len())];
        self.taken += rows.len();
        rows.iter().map(|row| row.name(&self.bytes))
    }

    /// Keeps only the names for which `keep` is true.
    pub fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let Self { bytes, rows, .. } = self;
        rows.retain(|row| keep(row.name(bytes)));
    }

    pub fn sort_by_inode(&mut self) {
        self.rows.sort_unstable_by_key(|row| row.inode);
    }

    pub fn sort_by_name(&mut self) {
        let Self { bytes, rows, .. } = self;
        rows.sort_unstable_by(|a, b| a.name(bytes).cmp(b.name(bytes)));
    }

    /// How many bytes of memory the names take.
    pub fn memory(&self) -> usize {
        self.bytes.len() + self.rows.len() * size_of::<Row>()
    }
}

impl<'a> FromIterator<(u64, &'a [u8])> for Names {
    fn from_iter<I: IntoIterator<Item = (u64, &'a [u8])>>(iter: I) -> Self {
        let mut names = Self::default();
        iter.into_iter().for_each(|(inode, name)| names.push(inode, name));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_bytes_in_any_order() {
        let longest = [b'z'; 255];
        let mut names: Names =
            [(9, &b"b"[..]), (3, b""), (5, &longest), (7, b"\xff\n"), (1, b"a")].into_iter().collect();
        let all = |names: &Names| names.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        names.sort_by_inode();
        assert_eq!(all(&names), [&b"a"[..], b"", &longest, b"\xff\n", b"b"]);
        names.sort_by_name();
        assert_eq!(all(&names), [&b""[..], b"a", b"b", &longest, b"\xff\n"]);
        names.retain(|name| name != b"b");
        assert_eq!(names.take(2).collect::<Vec<_>>(), [&b""[..], b"a"]);
        assert_eq!((names.len(), all(&names)), (2, vec![longest.to_vec(), b"\xff\n".to_vec()]));
        assert_eq!(names.take(9).count(), 2);
        assert_eq!((names.len(), names.take(1).count()), (0, 0));
    }
}
