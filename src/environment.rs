//! What hooks and notifications of a profile learn from their environment.

use crate::{profile::Profile, push_job::PushJob, shell::Environment};

/// Returns what is known of a profile before it runs.
pub fn of(profile: &Profile) -> Environment {
    Environment::default()
        .with("BKFS_PROFILE", &profile.name)
        .with("BKFS_REPOSITORY", profile.repositories().join("\n"))
        .with("BKFS_TARGET", PushJob::of(profile).target().unwrap_or_default())
}
