//! Whether the paths that a push named hold a path of the snapshot.

use bkfs_store::format::snapshot::Snapshot;

/// How much of a path the sources of a snapshot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coverage {
    /// Nothing at it or below it was pushed.
    Nothing,
    /// Something below it was pushed, but not all of it.
    Part,
    /// It was pushed, as a source or as a part of one.
    Whole,
}

/// Returns how much of `path` the sources of a snapshot hold. The path is relative to the snapshot's root, without a
/// slash at its ends; an empty path is the root. Exclusions and what was deleted before the push do not count.
///
/// With `only_absolute`, sources that are relative to a base folder hold nothing.
pub fn coverage(snapshot: &Snapshot, path: &[u8], only_absolute: bool) -> Coverage {
    let of = |source: &[u8]| {
        let inside = match source.strip_prefix(b"/") {
            Some(inside) => inside,
            None if only_absolute => return Coverage::Nothing,
            None if source == b"." => b"",
            None => source,
        };
        match (is_at_or_below(path, inside), is_at_or_below(inside, path)) {
            (true, _) => Coverage::Whole,
            (false, true) => Coverage::Part,
            (false, false) => Coverage::Nothing,
        }
    };
    snapshot.paths.iter().map(|source| of(&source.0)).max().unwrap_or(Coverage::Nothing)
}

fn is_at_or_below(path: &[u8], folder: &[u8]) -> bool {
    match path.strip_prefix(folder) {
        Some(rest) => folder.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}
