//! The mountpoint and the machine's FUSE: checks before mounting, the meaning of errors, detaching, and read-ahead.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::error::{Error, Result};

/// The device of FUSE.
const DEVICE: &str = "/dev/fuse";

/// Checks that a mountpoint is an empty folder. Returns its absolute path.
pub fn check(mountpoint: &Path) -> Result<PathBuf> {
    let fail = |source: io::Error| match (source.kind(), source.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => Error::NoMountpoint(mountpoint.to_owned()),
        (_, Some(libc::ENOTCONN)) => Error::DeadMount(mountpoint.to_owned()),
        _ => Error::Mountpoint { mountpoint: mountpoint.to_owned(), source },
    };
    let path = mountpoint.canonicalize().map_err(fail)?;
    if !path.metadata().map_err(fail)?.is_dir() {
        return Err(Error::NotAFolder(mountpoint.to_owned()));
    }
    match fs::read_dir(&path).map_err(fail)?.next() {
        Some(_) => Err(Error::NotEmpty(mountpoint.to_owned())),
        None => Ok(path),
    }
}

/// Checks that the kernel offers FUSE to this process.
pub fn check_fuse() -> Result<()> {
    match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(_) => Ok(()),
        Err(error) => Err(match (error.kind(), error.raw_os_error()) {
            // ENODEV and ENXIO: the device node exists, but has no driver.
            (io::ErrorKind::NotFound, _) | (_, Some(libc::ENODEV | libc::ENXIO)) => Error::NoDevice,
            _ => Error::DeviceRefused(error),
        }),
    }
}

/// Checks that this process may mount: it is root, or the helper that mounts for other users is installed.
pub fn check_helper() -> Result<()> {
    let found = || {
        // There is no PATH if mount(8) runs this program for an ordinary user. Then these folders are searched.
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
        std::env::split_paths(&path).any(|folder| folder.join("fusermount3").is_file())
    };
    if is_root() || found() { Ok(()) } else { Err(Error::NoFusermount) }
}

/// Returns what an error of mounting means.
pub fn explain(mountpoint: &Path, source: io::Error) -> Error {
    let message = source.to_string();
    match source.kind() {
        // The mountpoint and the device exist, so the helper is missing.
        io::ErrorKind::NotFound => Error::NoFusermount,
        _ if message.contains("user_allow_other") => Error::AllowOtherRefused,
        _ => {
            let message = message.trim().to_owned();
            let source = if message.is_empty() {
                io::Error::other("fusermount3 failed without a message")
            } else {
                io::Error::new(source.kind(), message)
            };
            Error::Refused { mountpoint: mountpoint.to_owned(), source }
        }
    }
}

/// Returns whether this process is root, and therefore mounts without a helper.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Detaches a mount that is in use from its mountpoint.
pub fn detach(mountpoint: &Path) -> Result<()> {
    let fail = |source| Error::Unmount { mountpoint: mountpoint.to_owned(), source };
    match rustix::mount::unmount(mountpoint, rustix::mount::UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => {
            let mut command = Command::new("fusermount3");
            command.args(["-u", "-q", "-z", "--"]).arg(mountpoint);
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            match status.map_err(fail)?.success() {
                true => Ok(()),
                false => Err(fail(io::Error::other("fusermount3 failed"))),
            }
        }
        Err(error) => Err(fail(error.into())),
    }
}

/// Raises how far the kernel reads ahead in this mount, if this process may. FUSE itself can only lower it.
pub fn raise_read_ahead(mountpoint: &Path, kib: u32) {
    let device = match rustix::fs::stat(mountpoint) {
        Ok(stat) => stat.st_dev,
        Err(error) => return tracing::debug!(%error, "cannot stat the new mount"),
    };
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = fs::write(&file, kib.to_string()) {
        // Ordinary users may not. Then only our own read-ahead works.
        tracing::debug!(%error, file, "cannot raise the kernel's read-ahead");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountpoint_must_be_an_empty_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(dir.path()).unwrap(), dir.path().canonicalize().unwrap());
        let missing = dir.path().join("missing");
        assert!(matches!(check(&missing), Err(Error::NoMountpoint(path)) if path == missing));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(check(&file), Err(Error::NotAFolder(path)) if path == file));
        assert!(matches!(check(dir.path()), Err(Error::NotEmpty(_))));
    }

    #[test]
    fn errors_name_what_is_missing() {
        let text = explain(Path::new("/mnt"), io::ErrorKind::NotFound.into()).to_string();
        assert!(text.contains("fuse3") && text.contains("bkfs restore") && text.contains("bkfs cat"), "{text}");
        let text = Error::NoDevice.to_string();
        assert!(text.contains("/dev/fuse") && text.contains("fuse3") && text.contains("bkfs restore"), "{text}");
        let refused = io::Error::new(io::ErrorKind::PermissionDenied, "only allowed if 'user_allow_other' is set");
        assert!(matches!(explain(Path::new("/mnt"), refused), Error::AllowOtherRefused));
    }
}
