//! The paths that the user names, as one small tree of what the snapshot includes.
//!
//! Without a base, paths become absolute, and their ancestors become directories of the snapshot. With a base, paths
//! are relative to it and stay below it. Overlapping paths merge. Naming the base itself includes all of it.
//!
//! A path means what it means to the system: `..` is the parent of the folder that a link leads to. A link that the
//! snapshot includes as a link cannot be a folder of it as well, so a path through such a link is taken where it leads.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use crate::metadata;

/// Links that one path may lead through: as many as the system allows.
const LINKS_MAX: usize = 40;

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
    /// Works out the roots. Fails if a path leaves the base or goes up from what is no folder, or if there is no path.
    pub fn new(base: Option<&Path>, paths: &[PathBuf]) -> io::Result<Self> {
        if paths.is_empty() {
            return Err(wrong("no path is given".to_owned()));
        }
        Self::with(base, paths)
    }

    /// The roots of a push that names no path: the snapshot has its root, and nothing from a file system below it.
    pub fn without_paths(base: Option<&Path>) -> io::Result<Self> {
        Self::with(base, &[])
    }

    fn with(base: Option<&Path>, paths: &[PathBuf]) -> io::Result<Self> {
        let resolver = Resolver::new(base)?;
        let mut named = paths.iter().map(|path| resolver.resolve(path)).collect::<io::Result<Vec<_>>>()?;
        for at in 0..named.len() {
            named[at].names = resolver.around_links(&named, at);
        }
        let mut roots = Self { base: resolver.base.clone(), plan: Plan::default(), paths: Vec::new() };
        for path in named {
            let mut plan = &mut roots.plan;
            for name in &path.names {
                plan = plan.children.entry(name.clone()).or_default();
            }
            plan.is_included = true;
            plan.follow |= path.follow;
            let mut recorded = if resolver.has_base { Vec::new() } else { b"/".to_vec() };
            recorded.extend(path.names.join(&b'/'));
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

/// A path that the user named.
#[derive(Debug, Clone)]
struct Named {
    /// The names below the base.
    names: Vec<Vec<u8>>,
    /// See [`Plan::follow`].
    follow: bool,
}

/// Finds where paths lead.
struct Resolver {
    base: PathBuf,
    has_base: bool,
    /// Where relative paths begin.
    working: PathBuf,
}

impl Resolver {
    fn new(base: Option<&Path>) -> io::Result<Self> {
        let has_base = base.is_some();
        let working = match base {
            Some(base) => std::path::absolute(base)?,
            None => std::env::current_dir()?,
        };
        let base = if has_base { working.clone() } else { PathBuf::from("/") };
        Ok(Self { base, has_base, working })
    }

    fn resolve(&self, path: &Path) -> io::Result<Named> {
        let base = self.base.display();
        let below = self.working.join(path);
        let below = below
            .strip_prefix(&self.base)
            .map_err(|_| wrong(format!("{} is not below the base folder {base}", path.display())))?;
        let mut names: Vec<Vec<u8>> = Vec::new();
        for component in below.components() {
            match component {
                Component::Normal(name) => names.push(name.as_bytes().to_vec()),
                Component::ParentDir if names.is_empty() && self.has_base => {
                    return Err(wrong(format!("{} leads out of the base folder {base}", path.display())));
                }
                Component::ParentDir => self.go_up(&mut names, path)?,
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        let bytes = path.as_os_str().as_bytes();
        Ok(Named { names, follow: bytes.ends_with(b"/") || bytes.ends_with(b"/.") })
    }

    /// Goes from a folder to its parent. From a link, that is the parent of the folder that it leads to.
    fn go_up(&self, names: &mut Vec<Vec<u8>>, path: &Path) -> io::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let here = self.path_of(names);
        let blocked = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: cannot go up from {}: {error}", path.display(), here.display()))
        };
        if !here.metadata().map_err(blocked)?.is_dir() {
            return Err(blocked(io::ErrorKind::NotADirectory.into()));
        }
        if here.is_symlink() {
            *names = self.behind_link(names).map_err(blocked)?.ok_or_else(|| {
                wrong(format!("{} leads out of the base folder {}", path.display(), self.base.display()))
            })?;
        }
        names.pop();
        Ok(())
    }

    /// The names of one of the paths, taken around the links that the snapshot includes as links. If that leads
    /// nowhere, the path stays as it is, and the walk reports it.
    fn around_links(&self, named: &[Named], at: usize) -> Vec<Vec<u8>> {
        let mut names = named[at].names.clone();
        for _ in 0..LINKS_MAX {
            let link_len = (1..names.len())
                .find(|&len| is_included_as_itself(named, &names[..len]) && self.path_of(&names[..len]).is_symlink());
            let Some(len) = link_len else { break };
            match self.behind_link(&names[..len]) {
                Ok(Some(behind)) => names.splice(..len, behind).for_each(drop),
                Ok(None) | Err(_) => return named[at].names.clone(),
            }
        }
        names
    }

    /// Where a link leads: the names below the base, or nothing if that is elsewhere.
    fn behind_link(&self, names: &[Vec<u8>]) -> io::Result<Option<Vec<Vec<u8>>>> {
        let target = self.path_of(names).canonicalize()?;
        let base = self.base.canonicalize()?;
        let Ok(below) = target.strip_prefix(&base) else { return Ok(None) };
        Ok(Some(below.iter().map(|name| name.as_bytes().to_vec()).collect()))
    }

    fn path_of(&self, names: &[Vec<u8>]) -> PathBuf {
        self.base.join(OsStr::from_bytes(&names.join(&b'/')))
    }
}

/// Whether the snapshot includes an entry as what it is: it is named without a slash at its end, or it is somewhere
/// below a folder that is named.
fn is_included_as_itself(named: &[Named], names: &[Vec<u8>]) -> bool {
    let followed = named.iter().any(|path| path.follow && path.names == names);
    !followed && named.iter().any(|path| names.starts_with(&path.names))
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
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
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("y")).unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        let base = dir.path().to_str().unwrap();
        let r = roots(Some(base), &["x", "./y/../z", &format!("{base}/w")]).unwrap();
        assert_eq!(r.paths, [b"x".to_vec(), b"z".to_vec(), b"w".to_vec()]);
        let r = roots(Some(base), &["."]).unwrap();
        assert!(r.plan.is_included && r.paths == [b".".to_vec()]);
        let refused = |paths: &[&str]| roots(Some(base), paths).unwrap_err().to_string();
        assert!(refused(&["../x"]).contains("../x leads out of the base folder"));
        assert!(refused(&["y/../../x"]).contains("leads out of the base folder"));
        assert!(refused(&["/elsewhere"]).contains("/elsewhere is not below the base folder"));
        assert!(refused(&["none/../x"]).contains("cannot go up from"), "{}", refused(&["none/../x"]));
        assert!(refused(&["f/../x"]).contains("cannot go up from"));
        assert!(refused(&[]).contains("no path is given"));
    }

    /// A folder with `real/sub/deep`, and links to it.
    fn linked() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("real/sub/deep")).unwrap();
        for (link, target) in [("d", "real/sub/deep"), ("link", "real"), ("second", "link/sub"), ("out", "/")] {
            std::os::unix::fs::symlink(target, dir.path().join(link)).unwrap();
        }
        dir
    }

    #[test]
    fn going_up_from_a_link_leads_to_the_parent_of_its_target() {
        let dir = linked();
        let base = dir.path().to_str().unwrap();
        let r = roots(Some(base), &["d/../f", "link/sub/../g", "d/../.."]).unwrap();
        assert_eq!(r.paths, [b"real/sub/f".to_vec(), b"link/g".to_vec(), b"real".to_vec()]);
        assert_eq!(roots(Some(base), &["d/../../.."]).unwrap().paths, [b".".to_vec()]);
        assert!(roots(Some(base), &["out/../f"]).unwrap_err().to_string().contains("leads out"));
        assert!(roots(Some(base), &["d/../../../.."]).unwrap_err().to_string().contains("leads out"));
        let absolute = roots(None, &[&format!("{base}/d/../f")]).unwrap();
        let expected = dir.path().canonicalize().unwrap().join("real/sub/f");
        assert_eq!(absolute.paths, [expected.as_os_str().as_bytes().to_vec()]);
    }

    #[test]
    fn a_path_through_an_included_link_is_taken_where_it_leads() {
        let dir = linked();
        let base = dir.path().to_str().unwrap();
        let paths = |paths: &[&str]| {
            let paths = roots(Some(base), paths).unwrap().paths;
            paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(paths(&["link", "link/sub"]), ["link", "real/sub"]);
        assert_eq!(paths(&["link/sub", "link"]), ["real/sub", "link"]);
        assert_eq!(paths(&[".", "link/sub", "second/deep"]), [".", "real/sub", "real/sub/deep"]);
        // A link that is followed, or that only leads to a named path, is a folder of the snapshot.
        assert_eq!(paths(&["link/", "link/sub"]), ["link", "link/sub"]);
        assert_eq!(paths(&["link/sub"]), ["link/sub"]);
        // Out of the base there is nothing to take.
        assert_eq!(paths(&["out", "out/etc"]), ["out", "out/etc"]);
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
