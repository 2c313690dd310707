//! Which permissions a call requires.
//!
//! A client must have one permission of [`requirement`], which follows from the number of the call alone: it is checked
//! before the call is received. For some calls [`further_requirements`] follow from what they say.

use bkfs_store::{access::RepairRequest, format::verdict::Verdict};

use crate::{
    message::{Call, number},
    permission::Permissions,
};

/// A requirement of a call.
pub(super) struct Requirement {
    /// The client must have at least one of these permissions.
    pub any_of: Permissions,
    /// What they allow, as the error says it.
    pub operation: &'static str,
}

/// What the call with a number requires at least. [`crate::message::sizes`] knows which numbers there are.
pub(super) fn requirement(call: u8) -> Requirement {
    let (any_of, operation) = match call {
        number::JOIN => (Permissions::NONE, "join"),
        number::INIT => (Permissions::ADMIN, "make a repository"),
        number::OPEN => (Permissions::ALL, "open a repository"),
        number::HAS | number::PROVE | number::PUT_PACK | number::COMMIT => (Permissions::PUSH, "push"),
        // The admin key's signature is the authority, as for a verdict. Who holds that key reads.
        number::PUT_ROSTER => (Permissions::READ.union(Permissions::ADMIN), "change the roster"),
        // The roster must have ended the client before.
        number::REVOKE_HOLDERS => (Permissions::ADMIN, "revoke a client (this needs the permission admin)"),
        number::PRUNE => (Permissions::PRUNE, "prune"),
        number::PUT_SLOT | number::REMOVE_SLOT => (Permissions::ADMIN, "change key slots"),
        number::PUT_SEAL_KEYS => (Permissions::ADMIN, "rotate the seal key"),
        number::UNFORGET => (Permissions::FORGET, "bring snapshots back from the trash"),
        number::FORGET => (Permissions::FORGET.union(Permissions::PRUNE), "forget snapshots"),
        number::REPAIR | number::JUDGE => (Permissions::READ.union(Permissions::PRUNE), "read"),
        _ => (Permissions::READ, "read"),
    };
    Requirement { any_of, operation }
}

/// What a call requires in addition: all of it.
pub(super) fn further_requirements(call: &Call) -> Vec<Requirement> {
    let mut requirements = Vec::new();
    let mut require = |any_of, operation| requirements.push(Requirement { any_of, operation });
    match call {
        Call::Repair(RepairRequest::Drop { .. }) => {
            require(Permissions::PRUNE, "drop damaged packs (this needs the permission prune)");
        }
        // The next prune removes what is refused. Without the permission prune, a full key must not lead to that.
        Call::Judge(verdict) if Verdict::refuses(verdict) => {
            require(Permissions::PRUNE, "refuse what a client stored (this needs the permission prune)");
        }
        Call::Repair(_) | Call::Judge(_) => require(Permissions::READ, "read"),
        Call::Forget(request) => {
            if !request.tombstones.is_empty() {
                require(Permissions::FORGET, "forget snapshots");
            }
            if request.now || request.empty_trash {
                require(Permissions::PRUNE, "make snapshots unrecoverable (this needs the permission prune)");
            }
        }
        _ => {}
    }
    requirements
}
