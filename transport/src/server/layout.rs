//! Where a server keeps its repositories: `accounts/<account>/<name>/` in its data folder.

use std::path::{Path, PathBuf};

use bkfs_store::{Error, Result, repository};

use crate::url::Name;

/// How the folder of a removed account begins, until it is gone. No name begins with a dot.
const REMOVED: &str = ".removed-";

/// All repositories in a server's folder, in the order of their names.
pub fn repositories(data: &Path) -> Result<Vec<(Name, Name)>> {
    let mut found = Vec::new();
    for account in names(&accounts_folder(data))? {
        for name in names(&account_folder(data, &account))? {
            if repository::exists(&folder(data, &account, &name))? {
                found.push((account.clone(), name));
            }
        }
    }
    Ok(found)
}

/// The folder of a repository.
pub fn folder(data: &Path, account: &Name, name: &Name) -> PathBuf {
    account_folder(data, account).join(name.as_str())
}

/// The folder of an account.
pub(super) fn account_folder(data: &Path, account: &Name) -> PathBuf {
    accounts_folder(data).join(account.as_str())
}

/// The folder of all accounts.
pub(super) fn accounts_folder(data: &Path) -> PathBuf {
    data.join("accounts")
}

/// Removes an account's folder for good. It is renamed first: then nothing of it is a repository any more, and what an
/// interrupted removal leaves is recognised.
pub(super) fn remove_account(data: &Path, account: &Name) -> Result<()> {
    let folder = account_folder(data, account);
    let removed = (0..).map(|i| accounts_folder(data).join(format!("{REMOVED}{account}.{i}"))).find(|p| !p.exists());
    let Some(removed) = removed.filter(|_| folder.exists()) else { return Ok(()) };
    std::fs::rename(&folder, &removed).map_err(|e| Error::io(&folder, e))?;
    sync(&accounts_folder(data))?;
    remove_leftovers(data)
}

/// Removes what interrupted removals of accounts left.
pub(super) fn remove_leftovers(data: &Path) -> Result<()> {
    let folder = accounts_folder(data);
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::io(&folder, e))?,
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(&folder, e))?;
        if !entry.file_name().to_string_lossy().starts_with(REMOVED) {
            continue;
        }
        match std::fs::remove_dir_all(entry.path()) {
            // Another process may remove it as well.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(entry.path(), error)),
            _ => {}
        }
    }
    sync(&folder)
}

fn sync(folder: &Path) -> Result<()> {
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| Error::io(folder, e))
}

/// The entries of a folder that can be accounts or repositories, in order. Returns none if there is no such folder.
pub(super) fn names(folder: &Path) -> Result<Vec<Name>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io(folder, e))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        names.extend(entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok()));
    }
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    Ok(names)
}
