//! Private files: only their owner can read them, and they are written whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, Result};

use crate::failure::Failure;

/// Maximum length of a configuration file in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Creates a folder that only its owner can enter, and the missing folders above it.
pub fn make_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| {
        let hint = "to use other folders, set --config-dir and --cache-dir, or BKFS_CONFIG_DIR and BKFS_CACHE_DIR";
        Failure::new(format!("cannot create {}: {e}", path.display()), hint).into()
    })
}

/// Writes a file that only its owner can read. The file is written whole or not at all, and is durable on return.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_private(path, bytes)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let sync = || File::open(parent)?.sync_all();
    sync().with_context(|| format!("writing {}", path.display()))
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
    write().inspect_err(|_| drop(fs::remove_file(&temporary))).with_context(|| format!("writing {}", path.display()))
}

/// Reads a file, or returns `None` if it does not exist. Refuses files that are too long.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::new(format!("{} is too long: it is not a file of bkfs", path.display()), "").into());
    }
    Ok(Some(bytes))
}

/// Reads a TOML file, or returns the default if it does not exist.
pub(super) fn read_toml<T: serde::de::DeserializeOwned + Default>(path: &Path) -> Result<T> {
    let Some(bytes) = read_optional(path)? else { return Ok(T::default()) };
    let text = String::from_utf8(bytes).with_context(|| format!("{} is not text", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// Changes a TOML file under a lock, so that no other process changes it at the same time. These files record
/// observations. A power cut may bring back an older observation, but that is still true.
pub(super) fn update_toml<T>(path: &Path, change: impl FnOnce(&mut T)) -> Result<()>
where
    T: serde::de::DeserializeOwned + serde::Serialize + Default,
{
    let parent = path.parent().unwrap_or(Path::new("."));
    make_private_dir(parent)?;
    let lock = File::open(parent).with_context(|| format!("opening {}", parent.display()))?;
    lock.lock().with_context(|| format!("locking {}", parent.display()))?;
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
