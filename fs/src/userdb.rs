//! The system's database of users and groups: names for numbers, numbers for names.
//!
//! [`Owners`] remembers the names that it was asked for; whoever asks for numbers remembers them itself.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    mem::MaybeUninit,
};

use parking_lot::Mutex;

/// Longest entry of the database that is read, in bytes (a group may list thousands of members).
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Names of users and groups, each asked of the system once.
#[derive(Debug, Default)]
pub struct Owners {
    users: Mutex<HashMap<u32, Option<String>>>,
    groups: Mutex<HashMap<u32, Option<String>>>,
}

impl Owners {
    /// Name of a user, none if the system knows none (or one that is not UTF-8).
    pub fn user(&self, uid: u32) -> Option<String> {
        self.users.lock().entry(uid).or_insert_with(|| user_name(uid)).clone()
    }

    /// Name of a group.
    pub fn group(&self, gid: u32) -> Option<String> {
        self.groups.lock().entry(gid).or_insert_with(|| group_name(gid)).clone()
    }
}

fn user_name(uid: u32) -> Option<String> {
    lookup(|buffer| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer leads to memory of ours that outlives the call, and the length is that of the buffer.
        let code =
            unsafe { libc::getpwuid_r(uid, entry.as_mut_ptr(), buffer.as_mut_ptr().cast(), buffer.len(), &mut found) };
        // SAFETY: a non-null result points to `entry`, whose name the call has placed, terminated, in the buffer.
        let name = (!found.is_null()).then(|| unsafe { CStr::from_ptr((*found).pw_name) }.to_owned());
        (code, name)
    })
    .and_then(|name| name.into_string().ok())
}

fn group_name(gid: u32) -> Option<String> {
    lookup(|buffer| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `user_name`.
        let code =
            unsafe { libc::getgrgid_r(gid, entry.as_mut_ptr(), buffer.as_mut_ptr().cast(), buffer.len(), &mut found) };
        // SAFETY: as in `user_name`.
        let name = (!found.is_null()).then(|| unsafe { CStr::from_ptr((*found).gr_name) }.to_owned());
        (code, name)
    })
    .and_then(|name| name.into_string().ok())
}

/// The number of a user, if the system knows the name.
pub fn user_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    lookup(|buffer| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let (into, room, mut found) = (buffer.as_mut_ptr().cast(), buffer.len(), std::ptr::null_mut());
        // SAFETY: as in `user_name`; the name outlives the call, too.
        let code = unsafe { libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), into, room, &mut found) };
        // SAFETY: a non-null result points to `entry`, which the call has filled.
        (code, (!found.is_null()).then(|| unsafe { (*found).pw_uid }))
    })
}

/// The number of a group, if the system knows the name.
pub fn group_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    lookup(|buffer| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let (into, room, mut found) = (buffer.as_mut_ptr().cast(), buffer.len(), std::ptr::null_mut());
        // SAFETY: as in `user_id`.
        let code = unsafe { libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), into, room, &mut found) };
        // SAFETY: as in `user_id`.
        (code, (!found.is_null()).then(|| unsafe { (*found).gr_gid }))
    })
}

/// Asks with more and more room for the answer, until it fits.
fn lookup<T>(call: impl Fn(&mut [u8]) -> (libc::c_int, Option<T>)) -> Option<T> {
    let mut buffer = vec![0u8; 1024];
    loop {
        match call(&mut buffer) {
            (libc::ERANGE, _) if buffer.len() < ENTRY_BYTES_MAX => buffer.resize(buffer.len() * 4, 0),
            (libc::EINTR, _) => {}
            (_, found) => return found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_names() {
        let owners = Owners::default();
        assert_eq!(owners.user(0).as_deref(), Some("root"));
        assert_eq!(owners.group(0).as_deref(), Some("root"));
        assert_eq!(owners.user(3_999_999_999), None);
    }

    #[test]
    fn names_are_looked_up() {
        assert_eq!(user_id("root"), Some(0));
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(user_id("no such user, surely"), None);
        assert_eq!(group_id("no\0group"), None);
    }
}
