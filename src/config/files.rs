//! Private files: only their owner can read them, and they are written whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, Result};
use bkfs_store::base::medium::{self, FileLock};

use crate::{denied::denied, failure::Failure};

/// Maximum length of a configuration file in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Creates a folder that only its owner can enter, and the missing folders above it.
pub fn make_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| {
        if e.kind() == std::io::ErrorKind::PermissionDenied {
            return Failure::new(format!("cannot create {}: {e}", path.display()), denied(path)).into();
        }
        let hint = "to use other folders, set --config-dir and --cache-dir, or BKFS_CONFIG_DIR and BKFS_CACHE_DIR";
        Failure::new(format!("cannot create {}: {e}", path.display()), hint).into()
    })
}

/// Writes a file that only its owner can read. The file is written whole or not at all, and is durable on return.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_private(path, bytes)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    medium::sync_folder(parent).with_context(|| format!("writing {}", path.display()))
}

/// Writes a file like [`write_private`], but a power cut may bring the older file back.
fn replace_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_private_dir(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.{}.tmp", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary))).map_err(|e| match e.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Failure::new(format!("cannot write {}: {e}", path.display()), denied(parent)).into()
        }
        _ => anyhow::Error::new(e).context(format!("writing {}", path.display())),
    })
}

/// Reads a file, or returns `None` if it does not exist. Refuses files that are too long.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(Failure::new(format!("cannot read {}: {e}", path.display()), denied(path)).into());
        }
        Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::new(format!("{} is too long: it is not a file of bkfs", path.display()), "").into());
    }
    Ok(Some(bytes))
}

/// What a TOML file remembers.
pub(super) trait Remembered: serde::de::DeserializeOwned + serde::Serialize + Default {
    /// What bkfs does not know any more if the file is removed, in words.
    const WHAT: &str;
}

/// Reads a TOML file, or returns the default if it does not exist. One that exists is never empty.
pub(super) fn read_toml<T: Remembered>(path: &Path) -> Result<T> {
    let Some(bytes) = read_optional(path)? else { return Ok(T::default()) };
    let read = || match String::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => Err("it is empty".to_owned()),
        Ok(text) => toml::from_str(&text).map_err(|e| e.to_string()),
        Err(_) => Err("it is not text".to_owned()),
    };
    read().map_err(|why| {
        let what = format!("{} is damaged: {}; restore it from a copy, or remove it", path.display(), why.trim_end());
        Failure::new(what, format!("without it, this machine does not know any more {}", T::WHAT)).into()
    })
}

/// Changes a TOML file under a lock, so that no other process changes it at the same time. These files record
/// observations. A power cut may bring back an older observation, but that is still true.
pub(super) fn update_toml<T: Remembered>(path: &Path, change: impl FnOnce(&mut T)) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    make_private_dir(parent)?;
    let lock = parent.join(".lock");
    let _lock = FileLock::wait(&lock).with_context(|| format!("locking {}", lock.display()))?;
    let mut value: T = read_toml(path)?;
    change(&mut value);
    replace_private(path, toml::to_string(&value).context("encoding TOML")?.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn private_files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/key");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read_optional(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
        assert_eq!(read_optional(&dir.path().join("absent")).unwrap(), None);
    }
}
