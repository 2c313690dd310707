//! The identity of a file system.

/// What must be the same for the times of a file system's inodes to prove anything.
pub type FilesystemId = [u8; 8];

/// The start of a hash of what identifies a file system by a rule.
pub fn digest(rule: &str, add: impl FnOnce(&mut blake3::Hasher)) -> FilesystemId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(rule.as_bytes()).update(b"\0");
    add(&mut hasher);
    let mut id = FilesystemId::default();
    id.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    id
}
