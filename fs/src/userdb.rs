//! The system's database of users and groups: names for ids, and ids for names.
//!
//! `nix` asks the system. An error of the database counts as "unknown", and so does an entry of more than 1 MiB (a
//! group with tens of thousands of members): owners are stored by id as well, so a missing name loses little.
//!
//! [`OwnerNames`] remembers the names that it looked up. Callers that look up ids remember them themselves.

use std::collections::HashMap;

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, User},
};
use parking_lot::Mutex;

/// Names of users and groups; the system is asked once for each.
#[derive(Debug, Default)]
pub struct OwnerNames {
    users: Mutex<HashMap<u32, Option<String>>>,
    groups: Mutex<HashMap<u32, Option<String>>>,
}

impl OwnerNames {
    /// Returns the name of a user; none if the system knows none, or one that is not UTF-8.
    pub fn user(&self, uid: u32) -> Option<String> {
        self.users.lock().entry(uid).or_insert_with(|| user_name(uid)).clone()
    }

    /// Returns the name of a group; none if the system knows none, or one that is not UTF-8.
    pub fn group(&self, gid: u32) -> Option<String> {
        self.groups.lock().entry(gid).or_insert_with(|| group_name(gid)).clone()
    }
}

fn user_name(uid: u32) -> Option<String> {
    look_up(|| User::from_uid(Uid::from_raw(uid))).map(|user| user.name).filter(|name| is_utf8(name))
}

fn group_name(gid: u32) -> Option<String> {
    look_up(|| Group::from_gid(Gid::from_raw(gid))).map(|group| group.name).filter(|name| is_utf8(name))
}

/// Returns the id of a user, if the system knows the name.
pub fn user_id(name: &str) -> Option<u32> {
    look_up(|| User::from_name(name)).map(|user| user.uid.as_raw())
}

/// Returns the id of a group, if the system knows the name.
pub fn group_id(name: &str) -> Option<u32> {
    look_up(|| Group::from_name(name)).map(|group| group.gid.as_raw())
}

/// Asks again if a signal interrupted the call.
fn look_up<T>(ask: impl Fn() -> nix::Result<Option<T>>) -> Option<T> {
    loop {
        match ask() {
            Err(Errno::EINTR) => {}
            answer => return answer.ok().flatten(),
        }
    }
}

/// Returns whether the database has the name in UTF-8. `nix` replaces other bytes with U+FFFD, which would make up a
/// name. No real name contains that character.
fn is_utf8(name: &str) -> bool {
    !name.contains(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_names() {
        let names = OwnerNames::default();
        assert_eq!(names.user(0).as_deref(), Some("root"));
        assert_eq!(names.group(0).as_deref(), Some("root"));
        assert_eq!(names.user(3_999_999_999), None);
        assert_eq!(names.group(3_999_999_999), None);
        assert_eq!(names.user(u32::MAX), None);
    }

    #[test]
    fn names_have_ids() {
        assert_eq!(user_id("root"), Some(0));
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(user_id("no such user, surely"), None);
        assert_eq!(group_id("no\0group"), None);
    }

    #[test]
    fn names_that_are_not_utf8_are_unknown() {
        let name = String::from_utf8_lossy(b"caf\xe9");
        assert!(!is_utf8(&name) && is_utf8("café"));
    }

    #[test]
    fn interrupted_calls_are_repeated_and_errors_mean_unknown() {
        let answers = Mutex::new(vec![Ok(Some(5)), Err(Errno::EINTR), Err(Errno::EINTR)]);
        let next = || answers.lock().pop().unwrap();
        assert_eq!(look_up(next), Some(5));
        assert_eq!(look_up(|| Err::<Option<u32>, _>(Errno::ERANGE)), None);
        assert_eq!(look_up(|| Ok::<Option<u32>, _>(None)), None);
    }
}
