//! Where the source is in the file system, and where in the snapshot.

use std::{
    collections::HashSet,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;

use crate::walk::{Plan, SourceDir};

/// The folders that the user named, and those on the way to them.
pub struct Sources {
    /// Folders whose changes are nobody's concern, by where they are.
    own: Vec<PathBuf>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    folders: Vec<SourceFolder>,
    /// The paths in the snapshot that the user named.
    named: HashSet<Vec<u8>>,
    /// The paths in the snapshot of folders whose changes are nobody's concern.
    own: Vec<Vec<u8>>,
}

/// A folder of the source that the user named, or that is on the way to one.
#[derive(Debug, Clone)]
pub struct SourceFolder {
    /// Where it is, without links on the way.
    pub real: PathBuf,
    /// Its path below the snapshot's root.
    pub path: Vec<u8>,
    /// What is included, if the folder is only on the way to it.
    pub plan: Option<Arc<Plan>>,
}

impl Sources {
    /// Nothing is known yet. Changes in the folders `own` are nobody's concern.
    pub fn new(own: &[PathBuf]) -> Self {
        Self { own: own.iter().filter_map(|path| path.canonicalize().ok()).collect(), known: RwLock::default() }
    }

    /// Notes a folder if the user named it, or something in it.
    pub fn entering(&self, dir: &SourceDir) {
        if !dir.is_planned() {
            return;
        }
        let Some(real) = real_path(dir.as_fd()) else { return };
        let folder = SourceFolder { real, path: dir.path.to_bytes(), plan: dir.plan_on_the_way() };
        let mut known = self.known.write();
        known.folders.retain(|known| known.path != folder.path);
        if folder.plan.is_none() {
            known.named.insert(folder.path.clone());
        }
        for (name, _) in folder.plan.iter().flat_map(|plan| &plan.children).filter(|(_, plan)| plan.is_included) {
            known.named.insert(join(&folder.path, name));
        }
        known.folders.push(folder);
        drop(known);
        let own = self.own.iter().flat_map(|own| self.find(own, None)).collect();
        self.known.write().own = own;
    }

    /// Whether the entry at a path of the snapshot is, or is in, a folder whose changes are nobody's concern.
    pub fn is_own(&self, path: &[u8]) -> bool {
        let is_in = |own: &Vec<u8>| {
            path.strip_prefix(own.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.known.read().own.iter().any(is_in)
    }

    /// Whether the user named the entry at a path of the snapshot: no rule excludes it.
    pub fn is_named(&self, path: &[u8]) -> bool {
        self.known.read().named.contains(path)
    }

    /// The paths in the snapshot of an entry of the folder at `real`. There may be several: the same folder may be
    /// named by several ways.
    pub fn find(&self, real: &Path, name: Option<&[u8]>) -> Vec<Vec<u8>> {
        let known = self.known.read();
        let find = |folder: &SourceFolder| {
            let below = real.strip_prefix(&folder.real).ok()?;
            let path = join(&folder.path, below.as_os_str().as_bytes());
            match (&folder.plan, name) {
                (None, Some(name)) => Some(join(&path, name)),
                (None, None) => Some(path),
                (Some(plan), Some(name)) if below.as_os_str().is_empty() => {
                    plan.children.contains_key(name).then(|| join(&path, name))
                }
                (Some(_), _) => None,
            }
        };
        known.folders.iter().filter_map(find).collect()
    }

    /// Whether a mount at a path hides or shows something of the source.
    pub fn is_affected_by_mount(&self, at: &Path) -> bool {
        self.known.read().folders.iter().any(|folder| match &folder.plan {
            None => at.starts_with(&folder.real) || folder.real.starts_with(at),
            Some(_) => folder.real.starts_with(at),
        })
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if folder.is_empty() || name.is_empty() { b"" } else { b"/" };
    [folder, slash, name].concat()
}

/// The path of an open folder, without links.
pub fn real_path(dir: BorrowedFd<'_>) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?;
    path.is_absolute().then_some(path)
}

/// Why changes in a folder are not reported, if its file system is one whose files others change, too.
pub fn why_silent(dir: BorrowedFd<'_>) -> Option<String> {
    // From linux/magic.h and the file systems' sources.
    const KINDS: &[(u32, &str)] = &[
        (0x6969, "NFS"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB"),
        (0x517b, "SMB"),
        (0x6573_5546, "FUSE"),
        (0x0102_1997, "9p"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x6b41_4653, "AFS"),
        (0x7461_636f, "OCFS2"),
        (0x0116_1970, "GFS2"),
        (0x0bd0_0bd0, "Lustre"),
        (0x9fa0, "proc"),
        (0x6265_6572, "sysfs"),
    ];
    let kind = rustix::fs::fstatfs(dir).ok()?.f_type as u32;
    let (_, name) = KINDS.iter().find(|(magic, _)| *magic == kind)?;
    Some(format!("the kernel does not report all changes on {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_where_they_are() {
        let sources = Sources::new(&[]);
        let mut plan = Plan::default();
        plan.children.insert(b"file".to_vec(), Plan { is_included: true, ..Plan::default() });
        sources.known.write().folders = vec![
            SourceFolder { real: "/data/x".into(), path: b"link/x".to_vec(), plan: None },
            SourceFolder { real: "/etc".into(), path: b"etc".to_vec(), plan: Some(Arc::new(plan)) },
        ];
        let find = |real: &str, name: &[u8]| sources.find(Path::new(real), Some(name));
        assert_eq!(find("/data/x", b"f"), [b"link/x/f".to_vec()]);
        assert_eq!(find("/data/x/y/z", b"f"), [b"link/x/y/z/f".to_vec()]);
        assert_eq!(sources.find(Path::new("/data/x/y"), None), [b"link/x/y".to_vec()]);
        assert_eq!(find("/etc", b"file"), [b"etc/file".to_vec()]);
        for (real, name) in [("/etc", &b"other"[..]), ("/etc/sub", b"file"), ("/data/xy", b"f"), ("/", b"data")] {
            assert!(find(real, name).is_empty(), "{real}");
        }
        let affected = |at: &str| sources.is_affected_by_mount(Path::new(at));
        assert!(affected("/data/x") && affected("/data/x/y") && affected("/data") && affected("/etc"));
        assert!(!affected("/var/lib/containers/1") && !affected("/etc/other") && !affected("/data/xy"));
    }
}
