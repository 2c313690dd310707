//! Manifests: everything about a tree that is compared, and random changes to trees.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::model::Random;

/// One entry, as it must be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    mode: u32,
    mtime: (i64, i64),
    /// Length and hash of a file's contents, or the target of a link.
    what: String,
    /// The first name of the same file, if it has several.
    same_as: Option<PathBuf>,
}

/// The entries of a tree by their paths.
pub type Manifest = BTreeMap<PathBuf, Item>;

/// Returns the manifest of a folder.
pub fn manifest(root: &Path) -> io::Result<Manifest> {
    let (mut found, mut folders, mut links) = (Manifest::new(), vec![PathBuf::new()], HashMap::new());
    while let Some(folder) = folders.pop() {
        let mut names =
            fs::read_dir(root.join(&folder))?.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let path = folder.join(name);
            let full = root.join(&path);
            let meta = full.symlink_metadata()?;
            let what = if meta.is_dir() {
                folders.push(path.clone());
                String::new()
            } else if meta.is_symlink() {
                fs::read_link(&full)?.display().to_string()
            } else {
                let bytes = fs::read(&full)?;
                format!("{} {}", bytes.len(), blake3::hash(&bytes).to_hex())
            };
            if meta.is_file() && meta.nlink() > 1 {
                links.entry(meta.ino()).or_insert_with(Vec::new).push(path.clone());
            }
            let item = Item { mode: meta.mode(), mtime: (meta.mtime(), meta.mtime_nsec()), what, same_as: None };
            found.insert(path, item);
        }
    }
    for mut names in links.into_values() {
        names.sort();
        for name in &names {
            found.get_mut(name).unwrap().same_as = Some(names[0].clone());
        }
    }
    Ok(found)
}

/// Describes the differences between two manifests.
pub fn differences(expected: &Manifest, found: &Manifest) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, item) in expected {
        match found.get(path) {
            Some(other) if other == item => {}
            other => wrong.push(format!("{path:?}: {item:?} became {other:?}")),
        }
    }
    wrong.extend(
        found.keys().filter(|path| !expected.contains_key(*path)).map(|path| format!("{path:?} is an extra entry")),
    );
    wrong.truncate(5);
    wrong
}

/// Changes a tree a little: edits, new files and folders, renames, removals, links and modes. `others` are the trees of
/// other machines, from which files may be copied.
pub fn change(root: &Path, others: &[PathBuf], random: &mut Random) {
    fs::create_dir_all(root).unwrap();
    for _ in 0..1 + random.below(6) {
        let found = manifest(root).unwrap();
        let pick = |random: &mut Random, dir: bool| {
            let fits = |path: &&PathBuf| {
                root.join(path).symlink_metadata().is_ok_and(|m| if dir { m.is_dir() } else { m.is_file() })
            };
            let paths: Vec<PathBuf> = found.keys().filter(fits).cloned().collect();
            random.choose(&paths).map(|path| root.join(path))
        };
        let folder = pick(random, true).filter(|_| random.below(2) == 0).unwrap_or_else(|| root.to_owned());
        let new = folder.join(format!("n{}", random.below(30)));
        let is_free = new.symlink_metadata().is_err();
        match random.below(11) {
            0..4 if is_free => fs::write(&new, contents(random)).unwrap(),
            4 if is_free => fs::create_dir(&new).unwrap(),
            5 if is_free => symlink(format!("target {}", random.below(9)), &new).unwrap(),
            6 if is_free => {
                if let Some(file) = pick(random, false) {
                    fs::hard_link(file, &new).unwrap();
                }
            }
            7 if is_free => {
                if let Some(file) = pick(random, false) {
                    fs::rename(file, &new).unwrap();
                }
            }
            8 => {
                if let Some(file) = pick(random, false) {
                    fs::remove_file(file).unwrap();
                }
            }
            9 if is_free => copy_from(others, &new, random),
            _ => {
                if let Some(file) = pick(random, false) {
                    // Insert a byte somewhere in the middle, as programs do.
                    let mut bytes = fs::read(&file).unwrap();
                    let at = random.below(bytes.len() as u64 + 1) as usize;
                    bytes.splice(at..at, [random.next() as u8]);
                    fs::write(&file, bytes).unwrap();
                    fs::set_permissions(&file, fs::Permissions::from_mode(0o600 | random.below(0o100) as u32)).unwrap();
                }
            }
        }
    }
}

/// Returns the contents of a file: mostly small, some that compress well, and some of several chunks.
fn contents(random: &mut Random) -> Vec<u8> {
    let len = match random.below(5) {
        0 => random.below(200),
        1 => 200_000 + random.below(600_000),
        _ => random.below(60_000),
    };
    match random.below(3) {
        0 => format!("line {}\n", random.below(5)).repeat(len as usize / 7 + 1).into_bytes(),
        _ => crate::noise(random.below(40), len as usize),
    }
}

/// Copies a file from another machine, which may be changing it.
fn copy_from(others: &[PathBuf], new: &Path, random: &mut Random) {
    let Some(other) = random.choose(others) else { return };
    let entries: Vec<PathBuf> = fs::read_dir(other).into_iter().flatten().flatten().map(|e| e.path()).collect();
    if let Some(path) = random.choose(&entries)
        && path.symlink_metadata().is_ok_and(|meta| meta.is_file())
        && fs::copy(path, new).is_err()
    {
        let _ = fs::remove_file(new);
    }
}
