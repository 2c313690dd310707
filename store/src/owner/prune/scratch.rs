//! Temporary files for what does not fit into memory.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use crate::{
    base::error::{Error, Result},
    crypto,
};

/// Creates a file in a folder and removes its name right away, so that nothing of it is left behind. Creates the folder
/// if it is missing.
pub(super) fn unnamed_file(folder: &Path) -> Result<File> {
    let name = format!(".prune-{}-{:016x}", std::process::id(), u64::from_le_bytes(crypto::random()));
    let path = folder.join(name);
    let create = || -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    };
    create().map_err(|e| Error::io(&path, e))
}
