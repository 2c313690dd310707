//! Proof that a network identity belongs to a client of a repository's roster.
//!
//! The client signs the repository's id and the fingerprint of its own certificate with the key that signs its
//! snapshots. Only the holder of that certificate can use the proof, because TLS shows who it is: so it is not secret,
//! and needs no time. The server remembers the tie, and can end both when one of them ends.

use bkfs_store::{
    base::id::{ClientId, Hash, RepoId},
    crypto::VerifyingKey,
    format::{keys::PushKey, roster::RosterClient},
};
use minicbor::{Decode, Encode};

/// Binds the signature to this use.
const CONTEXT: [u8; 8] = *b"bkfstie1";

/// The proof.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyProof {
    /// The client on the roster.
    #[n(0)]
    pub client: ClientId,
    /// Its signature.
    #[cbor(n(1), with = "minicbor::bytes")]
    signature: Vec<u8>,
}

impl KeyProof {
    /// Makes the proof for the identity with this fingerprint.
    pub fn new(key: &PushKey, identity: Hash) -> Self {
        let signature = key.signing.sign(&CONTEXT, &message(key.repo, identity)).to_vec();
        Self { client: key.client_id(), signature }
    }

    /// Whether this is the proof of an identity, for a client on the roster of a repository.
    pub fn is_valid(&self, client: &RosterClient, repo: RepoId, identity: Hash) -> bool {
        let is_signed = |key: VerifyingKey| key.verify(&CONTEXT, &message(repo, identity), &self.signature);
        client.id == self.client && client.key().is_ok_and(is_signed)
    }
}

fn message(repo: RepoId, identity: Hash) -> Vec<u8> {
    [&repo.0[..], &identity.0].concat()
}

#[cfg(test)]
mod tests {
    use bkfs_store::{
        base::{id::DomainId, time::Time},
        format::keys::FullKey,
    };

    use super::*;

    #[test]
    fn a_proof_is_of_one_identity_client_and_repository() {
        let (repo, identity) = (RepoId([1; 16]), Hash([2; 32]));
        let full = FullKey::random(repo);
        let (key, client) = full.new_client("host", None, DomainId::OWNER, Time::default());
        let (_, other) = full.new_client("host", None, DomainId::OWNER, Time::default());
        let proof = KeyProof::new(&key, identity);
        assert!(proof.is_valid(&client, repo, identity));
        assert!(!proof.is_valid(&client, repo, Hash([3; 32])));
        assert!(!proof.is_valid(&client, RepoId([3; 16]), identity));
        assert!(!proof.is_valid(&other, repo, identity));
        let renamed = KeyProof { client: other.id, ..proof };
        assert!(!renamed.is_valid(&other, repo, identity) && !renamed.is_valid(&client, repo, identity));
    }
}
