//! The keys of a profile. The JSON Schema, the names that unknown keys are compared with, and what `bkfs config show`
//! prints all come from these types. Each doc comment is the description that an editor shows.

use std::{path::PathBuf, time::Duration};

use bkfs_store::owner::retention::{Age, Count, Grouping, Policy, TagList};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    calendar::Schedule,
    hours::{Days, Hour},
    words::{Every, Host, Many, Rate, Secret, Size, Tag, Target, Text},
};
use crate::values::{AlarmShare, MaxUnused, Subset};

/// A profile: what to back up, to where, and what to do with old snapshots.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Take the keys that this profile does not set from the profile with this name.
    pub inherits: Option<String>,
    /// Only other profiles use this one: it is never run by itself.
    #[serde(rename = "abstract")]
    pub is_abstract: Option<bool>,
    /// Where to: the path of a folder, or bkfs://HOST:PORT/ACCOUNT[/NAME]. One or several.
    pub repositories: Option<Many<String>>,
    /// The files and folders to back up.
    pub sources: Option<Many<PathBuf>>,
    /// Commands whose output becomes a file of each snapshot: a list of tables.
    pub command: Option<Vec<CommandFile>>,
    /// Store sources that are block devices, or links to them, as files with the contents of the devices.
    pub devices: Option<bool>,
    /// Take and keep the paths of sources relative to this folder, as tar does.
    pub directory: Option<PathBuf>,
    /// The name of the series [default: host and paths, like alpha:/home/x].
    pub target: Option<Text<Target>>,
    /// The tags of each snapshot.
    pub tags: Option<Many<Text<Tag>>>,
    /// The host name in each snapshot [default: the name of this machine].
    pub host: Option<Text<Host>>,
    /// The level of compression, from 1 (fast) to 19 (small).
    #[schemars(range(min = 1, max = 19))]
    pub compression: Option<i32>,
    /// The share of all files that is an alarm if they become unreadable, as if they were encrypted: like 5%, or off.
    pub alarm: Option<Text<AlarmShare>>,
    /// A key file, as written by `bkfs key export-full` or `bkfs key export-push`.
    pub key_file: Option<PathBuf>,
    /// A file that holds the passphrase.
    pub password_file: Option<PathBuf>,
    /// A shell command that prints the passphrase.
    pub password_command: Option<String>,
    /// The passphrase itself. Only in a file with mode 0600, and with `insecure-inline-password = true`.
    pub password: Option<Secret>,
    /// Accept that the passphrase stands in the profile.
    pub insecure_inline_password: Option<bool>,
    /// When to run: hourly, every 4h, daily 03:00, weekly sun 03:00, monthly 1 03:00.
    pub schedule: Option<Text<Schedule>>,
    /// What to leave out.
    pub exclude: Option<Exclude>,
    /// Which snapshots `bkfs run` keeps; it moves the others of this profile's target to the trash.
    pub retention: Option<Retention>,
    /// When and how `bkfs run` reclaims space.
    pub prune: Option<Prune>,
    /// When and how `bkfs run` verifies the repository.
    pub check: Option<Check>,
    /// Shell commands around a run.
    pub hooks: Option<Hooks>,
    /// Limits of bandwidth with a server.
    pub limits: Option<Limits>,
    /// Whom to tell when something is wrong.
    pub notify: Option<Notify>,
    /// How `bkfs watch` follows changes.
    pub watch: Option<Watch>,
}

/// A command whose output becomes a file of the snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CommandFile {
    /// The path of the file below the root of the snapshot, like db.sql or dumps/db.sql.
    pub name: PathBuf,
    /// The shell command. If it fails, the snapshot does not have the file.
    pub run: String,
}

/// What to leave out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exclude {
    /// Patterns, written as in .gitignore.
    pub patterns: Option<Many<String>>,
    /// Files with one pattern a line.
    pub files: Option<Many<PathBuf>>,
    /// Leave out the contents of folders that have an entry with one of these names.
    pub if_present: Option<Many<String>>,
    /// Leave out the contents of folders with a CACHEDIR.TAG.
    pub caches: Option<bool>,
    /// Leave out larger files, like 500M or 2GiB.
    pub larger_than: Option<Text<Size>>,
    /// Do not enter other file systems.
    pub one_file_system: Option<bool>,
}

/// Which snapshots to keep: the options of `bkfs forget`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retention {
    /// Keep the N newest snapshots.
    pub keep_last: Option<Text<Count>>,
    /// Keep the newest snapshot of each of the N most recent hours that have one.
    pub keep_hourly: Option<Text<Count>>,
    /// Keep the newest snapshot of each of the N most recent days that have one.
    pub keep_daily: Option<Text<Count>>,
    /// Keep the newest snapshot of each of the N most recent weeks that have one.
    pub keep_weekly: Option<Text<Count>>,
    /// Keep the newest snapshot of each of the N most recent months that have one.
    pub keep_monthly: Option<Text<Count>>,
    /// Keep the newest snapshot of each of the N most recent years that have one.
    pub keep_yearly: Option<Text<Count>>,
    /// Keep all snapshots received less than this age before the newest one.
    pub keep_within: Option<Text<Age>>,
    /// Keep the newest snapshot of each hour, within this age.
    pub keep_within_hourly: Option<Text<Age>>,
    /// Keep the newest snapshot of each day, within this age.
    pub keep_within_daily: Option<Text<Age>>,
    /// Keep the newest snapshot of each week, within this age.
    pub keep_within_weekly: Option<Text<Age>>,
    /// Keep the newest snapshot of each month, within this age.
    pub keep_within_monthly: Option<Text<Age>>,
    /// Keep the newest snapshot of each year, within this age.
    pub keep_within_yearly: Option<Text<Age>>,
    /// Keep snapshots that have all of these tags (a list of alternatives; '' keeps snapshots without tags).
    pub keep_tag: Option<Many<Text<TagList>>>,
    /// Group snapshots by these fields: client, host, target, paths.
    pub group_by: Option<Text<Grouping>>,
}

impl Retention {
    /// Returns the policy.
    pub fn policy(&self) -> Policy {
        let count = |count: &Option<Text<Count>>| count.as_ref().map(|count| *count.get());
        let age = |age: &Option<Text<Age>>| age.as_ref().map(|age| *age.get());
        let tags = self.keep_tag.iter().flat_map(|tags| &tags.0);
        Policy {
            keep_last: count(&self.keep_last),
            keep_hourly: count(&self.keep_hourly),
            keep_daily: count(&self.keep_daily),
            keep_weekly: count(&self.keep_weekly),
            keep_monthly: count(&self.keep_monthly),
            keep_yearly: count(&self.keep_yearly),
            keep_within: age(&self.keep_within),
            keep_within_hourly: age(&self.keep_within_hourly),
            keep_within_daily: age(&self.keep_within_daily),
            keep_within_weekly: age(&self.keep_within_weekly),
            keep_within_monthly: age(&self.keep_within_monthly),
            keep_within_yearly: age(&self.keep_within_yearly),
            keep_tag: tags.map(|tags| tags.get().clone()).collect(),
        }
    }

    /// Returns the grouping.
    pub fn grouping(&self) -> Grouping {
        self.group_by.as_ref().map(|grouping| *grouping.get()).unwrap_or_default()
    }
}

/// When and how to reclaim space.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Prune {
    /// How often: at the first run after this time [default: 7d], run, or never.
    pub every: Option<Text<Every>>,
    /// Let this much of what is kept be unused: a share (5%), a size (2G), or unlimited [default: 5%].
    pub max_unused: Option<Text<MaxUnused>>,
    /// Rewrite at most this much needed data to free the unused data beside it.
    pub max_repack_size: Option<Text<Size>>,
    /// Fetch and resend at most this much data to free unused data in shared frames [default: 64M].
    pub max_reframe_size: Option<Text<Size>>,
    /// Delete nothing from the trash.
    pub keep_trash: Option<bool>,
}

/// When and how to verify the repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Check {
    /// How often: at the first run after this time [default: 7d], run, or never.
    pub every: Option<Text<Every>>,
    /// Also read and verify this part of the data: the next 5% or 2G, or part n of m, as in 3/7; 100% reads all.
    pub read_data: Option<Text<Subset>>,
}

/// Shell commands around a run. Each is one command or a list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hooks {
    /// Before the first push. If one fails, nothing is pushed.
    pub before: Option<Many<String>>,
    /// After a run in which nothing failed.
    pub after: Option<Many<String>>,
    /// After a run in which something failed.
    pub failed: Option<Many<String>>,
    /// After each run, at its very end.
    pub finally: Option<Many<String>>,
}

/// Limits of bandwidth with a server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Send at most this many bytes of data in a second, like 500K or 2M, or off.
    pub upload: Option<Text<Rate>>,
    /// Receive at most this many bytes of data in a second.
    pub download: Option<Text<Rate>>,
    /// Other limits at some times of day. The first that fits counts.
    pub times: Option<Vec<TimedLimits>>,
}

/// Limits at some times of day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TimedLimits {
    /// The beginning, like 08:00, by this machine's clock.
    pub from: Text<Hour>,
    /// The end, like 18:00. It may be on the next day.
    pub to: Text<Hour>,
    /// Only on these days, like mon-fri or sat,sun.
    pub days: Option<Text<Days>>,
    /// Send at most this many bytes of data in a second, or off.
    pub upload: Option<Text<Rate>>,
    /// Receive at most this many bytes of data in a second, or off.
    pub download: Option<Text<Rate>>,
}

/// Whom to tell when something is wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Notify {
    /// A shell command. What happened is in its environment, and the text on its standard input.
    pub command: Option<String>,
    /// A URL as of healthchecks.io: URL/start is fetched when a run starts, URL when it succeeds, URL/fail when it
    /// fails.
    pub ping: Option<String>,
    /// A URL that gets a POST of JSON.
    pub webhook: Option<String>,
    /// Mail addresses. The mail is sent through sendmail.
    pub mail: Option<Many<String>>,
    /// The sendmail program [default: the first of /usr/sbin/sendmail, /usr/lib/sendmail, /usr/bin/sendmail].
    pub sendmail: Option<PathBuf>,
    /// Tell of the same failure again after this time [default: 1d].
    pub repeat: Option<Text<Duration>>,
    /// Wait at most this long for each of them [default: 10s].
    pub timeout: Option<Text<Duration>>,
    /// The last success may be this old before it is overdue [default: twice the time between two runs of the
    /// schedule].
    pub overdue_after: Option<Text<Duration>>,
}

/// How `bkfs watch` follows changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Watch {
    /// Push when nothing has changed for this long.
    pub settle: Option<Text<Duration>>,
    /// Push at the latest this long after the first change, while changes go on.
    pub at_most: Option<Text<Duration>>,
    /// Push no more often than this.
    pub at_least: Option<Text<Duration>>,
    /// Look at every file again after this time.
    pub rescan: Option<Text<Duration>>,
    /// Look again after this time at what the kernel does not watch.
    pub rescan_unwatched: Option<Text<Duration>>,
    /// Do not push while on battery.
    pub skip_on_battery: Option<bool>,
    /// Do not push while the network is metered.
    pub skip_on_metered: Option<bool>,
}
