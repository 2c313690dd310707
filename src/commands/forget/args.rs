//! What `bkfs forget` takes on the command line.

use clap::Args;

use super::policy::PolicyArgs;
use crate::{
    args::RepoArgs,
    selector::{Filters, Which},
};

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(
    about = "Move snapshots to the trash, by name or by a policy",
    long_about = "Move snapshots to the trash: those that are named, or those that a policy does not keep. In the trash they \
        keep their data; `bkfs unforget` brings them back, `bkfs snapshots --trash` lists them. A server lets nothing go for \
        good that it received less than its --protect age ago (14 days, unless its operator chose otherwise).\n\n\
        A policy is applied to each group of snapshots by itself. What counts is when the repository received a snapshot, \
        by its own clock. A group whose newest snapshot shrank sharply, or whose clock jumped, is held: nothing of it is \
        forgotten, the exit code is 3, and --confirm says that all is well.\n\n\
        It needs the full key, and at a server the permission forget; --now and --empty-trash need the permission prune.",
    after_help = "Examples:\n  bkfs forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run\n  \
        bkfs forget --keep-within 14d --keep-within-weekly 6m --keep-tag release\n  \
        bkfs forget --keep-last 10 --host alpha --group-by host,target\n  \
        bkfs forget 4f2a91c7 2026-11-20T090000Z\n  \
        bkfs forget --now 4f2a91c7       for good, where the server's --protect age allows it\n  \
        bkfs forget --empty-trash"
)]
pub struct ForgetArgs {
    /// The snapshots: ids or their beginnings, times, or latest. Without any, a policy chooses
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<Which>,
    #[command(flatten)]
    pub repo: RepoArgs,
    /// Show what would be forgotten, and the reasons that keep the rest; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Skip the trash: let them go for good at once, as far as the server allows
    #[arg(long)]
    pub now: bool,
    /// Let go for good what has been in the trash for the server's --protect age, too; alone, nothing else is done
    #[arg(long, conflicts_with = "dry_run")]
    pub empty_trash: bool,
    /// Forget in groups that are held, too: you have looked, and all is well
    #[arg(long)]
    pub confirm: bool,
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub filters: Filters,
}
