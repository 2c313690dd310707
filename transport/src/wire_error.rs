//! Errors on the wire: a code, and what the client needs to return the same error as an embedded store would.

use bkfs_store::{
    Error,
    base::id::{ChunkId, ClientId, PackId, SnapshotId},
};
use minicbor::{Decode, Encode};

/// The error of a call that failed.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(flat)]
#[allow(missing_docs, reason = "each is the error of its name")]
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
    #[n(13)]
    StillFull(#[n(0)] String),
    /// Nothing is wrong with the call. The client makes it again.
    #[n(14)]
    Busy(#[n(0)] String),
    #[n(15)]
    CommitsHeld(#[n(0)] u64),
    #[n(20)]
    OverQuota(#[n(0)] String),
    #[n(21)]
    ClientEnded(#[n(0)] ClientId, #[n(1)] i64),
}

impl WireError {
    /// Returns what the client may know of an error. `place` names the repository. Paths on the server's disk stay out.
    pub fn new(error: &Error, place: &str) -> Self {
        match error {
            // The client knows what it has sent.
            Error::BadInput(error) => Self::new(error, place),
            Error::NoRepository { .. } => Self::NoRepository(place.into()),
            Error::RepositoryExists { .. } => Self::RepositoryExists(place.into()),
            Error::NoPermission { operation } => Self::NoPermission(operation.clone()),
            Error::ChunkMissing { id } => Self::ChunkMissing(*id),
            Error::LeaseRefused { reason } => Self::LeaseRefused(reason.clone()),
            Error::Full { .. } => Self::Full("the server".into()),
            Error::StillFull { .. } => Self::StillFull("the server".into()),
            Error::PackDamaged { pack, reason } => Self::PackDamaged(*pack, reason.clone()),
            Error::SnapshotDamaged { snapshot, reason } => Self::SnapshotDamaged(*snapshot, reason.clone()),
            Error::NotOnRoster { what, client } => Self::NotOnRoster(what.clone(), *client),
            Error::Damaged { what, reason } => Self::Damaged(what.clone(), reason.clone()),
            Error::Protected { snapshot, until_secs } => Self::Protected(*snapshot, *until_secs),
            Error::SnapshotNotFound(text) => Self::SnapshotNotFound(text.clone()),
            Error::Unreachable(reason) => Self::Busy(reason.clone()),
            Error::CommitsHeld { millis } => Self::CommitsHeld(*millis),
            Error::OverQuota { reason } => Self::OverQuota(reason.clone()),
            Error::ClientEnded { client, until_secs } => Self::ClientEnded(*client, *until_secs),
            Error::Io { source, .. } => Self::Other(format!("the server's storage failed: {source}")),
            Error::Index { .. } => Self::Other("the server's index failed: see the server's log".into()),
            other => Self::Other(other.to_string()),
        }
    }

    /// Returns the error that the client's callers see.
    pub fn into_error(self) -> Error {
        match self {
            Self::Other(text) => Error::Invalid(one_line(&text)),
            Self::NoRepository(place) => Error::NoRepository { place: one_line(&place) },
            Self::RepositoryExists(place) => Error::RepositoryExists { place: one_line(&place) },
            Self::NoPermission(operation) => Error::NoPermission { operation: one_line(&operation) },
            Self::ChunkMissing(id) => Error::ChunkMissing { id },
            Self::LeaseRefused(reason) => Error::LeaseRefused { reason: one_line(&reason) },
            Self::Full(place) => Error::Full { place: one_line(&place) },
            Self::StillFull(place) => Error::StillFull { place: one_line(&place) },
            Self::PackDamaged(pack, reason) => Error::PackDamaged { pack, reason: one_line(&reason) },
            Self::SnapshotDamaged(snapshot, reason) => Error::SnapshotDamaged { snapshot, reason: one_line(&reason) },
            Self::NotOnRoster(what, client) => Error::NotOnRoster { what: one_line(&what), client },
            Self::Damaged(what, reason) => Error::Damaged { what: one_line(&what), reason: one_line(&reason) },
            Self::Protected(snapshot, until_secs) => Error::Protected { snapshot, until_secs },
            Self::SnapshotNotFound(text) => Error::SnapshotNotFound(one_line(&text)),
            Self::Busy(reason) => Error::Unreachable(one_line(&reason)),
            Self::CommitsHeld(millis) => Error::CommitsHeld { millis },
            Self::OverQuota(reason) => Error::OverQuota { reason: one_line(&reason) },
            Self::ClientEnded(client, until_secs) => Error::ClientEnded { client, until_secs },
        }
    }
}

/// A text of the other side as one line: it must not look like a line of this program's own.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bkfs_store::base::codec;

    #[test]
    fn errors_keep_their_kind() {
        for error in [
            Error::NoPermission { operation: "read".into() },
            Error::LeaseRefused { reason: "x".into() },
            Error::Full { place: "here".into() },
            Error::StillFull { place: "here".into() },
            Error::ChunkMissing { id: ChunkId([1; 32]) },
            Error::NoRepository { place: "y".into() },
            Error::Protected { snapshot: SnapshotId([1; 32]), until_secs: 1 },
            Error::SnapshotNotFound("z".into()),
            Error::Unreachable("busy".into()),
            Error::CommitsHeld { millis: 7 },
            Error::OverQuota { reason: "q".into() },
            Error::ClientEnded { client: ClientId([1; 16]), until_secs: 1 },
        ] {
            let bytes = codec::encode(&WireError::new(&error, "place"));
            let back: WireError = codec::decode("an error", &bytes).unwrap();
            let back = back.into_error();
            assert_eq!(back.kind(), error.kind());
            // Each side names a place in its own words.
            if !matches!(error, Error::NoRepository { .. } | Error::Full { .. } | Error::StillFull { .. }) {
                assert_eq!(back.to_string(), error.to_string());
            }
        }
    }
}
