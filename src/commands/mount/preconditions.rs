//! What must hold before anything is mounted, so that the error names the cause and not a system call.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::MountArgs;
use crate::failure::Failure;

const WITHOUT: &str = "`bkfs restore` and `bkfs cat` work without mounting";

/// Checks mountpoint, /dev/fuse and fusermount3.
pub fn check(args: &MountArgs) -> Result<()> {
    mountpoint(&args.mountpoint)?;
    if args.fake {
        return Ok(());
    }
    device(Path::new("/dev/fuse"))?;
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && find_in_path("fusermount3").is_none() {
        let hint = format!("install the package fuse3 (apt-get install fuse3); {WITHOUT}");
        return Err(Failure::new("fusermount3 is not installed, and only root can mount without it", hint).into());
    }
    if args.allow_other && !is_root && !allows_other(Path::new("/etc/fuse.conf")) {
        let hint = "put the line user_allow_other into /etc/fuse.conf";
        return Err(Failure::new("--allow-other is not allowed to this user", hint).into());
    }
    Ok(())
}

fn mountpoint(path: &Path) -> Result<()> {
    let shown = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(format!("the mountpoint {shown} is not there"), format!("mkdir {shown}")).into());
        }
        // What is left of a mount whose process was killed.
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOTCONN.raw_os_error()) => {
            let hint = format!("umount -l {shown}");
            return Err(Failure::new(format!("{shown} is a dead mount, whose program is gone"), hint).into());
        }
        Err(e) => return Err(e).with_context(|| format!("the mountpoint {shown}")),
    };
    if !meta.is_dir() {
        return Err(Failure::new(format!("the mountpoint {shown} is no folder"), "name an empty folder").into());
    }
    let mut entries = fs::read_dir(path).with_context(|| format!("the mountpoint {shown}"))?;
    if entries.next().is_some() {
        let what = match is_mounted(path, &meta) {
            true => "has something mounted on it already",
            false => "is not empty",
        };
        return Err(Failure::new(format!("the mountpoint {shown} {what}"), "name an empty folder").into());
    }
    Ok(())
}

/// Whether the folder is another file system's root.
fn is_mounted(path: &Path, meta: &fs::Metadata) -> bool {
    fs::metadata(path.join("..")).is_ok_and(|above| above.dev() != meta.dev())
}

fn device(path: &Path) -> Result<()> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Failure::new(format!("{} may not be opened by this user: {e}", path.display()), WITHOUT).into())
        }
        Err(e) => {
            let hint = format!("install the package fuse3 and load the module (modprobe fuse); {WITHOUT}");
            Err(Failure::new(format!("{} cannot be used, so nothing can be mounted: {e}", path.display()), hint).into())
        }
    }
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn allows_other(conf: &Path) -> bool {
    fs::read_to_string(conf).is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_mountpoints_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(mountpoint(dir.path()).is_ok());
        let absent = dir.path().join("absent");
        assert!(mountpoint(&absent).unwrap_err().to_string().contains("absent is not there"));
        fs::write(dir.path().join("file"), b"").unwrap();
        assert!(mountpoint(dir.path()).unwrap_err().to_string().contains("is not empty"));
        assert!(mountpoint(&dir.path().join("file")).unwrap_err().to_string().contains("is no folder"));
    }

    #[test]
    fn a_missing_device_names_the_package() {
        let failure = device(Path::new("/no/such/fuse")).unwrap_err();
        assert!(crate::failure::describe(&failure).contains("package fuse3"));
    }
}
