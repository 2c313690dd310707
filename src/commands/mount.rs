//! `bkfs mount`: shows snapshots as folders.

mod args;
mod background;

pub use args::MountArgs;

use std::{collections::BTreeSet, path::Path, sync::mpsc, time::Duration};

use anyhow::Result;
use bkfs_fs::{
    mount::{Breaker, MountOptions, Unmounted, Unmounter, check, mount},
    select::SnapshotFilter,
};
use bkfs_store::owner::reader::SnapshotInfo;

use crate::{
    catalog::Catalog,
    context::Context,
    failure::{Exit, Failure},
    output, passphrase,
    place::Place,
    session::Session,
    signals,
};

/// How long a read keeps trying after the server is lost, before it fails. To detect the loss takes longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many names of targets or hosts a message lists.
const NAMES_MAX: usize = 10;

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
    // A mount lives for long, and so would what it began with.
    passphrase::leave_environment()?;
    if args.background && !args.is_child {
        let exit = background::run(context, &args)?;
        if matches!(exit, Exit::Success | Exit::RolledBack) && context.json {
            print_json(&args.mountpoint)?;
        }
        return Ok(exit);
    }
    let session = Session::open_to_mount(context, &args.repo, PATIENCE)?;
    // If the server goes away, wait for it once, and not again for each file that is opened.
    let access = Breaker::new(session.access.clone());
    let catalog = Catalog::open_for_mount(context, &session, access, args.snapshot.as_ref(), &args.filters)?;
    let filter = args.filters.filter(&catalog.clients)?;
    let snapshot = match &args.snapshot {
        Some(selector) => Some(catalog.choose(selector, &args.filters)?.id),
        None => None,
    };
    if snapshot.is_none() {
        check_filter(context, &catalog, &filter, args.nofail)?;
    }
    let options = MountOptions {
        snapshot,
        filter,
        allow_other: args.allow_other,
        dev: args.dev,
        suid: args.suid,
        noexec: args.noexec,
        name: name(&session.place, context.repository(&args.repo)),
        ..MountOptions::default()
    };
    // A signal that arrives while the mount is made waits for it: an unmounter exists only then.
    let (send, mounted) = mpsc::channel::<Unmounter>();
    signals::on_stop(move || match mounted.recv().map(|unmounter| unmounter.unmount()) {
        Ok(Ok(Unmounted::Ended)) => {}
        Ok(Ok(Unmounted::InUse)) => {
            output::note("the mount is in use: it was detached, and ends with its last user or at a second signal");
        }
        Ok(Err(error)) => output::note(error),
        // Nothing was mounted.
        Err(mpsc::RecvError) => {}
    });
    let mount = mount(&catalog.reader, &args.mountpoint, &options)?;
    let _ = send.send(mount.unmounter());
    if args.is_child {
        background::detach(context, mount.mountpoint())?;
    } else if context.json {
        print_json(mount.mountpoint())?;
    } else if context.shows_summary() {
        output::line(format!("mounted at {}; end it with Ctrl-C or umount", mount.mountpoint().display()))?;
    }
    mount.wait()?;
    Ok(signals::exit_after_stop())
}

/// Says that the mount is ready.
fn print_json(mountpoint: &Path) -> Result<()> {
    output::json(&serde_json::json!({ "mountpoint": mountpoint }))
}

/// Fails if no snapshot passes the filter: a mistyped name would otherwise show an empty mount. With `nofail` that is
/// only said, and snapshots that pass appear when they are pushed.
fn check_filter(context: &Context, catalog: &Catalog, filter: &SnapshotFilter, nofail: bool) -> Result<()> {
    if filter.is_empty() || catalog.snapshots.iter().any(|info| filter.matches(info.client, &info.snapshot)) {
        return Ok(());
    }
    let names = |of: &dyn Fn(&SnapshotInfo) -> String| {
        let all: BTreeSet<String> = catalog.snapshots.iter().map(of).collect();
        let shown: Vec<String> = all.iter().take(NAMES_MAX).map(|name| output::name(name.as_bytes())).collect();
        let more = if all.len() > NAMES_MAX { ", ..." } else { "" };
        format!("{}{more}", shown.join(", "))
    };
    let message = "no snapshot passes --client, --host, --target, --tag and --path";
    if nofail {
        if !context.quiet {
            output::note(format!("{message}; those that do will appear in the mount when they are pushed"));
        }
        return Ok(());
    }
    let hint = match catalog.snapshots.is_empty() {
        true => {
            "the repository has no snapshots yet; with --nofail (nofail in fstab) it is mounted all the same".to_owned()
        }
        false => format!(
            "there are targets {}; hosts {}; with --nofail (nofail in fstab) it is mounted all the same",
            names(&|info| info.snapshot.target.clone()),
            names(&|info| info.snapshot.host.clone())
        ),
    };
    Err(Failure::new(message, hint).into())
}

/// Returns the name of the mount: the repository as the user wrote it, so that mount(8) finds its line in fstab again.
/// A relative path is made absolute, because it would mean nothing to other programs.
fn name(place: &Place, repository: Option<&str>) -> String {
    match (repository, place) {
        (Some(text), Place::Url(_)) => text.to_owned(),
        (Some(text), Place::Path(_)) if text.starts_with('/') => text.to_owned(),
        _ => place.to_string(),
    }
}
