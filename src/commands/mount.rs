//! `bkfs mount`: shows snapshots as folders.

mod background;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use bkfs_fs::mount::{Breaker, MountOptions, Unmounted, check, mount};
use clap::Args;

use crate::{
    catalog::Library,
    cli::RepoArgs,
    context::Context,
    failure::{Exit, Failure},
    output,
    place::Place,
    selector::{Filters, Selector, value_parser},
    session::Session,
    signals,
};

/// How long a read goes on trying after the server was lost, before it fails. Noticing the loss takes longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// Runs it.
pub fn run(context: &Context, args: MountArgs) -> Result<Exit> {
    if args.snapshot.as_ref().is_some_and(|selector| selector.path.is_some()) {
        let hint = "give --snapshot SNAPSHOT, and look for the path in the mount";
        return Err(Failure::new("a path in a snapshot cannot be mounted", hint).into());
    }
    check(&args.mountpoint)?;
    if args.fake {
        return Ok(Exit::Success);
    }
    if args.background && !args.is_child {
        return background::run(context, &args);
    }
    let mut session = Session::open_to_mount(context, &args.repo, PATIENCE)?;
    // A server that goes away is waited for once, not once for each file that somebody looks at.
    session.access = Breaker::new(session.access);
    let library = Library::open_for_mount(context, &session)?;
    let snapshot = match &args.snapshot {
        Some(selector) => Some(library.choose(selector, &args.filters)?.id),
        None => None,
    };
    let options = MountOptions {
        snapshot,
        allow_other: args.allow_other,
        dev: args.dev,
        suid: args.suid,
        noexec: args.noexec,
        name: name(&session.place, &args.repo),
        ..MountOptions::default()
    };
    let mount = mount(&library.reader, &args.mountpoint, &options)?;
    let unmounter = mount.unmounter();
    signals::on_stop(move || match unmounter.unmount() {
        Ok(Unmounted::Ended) => {}
        Ok(Unmounted::InUse) => {
            eprintln!(
                "bkfs: the mount is in use; it has left its place and ends with its last user (or a second signal)"
            );
        }
        Err(error) => eprintln!("bkfs: {error}"),
    })?;
    if args.is_child {
        background::detach(context, mount.mountpoint())?;
    } else if context.shows_summary() {
        output::line(format!("mounted at {}; Ctrl-C or umount ends it", mount.mountpoint().display()))?;
    }
    mount.wait()?;
    Ok(Exit::Success)
}

/// What the mount is called by: as it was named, so that mount(8) finds a line of fstab again. A relative path would
/// mean nothing to others.
fn name(place: &Place, repo: &RepoArgs) -> String {
    match (&repo.repository, place) {
        (Some(text), Place::Url(_)) => text.clone(),
        (Some(text), Place::Path(_)) if text.starts_with('/') => text.clone(),
        _ => place.to_string(),
    }
}
