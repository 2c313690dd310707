//! What a stored entry would give rights with on the machine that restores or mounts it: set-id bits of files, the
//! attributes in which the kernel keeps capabilities and labels, and device nodes.
//!
//! A client that only pushes chooses all of them freely. A restore as root would put a program of its choice in place,
//! with root's rights. So they are taken only from clients that hold the full key, which could change every snapshot
//! anyway, or if a person asks for them.

use bkfs_store::format::tree::Node;

/// The mode without set-id bits. Those of folders stay: they only hand a group down.
pub(crate) fn plain_mode(node: &Node) -> u32 {
    if node.is_dir() { node.mode } else { node.mode & !0o6000 }
}

/// Whether the kernel trusts the value of an attribute with this name.
pub(crate) fn is_privileged_xattr(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}
