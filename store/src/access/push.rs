//! Storing packs and committing snapshots.

use minicbor::{Decode, Encode};

use super::{
    challenge::{Challenge, Proofs},
    open::{Lease, Open, Seen},
};
use crate::{
    base::{
        error::Result,
        id::{ChunkId, ClientId, SnapshotId},
        time::Time,
    },
    format::pack::PackUpload,
};

/// The acknowledgement of a committed snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// The snapshot.
    #[n(0)]
    pub snapshot: SnapshotId,
    /// When the store received it, by the store's clock.
    #[n(1)]
    pub received: Time,
    /// The end of the log. The commit is in it.
    #[n(2)]
    pub now: Seen,
}

/// What a push needs: to ask what is stored, to store packs, and to commit.
pub trait Push: Open {
    /// Returns for each id (at most [`super::IDS_MAX`]) whether the chunk has a live copy that `client` may rely on:
    /// one of its own trust domain, or one that a key holder has verified. Without a client, for readers, any live
    /// copy counts. A client that is not the one it claims to be only spoils its own push.
    fn has(&self, client: Option<ClientId>, ids: &[ChunkId]) -> Result<Vec<bool>>;

    /// Shows random bytes of the frames that hold chunks (at most [`super::CHALLENGES_MAX`]), with proofs. A chunk that
    /// has no live copy on which the client may rely (see [`Push::has`]), or only damaged ones, has none.
    fn prove(&self, client: Option<ClientId>, challenges: &[Challenge]) -> Result<Proofs>;

    /// Stores a pack. On return it is durable, its chunks are found, and it is pinned for the session. A pack that is
    /// stored already may be put again; if it was condemned or swept, it becomes live again. Fails with
    /// [`crate::Error::NotOnRoster`] if the client that signed it is not on the roster.
    fn put_pack(&self, lease: Lease, pack: &PackUpload) -> Result<()>;

    /// Commits a snapshot. Every pack that it needs must have been put before. On return it is durable. Committing it
    /// again returns its receipt again.
    ///
    /// Fails with [`crate::Error::LeaseRefused`] if the lease's generation is not the present one: something may have
    /// been lost since. Open again, put what the snapshot needs of the lost chunks, and commit under the new
    /// generation. Also fails with it if the snapshot's number is not the next one of its client, because another push
    /// of the client has committed.
    fn commit(&self, lease: Lease, snapshot: &[u8]) -> Result<Receipt>;
}
