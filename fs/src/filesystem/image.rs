//! The file that holds an image.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::mounts::MountInfo;

/// How many block devices may lie on one another: a decrypted one on a partition on a loop device.
const DEVICES_MAX: u32 = 8;

/// Where an image is.
pub struct Image {
    /// The file that holds it.
    pub file: PathBuf,
    /// What says where in the file it begins: the offsets of the devices on the way.
    pub offset: Vec<u8>,
}

/// Finds the image that a file system is in; none if it is not in a file.
pub fn find(info: &MountInfo) -> Option<Image> {
    let source = PathBuf::from(OsString::from_vec(info.source.clone()));
    // It can be mounted without a device.
    if info.kind == b"erofs" && source.is_absolute() && source.is_file() {
        return Some(Image { file: source, offset: Vec::new() });
    }
    let (major, minor) = info.block_device();
    backing(Path::new(&format!("/sys/dev/block/{major}:{minor}")), DEVICES_MAX)
}

/// The image behind a block device: a loop device, or one that lies on it.
fn backing(device: &Path, left: u32) -> Option<Image> {
    let device = device.canonicalize().ok().filter(|_| left > 0)?;
    if let Ok(shown) = std::fs::read(device.join("loop/backing_file")) {
        let path = shown.strip_suffix(b"\n").unwrap_or(&shown).to_vec();
        let offset = std::fs::read(device.join("loop/offset")).ok()?;
        return Some(Image { file: OsString::from_vec(path).into(), offset });
    }
    let (below, begin) = match std::fs::read(device.join("start")) {
        Ok(begin) => (device.parent()?.to_path_buf(), begin),
        Err(_) => {
            let mut below = std::fs::read_dir(device.join("slaves")).ok()?.filter_map(Result::ok);
            let only = below.next().filter(|_| below.next().is_none())?;
            (only.path(), Vec::new())
        }
    };
    let mut image = backing(&below, left - 1)?;
    image.offset.extend(begin);
    Some(image)
}
