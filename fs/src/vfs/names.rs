//! The names above the snapshots: the folders at the top of the mount, and what is in them.
//!
//! ```text
//! latest -> snapshots/2026-11-20T090000Z     with several series: a folder, latest/<target> -> ../snapshots/...
//! snapshots/2026-11-20T090000Z/
//! ids/<id>/                                  a unique prefix of four digits or more is found too
//! targets/<target>/2026-11-20T090000Z/       and latest, like that of the root
//! hosts/<host>/...  tags/<tag>/...           the same
//! ```
//!
//! The names are a function of the list of snapshots, of the filter that says which are shown, and of what was decided
//! about `latest` ([`super::latest`]). A filter changes no name. A snapshot has the same name everywhere: its time in
//! UTC. If several have the same second, `-2`, `-3` and so on are appended in the order of their commits, so a new
//! snapshot never renames an older one. Listings continue at cookies, which stay valid when snapshots come or go
//! between two calls.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bkfs_store::base::id::{Hash, SnapshotId};

use super::{
    component::{component, time_name},
    latest::{LatestShape, LatestShapes, SeriesKey},
    source::ShownSnapshot,
    top::{GroupBy, LatestFolder, TopDir, TopEntry, TopItem},
};
use crate::select::{Candidate, SnapshotFilter, newest_of_each_series};

/// The shortest prefix of an id that is looked up.
const PREFIX_MIN: usize = 4;

struct NamedSnapshot {
    name: Vec<u8>,
    snapshot: Arc<ShownSnapshot>,
}

struct SnapshotGroup {
    cookie: u64,
    members: Vec<usize>,
}

/// What `latest` is in a folder.
enum LatestItem {
    /// A link to this snapshot.
    Link(usize),
    /// A folder with these links.
    Folder(BTreeMap<Arc<[u8]>, usize>),
}

/// All names above the snapshots.
#[derive(Default)]
pub struct Names {
    /// The snapshots that are shown, in the order of their commits.
    snapshots: Vec<NamedSnapshot>,
    by_name: HashMap<Vec<u8>, usize>,
    by_id: BTreeMap<SnapshotId, usize>,
    groups: HashMap<GroupBy, BTreeMap<Arc<[u8]>, SnapshotGroup>>,
    latest: HashMap<LatestFolder, LatestItem>,
    /// Whether only the newest snapshot of each series is known.
    is_partial: bool,
}

impl Names {
    /// Gives names to the snapshots, and shows those that pass the filter.
    pub fn new(snapshots: &[Arc<ShownSnapshot>], filter: &SnapshotFilter, shapes: &mut LatestShapes) -> Self {
        let mut ordered = snapshots.to_vec();
        ordered.sort_by_key(|snapshot| (snapshot.log_seq, snapshot.id));
        ordered.dedup_by_key(|snapshot| snapshot.id);
        let mut names = Self::default();
        let mut seen: HashMap<String, u64> = HashMap::new();
        for snapshot in ordered {
            let time = time_name(snapshot.record.time);
            let count = seen.entry(time.clone()).or_insert(0);
            *count += 1;
            // Snapshots that are not shown count too, so a snapshot has the same name in every mount.
            let name = if *count == 1 { time } else { format!("{time}-{count}") };
            if filter.matches(snapshot.client, &snapshot.record) {
                let index = names.snapshots.len();
                names.by_name.insert(name.clone().into_bytes(), index);
                names.by_id.insert(snapshot.id, index);
                names.snapshots.push(NamedSnapshot { name: name.into_bytes(), snapshot });
            }
        }
        names.group(&GroupBy::ALL);
        names.decide_latest(shapes);
        names
    }

    /// The names for which the newest snapshot of each series is enough: the ids of those that pass the filter, all
    /// targets, and `latest` in each of these and at the root.
    pub fn of_newest(newest: &[Arc<ShownSnapshot>], filter: &SnapshotFilter, shapes: &mut LatestShapes) -> Self {
        let mut names = Self { is_partial: true, ..Self::default() };
        let shown = newest.iter().filter(|snapshot| filter.matches(snapshot.client, &snapshot.record));
        for (index, snapshot) in shown.enumerate() {
            names.by_id.insert(snapshot.id, index);
            let name = snapshot.id.to_string().into_bytes();
            names.snapshots.push(NamedSnapshot { name, snapshot: snapshot.clone() });
        }
        names.group(&[GroupBy::Targets]);
        names.decide_latest(shapes);
        names
    }

    /// Whether only the newest snapshot of each series is known.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Whether what is known is enough to find a name in a folder, or to list the folder.
    pub fn is_enough_for(&self, top: &TopDir, name: Option<&[u8]>) -> bool {
        match (top, name) {
            _ if !self.is_partial => true,
            (TopDir::Root | TopDir::Groups(GroupBy::Targets), _) => true,
            (TopDir::Latest(None | Some((GroupBy::Targets, _))), _) => true,
            (TopDir::Group(GroupBy::Targets, _), Some(name)) => name == b"latest",
            (TopDir::Ids, Some(name)) => name.len() == SnapshotId::LEN * 2 && self.find_id(name).is_some(),
            _ => false,
        }
    }

    fn group(&mut self, by: &[GroupBy]) {
        for (index, named) in self.snapshots.iter().enumerate() {
            let snapshot = &named.snapshot.record;
            let mut add = |kind: GroupBy, name: &str| {
                if !by.contains(&kind) {
                    return;
                }
                let name: Arc<[u8]> = component(name.as_bytes()).into();
                let cookie = cookie_of(&name);
                let group = self
                    .groups
                    .entry(kind)
                    .or_default()
                    .entry(name)
                    .or_insert(SnapshotGroup { cookie, members: vec![] });
                if group.members.last() != Some(&index) {
                    group.members.push(index);
                }
            };
            add(GroupBy::Targets, &snapshot.target);
            add(GroupBy::Hosts, &snapshot.host);
            snapshot.tags.iter().for_each(|tag| add(GroupBy::Tags, tag));
        }
    }

    fn decide_latest(&mut self, shapes: &mut LatestShapes) {
        let mut folders: Vec<(LatestFolder, Vec<usize>)> = vec![(None, (0..self.snapshots.len()).collect())];
        for by in GroupBy::ALL {
            let groups = self.groups.get(&by).into_iter().flatten();
            folders.extend(groups.map(|(name, group)| (Some((by, name.clone())), group.members.clone())));
        }
        for (folder, members) in folders.into_iter().filter(|(_, members)| !members.is_empty()) {
            let candidates = members.iter().map(|index| (*index, Candidate::from(&*self.snapshots[*index].snapshot)));
            let newest = newest_of_each_series(candidates);
            let shown: Vec<&ShownSnapshot> = newest.iter().map(|index| &*self.snapshots[*index].snapshot).collect();
            let mut series = shown.iter().map(|snapshot| SeriesKey::of(snapshot)).zip(&newest);
            let item = match shapes.decide(&folder, &shown) {
                LatestShape::One(only) => series.find(|(s, _)| s == only).map(|(_, index)| LatestItem::Link(*index)),
                LatestShape::Several(names) => {
                    let links = series.filter_map(|(series, index)| Some((names.get(&series)?.clone(), *index)));
                    Some(LatestItem::Folder(links.collect()))
                }
            };
            self.latest.extend(item.map(|item| (folder, item)));
        }
    }

    /// Returns the number of snapshots that are shown.
    pub fn len(&self) -> usize {
        self.snapshots.len()
    }

    /// Returns whether there are no snapshots.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty()
    }

    /// Returns the snapshots that are shown, in the order of their commits.
    pub fn snapshots(&self) -> impl Iterator<Item = &Arc<ShownSnapshot>> {
        self.snapshots.iter().map(|named| &named.snapshot)
    }

    /// Whether the same snapshots are shown under the same names.
    pub fn same_as(&self, other: &Self) -> bool {
        let key = |named: &NamedSnapshot| (named.snapshot.id, named.name.clone());
        self.snapshots.iter().map(key).eq(other.snapshots.iter().map(key))
    }

    /// Returns whether a snapshot is shown, as far as is known.
    pub fn contains(&self, id: &SnapshotId) -> bool {
        self.is_partial || self.by_id.contains_key(id)
    }

    /// Returns the entry with that name in a folder. The folder may no longer exist.
    pub fn find(&self, top: &TopDir, name: &[u8]) -> Option<TopItem> {
        match top {
            TopDir::Root => self.root().into_iter().find(|listed| listed.name == name).map(|listed| listed.item),
            TopDir::Snapshots => self.by_name.get(name).map(|index| self.snapshot(*index)),
            TopDir::Ids => self.find_id(name).map(|index| self.snapshot(index)),
            TopDir::Groups(by) => {
                let (name, _) = self.groups.get(by)?.get_key_value(name)?;
                Some(TopItem::Dir(TopDir::Group(*by, name.clone())))
            }
            TopDir::Group(by, group) => {
                if name == b"latest" {
                    return self.latest_item(&Some((*by, group.clone())));
                }
                let index = *self.by_name.get(name)?;
                let group = self.groups.get(by)?.get(group)?;
                group.members.binary_search(&index).ok().map(|_| self.snapshot(index))
            }
            TopDir::Latest(folder) => match self.latest.get(folder)? {
                LatestItem::Folder(links) => {
                    links.get(name).map(|index| self.link(*index, self.prefix_in_latest(folder)))
                }
                LatestItem::Link(_) => None,
            },
        }
    }

    /// Returns the target of the link in a folder that leads to the snapshot of this commit, if there still is one.
    pub fn link_target(&self, top: &TopDir, is_commit: impl Fn(u64) -> bool) -> Option<Vec<u8>> {
        let items = match top {
            TopDir::Latest(_) => self.list(top, 0, usize::MAX).into_iter().map(|entry| entry.item).collect(),
            top => self.find(top, b"latest").into_iter().collect::<Vec<_>>(),
        };
        items.into_iter().find_map(|item| match item {
            TopItem::Latest { target, log_seq } if is_commit(log_seq) => Some(target),
            _ => None,
        })
    }

    /// Returns the entries of a folder after a cookie (0: all), in the order of cookies, at most `limit`.
    pub fn list(&self, top: &TopDir, after: u64, limit: usize) -> Vec<TopEntry> {
        let listed = |index: usize| {
            let NamedSnapshot { name, snapshot } = &self.snapshots[index];
            TopEntry {
                name: name.clone(),
                item: TopItem::Snapshot(snapshot.clone()),
                cookie: snapshot_cookie(snapshot),
            }
        };
        let after_cookie = |members: &[usize]| {
            let from = members.partition_point(|index| snapshot_cookie(&self.snapshots[*index].snapshot) <= after);
            members[from..].iter().take(limit).map(|index| listed(*index)).collect::<Vec<_>>()
        };
        match top {
            TopDir::Root => self.root().into_iter().filter(|listed| listed.cookie > after).take(limit).collect(),
            TopDir::Snapshots | TopDir::Ids => {
                let from = self.snapshots.partition_point(|named| snapshot_cookie(&named.snapshot) <= after);
                let mut all: Vec<_> = (from..self.snapshots.len()).take(limit).map(listed).collect();
                if *top == TopDir::Ids {
                    all.iter_mut().zip(&self.snapshots[from..]).for_each(|(listed, named)| {
                        listed.name = named.snapshot.id.to_string().into_bytes();
                    });
                }
                all
            }
            TopDir::Groups(by) => {
                let mut all: Vec<TopEntry> = (self.groups.get(by).into_iter().flatten())
                    .filter(|(_, group)| group.cookie > after)
                    .map(|(name, group)| TopEntry {
                        name: name.to_vec(),
                        item: TopItem::Dir(TopDir::Group(*by, name.clone())),
                        cookie: group.cookie,
                    })
                    .collect();
                all.sort_by(|a, b| (a.cookie, &a.name).cmp(&(b.cookie, &b.name)));
                all.truncate(limit);
                all
            }
            TopDir::Group(by, group) => {
                let Some(members) = self.groups.get(by).and_then(|groups| groups.get(group)) else { return vec![] };
                let mut all = after_cookie(&members.members);
                if after == 0 {
                    let latest = self.latest_item(&Some((*by, group.clone())));
                    all.splice(0..0, latest.map(|item| TopEntry { name: b"latest".to_vec(), item, cookie: 1 }));
                    all.truncate(limit);
                }
                all
            }
            TopDir::Latest(folder) => {
                let Some(LatestItem::Folder(links)) = self.latest.get(folder) else { return vec![] };
                let mut all: Vec<TopEntry> = (links.iter())
                    .map(|(name, index)| TopEntry {
                        name: name.to_vec(),
                        item: self.link(*index, self.prefix_in_latest(folder)),
                        cookie: cookie_of(name),
                    })
                    .filter(|entry| entry.cookie > after)
                    .collect();
                all.sort_by(|a, b| (a.cookie, &a.name).cmp(&(b.cookie, &b.name)));
                all.truncate(limit);
                all
            }
        }
    }

    fn root(&self) -> Vec<TopEntry> {
        let latest = self.latest_item(&None);
        let mut all: Vec<(&[u8], TopItem)> = latest.map(|item| (b"latest".as_slice(), item)).into_iter().collect();
        all.push((b"snapshots", TopItem::Dir(TopDir::Snapshots)));
        all.push((b"ids", TopItem::Dir(TopDir::Ids)));
        all.extend(GroupBy::ALL.map(|by| (by.name(), TopItem::Dir(TopDir::Groups(by)))));
        let skipped = 6 - all.len() as u64;
        (all.into_iter().zip(1..))
            .map(|((name, item), n)| TopEntry { name: name.to_vec(), item, cookie: n + skipped })
            .collect()
    }

    fn snapshot(&self, index: usize) -> TopItem {
        TopItem::Snapshot(self.snapshots[index].snapshot.clone())
    }

    fn latest_item(&self, folder: &LatestFolder) -> Option<TopItem> {
        // Beside the link, or in a folder at the root.
        let prefix: &[u8] = match folder {
            None if self.is_partial => b"ids/",
            None => b"snapshots/",
            Some(_) if self.is_partial => b"../../ids/",
            Some(_) => b"",
        };
        match self.latest.get(folder)? {
            LatestItem::Link(index) => Some(self.link(*index, prefix)),
            LatestItem::Folder(_) => Some(TopItem::Dir(TopDir::Latest(folder.clone()))),
        }
    }

    fn link(&self, index: usize, prefix: &[u8]) -> TopItem {
        let NamedSnapshot { name, snapshot } = &self.snapshots[index];
        TopItem::Latest { target: [prefix, name].concat(), log_seq: snapshot.log_seq }
    }

    /// Returns where the links in `latest/` lead: beside the folder, or to a folder at the root.
    fn prefix_in_latest(&self, folder: &LatestFolder) -> &'static [u8] {
        match folder {
            None if self.is_partial => b"../ids/",
            None => b"../snapshots/",
            Some(_) if self.is_partial => b"../../../ids/",
            Some(_) => b"../",
        }
    }

    fn find_id(&self, name: &[u8]) -> Option<usize> {
        let digits = name.len();
        let hex = name.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        if !(PREFIX_MIN..=SnapshotId::LEN * 2).contains(&digits) || !hex {
            return None;
        }
        let mut low = SnapshotId::default();
        for (index, digit) in name.iter().enumerate() {
            let value = (*digit as char).to_digit(16)? as u8;
            low.0[index / 2] |= if index % 2 == 0 { value << 4 } else { value };
        }
        let mut found = self.by_id.range(low..).take_while(|(id, _)| id.to_string().as_bytes().starts_with(name));
        match (found.next(), found.next()) {
            (Some((_, index)), None) => Some(*index),
            _ => None,
        }
    }
}

/// Returns the cookie of a snapshot. `latest` has 1, so snapshots begin at 2.
fn snapshot_cookie(snapshot: &ShownSnapshot) -> u64 {
    snapshot.log_seq.saturating_add(2).min((1 << 62) - 1)
}

/// Returns the cookie of a group. It depends only on the name, so it stays valid when other groups come and go.
fn cookie_of(name: &[u8]) -> u64 {
    let hash = Hash::of(&[name]).0;
    let mut low = [0; 8];
    low.copy_from_slice(&hash[..8]);
    (u64::from_le_bytes(low) >> 3).max(1)
}

#[cfg(test)]
mod tests;
