//! A disk that is as pessimistic as any: what may be left of a run of file operations after the power failed.
//!
//! A file's contents are certain up to its last sync, and a folder's names up to the folder's last sync. Of all that
//! came later, each write may be there, in part or not at all, and each change of a name may be there or not.
//! Operations on one name keep their order, a rename within a folder is there as a whole or not at all, and nothing
//! else is ordered. A file whose name is certain can therefore be empty, cut off, or full of garbage, and a synced file
//! can be without a name. A file that was renamed into another folder can be in both folders or in neither: each folder
//! is responsible for its own names only.

#![allow(dead_code, reason = "the crash and the fault tests use different parts")]

use std::collections::{BTreeMap, BTreeSet};

/// A file operation. Paths are relative to the backend's folder, which is "".
#[derive(Debug, Clone)]
pub enum Op {
    MakeFolder(String),
    Create(String),
    Write {
        path: String,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        path: String,
        len: u64,
    },
    Sync(String),
    SyncFolder(String),
    Rename {
        from: String,
        to: String,
    },
    /// Another name for the same file.
    Link {
        from: String,
        to: String,
    },
    Remove(String),
}

/// How much survives of what is not certain.
pub enum Keep<'a> {
    Everything,
    Nothing,
    /// Each thing independently, with this chance in 100.
    Some(u64, &'a mut Random),
}

/// A folder's contents.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    pub folders: BTreeSet<String>,
    pub files: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    File(usize),
}

#[derive(Debug, Default, Clone)]
struct Folder {
    certain: BTreeMap<String, Entry>,
    now: BTreeMap<String, Entry>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Set(String, Entry),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default, Clone)]
struct File {
    certain: Vec<u8>,
    pending: Vec<Edit>,
}

#[derive(Debug, Clone)]
enum Edit {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// The disk.
#[derive(Debug, Clone)]
pub struct Disk {
    folders: BTreeMap<String, Folder>,
    files: Vec<File>,
}

impl Disk {
    /// With nothing but the backend's folder, which is certain.
    pub fn new() -> Self {
        Self { folders: BTreeMap::from([(String::new(), Folder::default())]), files: Vec::new() }
    }

    /// Applies an operation that succeeded when it was recorded.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::MakeFolder(path) => {
                self.change(path, |name| Change::Set(name, Entry::Folder));
                self.folders.insert(path.clone(), Folder::default());
            }
            Op::Create(path) => {
                self.files.push(File::default());
                let entry = Entry::File(self.files.len() - 1);
                self.change(path, |name| Change::Set(name, entry));
            }
            Op::Write { path, offset, bytes } => {
                self.file(path).pending.push(Edit::Write(*offset as usize, bytes.clone()));
            }
            Op::Truncate { path, len } => self.file(path).pending.push(Edit::Truncate(*len as usize)),
            Op::Sync(path) => {
                let file = self.file(path);
                for edit in std::mem::take(&mut file.pending) {
                    edit.apply(&mut file.certain, &mut Keep::Everything);
                }
            }
            Op::SyncFolder(path) => {
                let folder = self.folders.get_mut(path).expect("a folder that is there");
                folder.certain = folder.now.clone();
                folder.pending.clear();
            }
            Op::Rename { from, to } => {
                if split(from).0 == split(to).0 {
                    let to = split(to).1.to_owned();
                    self.change(from, |from| Change::Rename(from, to));
                } else {
                    let entry = self.entry(from);
                    self.change(to, |to| Change::Set(to, entry));
                    self.change(from, Change::Remove);
                }
            }
            Op::Link { from, to } => {
                let entry = self.entry(from);
                self.change(to, |to| Change::Set(to, entry));
            }
            Op::Remove(path) => self.change(path, Change::Remove),
        }
    }

    /// What may be found after a crash.
    pub fn image(&self, keep: &mut Keep) -> Image {
        let mut image = Image::default();
        self.collect("", keep, &mut image);
        image
    }

    fn collect(&self, path: &str, keep: &mut Keep, image: &mut Image) {
        let folder = &self.folders[path];
        let mut names = folder.certain.clone();
        let mut lost = BTreeSet::new();
        for change in &folder.pending {
            // If a change of a name is lost, later changes of the same name are lost, too.
            let touched = change.names();
            if touched.iter().any(|name| lost.contains(*name)) || !keep.it() {
                lost.extend(touched.into_iter().map(str::to_owned));
            } else {
                change.apply(&mut names);
            }
        }
        for (name, entry) in names {
            let below = if path.is_empty() { name } else { format!("{path}/{name}") };
            match entry {
                Entry::Folder => {
                    self.collect(&below, keep, image);
                    image.folders.insert(below);
                }
                Entry::File(number) => {
                    let file = &self.files[number];
                    let mut bytes = file.certain.clone();
                    file.pending.iter().for_each(|edit| edit.apply(&mut bytes, keep));
                    image.files.insert(below, bytes);
                }
            }
        }
    }

    fn change(&mut self, path: &str, change: impl FnOnce(String) -> Change) {
        let (folder, name) = split(path);
        let folder = self.folders.get_mut(folder).expect("a folder that is there");
        let change = change(name.to_owned());
        change.apply(&mut folder.now);
        folder.pending.push(change);
    }

    fn entry(&self, path: &str) -> Entry {
        let (folder, name) = split(path);
        match self.folders[folder].now.get(name) {
            Some(entry @ Entry::File(_)) => *entry,
            other => panic!("{path} is not a file: {other:?}"),
        }
    }

    fn file(&mut self, path: &str) -> &mut File {
        match self.entry(path) {
            Entry::File(number) => &mut self.files[number],
            Entry::Folder => panic!("{path} is a folder"),
        }
    }
}

impl Change {
    fn names(&self) -> Vec<&str> {
        match self {
            Change::Set(name, _) | Change::Remove(name) => vec![name],
            Change::Rename(from, to) => vec![from, to],
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, Entry>) {
        match self {
            Change::Set(name, entry) => drop(names.insert(name.clone(), *entry)),
            Change::Remove(name) => drop(names.remove(name)),
            Change::Rename(from, to) => {
                let entry = names.remove(from).expect("the name that is changed");
                names.insert(to.clone(), entry);
            }
        }
    }
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>, keep: &mut Keep) {
        match self {
            Edit::Truncate(len) => {
                if keep.it() {
                    bytes.resize(*len, 0);
                }
            }
            Edit::Write(at, new) => match keep {
                Keep::Nothing => {}
                Keep::Everything => write(bytes, *at, new),
                Keep::Some(chance, random) => tear(bytes, *at, new, *chance, random),
            },
        }
    }
}

/// A write that may be there in part: all of it, nothing, what precedes some byte, or single sectors; with or without
/// the new length. If the length is new and the bytes are not, they are zeros or garbage.
fn tear(bytes: &mut Vec<u8>, at: usize, new: &[u8], chance: u64, random: &mut Random) {
    const SECTOR: usize = 512;
    match random.below(4) {
        0 => write(bytes, at, &new[..random.below(new.len() as u64 + 1) as usize]),
        1 => {
            if random.below(2) == 0 && bytes.len() < at + new.len() {
                let rubbish = if random.below(2) == 0 { 0 } else { 0xa5 };
                bytes.resize(at + new.len(), rubbish);
            }
            let mut from = 0;
            while from < new.len() {
                // Sectors of the file, not of the write.
                let to = (from + SECTOR - (at + from) % SECTOR).min(new.len());
                if random.chance(chance) {
                    write(bytes, at + from, &new[from..to]);
                }
                from = to;
            }
        }
        _ if random.chance(chance) => write(bytes, at, new),
        _ => {}
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() && !new.is_empty() {
        bytes.resize(at + new.len(), 0);
    }
    if let Some(old) = bytes.get_mut(at..at + new.len()) {
        old.copy_from_slice(new);
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Keep<'_> {
    fn it(&mut self) -> bool {
        match self {
            Keep::Everything => true,
            Keep::Nothing => false,
            Keep::Some(chance, random) => random.chance(*chance),
        }
    }
}

/// Numbers that follow from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
