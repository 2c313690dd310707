//! The policy and the grouping as options.

use bkfs_store::{
    reader::SnapshotInfo,
    retention::{Age, Count, Grouping, Plan, Policy, SnapshotRow, TagList},
};
use clap::Args;

/// What to keep.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What a policy keeps, of each group")]
pub struct PolicyArgs {
    /// The N newest (a number, or `unlimited`)
    #[arg(long, value_name = "N")]
    keep_last: Option<Count>,
    /// The newest of each of the N most recent hours that have a snapshot
    #[arg(long, value_name = "N")]
    keep_hourly: Option<Count>,
    /// The same by days
    #[arg(long, value_name = "N")]
    keep_daily: Option<Count>,
    /// The same by weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<Count>,
    /// The same by months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<Count>,
    /// The same by years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<Count>,
    /// All that were received less than AGE (as 2y5m7d3h) before the newest
    #[arg(long, value_name = "AGE")]
    keep_within: Option<Age>,
    /// Of those within AGE, the newest of each hour
    #[arg(long, value_name = "AGE")]
    keep_within_hourly: Option<Age>,
    /// The same by days
    #[arg(long, value_name = "AGE")]
    keep_within_daily: Option<Age>,
    /// The same by weeks
    #[arg(long, value_name = "AGE")]
    keep_within_weekly: Option<Age>,
    /// The same by months
    #[arg(long, value_name = "AGE")]
    keep_within_monthly: Option<Age>,
    /// The same by years
    #[arg(long, value_name = "AGE")]
    keep_within_yearly: Option<Age>,
    /// Those that have all these tags (can be given several times; '' keeps those without tags)
    #[arg(long, value_name = "TAG,...")]
    keep_tag: Vec<TagList>,
    /// What makes a group: a list of client, host, target and paths ('' makes one group of all) [default: host,target,paths]
    #[arg(long, value_name = "LIST")]
    group_by: Option<Grouping>,
}

impl PolicyArgs {
    /// The policy.
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

    /// The grouping.
    pub fn grouping(&self) -> Grouping {
        self.group_by.unwrap_or_default()
    }

    /// Whether any of this was given, be it a count of 0.
    pub fn is_given(&self) -> bool {
        self.policy() != Policy::default() || self.group_by.is_some()
    }
}

/// A snapshot as retention sees it.
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

/// What of a plan is to be forgotten. Groups that are held are left alone, unless somebody confirmed.
pub fn forgotten(plan: &Plan, confirmed: bool) -> impl Iterator<Item = &SnapshotRow> {
    let groups = plan.groups.iter().filter(move |group| confirmed || group.holds.is_empty());
    groups.flat_map(|group| &group.decisions).filter(|decision| !decision.keeps()).map(|decision| &decision.snapshot)
}
