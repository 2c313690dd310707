//! Walking prepared folders: what is found, what is excluded, and what cannot be read.

use std::{
    ffi::OsStr,
    fs,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
};

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};

use super::{walker::BATCH, *};
use crate::exclude::ExcludeOptions;

#[derive(Default)]
struct Reported(Mutex<Vec<(PathBuf, io::ErrorKind)>>);

impl Problems for Reported {
    fn problem(&self, path: PathBuf, error: io::Error) {
        self.0.lock().push((path, error.kind()));
    }
}

/// All entries in the order of the walk.
fn walk(base: Option<&Path>, paths: &[PathBuf], options: &ExcludeOptions) -> (Vec<(Vec<u8>, u64)>, Arc<Reported>) {
    let reported = Arc::new(Reported::default());
    let roots = Roots::new(base, paths).unwrap();
    let (mut walk, root, _) = Walk::start(&roots, Excludes::new(options).unwrap(), reported.clone(), [0; 16]).unwrap();
    let mut found = Vec::new();
    let mut stack = vec![walk.take(&root).unwrap()];
    while let Some(top) = stack.last_mut() {
        match walk.next(top) {
            None => drop(stack.pop()),
            Some((entry, task)) => {
                found.push((top.dir.path.entry(&entry.name), entry.stat.inode));
                if let Some(task) = task {
                    match walk.take(&task) {
                        Ok(listed) => stack.push(listed),
                        Err(error) => reported.problem(base.unwrap_or(Path::new("/")).join("?"), error),
                    }
                }
            }
        }
    }
    (found, reported)
}

fn names(found: &[(Vec<u8>, u64)]) -> Vec<String> {
    found.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect()
}

/// The model: one thread, recursion, whole paths.
fn model(dir: &Path, prefix: &[u8], out: &mut Vec<(Vec<u8>, u64)>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    entries.sort();
    for name in entries {
        let path = dir.join(&name);
        let mut whole = prefix.to_vec();
        whole.extend_from_slice(name.as_bytes());
        let meta = fs::symlink_metadata(&path).unwrap();
        out.push((whole.clone(), meta.ino()));
        if meta.is_dir() {
            whole.push(b'/');
            model(&path, &whole, out);
        }
    }
}

fn here() -> Vec<PathBuf> {
    vec![".".into()]
}

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, b"x").unwrap();
}

#[test]
fn a_walk_finds_what_a_plain_recursion_finds() {
    let dir = tempfile::tempdir().unwrap();
    for a in 0..12 {
        for b in 0..8 {
            for c in 0..6 {
                touch(&dir.path().join(format!("d{a}/e{b}/f{c}")));
                touch(&dir.path().join(format!("d{a}/e{b}.x/g{c}")));
            }
        }
    }
    touch(&dir.path().join(OsStr::from_bytes(b"odd \xff\xfe\n name")));
    fs::create_dir(dir.path().join("empty")).unwrap();
    std::os::unix::fs::symlink("d1", dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
    let mut expected = Vec::new();
    model(dir.path(), b"", &mut expected);
    let (found, reported) = walk(Some(dir.path()), &here(), &ExcludeOptions::default());
    assert_eq!(found, expected);
    assert!(reported.0.lock().is_empty());
}

#[test]
fn a_directory_of_many_entries_comes_in_batches() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..BATCH * 2 + 10 {
        fs::write(dir.path().join(format!("{}", i * 7919 % 100_003)), b"").unwrap();
    }
    touch(&dir.path().join("500/in"));
    touch(&dir.path().join("zz/in"));
    let mut expected = Vec::new();
    model(dir.path(), b"", &mut expected);
    let (found, _) = walk(Some(dir.path()), &here(), &ExcludeOptions::default());
    assert_eq!(found, expected);
    let none = ExcludeOptions { patterns: vec!["*".to_owned()], ..Default::default() };
    assert!(walk(Some(dir.path()), &here(), &none).0.is_empty());
}

#[test]
fn a_folder_below_the_limit_of_depth_is_reported_and_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut at: OwnedFd = fs::File::open(dir.path()).unwrap().into();
    for _ in 0..walker::DEPTH_MAX + 1 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    }
    rustix::fs::openat(&at, "too deep", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    let (found, reported) = walk(Some(dir.path()), &here(), &ExcludeOptions::default());
    assert_eq!(found.len(), walker::DEPTH_MAX + 1, "the folder itself, but not what is in it");
    let reported = reported.0.lock();
    assert!(matches!(&reported[..], [(_, io::ErrorKind::InvalidInput)]), "{} problems", reported.len());
}

#[test]
fn paths_longer_than_the_systems_limit_are_walked() {
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(200);
    let mut at: OwnedFd = fs::File::open(dir.path()).unwrap().into();
    for _ in 0..40 {
        rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, name.as_str(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    }
    rustix::fs::openat(&at, "deep", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    let (found, reported) = walk(Some(dir.path()), &here(), &ExcludeOptions::default());
    assert_eq!(found.len(), 41);
    assert!(found[40].0.len() > libc::PATH_MAX as usize && found[40].0.ends_with(b"/deep"));
    assert!(reported.0.lock().is_empty());
}

#[test]
fn excluded_entries_are_not_found_unless_they_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    for path in ["a/x.o", "a/x.c", "cache/CACHEDIR.TAG", "cache/data", "fake/CACHEDIR.TAG", "fake/data", "no/.nobackup"]
    {
        touch(&at(path));
    }
    touch(&at("no/data/deep"));
    fs::write(at("cache/CACHEDIR.TAG"), b"Signature: 8a477f597d28d172789f06886806bc55\n# hm\n").unwrap();
    fs::write(at("big"), vec![0; 100]).unwrap();
    let options = ExcludeOptions {
        patterns: vec!["*.o".to_owned()],
        caches: true,
        if_present: vec![b".nobackup".to_vec()],
        larger_than: Some(99),
        ..Default::default()
    };
    let (found, _) = walk(Some(dir.path()), &here(), &options);
    let expected =
        ["a", "a/x.c", "cache", "cache/CACHEDIR.TAG", "fake", "fake/CACHEDIR.TAG", "fake/data", "no", "no/.nobackup"];
    assert_eq!(names(&found), expected);
    // A named path is included, whatever the rules say.
    let (found, _) = walk(Some(dir.path()), &["a/x.o".into(), "big".into()], &options);
    assert_eq!(names(&found), ["a", "a/x.o", "big"]);
    // What is excluded on the way to it stays excluded.
    let (found, _) = walk(Some(dir.path()), &[".".into(), "no/data/deep".into(), "cache".into()], &options);
    let more =
        |name: &'static str| if name == "no/.nobackup" { vec![name, "no/data", "no/data/deep"] } else { vec![name] };
    assert_eq!(names(&found), expected.iter().flat_map(|name| more(name)).collect::<Vec<_>>());
    touch(&at("no/data/other"));
    let options = ExcludeOptions { patterns: vec!["no".to_owned()], ..Default::default() };
    let (found, _) = walk(Some(dir.path()), &["fake".into(), ".".into(), "no/data/deep".into()], &options);
    assert_eq!(names(&found)[10..], ["no", "no/data", "no/data/deep"]);
}

#[test]
fn named_paths_add_only_their_ancestors() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    for path in ["a/b/c", "a/b/d", "a/e", "f/g"] {
        touch(&at(path));
    }
    std::os::unix::fs::symlink("a", at("link")).unwrap();
    let check = |paths: &[&str], expected: &[&str]| {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        let (found, reported) = walk(Some(dir.path()), &paths, &ExcludeOptions::default());
        assert_eq!(names(&found), expected, "{paths:?}");
        reported.0.lock().len()
    };
    assert_eq!(check(&["a/b/c", "f"], &["a", "a/b", "a/b/c", "f", "f/g"]), 0);
    // Overlapping paths merge.
    assert_eq!(check(&["a/b", "a", "a/b/c"], &["a", "a/b", "a/b/c", "a/b/d", "a/e"]), 0);
    assert_eq!(check(&["a", "a/b/c"], &["a", "a/b", "a/b/c", "a/b/d", "a/e"]), 0);
    assert_eq!(check(&["a/b/c", "."], &["a", "a/b", "a/b/c", "a/b/d", "a/e", "f", "f/g", "link"]), 0);
    // What a path through an included link leads to is included anyway here.
    assert_eq!(check(&[".", "link/e"], &["a", "a/b", "a/b/c", "a/b/d", "a/e", "f", "f/g", "link"]), 0);
    // A link stays a link, unless the path ends with a slash or leads through it.
    assert_eq!(check(&["link"], &["link"]), 0);
    assert_eq!(check(&["link/"], &["link", "link/b", "link/b/c", "link/b/d", "link/e"]), 0);
    assert_eq!(check(&["link/e"], &["link", "link/e"]), 0);
    // A missing path is a problem, whether or not the folder around it is included.
    assert_eq!(check(&["none/x", "f"], &["f", "f/g"]), 1);
    assert_eq!(check(&["f/none", "f"], &["f", "f/g"]), 1);
    // It is reported as it was named, not as its first missing part.
    let paths = ["none/x/y", "f", "f/g/in a file", "f/none/deep"].map(PathBuf::from);
    let (_, reported) = walk(Some(dir.path()), &paths, &ExcludeOptions::default());
    let mut reported = reported.0.lock().clone();
    reported.sort();
    let expected = [
        ("f/g/in a file", io::ErrorKind::NotADirectory),
        ("f/none/deep", io::ErrorKind::NotFound),
        ("none/x/y", io::ErrorKind::NotFound),
    ];
    assert_eq!(reported, expected.map(|(path, kind)| (dir.path().join(path), kind)));
    // Without a base, the same path has its real ancestors.
    let (found, _) = walk(None, &[at("f")], &ExcludeOptions::default());
    assert!(found[0].0.len() < found[1].0.len() && found.last().unwrap().0.ends_with(b"f/g"));
}
