//! Identifiers: newtypes over byte arrays of a fixed length, so that the compiler keeps the kinds apart.
//!
//! All of them print as lower-case hexadecimal and encode as CBOR byte strings of their exact length. The doc of each
//! type states what it is a hash of, or that it is random. The hashing code is next to the objects that are named.

use std::{fmt, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Reads an id from exactly `LEN` bytes; returns `None` for another length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// Returns the bytes of the id.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// Returns the first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                HEXLOWER.encode_display(&self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(s: &str) -> Result<Self, NotAnId> {
                let mut bytes = [0; $len];
                match s.len() == 2 * $len && HEXLOWER_PERMISSIVE.decode_mut(s.as_bytes(), &mut bytes).is_ok() {
                    true => Ok(Self(bytes)),
                    false => Err(NotAnId),
                }
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                Self::from_slice(d.bytes()?)
                    .ok_or_else(|| minicbor::decode::Error::message(concat!(stringify!($name), " of a wrong length")))
            }
        }
    };
}

id!(
    /// Names a chunk: keyed BLAKE3 of its plaintext, under one key for data and another for trees.
    ChunkId,
    32
);
id!(
    /// Names a pack: BLAKE3 of all its bytes before the footer. Anyone can verify it without keys.
    PackId,
    32
);
id!(
    /// Names a snapshot: BLAKE3 of its stored object (ciphertext and signature included).
    SnapshotId,
    32
);
id!(
    /// Names a data key and commits to it: derived from the key with BLAKE3.
    KeyId,
    32
);
id!(
    /// An unkeyed BLAKE3 hash: a link of a log's chain, a certificate's fingerprint.
    Hash,
    32
);
id!(
    /// Random name of a repository, given at `init`.
    RepoId,
    16
);
id!(
    /// Random name of one life of a repository's store.
    Incarnation,
    16
);
id!(
    /// Names a client: the first half of the BLAKE3 of its signing public key.
    ClientId,
    16
);
id!(
    /// Names a trust domain: clients that rely on each other's chunks before a key holder has opened them. All zeros
    /// for the owner's own machines, otherwise random or a keyed hash of the domain's name.
    DomainId,
    16
);
id!(
    /// A keyed hash of a target's name. The server learns no more about the name.
    TargetTag,
    16
);
id!(
    /// Random name of a passphrase slot.
    SlotId,
    16
);
id!(
    /// Identifies the names of one inode within one push: a keyed hash of mount root, inode and birth time.
    HardLinkGroup,
    16
);

impl DomainId {
    /// The domain of the owner's own machines.
    pub const OWNER: Self = Self([0; 16]);
}

impl Hash {
    /// Returns the BLAKE3 of the concatenated parts.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

/// The text is not the hexadecimal form of an id of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: an id is hexadecimal digits of its full length")]
pub struct NotAnId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses() {
        let id = SlotId([0xab; 16]);
        assert_eq!(id.to_string(), "ab".repeat(16));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("AB".repeat(16).parse(), Ok(id));
        assert_eq!("ab".parse::<SlotId>(), Err(NotAnId));
        assert_eq!("zz".repeat(16).parse::<SlotId>(), Err(NotAnId));
    }

    #[test]
    fn decodes_only_its_own_length() {
        let bytes = minicbor::to_vec(SlotId([7; 16])).expect("encodes");
        assert!(minicbor::decode::<SlotId>(&bytes).is_ok());
        assert!(minicbor::decode::<ChunkId>(&bytes).is_err());
    }
}
