//! What to push, and how: plain data, from the command line or a profile.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use anyhow::Result;
use bkfs_fs::{
    exclude::ExcludeOptions,
    push::{AlarmLimits, PushOptions, StreamFile},
};
use bkfs_store::format::compress::LEVEL_DEFAULT;

use super::{
    feed::{Feed, JobStream},
    target,
};
use crate::{
    context::{host_name, program, user_name},
    profile::{CommandFile, Profile, Settings},
};

/// What to push, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushJob {
    /// The name of the series. Without it: the host and the paths.
    pub target: Option<String>,
    /// The tags of the snapshot.
    pub tags: Vec<String>,
    /// The folder that paths are relative to, in the source and in the snapshot.
    pub base: Option<PathBuf>,
    /// The files and folders to push.
    pub paths: Vec<PathBuf>,
    /// The files of the snapshot that are read from elsewhere. With these, `paths` may be empty.
    pub streams: Vec<JobStream>,
    /// Read block devices that `paths` name as files.
    pub reads_devices: bool,
    /// What to leave out.
    pub exclude: ExcludeOptions,
    /// The host name to record. Without it: the name of this machine.
    pub host: Option<String>,
    /// Find out what would be sent, but send nothing.
    pub dry_run: bool,
    /// Accept that a source that had files has none now.
    pub allow_empty: bool,
    /// Read every file, even those that have not changed.
    pub force: bool,
    /// The level of compression.
    pub level: i32,
    /// When files that became unreadable are an alarm. None: never.
    pub alarm: Option<AlarmLimits>,
}

impl Default for PushJob {
    fn default() -> Self {
        Self {
            target: None,
            tags: Vec::new(),
            base: None,
            paths: Vec::new(),
            streams: Vec::new(),
            reads_devices: false,
            exclude: ExcludeOptions::default(),
            host: None,
            dry_run: false,
            allow_empty: false,
            force: false,
            level: LEVEL_DEFAULT,
            alarm: Some(AlarmLimits::default()),
        }
    }
}

impl PushJob {
    /// Returns the push of a profile.
    pub fn of(profile: &Profile) -> Self {
        let settings = &profile.settings;
        Self {
            target: settings.target.as_ref().map(|target| target.get().0.clone()),
            tags: settings.tags.iter().flat_map(|tags| &tags.0).map(|tag| tag.get().0.clone()).collect(),
            base: settings.directory.clone(),
            paths: profile.sources().to_vec(),
            streams: profile.commands().map(stream).collect(),
            reads_devices: settings.devices.unwrap_or(false),
            exclude: exclude(settings),
            host: settings.host.as_ref().map(|host| host.get().0.clone()),
            level: settings.compression.unwrap_or(LEVEL_DEFAULT),
            alarm: settings.alarm.as_ref().map_or(Some(AlarmLimits::default()), |share| share.get().limits()),
            ..Self::default()
        }
    }

    /// Returns the host name to record.
    pub fn host(&self) -> String {
        self.host.clone().unwrap_or_else(host_name)
    }

    /// Returns the target: the given one, or the default.
    pub fn target(&self) -> Result<String> {
        match &self.target {
            Some(target) => Ok(target.clone()),
            None => target::default(&self.host(), self.base.as_deref(), &self.paths, &self.streams),
        }
    }

    /// Returns the options for the push itself, which reads `streams`.
    pub(super) fn options(&self, is_remote: bool, target: String, streams: Vec<StreamFile>) -> PushOptions {
        PushOptions {
            target,
            tags: self.tags.clone(),
            base: self.base.clone(),
            paths: self.paths.clone(),
            exclude: self.exclude.clone(),
            dry_run: self.dry_run,
            host: self.host(),
            user: user_name(),
            force: self.force,
            keeps_known_set: is_remote,
            challenges: is_remote,
            program: program(),
            level: self.level,
            alarm: self.alarm,
            streams,
            reads_devices: self.reads_devices,
        }
    }
}

fn stream(command: &CommandFile) -> JobStream {
    JobStream { name: command.name.clone(), feed: Feed::Command(command.run.clone()) }
}

fn exclude(settings: &Settings) -> ExcludeOptions {
    let Some(exclude) = &settings.exclude else { return ExcludeOptions::default() };
    let bytes = |name: &String| OsString::from(name).into_vec();
    ExcludeOptions {
        patterns: exclude.patterns.iter().flat_map(|patterns| patterns.0.clone()).collect(),
        files: exclude.files.iter().flat_map(|files| files.0.clone()).collect(),
        if_present: exclude.if_present.iter().flat_map(|names| &names.0).map(bytes).collect(),
        caches: exclude.caches.unwrap_or(false),
        larger_than: exclude.larger_than.as_ref().map(|size| size.get().0),
        one_file_system: exclude.one_file_system.unwrap_or(false),
    }
}
