//! The options that limit the snapshots to choose from.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

use anyhow::Result;
use bkfs_fs::select::SnapshotFilter;
use clap::Args;

use crate::{
    args::{parse_host, parse_tag, parse_target},
    clients::Clients,
    completion,
};

/// Options that limit the snapshots to choose from.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Snapshot filters")]
pub struct Filters {
    /// Consider only snapshots that this client pushed: its label or the beginning of its id, as in `bkfs key list`
    #[arg(long, value_name = "CLIENT")]
    pub client: Option<String>,
    /// Consider only snapshots of this machine
    #[arg(long, value_name = "HOST", value_parser = parse_host, add = completion::field("host"))]
    pub host: Option<String>,
    /// Consider only snapshots of this target
    #[arg(long, value_name = "NAME", value_parser = parse_target, add = completion::field("target"))]
    pub target: Option<String>,
    /// Consider only snapshots with all these tags
    #[arg(long, value_name = "TAG,...", value_delimiter = ',', value_parser = parse_tag)]
    pub tag: Vec<String>,
    /// Consider only snapshots of pushes that named PATH (repeat to require several paths)
    #[arg(long, value_name = "PATH")]
    pub path: Vec<OsString>,
}

impl Filters {
    /// Returns whether none of the options was given.
    pub fn is_empty(&self) -> bool {
        let Self { client, host, target, tag, path } = self;
        client.is_none() && host.is_none() && target.is_none() && tag.is_empty() && path.is_empty()
    }

    /// Returns the filter. Fails if the named client is none of the repository's.
    pub fn filter(&self, clients: &Clients) -> Result<SnapshotFilter> {
        let trimmed = |path: &OsStr| match path.as_bytes() {
            b"/" => b"/".to_vec(),
            bytes => bytes.strip_suffix(b"/").unwrap_or(bytes).to_vec(),
        };
        Ok(SnapshotFilter {
            clients: self.client.as_ref().map(|name| clients.find(name)).transpose()?,
            host: self.host.clone(),
            target: self.target.clone(),
            tags: self.tag.clone(),
            paths: self.path.iter().map(|path| trimmed(path)).collect(),
        })
    }
}
