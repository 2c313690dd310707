//! The set that one prune takes: frames by pack, and the ids that lose their last live copy with them.
//!
//! It is stored as an object before the log names it, and kept: clients that were away are told from it what was lost.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::{Hash, PackId},
    },
    format::loss::{FrameBits, Lost},
};

/// How many lost ids are kept one by one. Clients that were away while more were lost are told that everything may be.
pub const LOST_MAX: usize = 262_144;

/// The frames of one pack that a prune takes. If they are not all of its frames, the others are copied to another pack
/// before this one goes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CondemnedPack {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// Its dead frames.
    #[n(1)]
    pub frames: FrameBits,
}

/// All that a prune takes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Condemned {
    /// The generation that begins with it.
    #[n(0)]
    pub generation: u64,
    /// The packs that go.
    #[n(1)]
    pub packs: Vec<CondemnedPack>,
    /// The ids that lose their last live copy; everything, if they are more than [`LOST_MAX`].
    #[n(2)]
    pub lost: Lost,
}

impl Condemned {
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
            false => Err(Error::damaged(Self::HEADER.what, "it is not the one that the log names")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_comes_back_and_a_changed_one_does_not() {
        let mut frames = FrameBits::none(3);
        frames.set(1);
        let packs = vec![CondemnedPack { pack: PackId([7; 32]), frames }];
        let set = Condemned { generation: 2, packs, lost: Lost::Everything };
        let mut bytes = set.encode();
        let hash = Hash::of(&[&bytes]);
        assert_eq!(Condemned::decode(&bytes, hash).unwrap(), set);
        *bytes.last_mut().unwrap() ^= 1;
        Condemned::decode(&bytes, hash).unwrap_err();
    }
}
