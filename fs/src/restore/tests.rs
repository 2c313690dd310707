//! Restores from a source in memory: of ordinary trees, and of trees that no repository would accept.

mod ahead;
mod deep;
mod existing;
mod fake;
mod hostile;
mod kinds;
mod limits;
mod names;
mod resume;

use std::path::Path;

use super::{RestoreOptions, RestoreProgress, RestoreReport, run};
use bkfs_store::{Result, format::tree::Node};
use fake::Fake;

fn options() -> RestoreOptions {
    // A small window: files of a few megabytes take several steps.
    RestoreOptions { privileged: true, threads: 4, memory_bytes: 4 << 20, ..RestoreOptions::default() }
}

fn try_restore(fake: &Fake, root: &Node, dest: &Path, options: &RestoreOptions) -> Result<RestoreReport> {
    run::run(fake, root.clone(), dest, options, &RestoreProgress::default())
}

fn restore(fake: &Fake, root: &Node, dest: &Path) -> RestoreReport {
    try_restore(fake, root, dest, &options()).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the names in a folder, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
