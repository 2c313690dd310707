//! `bkfs mount`: shows snapshots as folders.

mod args;
mod background;

pub use args::MountArgs;

use std::time::Duration;

use anyhow::Result;
use bkfs_fs::mount::{Breaker, MountOptions, Unmounted, check, mount};

use crate::{
    args::RepoArgs,
    catalog::Catalog,
    context::Context,
    failure::{Exit, Failure},
    output,
    place::Place,
    session::Session,
    signals,
};

/// How long a read keeps trying after the server is lost, before it fails. To detect the loss takes longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `bkfs mount`.
pub fn run(context: &Context, args: MountArgs) -> Result<Exit> {
    if args.snapshot.as_ref().is_some_and(|selector| selector.path.is_some()) {
        let hint = "use --snapshot SNAPSHOT, and open the path in the mount";
        return Err(Failure::new("cannot mount a path in a snapshot", hint).into());
    }
    check(&args.mountpoint)?;
    if args.fake {
        return Ok(Exit::Success);
    }
    if args.background && !args.is_child {
        return background::run(context, &args);
    }
    let session = Session::open_to_mount(context, &args.repo, PATIENCE)?;
    // If the server goes away, wait for it once, and not again for each file that is opened.
    let access = Breaker::new(session.access.clone());
    let catalog = Catalog::open_for_mount(context, &session, access)?;
    let snapshot = match &args.snapshot {
        Some(selector) => Some(catalog.choose(selector, &args.filters)?.id),
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
    let mount = mount(&catalog.reader, &args.mountpoint, &options)?;
    let unmounter = mount.unmounter();
    signals::on_stop(move || match unmounter.unmount() {
        Ok(Unmounted::Ended) => {}
        Ok(Unmounted::InUse) => {
            eprintln!("bkfs: the mount is in use: it was detached, and ends with its last user or at a second signal");
        }
        Err(error) => eprintln!("bkfs: {error}"),
    })?;
    if args.is_child {
        background::detach(context, mount.mountpoint())?;
    } else if context.shows_summary() {
        output::line(format!("mounted at {}; end it with Ctrl-C or umount", mount.mountpoint().display()))?;
    }
    mount.wait()?;
    Ok(Exit::Success)
}

/// Returns the name of the mount: the repository as the user wrote it, so that mount(8) finds its line in fstab again.
/// A relative path is made absolute, because it would mean nothing to other programs.
fn name(place: &Place, repo: &RepoArgs) -> String {
    match (&repo.repository, place) {
        (Some(text), Place::Url(_)) => text.clone(),
        (Some(text), Place::Path(_)) if text.starts_with('/') => text.clone(),
        _ => place.to_string(),
    }
}
