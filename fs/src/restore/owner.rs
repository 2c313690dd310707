//! Whose the restored entries will be.

use std::{collections::HashMap, ffi::CString, sync::Arc};

use bkfs_store::tree::Node;
use parking_lot::Mutex;

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

/// Largest buffer for the system's answer; more is no user's record.
const BUFFER_MAX: usize = 1 << 20;

fn user_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let mut buffer = vec![0 as libc::c_char; 1024];
    loop {
        // SAFETY: passwd is plain data for which zeros are valid.
        let mut record: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are to live locals, and the length is the buffer's.
        let code =
            unsafe { libc::getpwnam_r(name.as_ptr(), &mut record, buffer.as_mut_ptr(), buffer.len(), &mut found) };
        match code {
            0 => return (!found.is_null()).then_some(record.pw_uid),
            libc::ERANGE if buffer.len() < BUFFER_MAX => buffer.resize(buffer.len() * 4, 0),
            _ => return None,
        }
    }
}

fn group_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let mut buffer = vec![0 as libc::c_char; 4096];
    loop {
        // SAFETY: group is plain data for which zeros are valid.
        let mut record: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are to live locals, and the length is the buffer's.
        let code =
            unsafe { libc::getgrnam_r(name.as_ptr(), &mut record, buffer.as_mut_ptr(), buffer.len(), &mut found) };
        match code {
            0 => return (!found.is_null()).then_some(record.gr_gid),
            libc::ERANGE if buffer.len() < BUFFER_MAX => buffer.resize(buffer.len() * 4, 0),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up() {
        assert_eq!(user_id("root"), Some(0));
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(user_id("no such user, surely"), None);
        assert_eq!(group_id("no\0group"), None);
    }
}
