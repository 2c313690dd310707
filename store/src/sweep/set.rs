//! The set that one prune takes: frames by pack, and the ids that lose their last live copy with them.
//!
//! It is stored as an object before the log names it, and kept: clients that were away are told from it what was lost.

use minicbor::{Decode, Encode};

use crate::{
    access::Lost,
    codec::Header,
    error::{Error, Result},
    id::{Hash, PackId},
};

/// How many lost ids are kept one by one. Clients that were away while more were lost are told that everything may be.
pub const LOST_MAX: usize = 262_144;

/// Some frames of a pack, a bit each, the first in the lowest bit of the first byte.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct FrameBits(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

impl FrameBits {
    /// No frame, of so many.
    pub fn none(frames: usize) -> Self {
        Self(vec![0; frames.div_ceil(8)])
    }

    /// From stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes to be stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a frame is in it.
    pub fn has(&self, frame: u32) -> bool {
        self.0.get(frame as usize / 8).is_some_and(|byte| byte >> (frame % 8) & 1 == 1)
    }

    /// Puts a frame in, if there is room for it.
    pub fn set(&mut self, frame: u32) {
        if let Some(byte) = self.0.get_mut(frame as usize / 8) {
            *byte |= 1 << (frame % 8);
        }
    }

    /// Whether no frame is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

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
    fn bits_beyond_the_end_are_not_there() {
        let mut bits = FrameBits::none(9);
        bits.set(8);
        bits.set(400);
        assert!(bits.has(8) && !bits.has(0) && !bits.has(400) && !bits.is_empty());
        assert_eq!(bits.as_bytes(), [0, 1]);
    }

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
