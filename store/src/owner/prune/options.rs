//! What to prune, and with what.

use std::{fmt, path::Path};

use crate::{
    access::{Access, PruneLimits},
    format::keys::PushKey,
    owner::reader::Reader,
};

/// Prunes a repository: see [`Pruner::run`].
#[derive(Clone, Copy)]
pub struct Pruner<'a> {
    /// Reads the repository.
    pub reader: &'a Reader,
    /// The store that `reader` reads from.
    pub access: &'a dyn Access,
    /// The key of a client that may push. Mixed frames are rewritten with it; without a key they stay as they are.
    pub push_key: Option<&'a PushKey>,
    /// A folder for what does not fit into memory, and for what saves the next prune from walking all trees again. It
    /// may be emptied at any moment.
    pub cache: &'a Path,
}

impl fmt::Debug for Pruner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pruner({:?})", self.reader)
    }
}

/// How to prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneOptions {
    /// How far to go.
    pub limits: PruneLimits,
    /// Change nothing: only report what would be done.
    pub dry_run: bool,
    /// Continue even if more than half of the repository would go.
    pub is_confirmed: bool,
    /// First expire the snapshots in the trash that are due. They are not expired if more than half of the repository
    /// would go then and that is not confirmed.
    pub empty_trash: bool,
    /// How many bytes of mixed frames are fetched and rewritten at most. Needs a push key.
    pub reframe_bytes: u64,
    /// Take what pushes have stored that have not ended, too. Only for local repositories.
    pub ends_pushes: bool,
}
