//! Endorsements: the admin key's signature of one client's public key, for clients that do not get the roster.
//!
//! A client that may only push must not learn who else is on the roster. But it must verify that a client of the
//! repository signed a pack. So the admin key signs each client's public key by itself. An endorsement says only that
//! the key belongs to a client of the repository. It has no end: packs from before a client ended stay valid.

use std::collections::HashMap;

use minicbor::{Decode, Encode, bytes::ByteArray};

use super::{Roster, RosterClient, damaged};
use crate::{
    base::{
        error::Result,
        id::{ClientId, RepoId},
    },
    crypto::{SIGNATURE_LEN, SigningKey, VerifyingKey},
};

/// Binds the signature to this use.
const CONTEXT: [u8; 8] = *b"bkfsendo";

/// The admin's signature under a client's public key.
pub type EndorsementSignature = ByteArray<SIGNATURE_LEN>;

/// A client's public key, signed by the admin key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Endorsement {
    /// The client's public key.
    #[n(0)]
    public: ByteArray<32>,
    /// The admin's signature.
    #[n(1)]
    signature: EndorsementSignature,
}

impl Endorsement {
    /// Signs the public key of a client of the repository.
    pub fn sign(public: &VerifyingKey, repo: RepoId, admin: &SigningKey) -> EndorsementSignature {
        admin.sign(&CONTEXT, &message(public, repo)).into()
    }

    /// Returns the key, if the admin key of the repository has signed it.
    fn verify(&self, repo: RepoId, admin: &VerifyingKey) -> Result<VerifyingKey> {
        let public = VerifyingKey(*self.public);
        match admin.verify(&CONTEXT, &message(&public, repo), &self.signature[..]) {
            true => Ok(public),
            false => Err(damaged("the signature under a client's endorsement is not valid")),
        }
    }
}

impl RosterClient {
    /// Returns the client's endorsement.
    pub fn endorsement(&self) -> Result<Endorsement> {
        Ok(Endorsement { public: self.key()?.0.into(), signature: self.endorsement })
    }
}

/// The keys with which clients of a repository sign packs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// The repository.
    pub repo: RepoId,
    keys: HashMap<ClientId, VerifyingKey>,
}

impl Signers {
    /// The keys of endorsements. Each is verified.
    pub fn of_endorsements(endorsements: &[Endorsement], repo: RepoId, admin: &VerifyingKey) -> Result<Self> {
        let keys = endorsements.iter().map(|endorsement| {
            let key = endorsement.verify(repo, admin)?;
            Ok((key.client_id(), key))
        });
        Ok(Self { repo, keys: keys.collect::<Result<_>>()? })
    }

    /// The keys of all clients on a verified roster.
    pub fn of_roster(roster: &Roster) -> Result<Self> {
        let keys = roster.clients.iter().map(|client| Ok((client.id, client.key()?)));
        Ok(Self { repo: roster.repo, keys: keys.collect::<Result<_>>()? })
    }

    /// Returns the key of a client, if it is known.
    pub fn key(&self, client: ClientId) -> Option<VerifyingKey> {
        self.keys.get(&client).copied()
    }
}

fn message(public: &VerifyingKey, repo: RepoId) -> Vec<u8> {
    [&repo.0[..], &public.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{id::DomainId, time::Time},
        format::keys::FullKey,
    };

    #[test]
    fn only_the_admin_key_makes_a_client_of_a_key() {
        let repo = RepoId([1; 16]);
        let (full, other) = (FullKey::random(repo), FullKey::random(repo));
        let admin = full.admin.verifying_key();
        let (push, client) = full.new_client("host", None, DomainId::OWNER, Time::default());
        let endorsement = client.endorsement().unwrap();
        let signers = Signers::of_endorsements(std::slice::from_ref(&endorsement), repo, &admin).unwrap();
        assert_eq!(signers.key(client.id), Some(push.signing.verifying_key()));
        assert_eq!(signers.key(ClientId([9; 16])), None);
        let is_refused = |endorsement: &Endorsement, repo, admin: &VerifyingKey| {
            Signers::of_endorsements(std::slice::from_ref(endorsement), repo, admin).is_err()
        };
        assert!(is_refused(&endorsement, RepoId([2; 16]), &admin), "of another repository");
        assert!(is_refused(&endorsement, repo, &other.admin.verifying_key()), "of another admin");
        // A server that makes up a client cannot make up the endorsement.
        let made_up = SigningKey::random().verifying_key();
        let forged = Endorsement { public: made_up.0.into(), ..endorsement.clone() };
        assert!(is_refused(&forged, repo, &admin));
        let (_, stranger) = other.new_client("host", None, DomainId::OWNER, Time::default());
        assert!(is_refused(&stranger.endorsement().unwrap(), repo, &admin));
    }
}
