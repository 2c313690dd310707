//! What a client may do with the repositories of an account.

use std::{fmt, str::FromStr};

use bkfs_store::{Error, Result};
use minicbor::{Decode, Encode};

const NAMES: [(&str, u32); 5] = [("push", 1), ("read", 2), ("forget", 4), ("prune", 8), ("admin", 16)];

/// A set of permissions. Bits that this version does not know are kept, and grant nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Permissions(#[n(0)] u32);

impl Permissions {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// Store packs and commit snapshots.
    pub const PUSH: Self = Self(1);
    /// Read everything that is stored.
    pub const READ: Self = Self(2);
    /// Move snapshots to the trash and back.
    pub const FORGET: Self = Self(4);
    /// Reclaim space.
    pub const PRUNE: Self = Self(8);
    /// Make repositories, change slots and the roster.
    pub const ADMIN: Self = Self(16);
    /// All of them.
    pub const ALL: Self = Self(31);

    /// Whether this set has every permission of `other`.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether this set has a permission of `other`.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The permissions of both sets.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromStr for Permissions {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        s.split(',').map(str::trim).try_fold(Self::NONE, |sum, word| match word {
            "all" => Ok(sum.union(Self::ALL)),
            "none" if s.trim() == "none" => Ok(sum),
            word => match NAMES.iter().find(|(name, _)| *name == word) {
                Some((_, bit)) => Ok(sum.union(Self(*bit))),
                None => Err(Error::Invalid(format!(
                    "{word:?} is not a permission; give a list of push, read, forget, prune and admin, or all, or none"
                ))),
            },
        })
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.contains(Self::ALL) {
            return f.write_str("all");
        }
        if !self.intersects(Self::ALL) {
            return f.write_str("none");
        }
        let names: Vec<_> = NAMES.iter().filter(|(_, bit)| self.0 & bit != 0).map(|(name, _)| *name).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        assert_eq!("push, read".parse::<Permissions>().unwrap(), Permissions::PUSH.union(Permissions::READ));
        assert_eq!("all".parse::<Permissions>().unwrap().to_string(), "all");
        assert_eq!("admin,push".parse::<Permissions>().unwrap().to_string(), "push,admin");
        assert!("".parse::<Permissions>().is_err());
        assert_eq!("none".parse::<Permissions>().unwrap().to_string(), "none");
        assert!("push,none".parse::<Permissions>().is_err());
        assert!("push,root".parse::<Permissions>().is_err());
    }
}
