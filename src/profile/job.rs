//! What a profile pushes.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use bkfs_fs::exclude::ExcludeOptions;
use bkfs_store::format::compress::LEVEL_DEFAULT;

use super::{
    resolve::Profile,
    settings::{CommandFile, Settings},
};
use crate::push_job::{Feed, JobStream, PushJob};

impl Profile {
    /// Returns the push of this profile.
    pub fn job(&self) -> PushJob {
        let settings = &self.settings;
        PushJob {
            target: settings.target.as_ref().map(|target| target.get().0.clone()),
            tags: settings.tags.iter().flat_map(|tags| &tags.0).map(|tag| tag.get().0.clone()).collect(),
            base: settings.directory.clone(),
            paths: self.sources().to_vec(),
            streams: self.commands().map(stream).collect(),
            reads_devices: settings.devices.unwrap_or(false),
            exclude: exclude(settings),
            host: settings.host.as_ref().map(|host| host.get().0.clone()),
            level: settings.compression.unwrap_or(LEVEL_DEFAULT),
            ..PushJob::default()
        }
    }

    /// Returns the sources; none if the profile only names repositories.
    pub fn sources(&self) -> &[PathBuf] {
        self.settings.sources.as_ref().map_or(&[], |sources| &sources.0)
    }

    /// Returns the commands whose output becomes a file of the snapshot.
    pub fn commands(&self) -> impl Iterator<Item = &CommandFile> {
        self.settings.command.iter().flatten()
    }

    /// Returns whether there is anything to push.
    pub fn has_sources(&self) -> bool {
        !self.sources().is_empty() || self.commands().next().is_some()
    }

    /// Returns the repositories.
    pub fn repositories(&self) -> &[String] {
        self.settings.repositories.as_ref().map_or(&[], |repositories| &repositories.0)
    }

    /// Returns whether `bkfs run` runs it without being told its name.
    pub fn is_runnable(&self) -> bool {
        self.settings.is_abstract != Some(true) && self.has_sources() && !self.repositories().is_empty()
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
