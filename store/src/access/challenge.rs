//! Challenges: a store shows that it holds what it says it has.
//!
//! To say "yes" costs a store nothing. So a push asks for random bytes of some of the frames that it relies on. Which
//! ones, the store cannot know before. What a reply proves, [`PackProof`] says.

use minicbor::{Decode, Encode};

use crate::{
    base::id::ChunkId,
    format::{pack::PackProof, roster::Endorsement},
};

/// How many chunks one request may challenge.
pub const CHALLENGES_MAX: usize = 128;

/// A reply ends before the last challenge once the tables of its packs have this many bytes.
pub const PROOF_BYTES: usize = 8 * 1024 * 1024;

/// A chunk, and the byte of its frame that the store has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Challenge {
    /// The chunk.
    #[n(0)]
    pub id: ChunkId,
    /// A random number. Taken modulo the frame's length, it is the place of the byte.
    #[n(1)]
    pub at: u64,
}

/// The reply to challenges.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Proofs {
    /// What is shown of each pack.
    #[n(0)]
    pub packs: Vec<PackProof>,
    /// Where each challenged chunk is, in the order of the challenges; none if it is not stored. There may be fewer
    /// than there were challenges, but at least one: ask again for the others.
    #[n(1)]
    pub places: Vec<Option<ProofPlace>>,
    /// The endorsements of the clients that made these packs, each once. A client that may only push has no roster.
    #[n(2)]
    pub endorsements: Vec<Endorsement>,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ProofPlace {
    /// The place of its pack in [`Proofs::packs`].
    #[n(0)]
    pub pack: u32,
    /// Its number among the chunks of the pack.
    #[n(1)]
    pub number: u32,
}
