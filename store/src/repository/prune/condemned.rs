//! The condemned set: the frames that one prune takes, by pack, and the ids that lose their last live copy with them.
//!
//! It is stored as an object before the log names it. It is kept, because it tells clients that were away what was
//! lost.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::{Hash, PackId},
    },
    format::loss::{FrameBits, Lost},
};

/// How many lost ids a set lists. If more are lost, clients that were away are told that everything may be lost.
pub const LOST_MAX: usize = 262_144;

/// How long a set is kept, in seconds. A client that pushes less often asks again what is stored, which takes a few
/// requests.
const KEPT_SECS: u64 = 90 * 24 * 3600;

/// The frames of one pack that a prune takes. The pack's other frames are copied to another pack before this one goes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CondemnedPack {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// Its condemned frames.
    #[n(1)]
    pub frames: FrameBits,
}

/// Everything that a prune takes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CondemnedSet {
    /// The generation that begins with it.
    #[n(0)]
    pub generation: u64,
    /// The packs, each with its condemned frames.
    #[n(1)]
    pub packs: Vec<CondemnedPack>,
    /// The ids that lose their last live copy; everything, if there are more than [`LOST_MAX`].
    #[n(2)]
    pub lost: Lost,
}

impl CondemnedSet {
    /// Magic and version.
    pub const HEADER: Header = Header { what: "a set of condemned frames", magic: *b"bkfscond", version: 1 };

    /// The object's bytes.
    pub fn encode(&self) -> Vec<u8> {
        Self::HEADER.encode(self)
    }

    /// Decodes the object whose hash the log names.
    pub fn decode(bytes: &[u8], hash: Hash) -> Result<Self> {
        match Hash::of(&[bytes]) == hash {
            true => Self::HEADER.decode(bytes),
            false => Err(Error::damaged(Self::HEADER.what, "it is not the set that the log names")),
        }
    }
}

/// Whether a set may be removed that was condemned so long ago.
pub fn is_old(age_secs: u64) -> bool {
    age_secs >= KEPT_SECS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_decodes_and_a_changed_set_does_not() {
        let mut frames = FrameBits::none(3);
        frames.set(1);
        let packs = vec![CondemnedPack { pack: PackId([7; 32]), frames }];
        let set = CondemnedSet { generation: 2, packs, lost: Lost::Everything };
        let mut bytes = set.encode();
        let hash = Hash::of(&[&bytes]);
        assert_eq!(CondemnedSet::decode(&bytes, hash).unwrap(), set);
        *bytes.last_mut().unwrap() ^= 1;
        CondemnedSet::decode(&bytes, hash).unwrap_err();
    }
}
