//! The messages of the protocol: a request is a head, which names a repository and a call, and the call; a reply
//! answers it.
//!
//! `stream` sends them; a failed call is answered with a `wire_error`. Numbers in here are on the wire: they never
//! change their meaning. `docs/PROTOCOL.md` describes each call.

use std::cmp::max;

use bkfs_store::{
    Error, Result,
    access::{
        CHALLENGES_MAX, Challenge, FORGET_MAX, ForgetReply, ForgetRequest, IDS_MAX, InitRequest, KEYS_MAX, LOG_BYTES,
        Lease, Mending, OpenRequest, Opened, PROOF_BYTES, PackInfo, Proofs, PruneReply, PruneRequest, READ_BYTES_MAX,
        ReadRequest, Receipt, RepairReply, RepairRequest,
    },
    base::{
        codec,
        id::{ChunkId, ClientId, Hash, KeyId, PackId, SlotId, SnapshotId},
    },
    crypto::Wrap,
    format::{
        frame::FRAME_MAX,
        keys::{SealKeys, Slot},
        log::file::RECORD_MAX,
        pack::PACK_MAX,
        snapshot::{SnapshotObject, StoredSnapshot},
        verdict::Verdict,
    },
};
use minicbor::{Decode, Encode};

use crate::{key_proof::KeyProof, permission::Permissions, token::TokenSecret, url::Name, wire_error::WireError};

/// Largest head of a request in bytes.
pub const HEAD_MAX: usize = 256;
/// Largest call in bytes. The longest list of ids and the largest snapshot fit. See [`sizes`] for each call.
pub const CALL_MAX: usize = 8 * 1024 * 1024;
/// Largest reply in bytes, without the bulk bytes that follow it.
pub const REPLY_MAX: usize = 64 * 1024 * 1024;

/// The head of a request. The call follows as a message of its own, so a server can decide about a request before it
/// takes in the call.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct RequestHead {
    /// The account.
    #[n(0)]
    pub account: Name,
    /// The repository in it.
    #[n(1)]
    pub repository: Name,
    /// The number of the call: see [`Call::number`].
    #[n(2)]
    pub call: u8,
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
    Open(#[n(0)] OpenRequest, #[n(1)] Option<KeyProof>),
    #[n(3)]
    Has(#[n(0)] Option<ClientId>, #[cbor(n(1), decode_with = "codec::at_most::<IDS_MAX, _, _>")] Vec<ChunkId>),
    #[n(30)]
    Prove(
        #[n(0)] Option<ClientId>,
        #[cbor(n(1), decode_with = "codec::at_most::<CHALLENGES_MAX, _, _>")] Vec<Challenge>,
    ),
    #[n(21)]
    Places(#[cbor(n(0), decode_with = "codec::at_most::<IDS_MAX, _, _>")] Vec<ChunkId>),
    #[n(4)]
    PutPack(#[n(0)] PackId, #[n(1)] u64, #[n(2)] Lease),
    #[n(5)]
    Read(#[n(0)] ReadRequest),
    #[n(6)]
    Wraps(#[cbor(n(0), decode_with = "codec::at_most::<KEYS_MAX, _, _>")] Vec<KeyId>),
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
    #[n(31)]
    PutSealKeys(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
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
    #[n(24)]
    Judge(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    #[n(16)]
    Forget(#[n(0)] ForgetRequest),
    #[n(17)]
    Unforget(#[cbor(n(0), decode_with = "codec::at_most::<FORGET_MAX, _, _>")] Vec<SnapshotId>),
    #[n(18)]
    Prune(#[n(0)] PruneRequest),
    /// Ends the permissions of all identities that hold the key of a client that the roster has ended.
    #[n(25)]
    RevokeHolders(#[n(0)] ClientId),
}

/// The numbers of the calls. A server must know them before it has decoded a call.
#[allow(missing_docs, reason = "each is the number of the call of its name")]
pub mod number {
    pub const JOIN: u8 = 0;
    pub const INIT: u8 = 1;
    pub const OPEN: u8 = 2;
    pub const HAS: u8 = 3;
    pub const PUT_PACK: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRAPS: u8 = 6;
    pub const COMMIT: u8 = 7;
    pub const SNAPSHOTS: u8 = 8;
    pub const LOG: u8 = 9;
    pub const WAIT_LOG: u8 = 10;
    pub const PUT_ROSTER: u8 = 11;
    pub const PUT_SLOT: u8 = 12;
    pub const REMOVE_SLOT: u8 = 13;
    pub const PACKS: u8 = 14;
    pub const READ_PACK: u8 = 15;
    pub const FORGET: u8 = 16;
    pub const UNFORGET: u8 = 17;
    pub const PRUNE: u8 = 18;
    pub const MEND: u8 = 20;
    pub const PLACES: u8 = 21;
    pub const REPAIR: u8 = 22;
    pub const JUDGE: u8 = 24;
    pub const REVOKE_HOLDERS: u8 = 25;
    pub const PROVE: u8 = 30;
    pub const PUT_SEAL_KEYS: u8 = 31;
}

/// The most records of the log that are read from a reply. No server sends so many; a reader that gets more than it
/// asked for says so. An empty record takes one byte of the message and 24 bytes of memory.
const RECORDS_MAX: usize = 65_536;

/// How large a call and its reply can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The most bytes of the call.
    pub call: usize,
    /// The most bytes of its reply, with bulk bytes.
    pub reply: usize,
}

/// Returns how large the call with a number and its reply can be; none if there is no such call.
pub fn sizes(number: u8) -> Option<Sizes> {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    /// A hash takes 34 bytes.
    const IDS: usize = 34 * IDS_MAX + KIB;
    let (call, reply) = match number {
        number::JOIN => (KIB, KIB),
        number::INIT | number::PUT_ROSTER => (CALL_MAX, KIB),
        // The roster, snapshots, and what was lost.
        number::OPEN => (4 * KIB, 32 * MIB),
        number::HAS => (IDS, 16 * KIB),
        number::PLACES => (IDS, MIB),
        number::PUT_PACK | number::WAIT_LOG | number::REMOVE_SLOT => (KIB, KIB),
        number::PUT_SLOT => (8 * KIB, KIB),
        number::REVOKE_HOLDERS => (KIB, MIB),
        number::PUT_SEAL_KEYS => (SealKeys::SIZE_MAX + KIB, KIB),
        // The first frame is returned whatever its size.
        number::READ => (IDS + 4 * KIB, max(FRAME_MAX, READ_BYTES_MAX) + MIB),
        number::WRAPS => (34 * KEYS_MAX + KIB, 16 * MIB),
        number::COMMIT => (StoredSnapshot::SIZE_MAX + KIB, KIB),
        number::SNAPSHOTS => (KIB, 12 * MIB),
        // A record that is longer than a reply may be is returned by itself.
        number::LOG => (KIB, max(LOG_BYTES, RECORD_MAX) + MIB),
        number::MEND => (KIB, 2 * MIB),
        number::PACKS => (KIB, 4 * MIB),
        number::READ_PACK => (KIB, PACK_MAX + KIB),
        number::FORGET => (CALL_MAX, 4 * MIB),
        number::UNFORGET => (34 * FORGET_MAX + KIB, KIB),
        number::PRUNE => (CALL_MAX, 8 * MIB),
        number::REPAIR => (64 * KIB, 16 * MIB),
        // The tables of the packs, one more of them than fits, and what ties the bytes to them.
        number::PROVE => (16 * KIB, PROOF_BYTES + PACK_MAX),
        number::JUDGE => (Verdict::SIZE_MAX + KIB, KIB),
        _ => return None,
    };
    Some(Sizes { call, reply })
}

impl Call {
    /// The number of the call, which is also the first item of its encoding.
    pub fn number(&self) -> u8 {
        match self {
            Self::Join(..) => number::JOIN,
            Self::Init(..) => number::INIT,
            Self::Open(..) => number::OPEN,
            Self::Has(..) => number::HAS,
            Self::PutPack(..) => number::PUT_PACK,
            Self::Read(..) => number::READ,
            Self::Wraps(..) => number::WRAPS,
            Self::Commit(..) => number::COMMIT,
            Self::Snapshots(..) => number::SNAPSHOTS,
            Self::Log(..) => number::LOG,
            Self::WaitLog(..) => number::WAIT_LOG,
            Self::PutRoster(..) => number::PUT_ROSTER,
            Self::PutSealKeys(..) => number::PUT_SEAL_KEYS,
            Self::PutSlot(..) => number::PUT_SLOT,
            Self::RemoveSlot(..) => number::REMOVE_SLOT,
            Self::Packs(..) => number::PACKS,
            Self::ReadPack(..) => number::READ_PACK,
            Self::Forget(..) => number::FORGET,
            Self::Unforget(..) => number::UNFORGET,
            Self::Prune(..) => number::PRUNE,
            Self::Mend(..) => number::MEND,
            Self::Places(..) => number::PLACES,
            Self::Repair(..) => number::REPAIR,
            Self::Judge(..) => number::JUDGE,
            Self::RevokeHolders(..) => number::REVOKE_HOLDERS,
            Self::Prove(..) => number::PROVE,
        }
    }
}

/// The name of the call with a number, in metrics and in the audit log.
pub fn name(number: u8) -> &'static str {
    match number {
        number::JOIN => "join",
        number::INIT => "init",
        number::OPEN => "open",
        number::HAS => "has",
        number::PUT_PACK => "put-pack",
        number::READ => "read",
        number::WRAPS => "wraps",
        number::COMMIT => "commit",
        number::SNAPSHOTS => "snapshots",
        number::LOG => "log",
        number::WAIT_LOG => "wait-log",
        number::PUT_ROSTER => "put-roster",
        number::PUT_SEAL_KEYS => "put-seal-keys",
        number::PUT_SLOT => "put-slot",
        number::REMOVE_SLOT => "remove-slot",
        number::PACKS => "packs",
        number::READ_PACK => "read-pack",
        number::FORGET => "forget",
        number::UNFORGET => "unforget",
        number::PRUNE => "prune",
        number::MEND => "mend",
        number::PLACES => "places",
        number::REPAIR => "repair",
        number::JUDGE => "judge",
        number::REVOKE_HOLDERS => "revoke-holders",
        number::PROVE => "prove",
        _ => "unknown",
    }
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
    #[n(30)]
    Proofs(#[n(0)] Proofs),
    #[n(21)]
    Places(#[cbor(n(0), decode_with = "codec::at_most::<IDS_MAX, _, _>")] Vec<u64>),
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
    Log(#[cbor(n(0), decode_with = "codec::at_most::<RECORDS_MAX, _, _>")] Vec<LogBytes>),
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
    /// All that the client may do in the account from now on.
    #[n(23)]
    Joined(#[n(0)] Permissions),
    /// The fingerprints of the identities whose permissions were ended.
    #[n(25)]
    Revoked(#[n(0)] Vec<Hash>),
}

impl Reply {
    /// The reply, or the error if the server is too busy to give one: then the client asks again.
    pub fn unless_busy(self) -> Result<Self> {
        match self {
            Self::Failed(WireError::Busy(reason)) => Err(WireError::Busy(reason).into_error()),
            reply => Ok(reply),
        }
    }

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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_round_trip(answers: Vec<bool>) {
            prop_assert_eq!(from_bits(&to_bits(&answers), answers.len()), Some(answers));
        }

        #[test]
        fn decoding_any_bytes_does_not_panic(bytes: Vec<u8>) {
            let _ = codec::decode::<Call>("a call", &bytes);
            let _ = codec::decode::<Reply>("a reply", &bytes);
        }

        #[test]
        fn decoding_a_changed_request_does_not_panic(at: prop::sample::Index, value: u8, ids in 0usize..20) {
            let call = Call::Has(None, vec![ChunkId([7; 32]); ids]);
            let mut bytes = codec::encode(&call);
            prop_assert_eq!(codec::decode::<Call>("a call", &bytes).unwrap(), call);
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = codec::decode::<Call>("a call", &bytes);
        }
    }

    #[test]
    fn each_call_has_a_name() {
        let names: Vec<&str> = (0..=u8::MAX).filter(|number| sizes(*number).is_some()).map(name).collect();
        let different: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert!(different.len() == names.len() && !different.contains("unknown"), "{names:?}");
    }

    #[test]
    fn a_call_begins_with_its_number_and_fits_its_size() {
        let tombstone = bkfs_store::access::SignedTombstone(vec![7; 1024]);
        let calls = [
            Call::Join(TokenSecret::random().unwrap()),
            Call::Has(Some(ClientId([255; ClientId::LEN])), vec![ChunkId([255; 32]); IDS_MAX]),
            Call::Places(vec![ChunkId([255; 32]); IDS_MAX]),
            Call::Read(ReadRequest {
                ids: vec![ChunkId([255; 32]); IDS_MAX],
                neighbour_bytes: u32::MAX,
                avoid: vec![PackId([255; 32]); 64],
            }),
            Call::Wraps(vec![KeyId([255; KeyId::LEN]); KEYS_MAX]),
            Call::PutPack(PackId([255; 32]), u64::MAX, Lease { session: u64::MAX, generation: u64::MAX }),
            Call::Commit(Lease::default(), vec![1; StoredSnapshot::SIZE_MAX]),
            Call::WaitLog(u64::MAX, u32::MAX),
            Call::Unforget(vec![SnapshotId([255; 32]); FORGET_MAX]),
            Call::Forget(ForgetRequest { tombstones: vec![tombstone; 8000], now: true, empty_trash: true }),
        ];
        for call in calls {
            let (bytes, number) = (codec::encode(&call), call.number());
            assert_eq!(minicbor::Decoder::new(&bytes[1..]).u8().unwrap(), number);
            assert!(bytes.len() <= sizes(number).unwrap().call, "call {number} has {} bytes", bytes.len());
            assert_eq!(codec::decode::<Call>("a call", &bytes).unwrap(), call);
        }
        let long: Name = "a".repeat(64).parse().unwrap();
        let head = codec::encode(&RequestHead { account: long.clone(), repository: long, call: u8::MAX });
        assert!(head.len() <= HEAD_MAX);
        let ids = codec::encode(&Call::Has(None, vec![ChunkId::default(); IDS_MAX + 1]));
        assert!(codec::decode::<Call>("a call", &ids).is_err());
    }

    #[test]
    fn the_longest_reply_of_log_records_fits_its_size() {
        let short = vec![LogBytes(vec![7; LOG_BYTES / 4096]); 4096];
        for records in [short, vec![LogBytes(vec![7; RECORD_MAX])]] {
            let len = codec::encode(&Reply::Log(records)).len();
            assert!(len <= sizes(number::LOG).unwrap().reply, "{len}");
        }
    }

    #[test]
    fn a_reply_of_empty_items_does_not_grow() {
        for reply in [Reply::Log(vec![LogBytes(vec![]); RECORDS_MAX + 1]), Reply::Places(vec![0; IDS_MAX + 1])] {
            let error = codec::decode::<Reply>("a reply", &codec::encode(&reply)).unwrap_err().to_string();
            assert!(error.contains("a list has more than 65536 items"), "{error}");
        }
    }

    #[test]
    fn each_call_has_a_name_of_its_own() {
        let names: Vec<_> = (0..=u8::MAX).filter(|call| sizes(*call).is_some()).map(name).collect();
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert!(distinct.len() == names.len() && !names.contains(&"unknown"), "{names:?}");
    }

    #[test]
    fn an_unexpected_reply_is_an_error_that_helps() {
        let failed = Reply::Failed(WireError::NoPermission("push".into()));
        assert!(matches!(failed.into_error(), Error::NoPermission { operation } if operation == "push"));
        assert!(Reply::Done.into_error().to_string().contains("different versions"));
    }
}
