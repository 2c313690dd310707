//! Files of a snapshot that are read from elsewhere than a file, as plain data.

use std::path::PathBuf;

/// A file of the snapshot that is read from elsewhere than a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStream {
    /// Its path below the root of the snapshot.
    pub name: PathBuf,
    /// Where the contents come from.
    pub feed: Feed,
}

/// Where the contents of a stream come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// Standard input.
    Stdin,
    /// What a shell command prints.
    Command(String),
}
