//! The messages of the protocol: a request names a repository and a call, a reply answers it.
//!
//! `stream` sends them; a failed call is answered with a `wire_error`. Numbers in here are on the wire: they never
//! change their meaning. `docs/PROTOCOL.md` describes each call.

use bkfs_store::{
    Error,
    access::{
        ForgetReply, ForgetRequest, InitRequest, Lease, Mending, OpenRequest, Opened, PackInfo, PruneReply,
        PruneRequest, ReadRequest, Receipt, RepairReply, RepairRequest,
    },
    base::id::{ChunkId, KeyId, PackId, SlotId, SnapshotId},
    crypto::Wrap,
    format::{keys::Slot, snapshot::SnapshotObject},
};
use minicbor::{Decode, Encode};

use crate::{token::TokenSecret, url::Name, wire_error::WireError};

/// Largest request in bytes. The longest list of ids and the largest snapshot fit.
pub const REQUEST_MAX: usize = 8 * 1024 * 1024;
/// Largest request, in bytes, of a client that has not joined.
pub const STRANGER_REQUEST_MAX: usize = 4096;
/// Largest reply in bytes, without the bulk bytes that follow it.
pub const REPLY_MAX: usize = 64 * 1024 * 1024;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Request {
    /// The account.
    #[n(0)]
    pub account: Name,
    /// The repository in it.
    #[n(1)]
    pub repository: Name,
    /// What to do.
    #[n(2)]
    pub call: Call,
}

/// A call of a method of [`bkfs_store::access::Access`], or a new client that joins.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(flat)]
#[allow(missing_docs, reason = "each calls the method of its name")]
pub enum Call {
    #[n(0)]
    Join(#[n(0)] TokenSecret),
    #[n(1)]
    Init(#[n(0)] InitRequest),
    #[n(2)]
    Open(#[n(0)] OpenRequest),
    #[n(3)]
    Has(#[n(0)] Vec<ChunkId>),
    #[n(21)]
    Places(#[n(0)] Vec<ChunkId>),
    #[n(4)]
    PutPack(#[n(0)] PackId, #[n(1)] u64, #[n(2)] Lease),
    #[n(5)]
    Read(#[n(0)] ReadRequest),
    #[n(6)]
    Wraps(#[n(0)] Vec<KeyId>),
    #[n(7)]
    Commit(#[n(0)] Lease, #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>),
    #[n(8)]
    Snapshots(#[n(0)] u64, #[n(1)] u32),
    #[n(9)]
    Log(#[n(0)] u64, #[n(1)] u32),
    #[n(10)]
    WaitLog(#[n(0)] u64, #[n(1)] u32),
    #[n(11)]
    PutRoster(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    #[n(12)]
    PutSlot(#[n(0)] Slot),
    #[n(13)]
    RemoveSlot(#[n(0)] SlotId),
    #[n(20)]
    Mend(#[n(0)] PackId),
    #[n(22)]
    Repair(#[n(0)] RepairRequest),
    #[n(14)]
    Packs(#[n(0)] Option<PackId>, #[n(1)] u32),
    #[n(15)]
    ReadPack(#[n(0)] PackId),
    #[n(16)]
    Forget(#[n(0)] ForgetRequest),
    #[n(17)]
    Unforget(#[n(0)] Vec<SnapshotId>),
    #[n(18)]
    Prune(#[n(0)] PruneRequest),
}

/// What a server sends back.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(flat)]
#[allow(missing_docs, reason = "each answers the call of its name")]
pub enum Reply {
    #[n(0)]
    Failed(#[n(0)] WireError),
    #[n(1)]
    Done,
    #[n(2)]
    Opened(#[n(0)] Box<Opened>),
    /// One bit for each id, the first in the lowest bit of the first byte: see [`to_bits`].
    #[n(3)]
    Has(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    #[n(21)]
    Places(#[n(0)] Vec<u64>),
    /// How many bytes of the pack the server already has. The client sends the rest, which may be nothing.
    #[n(4)]
    SendFrom(#[n(0)] u64),
    /// Heads of frames, how many ids were dealt with, and the missing ones. The bytes of the frames follow in the same
    /// order.
    #[n(5)]
    Frames(#[n(0)] Vec<FrameHead>, #[n(1)] u32, #[n(2)] Vec<ChunkId>),
    #[n(6)]
    Wraps(#[n(0)] Vec<Wrap>),
    #[n(7)]
    Committed(#[n(0)] Receipt),
    #[n(8)]
    Snapshots(#[n(0)] Vec<SnapshotObject>),
    #[n(9)]
    Log(#[n(0)] Vec<LogBytes>),
    #[n(10)]
    LogLen(#[n(0)] u64),
    #[n(20)]
    Mended(#[n(0)] Mending),
    #[n(22)]
    Repaired(#[n(0)] RepairReply),
    #[n(11)]
    Packs(#[n(0)] Vec<PackInfo>),
    /// The length of a pack. Its bytes follow.
    #[n(12)]
    Pack(#[n(0)] u64),
    #[n(13)]
    Forgotten(#[n(0)] ForgetReply),
    #[n(14)]
    Pruned(#[n(0)] PruneReply),
}

impl Reply {
    /// The error that this reply means to a call that expects another one: the server's error if the call failed.
    pub fn into_error(self) -> Error {
        match self {
            Self::Failed(error) => error.into_error(),
            _ => mismatched_reply(),
        }
    }
}

/// The error of a reply that does not belong to its request.
pub fn mismatched_reply() -> Error {
    let text = "the server's reply does not match the request: client and server may be of different versions";
    Error::Invalid(text.into())
}

/// A frame whose bytes follow.
#[derive(Debug, Clone, Copy, PartialEq, Encode, Decode)]
pub struct FrameHead {
    /// The pack that holds it.
    #[n(0)]
    pub pack: PackId,
    /// Its number in the pack.
    #[n(1)]
    pub frame: u32,
    /// Its length in bytes.
    #[n(2)]
    pub len: u32,
}

/// An encoded record of the log, in a list.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(transparent)]
pub struct LogBytes(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

/// Packs answers into bits, the first one into the lowest bit of the first byte.
pub fn to_bits(answers: &[bool]) -> Vec<u8> {
    let mut bits = vec![0; answers.len().div_ceil(8)];
    for (i, _) in answers.iter().enumerate().filter(|(_, yes)| **yes) {
        bits[i / 8] |= 1 << (i % 8);
    }
    bits
}

/// Unpacks `count` answers. Returns `None` if the number of bytes is wrong.
pub fn from_bits(bits: &[u8], count: usize) -> Option<Vec<bool>> {
    (bits.len() == count.div_ceil(8)).then(|| (0..count).map(|i| bits[i / 8] >> (i % 8) & 1 == 1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bkfs_store::base::codec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_round_trip(answers: Vec<bool>) {
            prop_assert_eq!(from_bits(&to_bits(&answers), answers.len()), Some(answers));
        }

        #[test]
        fn decoding_any_bytes_does_not_panic(bytes: Vec<u8>) {
            let _ = codec::decode::<Request>("a request", &bytes);
            let _ = codec::decode::<Reply>("a reply", &bytes);
        }

        #[test]
        fn decoding_a_changed_request_does_not_panic(at: prop::sample::Index, value: u8, ids in 0usize..20) {
            let call = Call::Has(vec![ChunkId([7; 32]); ids]);
            let request = Request { account: Name::default_repository(), repository: Name::default_repository(), call };
            let mut bytes = codec::encode(&request);
            prop_assert_eq!(codec::decode::<Request>("a request", &bytes).unwrap(), request);
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = codec::decode::<Request>("a request", &bytes);
        }
    }

    #[test]
    fn an_unexpected_reply_is_an_error_that_helps() {
        let failed = Reply::Failed(WireError::NoPermission("push".into()));
        assert!(matches!(failed.into_error(), Error::NoPermission { operation } if operation == "push"));
        assert!(Reply::Done.into_error().to_string().contains("different versions"));
    }
}
