//! Retention: which snapshots a policy keeps, why, and which it forgets.
//!
//! [`plan`] is a pure function over plain rows: it reads no store and no clock, and whoever executes the [`Plan`] is
//! another. Snapshots fall into groups ([`Grouping`]), and the policy is applied to each group by itself. A snapshot is
//! kept if any rule keeps it, and carries every [`Reason`] that does; one without a reason is forgotten.
//!
//! **The rules.** Time is `received`, when the store received the snapshot, by the store's own clock: a client can
//! lie about its own. Newest means received last; of two received in one instant, the later in the log.
//!
//! - `keep_last n`: the n newest.
//! - `keep_hourly n`, daily, weekly, monthly, yearly: of the n most recent periods that have a snapshot, the newest of
//!   each. Periods are those of the calendar in the given time zone; weeks begin on Monday and are ISO weeks. While there
//!   are fewer than n such periods, the oldest snapshot of the group is kept too: else a rule that takes a year to fill
//!   would never see anything older than what the shorter rules hold.
//! - `keep_within d`: those received less than d before the newest one of the group (not before *now*: a group to which
//!   nothing is pushed any more does not melt away). `keep_within_daily d` and so on: of those, the newest of each period, and
//!   the oldest snapshot of the group, if it is one of those.
//! - `keep_tag a,b`: those that have all these tags. An empty list keeps those without tags.
//! - A snapshot from the future (past `now` by more than [`SKEW_SECS`]) is kept, and counts for nothing.
//!
//! These are the rules of restic's `forget`, whose published examples are among the tests, but for three things: time is
//! the store's, snapshots from the future take no place that another could have, and where restic lets 31 March
//! minus one month be 3 March, here it is the last of February. borg's differ in that a period of which a finer rule keeps the
//! snapshot counts for no coarser rule: its `--keep-daily 14 --keep-monthly 6` reaches one month further back than the
//! same here. With counts that leave room for that the sets are equal, which is tested too.
//!
//! **Refused** are a policy without any rule, and one that keeps nothing of some group (only `keep_tag` can do that): to
//! forget everything, snapshots have to be named.
//!
//! **Holds** ([`Hold`]) say that something looks wrong with a group: it shrank, or a clock jumped. The decisions are made
//! all the same, so that a person sees them; whoever forgets automatically must leave a held group alone until a person
//! confirms. What a hold compares with is the group's [`LastRun`], which the executor stores after each run
//! ([`Plan::runs`]).
//!
//! Not here: the age below which a server lets nothing go, the trash, and forgetting by id, which no hold concerns.

mod age;
mod calendar;
mod group;
mod hold;
mod keep;
mod policy;
mod reason;

use std::collections::BTreeMap;

pub use age::Age;
pub use calendar::Period;
pub use group::{Group, Grouping, SnapshotRow};
pub use hold::{Hold, LastRun, SKEW_SECS};
pub use policy::{Count, Policy, TagList};
pub use reason::Reason;

use jiff::tz::TimeZone;

use crate::base::time::Time;

/// What cannot be planned, or is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// The policy has no rule.
    #[error(
        "the policy keeps nothing, so nothing was forgotten: give at least one --keep-… above 0, or name the snapshots to forget"
    )]
    EmptyPolicy,
    /// The policy's rules keep no snapshot of a group.
    #[error(
        "the policy would forget all {snapshots} snapshots of {group}, so nothing was forgotten: add --keep-last 1, or name the snapshots to forget"
    )]
    KeepsNothing {
        /// The group.
        group: Box<Group>,
        /// How many snapshots it has.
        snapshots: usize,
    },
    /// Text that is not a count, an age or a list of tags.
    #[error("{text:?} is no {what}: {reason}")]
    Syntax {
        /// What was expected.
        what: &'static str,
        /// What was given, cut short.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl RetentionError {
    /// A syntax error about a text, of which a person is shown the beginning only.
    fn syntax(what: &'static str, text: &str, reason: impl Into<String>) -> Self {
        RetentionError::Syntax { what, text: text.chars().take(40).collect(), reason: reason.into() }
    }
}

/// What is to become of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The snapshot.
    pub snapshot: SnapshotRow,
    /// Why it is kept; it is forgotten if there is no reason.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether the snapshot is kept.
    pub fn keeps(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// What is to become of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    /// The group.
    pub group: Group,
    /// Its snapshots, newest first.
    pub decisions: Vec<Decision>,
    /// Why nothing of it may be forgotten without a person's word; none if all looks well.
    pub holds: Vec<Hold>,
}

/// What is to become of all snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The groups, in their own order.
    pub groups: Vec<GroupPlan>,
}

/// Applies a policy to snapshots. Their order is of no account; a snapshot that is given twice counts once. `runs` says
/// for each group what its last run saw, as [`Plan::runs`] gave it then; a group without an entry is new.
pub fn plan(
    snapshots: &[SnapshotRow],
    policy: &Policy,
    grouping: Grouping,
    zone: &TimeZone,
    now: Time,
    runs: &BTreeMap<Group, LastRun>,
) -> Result<Plan, RetentionError> {
    if policy.is_empty() {
        return Err(RetentionError::EmptyPolicy);
    }
    let mut groups = Vec::new();
    for (group, snapshots) in grouping.split(snapshots) {
        let reasons = keep::reasons(&snapshots, policy, zone, now);
        if reasons.iter().all(Vec::is_empty) {
            return Err(RetentionError::KeepsNothing { group: Box::new(group), snapshots: snapshots.len() });
        }
        let kept: Vec<bool> = reasons.iter().map(|r| !r.is_empty()).collect();
        let holds = hold::holds(&snapshots, &kept, now, runs.get(&group));
        let decisions = snapshots
            .into_iter()
            .zip(reasons)
            .map(|(snapshot, reasons)| Decision { snapshot: snapshot.clone(), reasons })
            .collect();
        groups.push(GroupPlan { group, decisions, holds });
    }
    Ok(Plan { groups })
}

impl Plan {
    /// The last runs to store when this plan has been executed at `now`. Groups that are held keep what `before` says of them,
    /// unless a person `confirmed`: then what was held against them is not held again.
    pub fn runs(&self, before: &BTreeMap<Group, LastRun>, now: Time, confirmed: bool) -> BTreeMap<Group, LastRun> {
        let mut runs = before.clone();
        for group in self.groups.iter().filter(|g| confirmed || g.holds.is_empty()) {
            let log_len = group.decisions.iter().map(|d| d.snapshot.log_seq.saturating_add(1)).max().unwrap_or(0);
            let confirmed_len = match group.holds.is_empty() {
                true => before.get(&group.group).map_or(0, |run| run.confirmed_len),
                false => log_len,
            };
            runs.insert(group.group.clone(), LastRun { at: now, log_len, confirmed_len });
        }
        runs
    }
}
