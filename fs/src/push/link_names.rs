//! Which names the inodes with several names have: what a push that follows another must know of them.
//!
//! A change through one name of an inode is a change of all its names, but only the one is reported. A walk through the
//! whole source meets every name that the snapshot includes; from then on, names come and go only by changes that are
//! reported. So the names of an inode are known as long as its number of links is what they explain.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bkfs_store::base::id::HardLinkGroup;

use crate::{
    changes::{ChangeSet, Changes, Scope},
    metadata::Stat,
    walk::DirPath,
};

/// Names that are kept, at about 150 bytes each. Of more, none are kept.
const NAMES_MAX: usize = 250_000;

/// An inode, by device and number. Device numbers stay the same while nothing is mounted or unmounted.
type Inode = (u64, u64);

/// A name of an inode.
#[derive(Debug, Clone)]
struct LinkName {
    dir: Arc<DirPath>,
    name: Box<[u8]>,
}

#[derive(Debug, Clone, Default)]
struct Linked {
    names: Vec<LinkName>,
    group: Option<HardLinkGroup>,
    /// How many links the inode has.
    links: u32,
    /// How many of them are not in the snapshot.
    outside: u32,
}

/// What a push that follows another lacks.
#[derive(Debug)]
pub enum Missed {
    /// Nothing.
    Nothing,
    /// It must look at these changes as well.
    Names(ChangeSet),
    /// It must look at everything.
    Everything,
}

/// The names of all inodes that have several.
#[derive(Debug, Default)]
pub struct LinkNames {
    inodes: HashMap<Inode, Linked>,
    /// Whether there are more names than are kept, so that none are.
    is_overfull: bool,
    round: Round,
}

/// What the present round of a push found.
#[derive(Debug, Default)]
struct Round {
    is_whole: bool,
    /// The inodes all of whose names it looks at.
    covered: HashSet<Inode>,
    met: HashMap<Inode, Linked>,
    names: usize,
    /// Whether it met a link whose other names are not known.
    is_lost: bool,
}

impl LinkNames {
    /// Begins a round that looks at everything.
    pub fn begin_whole(&mut self) {
        self.round = Round { is_whole: true, ..Round::default() };
    }

    /// Begins a round that looks at `changes`, and adds all names of the inodes that have one of their names there.
    pub fn begin(&mut self, changes: &mut ChangeSet) {
        let covers = |tree: &Changes, name: &LinkName| tree.covers(split(&name.dir.entry(&name.name)));
        let touched = self.inodes.iter().filter(|(_, linked)| linked.names.iter().any(|n| covers(changes.root(), n)));
        let covered: HashSet<Inode> = touched.map(|(inode, _)| *inode).collect();
        for name in covered.iter().flat_map(|inode| &self.inodes[inode].names) {
            changes.note(&name.dir.entry(&name.name), Scope::Named);
        }
        self.round = Round { covered, ..Round::default() };
    }

    /// The groups of inodes that the round does not look at: no other inode may get them.
    pub fn reserved(&self) -> impl Iterator<Item = HardLinkGroup> + '_ {
        let unseen =
            self.inodes.iter().filter(|(inode, _)| !self.round.is_whole && !self.round.covered.contains(*inode));
        unseen.filter_map(|(_, linked)| linked.group)
    }

    /// Whether the round must tell when it passes a name of an inode that had several: [`LinkNames::lose`].
    pub fn is_blind(&self) -> bool {
        self.is_overfull && !self.round.is_whole
    }

    /// Notes that a name of an inode with several was changed, and its others are not known.
    pub fn lose(&mut self) {
        self.round.is_lost = true;
    }

    /// Notes a name that the round met, of an inode that has several.
    pub fn meet(&mut self, dir: &Arc<DirPath>, name: &[u8], stat: &Stat, group: Option<HardLinkGroup>) {
        if self.is_blind() {
            self.lose();
        }
        if self.round.names > NAMES_MAX {
            return;
        }
        self.round.names += 1;
        let linked = self.round.met.entry((stat.device, stat.inode)).or_default();
        linked.names.push(LinkName { dir: dir.clone(), name: name.into() });
        linked.group = group.or(linked.group);
        linked.links = stat.links;
    }

    /// Tells what the round did not look at, after it ended.
    pub fn missed(&self) -> Missed {
        let round = &self.round;
        if round.is_whole {
            return Missed::Nothing;
        }
        if round.is_lost || round.names > NAMES_MAX {
            return Missed::Everything;
        }
        let mut names = ChangeSet::new();
        for (inode, met) in &round.met {
            let known = self.inodes.get(inode);
            let is_explained = |names: usize| met.links as usize <= names + known.map_or(0, |k| k.outside) as usize;
            match known.filter(|_| !round.covered.contains(inode)) {
                Some(unseen) => {
                    unseen.names.iter().for_each(|name| names.note(&name.dir.entry(&name.name), Scope::Named));
                }
                None if is_explained(met.names.len()) => {}
                None => return Missed::Everything,
            }
        }
        if names.is_empty() { Missed::Nothing } else { Missed::Names(names) }
    }

    /// Remembers what the round found, after its snapshot was committed.
    pub fn keep(&mut self) {
        let round = std::mem::take(&mut self.round);
        if round.is_whole {
            self.inodes.clear();
            self.is_overfull = round.names > NAMES_MAX;
        }
        for inode in round.covered.iter().filter(|inode| !round.met.contains_key(*inode)) {
            self.inodes.remove(inode);
        }
        for (inode, mut met) in round.met {
            let outside = match round.is_whole {
                true => met.links.saturating_sub(u32::try_from(met.names.len()).unwrap_or(u32::MAX)),
                false => self.inodes.get(&inode).map_or(0, |known| known.outside),
            };
            met.outside = outside;
            self.inodes.insert(inode, met);
        }
        let names: usize = self.inodes.values().map(|linked| linked.names.len()).sum();
        self.is_overfull |= names > NAMES_MAX;
        if self.is_overfull {
            self.inodes = HashMap::new();
        }
    }
}

fn split(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}
