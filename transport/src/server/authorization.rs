//! Which permissions a call requires.

use bkfs_store::access::RepairRequest;

use crate::{message::Call, permission::Permissions};

/// A requirement of a call.
pub(super) struct Requirement {
    /// The client must have at least one of these permissions.
    pub any_of: Permissions,
    /// What they allow, as the error says it.
    pub operation: &'static str,
}

/// What a call requires: all of it.
pub(super) fn requirements(call: &Call) -> Vec<Requirement> {
    let push_or_read = Permissions::PUSH.union(Permissions::READ);
    let (any_of, operation) = match call {
        Call::Join(_) => (Permissions::NONE, "join"),
        Call::Init(_) => (Permissions::ADMIN, "make a repository"),
        Call::Open(_) | Call::WaitLog(..) => (Permissions::ALL, "open a repository"),
        Call::Has(_) | Call::PutPack(..) | Call::Commit(..) => (Permissions::PUSH, "push"),
        // The admin key's signature is the authority. The permission only keeps strangers away.
        Call::PutRoster(_) => (push_or_read.union(Permissions::ADMIN), "change the roster"),
        Call::Places(_)
        | Call::Read(_)
        | Call::Wraps(_)
        | Call::Snapshots(..)
        | Call::Log(..)
        | Call::Packs(..)
        | Call::ReadPack(_)
        | Call::Mend(_) => (Permissions::READ, "read"),
        Call::Repair(RepairRequest::Drop { .. }) => {
            (Permissions::PRUNE, "drop damaged packs (this needs the permission prune)")
        }
        Call::Repair(_) => (Permissions::READ, "read"),
        Call::Prune(_) => (Permissions::PRUNE, "prune"),
        Call::PutSlot(_) | Call::RemoveSlot(_) => (Permissions::ADMIN, "change key slots"),
        Call::Unforget(_) => (Permissions::FORGET, "bring snapshots back from the trash"),
        Call::Forget(request) => {
            let mut requirements = Vec::new();
            if !request.tombstones.is_empty() {
                requirements.push(Requirement { any_of: Permissions::FORGET, operation: "forget snapshots" });
            }
            if request.now || request.empty_trash {
                let operation = "make snapshots unrecoverable (this needs the permission prune)";
                requirements.push(Requirement { any_of: Permissions::PRUNE, operation });
            }
            return requirements;
        }
    };
    vec![Requirement { any_of, operation }]
}
