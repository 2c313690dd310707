//! What `bkfs mount` takes on the command line.

use std::path::PathBuf;

use clap::Args;

use crate::{
    args::RepoArgs,
    selector::{Filters, Selector, value_parser},
};

/// Arguments of `mount`.
#[derive(Debug, Default, Args)]
#[command(
    about = "Show all snapshots as ordinary folders",
    long_about = "Show snapshots as ordinary, read-only folders.\n\n\
        \x20 latest -> snapshots/...           the newest\n\
        \x20 snapshots/2026-11-20T090000Z/     every snapshot, by its time (UTC)\n\
        \x20 ids/ID/  targets/NAME/...  hosts/NAME/...  tags/TAG/...\n\n\
        New snapshots appear while it is mounted. It runs until it is unmounted (`umount MOUNTPOINT`), or stopped by \
        Ctrl-C or SIGTERM. Linked or copied to /sbin/mount.bkfs, the program also serves `mount -t bkfs REPO DIR` and \
        /etc/fstab.",
    after_help = "Examples:\n  bkfs mount /mnt/b                                  then: cp -a /mnt/b/latest/home/me/photos .\n  \
        bkfs mount --snapshot 2026-11-20 --background /mnt/b\n  \
        mount -t bkfs bkfs://nas:7443/alice /mnt/b -o key-file=/root/alice.key,allow_other\n\n\
        Lines of /etc/fstab, for root at boot and for users with their own keys:\n  \
        bkfs://nas:7443/alice  /mnt/b  bkfs  nofail,_netdev,key-file=/root/alice.key,allow_other  0  0\n  \
        bkfs://nas:7443/alice  /mnt/a  bkfs  noauto,user  0  0"
)]
pub struct MountArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// Show only this snapshot, at the root
    #[arg(long, value_name = "SNAPSHOT", value_parser = value_parser())]
    pub snapshot: Option<Selector>,
    /// Let other users see it, as far as the stored permissions let them
    #[arg(long)]
    pub allow_other: bool,
    /// Return as soon as it is ready, and go on in the background
    #[arg(long)]
    pub background: bool,
    /// The child of --background: reports on standard output.
    #[arg(long, hide = true)]
    pub is_child: bool,
    /// For mount(8): do everything but mount.
    #[arg(skip)]
    pub fake: bool,
    /// Devices can be opened (root only)
    #[arg(long, hide = true)]
    pub dev: bool,
    /// setuid and setgid bits have effect (root only)
    #[arg(long, hide = true)]
    pub suid: bool,
    /// Programs cannot be started from the mount
    #[arg(long, hide = true)]
    pub noexec: bool,
    /// An empty folder
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,
    #[command(flatten)]
    pub filters: Filters,
}
