//! Whose the restored entries will be.

use std::{collections::HashMap, sync::Arc};

use bkfs_store::format::tree::Node;
use parking_lot::Mutex;

use crate::userdb::{group_id, user_id};

/// Which owner and group an entry gets (as root; others can only give entries to their own groups).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// The stored numbers: right for the same machine, for one with the same users, and for containers' trees.
    #[default]
    Numeric,
    /// The users and groups of the stored names, where this machine knows them; else the stored numbers.
    Names,
}

/// Finds numbers for names, and remembers them.
#[derive(Default)]
pub(super) struct OwnerMap {
    users: Mutex<HashMap<Arc<str>, Option<u32>>>,
    groups: Mutex<HashMap<Arc<str>, Option<u32>>>,
}

impl OwnerMap {
    /// Owner and group for a node.
    pub(super) fn of(&self, node: &Node, owners: Owners) -> (u32, u32) {
        if owners == Owners::Numeric {
            return (node.uid, node.gid);
        }
        let find =
            |map: &Mutex<HashMap<Arc<str>, Option<u32>>>, name: &Option<String>, ask: fn(&str) -> Option<u32>| {
                let name = name.as_deref()?;
                let mut map = map.lock();
                if let Some(known) = map.get(name) {
                    return *known;
                }
                let found = ask(name);
                map.insert(name.into(), found);
                found
            };
        (
            find(&self.users, &node.user, user_id).unwrap_or(node.uid),
            find(&self.groups, &node.group, group_id).unwrap_or(node.gid),
        )
    }
}
