//! The arguments of `bkfs forget`.

use clap::Args;

use super::policy::PolicyArgs;
use crate::{
    args::RepoArgs,
    completion,
    selector::{Filters, SnapshotName},
};

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(
    about = "Move snapshots to the trash, by name or by a policy",
    long_about = "Move snapshots to the trash: either the ones that you name, or the ones that a policy does not \
        keep.\n\n\
        Snapshots in the trash keep their data. `bkfs snapshots --trash` lists them, and `bkfs unforget` brings them \
        back. A server deletes nothing for good that it received less than its --protect age ago (14 days unless its \
        operator chose otherwise).\n\n\
        A policy is applied to each group of snapshots separately. The age of a snapshot counts from when the \
        repository received it, by the repository's clock. If the newest snapshot of a group is much smaller than \
        before, or if the clock jumped, the group is held: nothing in it is forgotten, and the exit code is 3. Look at \
        the group, and if all is well, run the command again with --confirm.\n\n\
        A snapshot that cannot be read stops every prune: it may need anything. --broken shows each such snapshot, who \
        pushed it and what is wrong, and asks. After that, prunes keep only what can be read of it. If a disk is \
        missing, or if `bkfs repair` can still help, do that first.\n\n\
        This needs the full key. On a server it needs the permission forget; --now and --empty-trash need the \
        permission prune.",
    after_help = "Examples:\n  bkfs forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run\n  \
        bkfs forget --keep-within 14d --keep-within-weekly 6m --keep-tag release\n  \
        bkfs forget --keep-last 10 --host alpha --group-by host,target\n  \
        bkfs forget 4f2a91c7 2026-11-20T090000Z\n  \
        bkfs forget --now 4f2a91c7    # delete for good, if the server's --protect age allows it\n  \
        bkfs forget --empty-trash\n  bkfs forget --broken --dry-run    # what stops a prune, and why"
)]
pub struct ForgetArgs {
    /// Snapshots to forget: ids or prefixes of ids, times, or latest; without any, a policy chooses
    #[arg(value_name = "SNAPSHOT", add = completion::snapshot())]
    pub snapshots: Vec<SnapshotName>,
    #[command(flatten)]
    pub repo: RepoArgs,
    /// Show what would be forgotten and why the rest is kept, but change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Skip the trash: delete the snapshots for good, as far as the server allows it
    #[arg(long)]
    pub now: bool,
    /// Also delete for good what has been in the trash for the server's --protect age; given alone, do only that
    #[arg(long, conflicts_with = "dry_run")]
    pub empty_trash: bool,
    /// Forget snapshots that cannot be read, all of them or the named ones, and let prunes go on without them
    #[arg(long, conflicts_with = "empty_trash")]
    pub broken: bool,
    /// Do not ask about --broken; also forget in groups that are held: you have looked, and all is well
    #[arg(long)]
    pub confirm: bool,
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub filters: Filters,
}
