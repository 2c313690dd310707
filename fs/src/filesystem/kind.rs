//! The rule by which a file system is identified, by its kind as the kernel names it.

use super::mounts::MountInfo;

/// How a file system is identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Written to by this kernel, which moves the change time with every change: by the UUID.
    Uuid,
    /// An image: by the file that holds it.
    Image,
    /// On a server, or a view of other folders: by the kind and the name of what is mounted. The change times are as
    /// good as those of what is behind it.
    Name,
    /// By its layers.
    Overlay,
    /// Made by the kernel, nothing in it is stored: nothing in it counts as unchanged.
    Pseudo,
    /// Answered by a program that may show anything: by its connection to the kernel.
    Fuse,
    /// Not known: by the mount.
    Unknown,
}

const WRITTEN: &[&str] = &[
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "bcachefs",
    "f2fs",
    "jfs",
    "nilfs2",
    "reiserfs",
    "reiser4",
    "ocfs2",
    "gfs2",
    "tmpfs",
    "ramfs",
    "rootfs",
    "devtmpfs",
    "hugetlbfs",
    "ubifs",
    "jffs2",
    "yaffs2",
    "vfat",
    "msdos",
    "exfat",
    "ntfs",
    "ntfs3",
    "fuseblk",
    "hfs",
    "hfsplus",
    "apfs",
    "ufs",
    "minix",
    "affs",
    "udf",
];

const IMAGES: &[&str] = &["squashfs", "erofs", "iso9660", "cramfs", "romfs"];

const NAMED: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "9p",
    "virtiofs",
    "afs",
    "lustre",
    "beegfs",
    "gpfs",
    "orangefs",
    "coda",
    "vboxsf",
    "zfs",
    "ecryptfs",
    // These pass on the times and the inode numbers, or hashes of them, of the folders behind them.
    "fuse.mergerfs",
    "fuse.bindfs",
    "fuse.gocryptfs",
    "fuse.encfs",
    "fuse.cryfs",
    "fuse.glusterfs",
    "fuse.ceph-fuse",
];

const PSEUDO: &[&str] = &[
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "cpuset",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "pstore",
    "bpf",
    "efivarfs",
    "selinuxfs",
    "smackfs",
    "binfmt_misc",
    "fusectl",
    "mqueue",
    "devpts",
    "nsfs",
    "pipefs",
    "sockfs",
    "rpc_pipefs",
    "nfsd",
    "resctrl",
    "functionfs",
    "gadgetfs",
    "openpromfs",
    "spufs",
    "xenfs",
    "binder",
    "fuse.lxcfs",
];

impl Rule {
    /// The rule for a mounted file system.
    pub fn of(info: &MountInfo) -> Self {
        let Ok(kind) = std::str::from_utf8(&info.kind) else { return Self::Unknown };
        let is_in = |list: &[&str]| list.contains(&kind);
        match kind {
            "overlay" => Self::Overlay,
            // It is written to by packet writing. Most often it is an image.
            "udf" if info.is_read_only => Self::Image,
            _ if is_in(WRITTEN) || kind.starts_with("fuseblk.") => Self::Uuid,
            _ if is_in(IMAGES) => Self::Image,
            _ if is_in(NAMED) => Self::Name,
            _ if is_in(PSEUDO) => Self::Pseudo,
            _ if kind == "fuse" || kind.starts_with("fuse.") => Self::Fuse,
            _ => Self::Unknown,
        }
    }
}

/// The name of what is mounted. The snapshots of a ZFS data set count as the data set: a push may read from a new one
/// each time.
pub fn stable_name(info: &MountInfo) -> &[u8] {
    let is_zfs = info.kind == b"zfs";
    info.source.split(|byte| is_zfs && *byte == b'@').next().unwrap_or_default()
}
