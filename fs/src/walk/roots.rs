//! The paths that the user names, as one small tree of what the snapshot includes.
//!
//! Without a base, paths become absolute, and their ancestors become directories of the snapshot. With a base, paths
//! are relative to it and stay below it. Overlapping paths merge. Naming the base itself includes all of it.

use std::{
    collections::BTreeMap,
    io,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use crate::metadata;

/// What the snapshot includes of a directory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whether it includes everything below, not only `children`.
    pub is_included: bool,
    /// Whether the path was written with a slash at its end: then a link stands for what it leads to.
    pub follow: bool,
    /// Entries that are named, and entries on the way to named ones.
    pub children: BTreeMap<Vec<u8>, Plan>,
}

impl Plan {
    /// The paths that the user named at and below an entry that has this plan and the path `path`. If the entry is
    /// missing, so are they.
    pub fn named(&self, path: PathBuf) -> Vec<PathBuf> {
        let mut named = Vec::new();
        let mut open = vec![(path, self)];
        while let Some((path, plan)) = open.pop() {
            open.extend(plan.children.iter().rev().map(|(name, child)| (path.join(metadata::display(name)), child)));
            if plan.is_included {
                named.push(path);
            }
        }
        named
    }
}

/// The roots of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The directory that becomes the snapshot's root.
    pub base: PathBuf,
    /// What the snapshot includes below it.
    pub plan: Plan,
    /// The paths as they are recorded: absolute, or relative to the base.
    pub paths: Vec<Vec<u8>>,
}

impl Roots {
    /// Works out the roots. Fails if a path leaves the base, or if there is no path.
    pub fn new(base: Option<&Path>, paths: &[PathBuf]) -> io::Result<Self> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        if paths.is_empty() {
            return Err(wrong("no path is given".to_owned()));
        }
        let working = match base {
            Some(_) => PathBuf::new(),
            None => std::env::current_dir()?,
        };
        let base = base.map(std::path::absolute).transpose()?;
        let base = base.as_deref();
        let mut roots = Self {
            base: base.map_or_else(|| PathBuf::from("/"), Path::to_path_buf),
            plan: Plan::default(),
            paths: Vec::new(),
        };
        for path in paths {
            let mut names: Vec<&[u8]> = Vec::new();
            let whole = match base {
                // An absolute path is accepted if it is below the base.
                Some(base) if path.is_absolute() => path
                    .strip_prefix(base)
                    .map_err(|_| wrong(format!("{} is not below the base folder {}", path.display(), base.display())))?
                    .to_path_buf(),
                _ => working.join(path),
            };
            for component in whole.components() {
                match component {
                    Component::Normal(name) => names.push(name.as_bytes()),
                    Component::ParentDir if names.pop().is_none() && base.is_some() => {
                        let base = roots.base.display();
                        return Err(wrong(format!("{} leads out of the base folder {base}", path.display())));
                    }
                    Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                }
            }
            let bytes = path.as_os_str().as_bytes();
            let follow = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
            let mut plan = &mut roots.plan;
            for name in &names {
                plan = plan.children.entry(name.to_vec()).or_default();
            }
            plan.is_included = true;
            plan.follow |= follow;
            let mut recorded = if base.is_none() { b"/".to_vec() } else { Vec::new() };
            recorded.extend(names.join(&b'/'));
            if recorded.is_empty() {
                recorded.push(b'.');
            }
            if !roots.paths.contains(&recorded) {
                roots.paths.push(recorded);
            }
        }
        Ok(roots)
    }
}

/// The path at which the file system that holds `path` is mounted. It identifies the file system: the device number
/// changes from boot to boot.
pub fn mount_root(path: &Path) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::MetadataExt;
    let path = path.canonicalize()?;
    let device = path.metadata()?.dev();
    let mut root = path.as_path();
    while let Some(parent) = root.parent() {
        if parent.metadata()?.dev() != device {
            break;
        }
        root = parent;
    }
    Ok(root.as_os_str().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(base: Option<&str>, paths: &[&str]) -> io::Result<Roots> {
        Roots::new(base.map(Path::new), &paths.iter().map(PathBuf::from).collect::<Vec<_>>())
    }

    #[test]
    fn absolute_paths_keep_their_ancestors() {
        let r = roots(None, &["/a/b", "/a/c/", "/a/b"]).unwrap();
        assert_eq!(r.paths, [b"/a/b".to_vec(), b"/a/c".to_vec()]);
        let a = &r.plan.children[&b"a"[..]];
        assert!(!r.plan.is_included && !a.is_included && a.children[&b"b"[..]].is_included);
        assert!(a.children[&b"c"[..]].follow && !a.children[&b"b"[..]].follow);
    }

    #[test]
    fn a_missing_ancestor_stands_for_the_paths_named_below_it() {
        let r = roots(None, &["/no/such/folder", "/no/b", "/no/such", "/else"]).unwrap();
        let named = r.plan.children[&b"no"[..]].named("/no".into());
        assert_eq!(named, ["/no/b", "/no/such", "/no/such/folder"].map(PathBuf::from));
    }

    #[test]
    fn a_base_makes_paths_relative() {
        let r = roots(Some("/base"), &["x", "./y/../z", "/base/w"]).unwrap();
        assert_eq!(r.paths, [b"x".to_vec(), b"z".to_vec(), b"w".to_vec()]);
        let r = roots(Some("/base"), &["."]).unwrap();
        assert!(r.plan.is_included && r.paths == [b".".to_vec()]);
        assert!(roots(Some("/base"), &["../x"]).is_err());
        assert!(roots(Some("/base"), &["/elsewhere"]).is_err());
        assert!(roots(None, &[]).is_err());
    }

    #[test]
    fn relative_paths_without_base_become_absolute() {
        let r = roots(None, &["."]).unwrap();
        let expected = std::env::current_dir().unwrap();
        assert_eq!(r.paths, [expected.as_os_str().as_bytes().to_vec()]);
    }

    #[test]
    fn the_mount_root_is_a_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let root = mount_root(dir.path()).unwrap();
        let path = dir.path().canonicalize().unwrap();
        assert!(path.as_os_str().as_bytes().starts_with(&root) && root.starts_with(b"/"));
        assert_eq!(mount_root(Path::new("/")).unwrap(), b"/");
    }
}
