//! The names above the snapshots: which folders the mount's top level has, and what lies in them.
//!
//! ```text
//! latest -> snapshots/2026-11-20T090000Z
//! snapshots/2026-11-20T090000Z/
//! ids/<id>/                                  a unique prefix of four digits or more is found too
//! targets/<target>/2026-11-20T090000Z/       and latest; likewise hosts/ and tags/
//! ```
//!
//! A pure function of the list of snapshots. A snapshot has the same name everywhere: its time in UTC, and `-2`, `-3`
//! where several have one second, in the order of their commits, so that a new snapshot renames no older one. Listings
//! have cookies to go on from that stay right when snapshots come or go in between.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bkfs_store::base::{
    id::{Hash, SnapshotId},
    time::Time,
};

use super::source::Version;

/// Longest name that Linux allows.
const NAME_MAX: usize = 255;
/// Shortest prefix of an id that is looked up.
const PREFIX_MIN: usize = 4;

/// By what snapshots are grouped.
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

    /// The folder's name.
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
pub enum Place {
    /// The mount's root.
    Root,
    /// `snapshots/`
    Snapshots,
    /// `ids/`
    Ids,
    /// `targets/`, `hosts/` or `tags/`
    Groups(GroupBy),
    /// A folder in one of those.
    Group(GroupBy, Arc<[u8]>),
}

/// What lies in such a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A folder.
    Place(Place),
    /// A snapshot.
    Version(Arc<Version>),
    /// The symbolic link to the newest snapshot.
    Latest {
        /// Where it leads.
        target: Vec<u8>,
        /// The snapshot's place in the log.
        log_seq: u64,
    },
}

/// An item in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is.
    pub item: Item,
    /// Listing goes on behind it from here; ascending, below 2^62.
    pub cookie: u64,
}

struct Named {
    name: Vec<u8>,
    version: Arc<Version>,
}

struct Group {
    cookie: u64,
    members: Vec<usize>,
}

/// The names.
#[derive(Default)]
pub struct Names {
    /// In the order of the commits.
    versions: Vec<Named>,
    by_name: HashMap<Vec<u8>, usize>,
    by_id: BTreeMap<SnapshotId, usize>,
    groups: HashMap<GroupBy, BTreeMap<Arc<[u8]>, Group>>,
    newest: Option<usize>,
}

impl Names {
    /// Names the snapshots.
    pub fn new(versions: &[Arc<Version>]) -> Self {
        let mut ordered = versions.to_vec();
        ordered.sort_by_key(|version| (version.log_seq, version.id));
        ordered.dedup_by_key(|version| version.id);
        let mut names = Self::default();
        let mut seen: HashMap<String, u64> = HashMap::new();
        for (at, version) in ordered.into_iter().enumerate() {
            let time = time_name(version.snapshot.time);
            let count = seen.entry(time.clone()).or_insert(0);
            *count += 1;
            let name = if *count == 1 { time } else { format!("{time}-{count}") };
            names.by_name.insert(name.clone().into_bytes(), at);
            names.by_id.insert(version.id, at);
            names.versions.push(Named { name: name.into_bytes(), version });
        }
        names.newest = names.newest_of(0..names.versions.len());
        names.group();
        names
    }

    fn group(&mut self) {
        for (at, named) in self.versions.iter().enumerate() {
            let snapshot = &named.version.snapshot;
            let mut add = |by: GroupBy, name: &str| {
                let name: Arc<[u8]> = component(name.as_bytes()).into();
                let cookie = cookie_of(&name);
                let group = self.groups.entry(by).or_default().entry(name).or_insert(Group { cookie, members: vec![] });
                if group.members.last() != Some(&at) {
                    group.members.push(at);
                }
            };
            add(GroupBy::Targets, &snapshot.target);
            add(GroupBy::Hosts, &snapshot.host);
            snapshot.tags.iter().for_each(|tag| add(GroupBy::Tags, tag));
        }
    }

    /// How many snapshots there are.
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// The snapshots, in the order of their commits.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.versions.iter().map(|named| &named.version)
    }

    /// Whether the snapshot is there.
    pub fn contains(&self, id: &SnapshotId) -> bool {
        self.by_id.contains_key(id)
    }

    /// What has that name in a folder; the folder may be gone by now.
    pub fn find(&self, place: &Place, name: &[u8]) -> Option<Item> {
        match place {
            Place::Root => self.root().into_iter().find(|listed| listed.name == name).map(|listed| listed.item),
            Place::Snapshots => self.by_name.get(name).map(|at| self.version(*at)),
            Place::Ids => self.find_id(name).map(|at| self.version(at)),
            Place::Groups(by) => {
                let (name, _) = self.groups.get(by)?.get_key_value(name)?;
                Some(Item::Place(Place::Group(*by, name.clone())))
            }
            Place::Group(by, group) => {
                let group = self.groups.get(by)?.get(group)?;
                if name == b"latest" {
                    return self.latest_of(group.members.iter().copied(), b"");
                }
                let at = *self.by_name.get(name)?;
                group.members.binary_search(&at).ok().map(|_| self.version(at))
            }
        }
    }

    /// What lies in a folder behind a cookie (0: all), in the order of cookies, at most `limit`.
    pub fn list(&self, place: &Place, after: u64, limit: usize) -> Vec<Listed> {
        let listed = |at: usize| {
            let Named { name, version } = &self.versions[at];
            Listed { name: name.clone(), item: Item::Version(version.clone()), cookie: version_cookie(version) }
        };
        let behind = |members: &[usize]| {
            let from = members.partition_point(|at| version_cookie(&self.versions[*at].version) <= after);
            members[from..].iter().take(limit).map(|at| listed(*at)).collect::<Vec<_>>()
        };
        match place {
            Place::Root => self.root().into_iter().filter(|listed| listed.cookie > after).take(limit).collect(),
            Place::Snapshots | Place::Ids => {
                let from = self.versions.partition_point(|named| version_cookie(&named.version) <= after);
                let mut all: Vec<_> = (from..self.versions.len()).take(limit).map(listed).collect();
                if *place == Place::Ids {
                    all.iter_mut().zip(&self.versions[from..]).for_each(|(listed, named)| {
                        listed.name = named.version.id.to_string().into_bytes();
                    });
                }
                all
            }
            Place::Groups(by) => {
                let mut all: Vec<Listed> = (self.groups.get(by).into_iter().flatten())
                    .filter(|(_, group)| group.cookie > after)
                    .map(|(name, group)| Listed {
                        name: name.to_vec(),
                        item: Item::Place(Place::Group(*by, name.clone())),
                        cookie: group.cookie,
                    })
                    .collect();
                all.sort_by(|a, b| (a.cookie, &a.name).cmp(&(b.cookie, &b.name)));
                all.truncate(limit);
                all
            }
            Place::Group(by, group) => {
                let Some(group) = self.groups.get(by).and_then(|groups| groups.get(group)) else { return vec![] };
                let mut all = behind(&group.members);
                if after == 0 {
                    let latest = self.latest_of(group.members.iter().copied(), b"");
                    all.splice(0..0, latest.map(|item| Listed { name: b"latest".to_vec(), item, cookie: 1 }));
                    all.truncate(limit);
                }
                all
            }
        }
    }

    fn root(&self) -> Vec<Listed> {
        let latest = self.newest.and_then(|at| self.latest_of([at].into_iter(), b"snapshots/"));
        let mut all: Vec<(&[u8], Item)> = latest.map(|item| (b"latest".as_slice(), item)).into_iter().collect();
        all.push((b"snapshots", Item::Place(Place::Snapshots)));
        all.push((b"ids", Item::Place(Place::Ids)));
        all.extend(GroupBy::ALL.map(|by| (by.name(), Item::Place(Place::Groups(by)))));
        let skipped = 6 - all.len() as u64;
        (all.into_iter().zip(1..))
            .map(|((name, item), n)| Listed { name: name.to_vec(), item, cookie: n + skipped })
            .collect()
    }

    fn version(&self, at: usize) -> Item {
        Item::Version(self.versions[at].version.clone())
    }

    /// The newest by its own time; of those with one time, the one committed last.
    fn newest_of(&self, members: impl Iterator<Item = usize>) -> Option<usize> {
        members.max_by_key(|at| (self.versions[*at].version.snapshot.time, *at))
    }

    fn latest_of(&self, members: impl Iterator<Item = usize>, prefix: &[u8]) -> Option<Item> {
        let Named { name, version } = &self.versions[self.newest_of(members)?];
        Some(Item::Latest { target: [prefix, name].concat(), log_seq: version.log_seq })
    }

    fn find_id(&self, name: &[u8]) -> Option<usize> {
        let digits = name.len();
        let hex = name.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        if !(PREFIX_MIN..=SnapshotId::LEN * 2).contains(&digits) || !hex {
            return None;
        }
        let mut low = SnapshotId::default();
        for (at, digit) in name.iter().enumerate() {
            let value = (*digit as char).to_digit(16)? as u8;
            low.0[at / 2] |= if at % 2 == 0 { value << 4 } else { value };
        }
        let mut found = self.by_id.range(low..).take_while(|(id, _)| id.to_string().as_bytes().starts_with(name));
        match (found.next(), found.next()) {
            (Some((_, at)), None) => Some(*at),
            _ => None,
        }
    }
}

/// `latest` has 1, so versions begin behind it.
fn version_cookie(version: &Version) -> u64 {
    version.log_seq.saturating_add(2).min((1 << 62) - 1)
}

/// A place in the listing that depends on the name alone, so that other groups may come and go.
fn cookie_of(name: &[u8]) -> u64 {
    let hash = Hash::of(&[name]).0;
    let mut low = [0; 8];
    low.copy_from_slice(&hash[..8]);
    (u64::from_le_bytes(low) >> 3).max(1)
}

/// A text as one path component, the same for the same text and different for different ones: `/`, NUL, `%` and a
/// leading dot of `.` and `..` are written as `%` and two digits; what gets too long ends in a hash.
fn component(text: &[u8]) -> Vec<u8> {
    let dots = matches!(text, b"." | b"..");
    let mut name = Vec::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'/' | b'%' | 0 => name.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            b'.' if dots && at == 0 => name.extend_from_slice(b"%2E"),
            byte => name.push(*byte),
        }
    }
    if name.is_empty() {
        return b"%".to_vec();
    }
    if name.len() > NAME_MAX {
        let hash = Hash::of(&[text]).to_string();
        name.truncate(NAME_MAX - 2 - hash.len());
        // An escape cut in two would make another text's name possible; `%~` occurs in none that is not cut.
        while name[name.len() - 2..].contains(&b'%') {
            name.pop();
        }
        name.extend_from_slice(b"%~");
        name.extend_from_slice(hash.as_bytes());
    }
    name
}

/// `2026-11-20T090000Z`: UTC, without colons, which break rsync and `SNAPSHOT:PATH`.
pub fn time_name(time: Time) -> String {
    let (days, second) = (time.secs.div_euclid(86_400), time.secs.rem_euclid(86_400));
    // Days since 0000-03-01 in the proleptic Gregorian calendar, whose years then end with the leap day; 400 years have
    // 146,097 days. i128 because a time may be any i64.
    let days = i128::from(days) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31, 30, 31, 30, 31 days, again and again: 153 in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests;
