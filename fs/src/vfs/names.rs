//! The names above the snapshots: the folders at the top of the mount, and what is in them.
//!
//! ```text
//! latest -> snapshots/2026-11-20T090000Z
//! snapshots/2026-11-20T090000Z/
//! ids/<id>/                                  a unique prefix of four digits or more is found too
//! targets/<target>/2026-11-20T090000Z/       and latest; likewise hosts/ and tags/
//! ```
//!
//! The names are a pure function of the list of snapshots. A snapshot has the same name everywhere: its time in UTC. If
//! several have the same second, `-2`, `-3` and so on are appended in the order of their commits, so a new snapshot
//! never renames an older one. Listings continue at cookies, which stay valid when snapshots come or go between two
//! calls.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bkfs_store::base::{
    id::{Hash, SnapshotId},
    time::Time,
};

use super::source::ShownSnapshot;

/// The longest name that Linux allows.
const NAME_MAX: usize = 255;
/// The shortest prefix of an id that is looked up.
const PREFIX_MIN: usize = 4;

/// How snapshots are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupBy {
    /// By target.
    Targets,
    /// By the machine that was backed up.
    Hosts,
    /// By tag.
    Tags,
}

impl GroupBy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Targets, Self::Hosts, Self::Tags];

    /// Returns the name of the folder that has the groups.
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Targets => b"targets",
            Self::Hosts => b"hosts",
            Self::Tags => b"tags",
        }
    }
}

/// A folder above the snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopDir {
    /// The mount's root.
    Root,
    /// `snapshots/`
    Snapshots,
    /// `ids/`
    Ids,
    /// `targets/`, `hosts/` or `tags/`
    Groups(GroupBy),
    /// A folder in one of these.
    Group(GroupBy, Arc<[u8]>),
}

/// An entry of such a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopItem {
    /// A folder.
    Dir(TopDir),
    /// A snapshot.
    Snapshot(Arc<ShownSnapshot>),
    /// The symbolic link to the newest snapshot.
    Latest {
        /// Where it leads.
        target: Vec<u8>,
        /// Number of the snapshot's commit in the log.
        log_seq: u64,
    },
}

/// A named entry in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is.
    pub item: TopItem,
    /// Where the listing continues after it; ascending, less than 2^62.
    pub cookie: u64,
}

struct NamedSnapshot {
    name: Vec<u8>,
    snapshot: Arc<ShownSnapshot>,
}

struct SnapshotGroup {
    cookie: u64,
    members: Vec<usize>,
}

/// All names above the snapshots.
#[derive(Default)]
pub struct Names {
    /// In the order of the commits.
    snapshots: Vec<NamedSnapshot>,
    by_name: HashMap<Vec<u8>, usize>,
    by_id: BTreeMap<SnapshotId, usize>,
    groups: HashMap<GroupBy, BTreeMap<Arc<[u8]>, SnapshotGroup>>,
    newest: Option<usize>,
}

impl Names {
    /// Gives names to the snapshots.
    pub fn new(snapshots: &[Arc<ShownSnapshot>]) -> Self {
        let mut ordered = snapshots.to_vec();
        ordered.sort_by_key(|snapshot| (snapshot.log_seq, snapshot.id));
        ordered.dedup_by_key(|snapshot| snapshot.id);
        let mut names = Self::default();
        let mut seen: HashMap<String, u64> = HashMap::new();
        for (index, snapshot) in ordered.into_iter().enumerate() {
            let time = time_name(snapshot.record.time);
            let count = seen.entry(time.clone()).or_insert(0);
            *count += 1;
            let name = if *count == 1 { time } else { format!("{time}-{count}") };
            names.by_name.insert(name.clone().into_bytes(), index);
            names.by_id.insert(snapshot.id, index);
            names.snapshots.push(NamedSnapshot { name: name.into_bytes(), snapshot });
        }
        names.newest = names.newest_of(0..names.snapshots.len());
        names.group();
        names
    }

    fn group(&mut self) {
        for (index, named) in self.snapshots.iter().enumerate() {
            let snapshot = &named.snapshot.record;
            let mut add = |by: GroupBy, name: &str| {
                let name: Arc<[u8]> = component(name.as_bytes()).into();
                let cookie = cookie_of(&name);
                let group =
                    self.groups.entry(by).or_default().entry(name).or_insert(SnapshotGroup { cookie, members: vec![] });
                if group.members.last() != Some(&index) {
                    group.members.push(index);
                }
            };
            add(GroupBy::Targets, &snapshot.target);
            add(GroupBy::Hosts, &snapshot.host);
            snapshot.tags.iter().for_each(|tag| add(GroupBy::Tags, tag));
        }
    }

    /// Returns the number of snapshots.
    pub fn len(&self) -> usize {
        self.snapshots.len()
    }

    /// Returns whether there are no snapshots.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty()
    }

    /// Returns the snapshots, in the order of their commits.
    pub fn snapshots(&self) -> impl Iterator<Item = &Arc<ShownSnapshot>> {
        self.snapshots.iter().map(|named| &named.snapshot)
    }

    /// Returns whether a snapshot is shown.
    pub fn contains(&self, id: &SnapshotId) -> bool {
        self.by_id.contains_key(id)
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
                let group = self.groups.get(by)?.get(group)?;
                if name == b"latest" {
                    return self.latest_of(group.members.iter().copied(), b"");
                }
                let index = *self.by_name.get(name)?;
                group.members.binary_search(&index).ok().map(|_| self.snapshot(index))
            }
        }
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
                let Some(group) = self.groups.get(by).and_then(|groups| groups.get(group)) else { return vec![] };
                let mut all = after_cookie(&group.members);
                if after == 0 {
                    let latest = self.latest_of(group.members.iter().copied(), b"");
                    all.splice(0..0, latest.map(|item| TopEntry { name: b"latest".to_vec(), item, cookie: 1 }));
                    all.truncate(limit);
                }
                all
            }
        }
    }

    fn root(&self) -> Vec<TopEntry> {
        let latest = self.newest.and_then(|index| self.latest_of([index].into_iter(), b"snapshots/"));
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

    /// Returns the snapshot with the latest time; among equal times, the one that was committed last.
    fn newest_of(&self, members: impl Iterator<Item = usize>) -> Option<usize> {
        members.max_by_key(|index| (self.snapshots[*index].snapshot.record.time, *index))
    }

    fn latest_of(&self, members: impl Iterator<Item = usize>, prefix: &[u8]) -> Option<TopItem> {
        let NamedSnapshot { name, snapshot } = &self.snapshots[self.newest_of(members)?];
        Some(TopItem::Latest { target: [prefix, name].concat(), log_seq: snapshot.log_seq })
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

/// Converts a text to a path component. Different texts give different names: `/`, NUL, `%`, and the first dot of `.`
/// and `..` are written as `%` and two hex digits, and a name that is too long is cut and ends in a hash.
fn component(text: &[u8]) -> Vec<u8> {
    let dots = matches!(text, b"." | b"..");
    let mut name = Vec::with_capacity(text.len());
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'/' | b'%' | 0 => name.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            b'.' if dots && index == 0 => name.extend_from_slice(b"%2E"),
            byte => name.push(*byte),
        }
    }
    if name.is_empty() {
        return b"%".to_vec();
    }
    if name.len() > NAME_MAX {
        let hash = Hash::of(&[text]).to_string();
        name.truncate(NAME_MAX - 2 - hash.len());
        // No escape may be cut in two, or the name could be that of another text. `%~` occurs only in names that are
        // cut.
        while name[name.len() - 2..].contains(&b'%') {
            name.pop();
        }
        name.extend_from_slice(b"%~");
        name.extend_from_slice(hash.as_bytes());
    }
    name
}

/// Formats a time as `2026-11-20T090000Z`: UTC, without colons, which would break rsync and `SNAPSHOT:PATH`.
pub fn time_name(time: Time) -> String {
    let (days, second) = (time.secs.div_euclid(86_400), time.secs.rem_euclid(86_400));
    // Days since 0000-03-01 in the proleptic Gregorian calendar. Years that begin in March end with the leap day, and
    // 400 years have 146,097 days. The type is i128 because a time may be any i64.
    let days = i128::from(days) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, months have 31, 30, 31, 30 and 31 days, repeatedly: 153 days in five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests;
