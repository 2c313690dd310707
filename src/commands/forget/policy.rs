//! The options that make a retention policy and its groups.

use bkfs_store::owner::{
    reader::SnapshotInfo,
    retention::{Age, Count, Grouping, Plan, Policy, SnapshotRow, TagList},
};
use clap::Args;

/// What to keep.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Policy: what to keep in each group")]
pub struct PolicyArgs {
    /// Keep the N newest snapshots (N is a number or `unlimited`)
    #[arg(long, value_name = "N")]
    keep_last: Option<Count>,
    /// Keep the newest snapshot of each of the N most recent hours that have one
    #[arg(long, value_name = "N")]
    keep_hourly: Option<Count>,
    /// Keep the newest snapshot of each of the N most recent days that have one
    #[arg(long, value_name = "N")]
    keep_daily: Option<Count>,
    /// Keep the newest snapshot of each of the N most recent weeks that have one
    #[arg(long, value_name = "N")]
    keep_weekly: Option<Count>,
    /// Keep the newest snapshot of each of the N most recent months that have one
    #[arg(long, value_name = "N")]
    keep_monthly: Option<Count>,
    /// Keep the newest snapshot of each of the N most recent years that have one
    #[arg(long, value_name = "N")]
    keep_yearly: Option<Count>,
    /// Keep all snapshots received less than AGE before the newest one (AGE is like 2y5m7d3h)
    #[arg(long, value_name = "AGE")]
    keep_within: Option<Age>,
    /// Keep the newest snapshot of each hour, within AGE
    #[arg(long, value_name = "AGE")]
    keep_within_hourly: Option<Age>,
    /// Keep the newest snapshot of each day, within AGE
    #[arg(long, value_name = "AGE")]
    keep_within_daily: Option<Age>,
    /// Keep the newest snapshot of each week, within AGE
    #[arg(long, value_name = "AGE")]
    keep_within_weekly: Option<Age>,
    /// Keep the newest snapshot of each month, within AGE
    #[arg(long, value_name = "AGE")]
    keep_within_monthly: Option<Age>,
    /// Keep the newest snapshot of each year, within AGE
    #[arg(long, value_name = "AGE")]
    keep_within_yearly: Option<Age>,
    /// Keep snapshots that have all of these tags (repeat for alternatives; '' keeps snapshots without tags)
    #[arg(long, value_name = "TAG,...")]
    keep_tag: Vec<TagList>,
    /// Group snapshots by these fields: client, host, target, paths ('' makes one group of all) [default:
    /// host,target,paths]
    #[arg(long, value_name = "LIST")]
    group_by: Option<Grouping>,
}

impl PolicyArgs {
    /// Returns the policy.
    pub fn policy(&self) -> Policy {
        Policy {
            keep_last: self.keep_last,
            keep_hourly: self.keep_hourly,
            keep_daily: self.keep_daily,
            keep_weekly: self.keep_weekly,
            keep_monthly: self.keep_monthly,
            keep_yearly: self.keep_yearly,
            keep_within: self.keep_within,
            keep_within_hourly: self.keep_within_hourly,
            keep_within_daily: self.keep_within_daily,
            keep_within_weekly: self.keep_within_weekly,
            keep_within_monthly: self.keep_within_monthly,
            keep_within_yearly: self.keep_within_yearly,
            keep_tag: self.keep_tag.clone(),
        }
    }

    /// Returns the grouping.
    pub fn grouping(&self) -> Grouping {
        self.group_by.unwrap_or_default()
    }

    /// Returns whether any of these options was given, even as a count of 0.
    pub fn is_given(&self) -> bool {
        self.policy() != Policy::default() || self.group_by.is_some()
    }
}

/// Returns a snapshot as the retention policy sees it.
pub fn row(info: &SnapshotInfo) -> SnapshotRow {
    let totals = info.snapshot.root.subtree.map(|subtree| subtree.totals).unwrap_or_default();
    SnapshotRow {
        received: info.received,
        log_seq: info.log_seq,
        id: info.id,
        client: info.client,
        host: info.snapshot.host.clone(),
        target: info.snapshot.target.clone(),
        paths: info.snapshot.paths.clone(),
        tags: info.snapshot.tags.clone(),
        bytes: totals.bytes,
        files: totals.files,
    }
}

/// Returns the snapshots that a plan forgets. Groups that are held lose nothing unless a person confirmed.
pub fn forgotten(plan: &Plan, confirmed: bool) -> impl Iterator<Item = &SnapshotRow> {
    let groups = plan.groups.iter().filter(move |group| confirmed || group.holds.is_empty());
    groups.flat_map(|group| &group.decisions).filter(|decision| !decision.keeps()).map(|decision| &decision.snapshot)
}
