//! What `latest` is in each folder above the snapshots: a link, or a folder with a link for each series.
//!
//! With one series in view, `latest` leads to its newest snapshot. With several, the newest snapshot of all would
//! depend on which job ran last, so `latest` is a folder with the newest snapshot of each series. This is decided when
//! the first snapshots of a folder are seen, which is when it is mounted unless the repository was empty, and never
//! changes while it is mounted: a path that a program opened yesterday leads to the same series today. A series that
//! appears later gets a link of its own where `latest` is a folder, and is found under `targets/` everywhere.
//! Several clients can use one name for their targets. These are several series, so `targets/TARGET/latest` is a folder
//! then.
//!
//! A link has the name of the target. If several series have targets of the same name, it is `TARGET@HOST`, and if
//! their hosts have the same name too, the beginning of the client's id follows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use bkfs_store::base::id::ClientId;

use super::{component::component, source::ShownSnapshot, top::LatestFolder};

/// A series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    client: ClientId,
    target: String,
}

impl SeriesKey {
    /// The series of a snapshot.
    pub fn of(snapshot: &ShownSnapshot) -> Self {
        Self { client: snapshot.client, target: snapshot.record.target.clone() }
    }
}

/// What `latest` is in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LatestShape {
    /// A link to the newest snapshot of this series.
    One(SeriesKey),
    /// A folder with a link for each series.
    Several(HashMap<SeriesKey, Arc<[u8]>>),
}

/// What was decided for each folder. It only grows.
#[derive(Debug, Default)]
pub struct LatestShapes {
    decided: HashMap<LatestFolder, LatestShape>,
}

impl LatestShapes {
    /// Returns what `latest` is in a folder that shows the series of these snapshots, which are at least one. Decides
    /// it if this is the first call for the folder, and names new series.
    pub fn decide(&mut self, folder: &LatestFolder, snapshots: &[&ShownSnapshot]) -> &LatestShape {
        let hosts: BTreeMap<SeriesKey, &str> =
            snapshots.iter().map(|snapshot| (SeriesKey::of(snapshot), snapshot.record.host.as_str())).collect();
        let shape = self.decided.entry(folder.clone()).or_insert_with(|| match hosts.first_key_value() {
            Some((only, _)) if hosts.len() == 1 => LatestShape::One(only.clone()),
            _ => LatestShape::Several(HashMap::new()),
        });
        if let LatestShape::Several(names) = shape {
            let new: BTreeMap<&SeriesKey, &str> =
                hosts.iter().filter(|(series, _)| !names.contains_key(series)).map(|(s, host)| (s, *host)).collect();
            let named = name_series(&new, &names.values().cloned().collect());
            names.extend(named);
        }
        shape
    }
}

/// Makes a name from a series and its host.
type NameForm<'a> = &'a dyn Fn(&SeriesKey, &str) -> String;

/// Names series. The names are unique among themselves and differ from those that are `taken`.
fn name_series(new: &BTreeMap<&SeriesKey, &str>, taken: &HashSet<Arc<[u8]>>) -> Vec<(SeriesKey, Arc<[u8]>)> {
    let forms: [NameForm<'_>; 3] =
        [&|series, _| series.target.clone(), &|series, host| format!("{}@{host}", series.target), &|series, host| {
            format!("{}@{host}@{}", series.target, series.client)
        }];
    let mut taken: BTreeSet<Arc<[u8]>> = taken.iter().cloned().collect();
    let mut left: Vec<(&SeriesKey, &str)> = new.iter().map(|(series, host)| (*series, *host)).collect();
    let mut named = Vec::new();
    for form in forms {
        let name_of =
            |(series, host): (&SeriesKey, &str)| -> Arc<[u8]> { component(form(series, host).as_bytes()).into() };
        let mut count: HashMap<Arc<[u8]>, usize> = HashMap::new();
        left.iter().for_each(|series| *count.entry(name_of(*series)).or_default() += 1);
        left.retain(|series| {
            let name = name_of(*series);
            let is_unique = count.get(&name) == Some(&1) && taken.insert(name.clone());
            if is_unique {
                named.push((series.0.clone(), name));
            }
            !is_unique
        });
    }
    // Only texts that are made to collide are left. They still get different names.
    for (series, _) in left {
        let name: Arc<[u8]> = (1u64..)
            .map(|n| component(format!("{}@{}@{n}", series.target, series.client).as_bytes()).into())
            .find(|name: &Arc<[u8]>| !taken.contains(name))
            .unwrap_or_else(|| component(series.target.as_bytes()).into());
        taken.insert(name.clone());
        named.push((series.clone(), name));
    }
    named
}

#[cfg(test)]
mod tests;
