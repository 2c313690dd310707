//! What may have changed since the last push, as a tree of names.
//!
//! Who watches the source reports names. A push that follows looks only at what was reported and takes everything else
//! from the file cache unseen. So a report may name too much, never too little: whatever would make the tree too large
//! or too deep becomes a report about a whole folder.

use std::{collections::BTreeMap, sync::Arc};

/// Entries of one folder that are named one by one. Of more, the folder is listed.
const NAMES_MAX: usize = 1000;
/// Names in the whole tree. Beyond it, everything may have changed.
const SIZE_MAX: usize = 200_000;
/// Folders in each other that are told apart. What changes deeper counts as a change of everything below.
const DEPTH_MAX: usize = 128;

/// How far the changes of an entry reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Scope {
    /// The entry's own attributes or contents, and what is named below it.
    #[default]
    Named,
    /// The same, and any of a folder's own entries.
    Entries,
    /// Everything at and below the entry.
    All,
}

/// What may have changed at and below one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    scope: Scope,
    below: BTreeMap<Box<[u8]>, Arc<Changes>>,
}

impl Changes {
    /// Everything.
    pub fn all() -> Self {
        Self { scope: Scope::All, below: BTreeMap::new() }
    }

    /// How far the changes reach.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The same changes, and any of the folder's own entries.
    pub fn with_entries(&self) -> Self {
        let mut changes = self.clone();
        changes.widen(Scope::Entries);
        changes
    }

    /// The entries that are named, in the order of their names.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.below.keys().map(|name| &**name)
    }

    /// What may have changed at and below an entry, if it is named.
    pub fn below(&self, name: &[u8]) -> Option<&Arc<Changes>> {
        self.below.get(name)
    }

    /// Whether an entry that `names` lead to is among what may have changed.
    pub fn covers<'n>(&self, names: impl IntoIterator<Item = &'n [u8]>) -> bool {
        let mut names = names.into_iter().peekable();
        let mut at = self;
        while let Some(name) = names.next() {
            if at.scope == Scope::All || at.scope == Scope::Entries && names.peek().is_none() {
                return true;
            }
            match at.below.get(name) {
                Some(below) => at = below,
                None => return false,
            }
        }
        true
    }

    /// Notes a change of the entry that `names` lead to. Returns how many names were added.
    fn note<'n>(&mut self, names: impl IntoIterator<Item = &'n [u8]>, scope: Scope) -> usize {
        let (mut at, mut added) = (self, 0);
        for (depth, name) in names.into_iter().enumerate() {
            if at.scope == Scope::All {
                return added;
            }
            if depth == DEPTH_MAX {
                at.widen(Scope::All);
                return added;
            }
            if !at.below.contains_key(name) {
                if at.below.len() >= NAMES_MAX {
                    at.widen(Scope::Entries);
                }
                added += 1;
            }
            at = Arc::make_mut(at.below.entry(name.into()).or_default());
        }
        at.widen(scope);
        added
    }

    /// Makes the changes reach as far as `scope`. Names that say no more than that go.
    fn widen(&mut self, scope: Scope) {
        self.scope = self.scope.max(scope);
        match self.scope {
            Scope::Named => {}
            Scope::Entries => self.below.retain(|_, below| **below != Changes::default()),
            Scope::All => self.below.clear(),
        }
    }

    /// Adds what another tree holds.
    fn merge(&mut self, other: &Changes) {
        self.widen(other.scope);
        if self.scope == Scope::All {
            return;
        }
        for (name, below) in &other.below {
            Arc::make_mut(self.below.entry(name.clone()).or_default()).merge(below);
        }
        if self.below.len() > NAMES_MAX {
            self.widen(Scope::Entries);
        }
    }

    fn count(&self) -> usize {
        self.below.values().map(|below| 1 + below.count()).sum()
    }
}

/// The changes that wait for the next push, bounded in size.
#[derive(Debug, Clone, Default)]
pub struct ChangeSet {
    root: Changes,
    /// At least as many names as `root` holds.
    size: usize,
}

impl ChangeSet {
    /// Nothing has changed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything may have changed.
    pub fn all() -> Self {
        Self { root: Changes::all(), size: 0 }
    }

    /// Notes a change of the entry at a path below the snapshot's root, names joined by `/`.
    pub fn note(&mut self, path: &[u8], scope: Scope) {
        self.note_names(path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()), scope);
    }

    /// Notes a change of the entry that names lead to.
    pub fn note_names<'n>(&mut self, names: impl IntoIterator<Item = &'n [u8]>, scope: Scope) {
        self.size += self.root.note(names, scope);
        if self.size > SIZE_MAX {
            self.size = self.root.count();
            if self.size > SIZE_MAX {
                *self = Self::all();
            }
        }
    }

    /// Adds what another set holds.
    pub fn merge(&mut self, other: &ChangeSet) {
        self.root.merge(&other.root);
        self.size = self.root.count();
        if self.size > SIZE_MAX {
            *self = Self::all();
        }
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.root == Changes::default()
    }

    /// Whether everything may have changed.
    pub fn is_all(&self) -> bool {
        self.root.scope == Scope::All
    }

    /// The changes as a tree, from the snapshot's root.
    pub fn root(&self) -> &Changes {
        &self.root
    }

    /// Takes the changes out and leaves none.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> impl Iterator<Item = &[u8]> {
        path.split('/').filter(|name| !name.is_empty()).map(str::as_bytes)
    }

    fn covers(set: &ChangeSet, path: &str) -> bool {
        set.root().covers(names(path))
    }

    #[test]
    fn what_was_noted_is_covered_and_nothing_beside_it() {
        let mut set = ChangeSet::new();
        assert!(set.is_empty() && !covers(&set, "a"));
        set.note(b"a/b/f", Scope::Named);
        set.note(b"a/c", Scope::Entries);
        set.note(b"d", Scope::All);
        for path in ["", "a", "a/b", "a/b/f", "a/c", "a/c/any", "d", "d/x/y"] {
            assert!(covers(&set, path), "{path}");
        }
        for path in ["a/g", "a/b/g", "a/b/f/x", "a/c/any/below", "e"] {
            assert!(!covers(&set, path), "{path}");
        }
        set.note(b"", Scope::All);
        assert!(set.is_all() && covers(&set, "e/f"));
    }

    #[test]
    fn many_names_become_a_folder_and_very_many_become_everything() {
        let mut set = ChangeSet::new();
        for i in 0..=NAMES_MAX {
            set.note(format!("d/f{i}").as_bytes(), Scope::Named);
        }
        let d = set.root().below(b"d").unwrap();
        assert_eq!((d.scope(), d.names().count() <= 1), (Scope::Entries, true));
        assert!(!covers(&set, "d/f3/below"));
        // A folder below keeps its own changes.
        set.note(b"d/sub/f", Scope::Named);
        assert!(covers(&set, "d/sub/f") && !covers(&set, "d/sub/g"));
        let mut set = ChangeSet::new();
        for i in 0..SIZE_MAX {
            set.note(format!("{}/{}/{i}", i / 100_000, i / 500).as_bytes(), Scope::Named);
        }
        assert!(set.is_all());
    }

    #[test]
    fn what_is_very_deep_counts_as_the_folder_that_is_not() {
        let path = vec!["d"; DEPTH_MAX + 5].join("/");
        let mut set = ChangeSet::new();
        set.note(path.as_bytes(), Scope::Named);
        assert!(covers(&set, &path) && covers(&set, &format!("{path}/x")) && !covers(&set, "e"));
        assert_eq!(set.size, DEPTH_MAX);
    }

    #[test]
    fn sets_are_merged() {
        let mut set = ChangeSet::new();
        set.note(b"a/f", Scope::Named);
        let mut other = ChangeSet::new();
        other.note(b"a/g", Scope::Named);
        other.note(b"b", Scope::All);
        set.merge(&other);
        for path in ["a/f", "a/g", "b/x"] {
            assert!(covers(&set, path), "{path}");
        }
        assert!(!covers(&set, "a/h"));
        set.merge(&ChangeSet::all());
        assert!(set.is_all() && set.take().is_all() && set.is_empty());
    }
}
