//! What is said on a stream: one request, one reply, each a length and that many bytes of CBOR, bulk bytes behind.
//!
//! ```text
//! message := length u32, little-endian | CBOR
//! stream  := client: request, for a pack its bytes from the offset that the server named
//!            server: reply, for reads the bytes of the frames, one after another
//! ```
//!
//! Errors travel as a code with what the client needs to say the same as an embedded store would.

use bkfs_store::{
    Error, ErrorKind, Result,
    access::{
        ForgetReply, ForgetRequest, InitRequest, Lease, Mending, OpenRequest, Opened, PackInfo, PruneReply,
        PruneRequest, ReadRequest, Receipt, RepairReply, RepairRequest,
    },
    base::{
        codec,
        id::{ChunkId, ClientId, KeyId, PackId, SlotId, SnapshotId},
    },
    crypto::Wrap,
    format::{keys::Slot, snapshot::SnapshotObject},
};
use bytes::Bytes;
use minicbor::{Decode, Encode};
use quinn::{RecvStream, SendStream};

use crate::{token::TokenSecret, url::Name};

/// Largest request in bytes: the longest list of ids, or the largest snapshot, has room.
pub const REQUEST_MAX: usize = 8 * 1024 * 1024;
/// Largest request of a client that has not joined.
pub const STRANGER_MAX: usize = 4096;
/// Largest reply in bytes, bulk bytes not counted.
pub const REPLY_MAX: usize = 64 * 1024 * 1024;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Request {
    /// The account.
    #[n(0)]
    pub account: Name,
    /// The repository in it.
    #[n(1)]
    pub repository: Name,
    /// What is to be done.
    #[n(2)]
    pub ask: Ask,
}

/// One call of [`bkfs_store::access::Access`], or the joining of a new client.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(flat)]
#[allow(missing_docs, reason = "each is the call of that name")]
pub enum Ask {
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

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(flat)]
#[allow(missing_docs, reason = "each answers the call of that name")]
pub enum Reply {
    #[n(0)]
    Failed(#[n(0)] WireError),
    #[n(1)]
    Done,
    #[n(2)]
    Opened(#[n(0)] Box<Opened>),
    /// A bit an id, the first in the lowest bit of the first byte.
    #[n(3)]
    Has(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    #[n(21)]
    Places(#[n(0)] Vec<u64>),
    /// How many bytes of the pack are there already; none are wanted if it is all of them.
    #[n(4)]
    SendFrom(#[n(0)] u64),
    /// The frames' bytes follow, one after another.
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
    /// So many bytes of a pack follow.
    #[n(12)]
    Pack(#[n(0)] u64),
    #[n(13)]
    Forgotten(#[n(0)] ForgetReply),
    #[n(14)]
    Pruned(#[n(0)] PruneReply),
}

/// A frame whose bytes follow.
#[derive(Debug, Clone, Copy, PartialEq, Encode, Decode)]
pub struct FrameHead {
    /// Its pack.
    #[n(0)]
    pub pack: PackId,
    /// Its number in the pack.
    #[n(1)]
    pub frame: u32,
    /// Its length in bytes.
    #[n(2)]
    pub len: u32,
}

/// An encoded record of the log.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(transparent)]
pub struct LogBytes(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

/// An error on the wire.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(flat)]
#[allow(missing_docs, reason = "each is the error of that name")]
pub enum WireError {
    #[n(0)]
    Other(#[n(0)] String),
    #[n(1)]
    NoRepository(#[n(0)] String),
    #[n(2)]
    RepositoryExists(#[n(0)] String),
    #[n(3)]
    NoPermission(#[n(0)] String),
    #[n(4)]
    ChunkMissing(#[n(0)] ChunkId),
    #[n(5)]
    LeaseRefused(#[n(0)] String),
    #[n(6)]
    Full(#[n(0)] String),
    #[n(7)]
    PackDamaged(#[n(0)] PackId, #[n(1)] String),
    #[n(8)]
    SnapshotDamaged(#[n(0)] SnapshotId, #[n(1)] String),
    #[n(9)]
    NotOnRoster(#[n(0)] String, #[n(1)] ClientId),
    #[n(10)]
    Damaged(#[n(0)] String, #[n(1)] String),
    #[n(11)]
    Protected(#[n(0)] SnapshotId, #[n(1)] i64),
    #[n(12)]
    SnapshotNotFound(#[n(0)] String),
}

impl WireError {
    /// What the client is told of an error. Paths of the server's disk are its own business, and stay out.
    pub fn of(error: &Error, place: &str) -> Self {
        match error {
            Error::NoRepository { .. } => Self::NoRepository(place.into()),
            Error::RepositoryExists { .. } => Self::RepositoryExists(place.into()),
            Error::NoPermission { operation } => Self::NoPermission(operation.clone()),
            Error::ChunkMissing { id } => Self::ChunkMissing(*id),
            Error::LeaseRefused { reason } => Self::LeaseRefused(reason.clone()),
            Error::Full { .. } => Self::Full("the server".into()),
            Error::PackDamaged { pack, reason } => Self::PackDamaged(*pack, reason.clone()),
            Error::SnapshotDamaged { snapshot, reason } => Self::SnapshotDamaged(*snapshot, reason.clone()),
            Error::NotOnRoster { what, client } => Self::NotOnRoster(what.clone(), *client),
            Error::Damaged { what, reason } => Self::Damaged(what.clone(), reason.clone()),
            Error::Protected { snapshot, until_secs } => Self::Protected(*snapshot, *until_secs),
            Error::SnapshotNotFound(text) => Self::SnapshotNotFound(text.clone()),
            Error::Io { source, .. } => Self::Other(format!("the server's storage fails: {source}")),
            Error::Index { .. } => Self::Other("the server's index fails; its log says how".into()),
            other => Self::Other(other.to_string()),
        }
    }

    /// The error as the client's callers see it.
    pub fn into_error(self) -> Error {
        match self {
            Self::Other(text) => Error::Invalid(text),
            Self::NoRepository(place) => Error::NoRepository { place },
            Self::RepositoryExists(place) => Error::RepositoryExists { place },
            Self::NoPermission(operation) => Error::NoPermission { operation },
            Self::ChunkMissing(id) => Error::ChunkMissing { id },
            Self::LeaseRefused(reason) => Error::LeaseRefused { reason },
            Self::Full(place) => Error::Full { place },
            Self::PackDamaged(pack, reason) => Error::PackDamaged { pack, reason },
            Self::SnapshotDamaged(snapshot, reason) => Error::SnapshotDamaged { snapshot, reason },
            Self::NotOnRoster(what, client) => Error::NotOnRoster { what, client },
            Self::Damaged(what, reason) => Error::Damaged { what, reason },
            Self::Protected(snapshot, until_secs) => Error::Protected { snapshot, until_secs },
            Self::SnapshotNotFound(text) => Error::SnapshotNotFound(text),
        }
    }
}

/// Why a stream or connection failed: its own kind, so that it can be told from what the other side answered.
#[derive(Debug)]
pub struct Broken(pub String);

impl<E: std::error::Error> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Sends a message.
pub async fn send<T: Encode<()>>(stream: &mut SendStream, message: &T) -> Result<(), Broken> {
    let mut bytes = vec![0; 4];
    bytes.extend(codec::encode(message));
    let len = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    Ok(stream.write_all(&bytes).await?)
}

/// Receives a message of at most `max` bytes.
pub async fn receive<T: for<'b> Decode<'b, ()>>(stream: &mut RecvStream, max: usize) -> Result<T, Broken> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let len = u32::from_le_bytes(len) as usize;
    if len > max {
        return Err(Broken(format!("a message of {len} bytes, where at most {max} are allowed")));
    }
    let mut bytes = Vec::with_capacity(len.min(1024 * 1024));
    while bytes.len() < len {
        match stream.read_chunk(len - bytes.len(), true).await? {
            Some(chunk) => bytes.extend_from_slice(&chunk.bytes),
            None => return Err(Broken("the stream ended early".into())),
        }
    }
    codec::decode("a message", &bytes).map_err(|e| Broken(e.to_string()))
}

/// Receives what is left of a stream, to the end of `bytes`, which must then be `len`: the caller has bounded that. On an error, what came
/// before it is there.
pub async fn receive_rest(stream: &mut RecvStream, bytes: &mut Vec<u8>, len: usize) -> Result<(), Broken> {
    bytes.reserve_exact(len.saturating_sub(bytes.len()));
    // A packet holds little more than a kilobyte: one by one, taking them would cost as much as copying them.
    let mut chunks = [const { Bytes::new() }; 64];
    while let Some(count) = stream.read_chunks(&mut chunks).await? {
        for chunk in chunks.iter_mut().take(count).map(std::mem::take) {
            if bytes.len() + chunk.len() > len {
                return Err(Broken(format!("more bytes came than the {len} that were to come")));
            }
            bytes.extend_from_slice(&chunk);
        }
    }
    match bytes.len() == len {
        true => Ok(()),
        false => Err(Broken("the stream ended early".into())),
    }
}

/// Packs answers into bits.
pub fn to_bits(answers: &[bool]) -> Vec<u8> {
    let mut bits = vec![0; answers.len().div_ceil(8)];
    for (i, _) in answers.iter().enumerate().filter(|(_, yes)| **yes) {
        bits[i / 8] |= 1 << (i % 8);
    }
    bits
}

/// Unpacks `count` answers; none if there are too few bits.
pub fn from_bits(bits: &[u8], count: usize) -> Option<Vec<bool>> {
    (bits.len() == count.div_ceil(8)).then(|| (0..count).map(|i| bits[i / 8] >> (i % 8) & 1 == 1).collect())
}

/// Whether asking again may help.
pub fn is_passing(error: &Error) -> bool {
    error.kind() == ErrorKind::Unreachable
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_come_back(answers: Vec<bool>) {
            prop_assert_eq!(from_bits(&to_bits(&answers), answers.len()), Some(answers));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = codec::decode::<Request>("a request", &bytes);
            let _ = codec::decode::<Reply>("a reply", &bytes);
        }

        #[test]
        fn changed_requests_are_survived(at: prop::sample::Index, value: u8, ids in 0usize..20) {
            let ask = Ask::Has(vec![ChunkId([7; 32]); ids]);
            let request = Request { account: Name::default_repository(), repository: Name::default_repository(), ask };
            let mut bytes = codec::encode(&request);
            prop_assert_eq!(codec::decode::<Request>("a request", &bytes).unwrap(), request);
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = codec::decode::<Request>("a request", &bytes);
        }
    }

    #[test]
    fn errors_keep_their_kind() {
        for error in [
            Error::NoPermission { operation: "read".into() },
            Error::LeaseRefused { reason: "x".into() },
            Error::Full { place: "here".into() },
            Error::ChunkMissing { id: ChunkId([1; 32]) },
            Error::NoRepository { place: "y".into() },
            Error::Protected { snapshot: SnapshotId([1; 32]), until_secs: 1 },
            Error::SnapshotNotFound("z".into()),
        ] {
            let bytes = codec::encode(&WireError::of(&error, "place"));
            let back: WireError = codec::decode("an error", &bytes).unwrap();
            let back = back.into_error();
            assert_eq!(back.kind(), error.kind());
            // A place is said in the words of the side that reads.
            if !matches!(error, Error::NoRepository { .. } | Error::Full { .. }) {
                assert_eq!(back.to_string(), error.to_string());
            }
        }
    }
}
