//! A copy of a server's folder, made while the server runs, from which the server can be brought back elsewhere.
//!
//! Reading needs no lock, because of the order in which a store writes and the order in which this reads:
//!
//! 1. everything in the repositories except their logs. A pack that exists now is in the copy from here on, even if a
//!    prune removes it meanwhile;
//! 2. the logs, and the server's own log, identity and settings. A log only grows; a torn end is cut off when it is
//!    opened. What the copied log names was stored before it was logged;
//! 3. once more what is new in the repositories: what a push stored, and logged, since the first pass.
//!
//! A prune writes what it keeps before it removes anything. So what pass 1 did not find because it was removed is found
//! by pass 3, rewritten. What neither pass found is removed from the copy at the end. What only pass 1 found stays: a
//! prune has removed it since, and the copied log may still name it. The next backup removes it. Indexes are left out:
//! they are made again. So are reserves, which hold nothing. A second backup to the same folder copies what has
//! changed.

use std::{
    collections::HashSet,
    fs::{self, File, Metadata},
    io::ErrorKind,
    os::unix::fs::{MetadataExt, fchown},
    path::{Path, PathBuf},
};

use bkfs_store::{Error, Result};

use super::identity_files;

/// The server's own files. Those of the first row must be there; `server.toml` holds the settings of the program.
const NEEDED: [&str; 2] = ["identity", "log"];
const OPTIONAL: [&str; 3] = ["identity.2", "log.2", "server.toml"];
/// The folder of all accounts.
const ACCOUNTS: &str = "accounts";
/// The files of a repository's log.
const LOGS: [&str; 2] = ["log", "log.2"];
/// What is left out of a repository.
const LEFT_OUT: [&str; 2] = ["index", "reserve"];
/// How far below the folder of all accounts the files of a repository are.
const REPOSITORY_DEPTH: usize = 2;

/// What a backup has done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// Files that were copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were removed from the copy, because they are gone at the source.
    pub removed: u64,
}

/// Which files a pass is for.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    AllButLogs,
    Logs,
}

/// Copies a server's folder to another one, which must be empty or hold an earlier copy of the same server.
pub fn backup(data: &Path, copy: &Path) -> Result<BackupReport> {
    let identity = identity_files::read(data)?;
    check(data, copy, identity.fingerprint().to_string().as_str())?;
    fs::create_dir_all(copy).map_err(|e| Error::io(copy, e))?;
    let mut run = Run { data, copy, report: BackupReport::default() };
    // The identity comes first: it makes the folder recognisable as a copy of this server if the backup is interrupted.
    run.copy_file(Path::new(NEEDED[0]), true)?;
    let found = run.begin()?;
    run.finish(found)?;
    rustix::fs::syncfs(File::open(copy).map_err(|e| Error::io(copy, e))?).map_err(|e| Error::io(copy, e.into()))?;
    Ok(run.report)
}

/// Fails if the folder for the copy holds something else.
fn check(data: &Path, copy: &Path, fingerprint: &str) -> Result<()> {
    let refused = |why: String| Err(Error::Invalid(format!("cannot make a copy in {}: {why}", copy.display())));
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (data, at) = (real(data), real(copy));
    if at.starts_with(&data) || data.starts_with(&at) {
        return refused(format!("it and {} lie in one another", data.display()));
    }
    let is_empty = match fs::read_dir(copy) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::io(copy, e))?.next().is_none(),
    };
    match identity_files::read(copy) {
        Ok(identity) if identity.fingerprint().to_string() == fingerprint => Ok(()),
        Ok(_) => refused("it holds another server; name another folder".into()),
        Err(_) if is_empty => Ok(()),
        Err(_) => refused("it is neither empty nor an earlier copy; name another folder".into()),
    }
}

struct Run<'a> {
    data: &'a Path,
    copy: &'a Path,
    report: BackupReport,
}

impl Run<'_> {
    /// The first pass and the logs. Returns what the first pass found.
    fn begin(&mut self) -> Result<HashSet<PathBuf>> {
        let found = self.pass(Pass::AllButLogs)?;
        self.pass(Pass::Logs)?;
        self.copy_file(Path::new(NEEDED[1]), true)?;
        OPTIONAL.iter().try_for_each(|name| self.copy_file(Path::new(name), false))?;
        Ok(found)
    }

    /// The last pass. Then removes what neither this pass nor the first one found.
    fn finish(&mut self, mut found: HashSet<PathBuf>) -> Result<()> {
        found.extend(self.pass(Pass::AllButLogs)?);
        self.remove_all_but(&found)
    }

    /// Copies the files of a pass. Returns all that are there, with the folders that lead to them.
    fn pass(&mut self, pass: Pass) -> Result<HashSet<PathBuf>> {
        let (mut found, mut folders) = (HashSet::new(), vec![(PathBuf::from(ACCOUNTS), 0)]);
        while let Some((folder, depth)) = folders.pop() {
            for (name, is_folder) in entries(&self.data.join(&folder))? {
                let path = folder.join(&name);
                let is_in_repository = depth == REPOSITORY_DEPTH;
                if name.to_string_lossy().starts_with('.')
                    || is_in_repository && LEFT_OUT.iter().any(|left| name == *left)
                {
                    continue;
                }
                if is_folder {
                    found.insert(path.clone());
                    folders.push((path, depth + 1));
                    continue;
                }
                let is_log = is_in_repository && LOGS.iter().any(|log| name == *log);
                if is_log == (pass == Pass::Logs) {
                    self.copy_file(&path, false)?;
                }
                found.insert(path);
            }
        }
        Ok(found)
    }

    /// Copies a file unless the copy has it already. A file that must be there is an error if it isn't.
    fn copy_file(&mut self, path: &Path, is_needed: bool) -> Result<()> {
        let (from, to) = (self.data.join(path), self.copy.join(path));
        let mut source = match File::open(&from) {
            Err(error) if error.kind() == ErrorKind::NotFound && !is_needed => return Ok(()),
            source => source.map_err(|e| Error::io(&from, e))?,
        };
        let meta = source.metadata().map_err(|e| Error::io(&from, e))?;
        if fs::metadata(&to).is_ok_and(|copied| is_same(&meta, &copied)) {
            return Ok(());
        }
        // A file appears under its name when it is complete.
        let parent = to.parent().unwrap_or(self.copy);
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        let part = parent.join(".part");
        let written = (|| {
            let _ = fs::remove_file(&part);
            let mut file = {
                use std::os::unix::fs::OpenOptionsExt;
                File::options().write(true).create_new(true).mode(meta.mode() & 0o777).open(&part)?
            };
            let bytes = std::io::copy(&mut source, &mut file)?;
            if rustix::process::geteuid().is_root() {
                fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
            }
            file.set_modified(meta.modified()?)?;
            file.sync_all()?;
            fs::rename(&part, &to)?;
            Ok(bytes)
        })();
        self.report.bytes += written.map_err(|e| Error::io(&to, e))?;
        self.report.files += 1;
        Ok(())
    }

    /// Removes from the copied repositories what is not in the set.
    fn remove_all_but(&mut self, found: &HashSet<PathBuf>) -> Result<()> {
        let mut folders = vec![PathBuf::from(ACCOUNTS)];
        while let Some(folder) = folders.pop() {
            for (name, is_folder) in entries(&self.copy.join(&folder))? {
                let path = folder.join(name);
                let at = self.copy.join(&path);
                match (found.contains(&path), is_folder) {
                    (true, true) => folders.push(path),
                    (true, false) => {}
                    (false, true) => fs::remove_dir_all(&at).map_err(|e| Error::io(&at, e))?,
                    (false, false) => {
                        fs::remove_file(&at).map_err(|e| Error::io(&at, e))?;
                        self.report.removed += 1;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a file was copied as it is: a copy has the times of its source, and most files never change.
fn is_same(source: &Metadata, copied: &Metadata) -> bool {
    source.len() == copied.len() && (source.mtime(), source.mtime_nsec()) == (copied.mtime(), copied.mtime_nsec())
}

/// The entries of a folder, with whether each is a folder. A folder that is gone has none.
fn entries(folder: &Path) -> Result<Vec<(std::ffi::OsString, bool)>> {
    let read = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|e| Error::io(folder, e))?,
    };
    let mut found = Vec::new();
    for entry in read {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let kind = entry.file_type().map_err(|e| Error::io(folder, e))?;
        if kind.is_dir() || kind.is_file() {
            found.push((entry.file_name(), kind.is_dir()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_meanwhile_stays_until_the_next_backup() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
        super::super::operator::init(&data, "127.0.0.1:1", 0).unwrap();
        let packs = Path::new("accounts/alice/main/packs/00");
        fs::create_dir_all(data.join(packs)).unwrap();
        let [old, new] = ["old", "new"].map(|name| packs.join(name));
        fs::write(data.join(&old), b"named by the log that is copied").unwrap();
        let there = |path: &Path| copy.join(path).exists();
        {
            let mut run = Run { data: &data, copy: &copy, report: BackupReport::default() };
            run.copy_file(Path::new(NEEDED[0]), true).unwrap();
            let found = run.begin().unwrap();
            fs::write(data.join(&new), b"written by a prune").unwrap();
            fs::remove_file(data.join(&old)).unwrap();
            run.finish(found).unwrap();
        }
        assert!(there(&old) && there(&new));
        assert_eq!(backup(&data, &copy).unwrap().removed, 1);
        assert!(!there(&old) && there(&new));
    }
}
