//! How many files each source holds: what shows that a disk is not mounted.

use std::collections::HashMap;

use super::options::PushedSource;
use crate::walk::{self, DirPath, Roots};

/// Counts the files below each source, while the directories of a push end one after another.
pub struct SourceCounts {
    by_key: HashMap<[u8; 16], usize>,
    sources: Vec<PushedSource>,
}

impl SourceCounts {
    /// Starts with the sources. `root_key` is the key of the snapshot's root directory.
    pub fn new(roots: &Roots, root_key: [u8; 16]) -> Self {
        let key = |path: &Vec<u8>| {
            let names = path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".");
            names.fold(root_key, |parent, name| walk::child_key(&parent, name))
        };
        let source = |path: &Vec<u8>| PushedSource { path: walk::join(&roots.base, path), files: None };
        Self {
            by_key: roots.paths.iter().enumerate().map(|(index, path)| (key(path), index)).collect(),
            sources: roots.paths.iter().map(source).collect(),
        }
    }

    /// Counts the files of a directory that has ended.
    pub fn ended(&mut self, dir: &DirPath, files: u64) {
        if let Some(source) = self.by_key.get(&dir.key()).and_then(|index| self.sources.get_mut(*index)) {
            source.files = Some(files);
        }
    }

    /// The sources with what was counted.
    pub fn into_sources(self) -> Vec<PushedSource> {
        self.sources
    }
}
