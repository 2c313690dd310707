//! The plan: what a policy does with each snapshot.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::{
    error::RetentionError,
    group::Group,
    grouping::Grouping,
    hold::{self, Hold, LastRun},
    keep,
    policy::Policy,
    reason::Reason,
    row::SnapshotRow,
};
use crate::base::time::Time;

/// What the policy decides about one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The snapshot.
    pub snapshot: SnapshotRow,
    /// The rules that keep it. Without any, it is forgotten.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether the snapshot is kept.
    pub fn keeps(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// What the policy decides about one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    /// The group.
    pub group: Group,
    /// Its snapshots, newest first.
    pub decisions: Vec<Decision>,
    /// Why nothing of it may be forgotten until a person confirms; empty if nothing looks wrong.
    pub holds: Vec<Hold>,
}

/// What the policy decides about all snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The groups, sorted.
    pub groups: Vec<GroupPlan>,
}

/// Applies a policy to snapshots, given in any order. A snapshot that is given twice counts once. `runs` has what the
/// last run saw of each group, as [`Plan::runs`] returned it; a group without an entry is new.
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
    /// Returns the last runs to store after this plan was executed at `now`. Held groups keep what `before` has of
    /// them, unless a person `confirmed`: then they are not held again for the same snapshots.
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
