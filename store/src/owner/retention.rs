//! Retention: which snapshots a policy keeps, which ones it forgets, and why.
//!
//! [`plan()`] is a pure function over plain rows. It reads neither a store nor a clock, and it does not execute the
//! [`Plan`]. Snapshots are divided into groups ([`Grouping`]), and the policy is applied to each group separately. A
//! snapshot is kept if any rule keeps it, and its [`Decision`] names every rule that does ([`Reason`]). A snapshot
//! without a reason is forgotten.
//!
//! **The rules.** Snapshots have the order in which the store received them ([`SnapshotOrder`]): it decides which of
//! two is the newer one. A snapshot's time is `received`: when the store received it, by the store's own clock. It
//! decides the snapshot's period and age. The client's clock plays no part.
//!
//! - `keep_last n`: the n newest.
//! - `keep_hourly n`, and daily, weekly, monthly, yearly: the newest snapshot of each of the n most recent periods that
//!   have one. Periods are those of the calendar in the given time zone; weeks are ISO weeks and begin on Monday. As
//!   long as there are fewer than n such periods, the oldest snapshot of the group is kept, too. Without that, a rule
//!   that takes a year to fill would never see a snapshot older than those that the shorter rules keep.
//! - `keep_within d`: those received less than d before the newest snapshot of the group. (Not before *now*: a group to
//!   which nothing is pushed any more does not melt away.) `keep_within_daily d` and so on: of those, the newest of
//!   each period, and the oldest snapshot of the group if it is one of them.
//! - `keep_tag a,b`: those that have all these tags. An empty list keeps the snapshots without tags.
//! - A snapshot from the future (later than `now` by more than [`SKEW_SECS`]) is kept. The other rules do not count it.
//!
//! These are the rules of restic's `forget`, whose published examples are among the tests, with three differences: time
//! is the store's; snapshots from the future take no place from others; and one month before 31 March is the last of
//! February, not 3 March. borg's rules differ in one point: if a finer rule keeps a period's snapshot, that period does
//! not count for a coarser rule. So borg's `--keep-daily 14 --keep-monthly 6` reaches one month further back than the
//! same rules here. With counts that leave room for that, both keep the same snapshots; that is tested, too.
//!
//! **Refused** are a policy without a rule, and a policy that keeps nothing of some group (only `keep_tag` can do
//! that). To forget a whole group, its snapshots must be named.
//!
//! **Holds.** A [`Hold`] reports that something looks wrong with a group: it shrank, or a clock jumped. The decisions
//! are made all the same, so that a person can see them. Automatic forgetting must leave a held group alone until a
//! person confirms. Holds compare with the group's [`LastRun`], which the caller stores after each run
//! ([`Plan::runs`]).
//!
//! Not here: the age below which a server deletes nothing, the trash, and forgetting by id, to which holds do not
//! apply.
//!
//! [`SnapshotOrder`]: crate::format::snapshot::SnapshotOrder

mod age;
mod calendar;
mod error;
mod group;
mod grouping;
mod hold;
mod keep;
mod plan;
mod policy;
mod reason;
mod row;

pub use age::Age;
pub use calendar::Period;
pub use error::RetentionError;
pub use group::Group;
pub use grouping::Grouping;
pub use hold::{Hold, LastRun, SKEW_SECS};
pub use plan::{Decision, GroupPlan, Plan, plan};
pub use policy::{Count, Policy, TagList};
pub use reason::Reason;
pub use row::SnapshotRow;
