//! What the kernel reports, whichever way it was asked.

use crate::changes::Scope;

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// An entry of the snapshot changed, or what is below it.
    Entry {
        /// Its path below the snapshot's root.
        path: Vec<u8>,
        /// How far the change reaches.
        scope: Scope,
        /// Whether it is a folder, if that is known.
        is_dir: Option<bool>,
    },
    /// Events were lost.
    Lost,
}
