//! The arguments of `bkfs mount`.

use std::path::PathBuf;

use clap::Args;

use crate::{
    args::RepoArgs,
    completion,
    selector::{Filters, Selector, value_parser},
};

/// Arguments of `mount`.
#[derive(Debug, Default, Args)]
#[command(
    about = "Mount all snapshots as ordinary folders",
    long_about = "Mount snapshots as ordinary, read-only folders:\n\n\
        \x20 targets/NAME/latest/              the newest snapshot of a target\n\
        \x20 targets/NAME/2026-11-20T090000Z/  every snapshot of a target, by its time (UTC)\n\
        \x20 snapshots/  ids/ID/  hosts/NAME/  tags/TAG/\n\
        \x20 latest/                           the newest snapshot of the only target; if there are several, \
        latest/NAME/\n\n\
        The filters decide which snapshots are shown. New snapshots appear while the repository is mounted. The \
        command runs until you unmount it (`umount MOUNTPOINT`) or stop it with Ctrl-C or SIGTERM.\n\n\
        If /sbin/mount.bkfs is a link to bkfs or a copy of it, `mount -t bkfs REPO DIR` and lines in /etc/fstab work \
        too.",
    after_help = "Examples:\n  bkfs mount /mnt/b    # then: cp -a /mnt/b/targets/home/latest/home/me/photos .\n  \
        bkfs mount --host alpha --tag nightly /mnt/b\n  \
        bkfs mount --snapshot 2026-11-20 --background /mnt/b\n  \
        mount -t bkfs bkfs://nas:7443/alice /mnt/b -o key-file=/root/alice.key,allow_other\n\n\
        Lines in /etc/fstab, for root at boot and for users with their own keys:\n  \
        bkfs://nas:7443/alice  /mnt/b  bkfs  nofail,_netdev,target=home,key-file=/root/alice.key,allow_other  0  0\n  \
        bkfs://nas:7443/alice  /mnt/a  bkfs  noauto,user  0  0"
)]
pub struct MountArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// Mount only this snapshot, at the root
    #[arg(long, value_name = "SNAPSHOT", value_parser = value_parser(), add = completion::selector())]
    pub snapshot: Option<Selector>,
    /// Let other users read the mount, within the stored permissions
    #[arg(long)]
    pub allow_other: bool,
    /// Mount even if no snapshot passes the filters
    #[arg(long)]
    pub nofail: bool,
    /// Run in the background, and return as soon as the mount is ready
    #[arg(long)]
    pub background: bool,
    /// This is the child of --background: report on standard output that the mount is ready.
    #[arg(long, hide = true)]
    pub is_child: bool,
    /// For mount(8): do everything but mount.
    #[arg(skip)]
    pub fake: bool,
    /// Let devices be opened (root only)
    #[arg(long, hide = true)]
    pub dev: bool,
    /// Let setuid and setgid bits take effect (root only)
    #[arg(long, hide = true)]
    pub suid: bool,
    /// Do not let programs be started from the mount
    #[arg(long, hide = true)]
    pub noexec: bool,
    /// An empty folder to mount at
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,
    #[command(flatten)]
    pub filters: Filters,
}
