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

/// How long a read goes on trying after the server was lost, before it fails. Noticing the loss takes longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

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
    let catalog = Catalog::open_for_mount(context, &session)?;
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
