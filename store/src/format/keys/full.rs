//! The full key: all secrets of a repository's owner.

use std::fmt;

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{
    fields::{bounded_label, read_secret},
    ids::IdKeys,
    push::{PushKey, check_config},
};
use crate::{
    base::{
        codec::{self, Header},
        error::{Error, Result},
        id::{ClientId, DomainId, RepoId},
        time::Time,
    },
    crypto::{AeadKey, DataKey, SealNumber, SealSecret, Secret, SigningKey, Wrap, signed::Signed},
    format::{
        config::{ChunkerParams, Config},
        roster::{Endorsement, Roster, RosterClient},
    },
};

/// The name of [`DomainId::OWNER`].
pub const OWNER_DOMAIN: &str = "owner";

/// The owner's credential: it reads, enrols clients and signs rosters.
#[derive(Clone)]
pub struct FullKey {
    /// The repository.
    pub repo: RepoId,
    /// The id key.
    pub id_key: Secret,
    /// The private seal key. A key that was decoded does not know its number, nor older seal keys:
    /// [`SealKeys::complete`](super::SealKeys::complete) adds them.
    pub seal: SealSecret,
    /// The private seal keys before it, from the first.
    pub older: Vec<SealSecret>,
    /// The admin signing key.
    pub admin: SigningKey,
}

impl fmt::Debug for FullKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FullKey(repository {})", self.repo)
    }
}

/// The record of a full key. It borrows its fields, so that it leaves no copy of a secret in memory.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Record<'a> {
    #[n(0)]
    repo: RepoId,
    #[cbor(b(1), with = "minicbor::bytes")]
    id_key: &'a [u8],
    #[cbor(b(2), with = "minicbor::bytes")]
    seal: &'a [u8],
    #[cbor(b(3), with = "minicbor::bytes")]
    admin: &'a [u8],
}

impl FullKey {
    /// Magic and version of the record that [`FullKey::encode`] returns.
    pub const HEADER: Header = Header { what: "the full key", magic: *b"bkfsfull", version: 1 };

    /// Returns new random keys for a repository.
    pub fn random(repo: RepoId) -> Self {
        let (seal, older) = (SealSecret::random(SealNumber::FIRST), Vec::new());
        Self { repo, id_key: Secret::random(), seal, older, admin: SigningKey::random() }
    }

    /// Encodes the key's record, for slots, key files and the kernel's keyring.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // The header's `encode` reserves 256 bytes, enough for the record: a vector that grows leaves copies of
        // secrets.
        Zeroizing::new(Self::HEADER.encode(&Record {
            repo: self.repo,
            id_key: self.id_key.bytes(),
            seal: self.seal.seed().bytes(),
            admin: self.admin.seed().bytes(),
        }))
    }

    /// Decodes the record that [`FullKey::encode`] returns.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let what = Self::HEADER.what;
        let record: Record<'_> = Self::HEADER.decode(bytes)?;
        Ok(Self {
            repo: record.repo,
            id_key: read_secret(what, record.id_key)?,
            seal: SealSecret::from_seed(read_secret(what, record.seal)?, SealNumber::FIRST),
            older: Vec::new(),
            admin: SigningKey::from_seed(read_secret(what, record.admin)?),
        })
    }

    /// Returns the keys derived from the id key.
    pub fn ids(&self) -> IdKeys {
        IdKeys::new(self.id_key.clone())
    }

    /// Checks that a verified configuration belongs to this key's repository.
    pub fn check_config(&self, config: &Config) -> Result<()> {
        check_config(config, self.repo, &self.admin.verifying_key())
    }

    /// Opens the wrap of a data key with the seal key that it is sealed to. Fails with [`Error::KeyOutdated`] if that
    /// is newer than those of this key.
    pub fn unwrap(&self, wrap: &Wrap) -> Result<DataKey> {
        let (have, needed) = (self.seal.number(), wrap.seal_key);
        match self.seals().find(|seal| seal.number() == needed) {
            Some(seal) => seal.unwrap(self.repo, wrap),
            None if needed > have => Err(Error::KeyOutdated { have: have.0, needed: needed.0 }),
            None => Err(Error::damaged(format!("the wrap of data key {}", wrap.key), "its seal key does not exist")),
        }
    }

    /// The private seal keys, the newest first.
    pub(super) fn seals(&self) -> impl Iterator<Item = &SealSecret> {
        std::iter::once(&self.seal).chain(self.older.iter().rev())
    }

    /// Returns the repository's configuration, signed.
    pub fn config(&self, created: Time, chunker: ChunkerParams) -> Vec<u8> {
        let config = Config {
            repo: self.repo,
            created,
            chunker,
            seal_public: self.seal.public().to_bytes(),
            admin_public: self.admin.verifying_key().0.to_vec(),
        };
        Signed::new(&Config::HEADER.magic, Config::HEADER.encode(&config), &self.admin).encode()
    }

    /// Signs a roster.
    pub fn sign_roster(&self, roster: &Roster) -> Vec<u8> {
        Signed::new(&Roster::HEADER.magic, Roster::HEADER.encode(roster), &self.admin).encode()
    }

    /// Creates a client: returns its push key, and its entry for the next roster. Labels longer than
    /// [`super::LABEL_MAX`] bytes are shortened.
    pub fn new_client(&self, label: &str, url: Option<String>, domain: DomainId, now: Time) -> (PushKey, RosterClient) {
        let push = self.push_key(SigningKey::random(), label, url);
        let public = push.signing.verifying_key();
        let entry = RosterClient {
            id: push.client_id(),
            public: public.0.to_vec(),
            since: now,
            until: None,
            domain,
            label: self.seal_label(push.client_id(), label),
            endorsement: Endorsement::sign(&public, self.repo, &self.admin),
        };
        (push, entry)
    }

    /// Returns the push key of a client that signs with `signing`.
    pub fn push_key(&self, signing: SigningKey, label: &str, url: Option<String>) -> PushKey {
        PushKey {
            repo: self.repo,
            id_key: self.id_key.clone(),
            seal_public: self.seal.public().to_bytes(),
            seal_number: self.seal.number(),
            admin_public: self.admin.verifying_key(),
            signing,
            label: bounded_label(label).to_owned(),
            url,
        }
    }

    /// Seals a client's label for the roster, under the newest seal key. Padding to a multiple of 32 bytes hides its
    /// length.
    pub fn seal_label(&self, client: ClientId, label: &str) -> Vec<u8> {
        let label = bounded_label(label);
        let mut plain = codec::encode(&label);
        plain.resize(plain.len().next_multiple_of(32), 0);
        label_key(&self.seal).seal(&plain, &self.label_aad(client))
    }

    /// Opens a client's label.
    pub fn open_label(&self, client: &RosterClient) -> Result<String> {
        let damaged = |reason: &str| Error::damaged(format!("the label of client {}", client.id), reason);
        let plain = self
            .seals()
            .find_map(|seal| label_key(seal).open(&client.label, &self.label_aad(client.id)))
            .ok_or_else(|| damaged("this repository's key does not open it"))?;
        let mut decoder = minicbor::Decoder::new(&plain);
        let label = decoder.str().map_err(|_| damaged("it is not text"))?;
        match plain[decoder.position()..].iter().all(|b| *b == 0) {
            true => Ok(label.to_owned()),
            false => Err(damaged("bytes follow its end")),
        }
    }

    /// Returns the trust domain with a name. The store learns from it only which clients are in the same domain. It
    /// follows from the first seal key, so that a rotation does not change it.
    pub fn domain(&self, name: &str) -> DomainId {
        if name == OWNER_DOMAIN {
            return DomainId::OWNER;
        }
        let first = self.older.first().unwrap_or(&self.seal);
        let key = first.seed().derive("bkfs v1 trust domain");
        DomainId(*blake3::keyed_hash(key.bytes(), name.as_bytes()).as_bytes().first_chunk().expect("a hash is longer"))
    }

    fn label_aad(&self, client: ClientId) -> Vec<u8> {
        [&b"bkfslabl"[..], &self.repo.0, &client.0].concat()
    }
}

fn label_key(seal: &SealSecret) -> AeadKey {
    AeadKey::new(&seal.seed().derive("bkfs v1 client label"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_fits_in_one_allocation() {
        let bytes = FullKey::random(RepoId([1; 16])).encode();
        assert!(bytes.len() <= 256 && bytes.capacity() == 256);
    }

    #[test]
    fn labels_open_only_for_their_client() {
        let full = FullKey::random(RepoId([1; 16]));
        for label in ["", "alpha", &"ü".repeat(127), &"x".repeat(255)] {
            let (push, mut entry) = full.new_client(label, None, DomainId::OWNER, Time::default());
            assert_eq!(push.label, label);
            assert_eq!(full.open_label(&entry).unwrap(), label);
            assert!(FullKey::random(full.repo).open_label(&entry).is_err());
            entry.id = ClientId([9; 16]);
            assert!(full.open_label(&entry).is_err());
        }
        let (long, entry) = full.new_client(&"ü".repeat(200), None, DomainId::OWNER, Time::default());
        assert_eq!(long.label, "ü".repeat(127));
        assert_eq!(full.open_label(&entry).unwrap(), long.label);
    }

    #[test]
    fn a_replaced_configuration_is_noticed() {
        let full = FullKey::random(RepoId([1; 16]));
        let (push, _) = full.new_client("alpha", None, DomainId::OWNER, Time::default());
        let config =
            crate::format::config::verify_config(&full.config(Time::default(), ChunkerParams::default())).unwrap();
        push.check_config(&config).unwrap();
        full.check_config(&config).unwrap();

        let other = FullKey { repo: full.repo, ..FullKey::random(full.repo) };
        let swapped =
            crate::format::config::verify_config(&other.config(Time::default(), ChunkerParams::default())).unwrap();
        assert!(matches!(push.check_config(&swapped), Err(Error::Damaged { .. })));
        assert!(matches!(full.check_config(&swapped), Err(Error::Damaged { .. })));

        let foreign = FullKey::random(RepoId([2; 16]));
        assert!(matches!(foreign.check_config(&config), Err(Error::WrongKey { .. })));
    }
}
