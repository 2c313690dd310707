//! Which series this machine has pushed, and how many files their sources held when they last held any. A push compares
//! with that: a source without files may be a disk that is not mounted, and a path that is missing may be a typo. If
//! the file is lost, the next push has nothing to compare with.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use bkfs_store::base::id::ClientId;
use serde::{Deserialize, Serialize};

use super::{
    files::{Remembered, read_toml, update_toml},
    folder::RepoFolder,
};
use crate::output;

const FILE: &str = "sources.toml";
/// How many bytes the names of sources may have together. What was pushed last stays.
const NAMES_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default, Serialize, Deserialize)]
struct SourcesToml {
    #[serde(default)]
    series: BTreeMap<String, SeriesSources>,
}

impl Remembered for SourcesToml {
    const WHAT: &str = "how many files the sources of pushes held, so one that is empty now is not noticed once";
}

/// The sources of a series, each with its number of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesSources {
    files: BTreeMap<String, u64>,
}

impl SeriesSources {
    /// How many files a source held when it last held any; 0 if it never did.
    pub fn files(&self, source: &Path) -> u64 {
        self.files.get(&key_of(source)).copied().unwrap_or(0)
    }
}

impl RepoFolder {
    /// Returns what is remembered of a series, if this machine has pushed to it.
    pub fn sources(&self, client: ClientId, target: &str) -> Result<Option<SeriesSources>> {
        Ok(read_toml::<SourcesToml>(&self.file(FILE))?.series.remove(&series_key(client, target)))
    }

    /// Records how many files sources hold. Other sources of the series stay.
    pub fn set_sources<'a>(
        &self,
        client: ClientId,
        target: &str,
        sources: impl IntoIterator<Item = (&'a Path, u64)>,
    ) -> Result<()> {
        update_toml(&self.file(FILE), |contents: &mut SourcesToml| {
            let series = series_key(client, target);
            let mut left = NAMES_BYTES_MAX;
            let mut fits = |name: &String| left.checked_sub(name.len()).inspect(|rest| left = *rest).is_some();
            let new = sources.into_iter().map(|(path, files)| (key_of(path), files)).filter(|(name, _)| fits(name));
            let new: Vec<(String, u64)> = new.collect();
            contents.series.entry(series.clone()).or_default().files.extend(new);
            let bytes = |of: &SeriesSources| of.files.keys().map(String::len).sum::<usize>();
            while contents.series.values().map(bytes).sum::<usize>() > 2 * NAMES_BYTES_MAX {
                let other = contents.series.keys().find(|key| **key != series).cloned();
                match other {
                    Some(other) => drop(contents.series.remove(&other)),
                    None => contents.series.values_mut().for_each(|series| series.files.clear()),
                }
            }
        })
    }
}

fn series_key(client: ClientId, target: &str) -> String {
    format!("{client} {target}")
}

fn key_of(source: &Path) -> String {
    output::name(source.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use bkfs_store::base::id::RepoId;

    use super::*;
    use crate::config::Folders;

    #[test]
    fn remembers_each_series() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::new(Some(dir.path().join("config")), Some(dir.path().join("cache"))).unwrap();
        let folder = folders.repository(RepoId([1; 16]));
        let (me, other, home) = (ClientId([1; 16]), ClientId([2; 16]), Path::new("/home"));
        assert_eq!(folder.sources(me, "h:/home").unwrap(), None);
        folder.set_sources(me, "h:/home", [(home, 5)]).unwrap();
        folder.set_sources(me, "h:/home", [(Path::new("/etc"), 7)]).unwrap();
        let known = folder.sources(me, "h:/home").unwrap().unwrap();
        assert_eq!((known.files(home), known.files(Path::new("/etc")), known.files(Path::new("/x"))), (5, 7, 0));
        assert_eq!(folder.sources(other, "h:/home").unwrap(), None);
        assert_eq!(folder.sources(me, "h:/etc").unwrap(), None);
    }
}
