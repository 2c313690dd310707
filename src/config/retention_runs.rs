//! What the last runs of automatic forgetting saw in each group. Holds compare a group with its last run.
//!
//! The key of a group is a hash of its fields; its name is stored with it for people. If the file is lost, the next run
//! has less to compare with.

use std::collections::BTreeMap;

use anyhow::Result;
use bkfs_store::{
    base::{id::Hash, time::Time},
    owner::retention::{Group, LastRun},
};
use serde::{Deserialize, Serialize};

use super::{
    files::{Remembered, read_toml, update_toml},
    folder::RepoFolder,
};

/// Maximum length of a stored group name, in characters.
const NAME_MAX: usize = 160;

#[derive(Debug, Default, Serialize, Deserialize)]
struct RunsToml {
    #[serde(default)]
    groups: BTreeMap<String, GroupRun>,
}

impl Remembered for RunsToml {
    const WHAT: &str = "when it last ran `forget`, and the next run is like a first one";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct GroupRun {
    name: String,
    at_secs: i64,
    log_len: u64,
    confirmed_len: u64,
}

impl RepoFolder {
    /// Returns the last runs over these groups, for those that have one.
    pub fn retention_runs<'a>(&self, groups: impl IntoIterator<Item = &'a Group>) -> Result<BTreeMap<Group, LastRun>> {
        let contents: RunsToml = read_toml(&self.runs_path())?;
        let run = |group: &Group| {
            let run = contents.groups.get(&key(group))?;
            let at = Time { secs: run.at_secs, nanos: 0 };
            Some((group.clone(), LastRun { at, log_len: run.log_len, confirmed_len: run.confirmed_len }))
        };
        Ok(groups.into_iter().filter_map(run).collect())
    }

    /// Records runs. The runs over other groups stay.
    pub fn set_retention_runs(&self, runs: &BTreeMap<Group, LastRun>) -> Result<()> {
        update_toml(&self.runs_path(), |contents: &mut RunsToml| {
            for (group, run) in runs {
                let LastRun { at, log_len, confirmed_len } = *run;
                let name = group.to_string().chars().take(NAME_MAX).collect();
                let run = GroupRun { name, at_secs: at.secs, log_len, confirmed_len };
                contents.groups.insert(key(group), run);
            }
        })
    }

    fn runs_path(&self) -> std::path::PathBuf {
        self.file("retention.toml")
    }
}

/// Returns a key that differs for any two different groups. Each part is prefixed with its length, so that no two lists
/// of parts have the same encoding.
fn key(group: &Group) -> String {
    let mut bytes = Vec::new();
    let mut part = |part: Option<&[u8]>| {
        bytes.push(u8::from(part.is_some()));
        let part = part.unwrap_or_default();
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    };
    part(group.client.as_ref().map(|client| &client.0[..]));
    part(group.host.as_deref().map(str::as_bytes));
    part(group.target.as_deref().map(str::as_bytes));
    part(group.paths.as_ref().map(|_| &[][..]));
    for path in group.paths.iter().flatten() {
        part(Some(&path.0));
    }
    Hash::of(&[b"bkfs retention group", &bytes]).to_string()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use bkfs_store::{base::id::ClientId, format::snapshot::PathBytes};

    use super::*;

    fn group(host: Option<&str>, target: Option<&str>, paths: Option<&[&[u8]]>) -> Group {
        Group {
            client: Some(ClientId([1; 16])),
            host: host.map(str::to_owned),
            target: target.map(str::to_owned),
            paths: paths.map(|paths| paths.iter().map(|p| PathBytes(p.to_vec())).collect()),
        }
    }

    #[test]
    fn groups_keep_their_own_runs() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RepoFolder::new(dir.path().join("r"));
        let groups = [
            group(Some("a"), Some("b"), None),
            group(Some("ab"), Some(""), None),
            group(Some("ab"), None, None),
            group(None, Some("ab"), None),
            group(None, None, Some(&[])),
            group(None, None, Some(&[b"/a", b"/b"])),
            group(None, None, Some(&[b"/a/b"])),
            group(None, None, Some(&[b"/\xff"])),
            Group { client: None, ..group(None, None, None) },
        ];
        let run =
            |n: usize| LastRun { at: Time { secs: n as i64, nanos: 0 }, log_len: 10 + n as u64, confirmed_len: 3 };
        let all: BTreeMap<Group, LastRun> = groups.iter().enumerate().map(|(n, g)| (g.clone(), run(n))).collect();
        assert_eq!(all.len(), groups.len());
        assert_eq!(folder.retention_runs(&groups).unwrap(), BTreeMap::new());
        for (group, run) in &all {
            folder.set_retention_runs(&[(group.clone(), *run)].into()).unwrap();
        }
        assert_eq!(folder.retention_runs(&groups).unwrap(), all);
        folder.set_retention_runs(&[(groups[0].clone(), run(50))].into()).unwrap();
        assert_eq!(folder.retention_runs(&groups[..1]).unwrap()[&groups[0]], run(50));
    }
}
