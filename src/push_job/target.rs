//! The name of a series that nobody named.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::Result;
use bkfs_fs::walk::Roots;
use bkfs_store::base::{id::Hash, label::Label};

use super::JobStream;
use crate::{failure::Failure, output};

/// Returns the default target, `host:/path` or `host:/a,/b`. Paths are absolute, tidy and sorted, so that the same
/// command always means the same series. A name that would be too long is cut and ends in a hash of all of it.
///
/// Streams count only if there is nothing else: a dump that is added to a backup begins no new series.
pub(super) fn default(host: &str, base: Option<&Path>, paths: &[PathBuf], streams: &[JobStream]) -> Result<String> {
    let roots = match paths.is_empty() && !streams.is_empty() {
        true => Roots::without_paths(base),
        false => Roots::new(base, paths),
    };
    let mut roots = roots.map_err(|error| Failure::new(error.to_string(), "nothing was pushed"))?;
    if roots.paths.is_empty() {
        roots.paths = streams.iter().map(|stream| stream.name.as_os_str().as_bytes().to_vec()).collect();
    }
    let whole = |path: &Vec<u8>| {
        let path = roots.base.join(OsStr::from_bytes(path));
        output::name(path.components().collect::<PathBuf>().as_os_str().as_bytes())
    };
    let mut names: Vec<String> = roots.paths.iter().map(whole).collect();
    names.sort();
    let target = format!("{host}:{}", names.join(","));
    if target.len() <= Label::Target.len_max() {
        return Ok(target);
    }
    let hash = Hash::of(&[target.as_bytes()]).to_string();
    let end = target.floor_char_boundary(Label::Target.len_max() - hash.len() - 1);
    Ok(format!("{}~{hash}", &target[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push_job::Feed;

    #[test]
    fn the_default_target_does_not_depend_on_how_paths_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("a")).unwrap();
        let base = base.to_str().unwrap();
        let target = |folder: Option<&str>, paths: &[&str]| {
            default("h", folder.map(Path::new), &paths.iter().map(PathBuf::from).collect::<Vec<_>>(), &[]).unwrap()
        };
        let dump = [JobStream { name: "dumps/db.sql".into(), feed: Feed::Stdin }];
        assert_eq!(default("h", None, &[], &dump).unwrap(), "h:/dumps/db.sql");
        assert_eq!(default("h", Some(Path::new("/srv")), &[], &dump).unwrap(), "h:/srv/dumps/db.sql");
        assert_eq!(default("h", None, &["/a".into()], &dump).unwrap(), "h:/a");
        assert_eq!(target(None, &["/a/b/"]), "h:/a/b");
        assert_eq!(target(None, &[&format!("{base}/a/../b/./c")]), format!("h:{base}/b/c"));
        assert_eq!(target(Some(base), &["."]), format!("h:{base}"));
        assert_eq!(target(Some(base), &["x", "a", "x/"]), format!("h:{base}/a,{base}/x"));
        let many: Vec<String> = (0..999).map(|n| format!("/folder/{n}")).collect();
        let many = target(None, &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(Label::Target.check(&many).is_ok() && many.starts_with("h:/folder/0,"), "{many}");
    }
}
