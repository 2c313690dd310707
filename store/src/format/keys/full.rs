//! The full key: everything that a repository's owner has.

use std::fmt;

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{
    fields::{bounded_label, secret_of},
    ids::IdKeys,
    push::{PushKey, check_config},
};
use crate::{
    base::{
        codec::{self, Header},
        error::{Error, Result},
        id::{ClientId, RepoId},
        time::Time,
    },
    crypto::{AeadKey, SealSecret, Secret, SigningKey, signed::Signed},
    format::{
        config::{ChunkerParams, Config},
        roster::{Roster, RosterClient},
    },
};

/// The owner's credential: reads, enrols, signs.
#[derive(Clone)]
pub struct FullKey {
    /// The repository.
    pub repo: RepoId,
    /// The id key.
    pub id_key: Secret,
    /// The private seal key.
    pub seal: SealSecret,
    /// The admin signing key.
    pub admin: SigningKey,
}

impl fmt::Debug for FullKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FullKey(repository {})", self.repo)
    }
}

/// A full key's record. It borrows, so that no copy of a secret is left behind.
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
    /// Magic and version of the record that [`FullKey::encode`] makes.
    pub const HEADER: Header = Header { what: "the full key", magic: *b"bkfsfull", version: 1 };

    /// New random keys for a repository.
    pub fn random(repo: RepoId) -> Self {
        Self { repo, id_key: Secret::random(), seal: SealSecret::random(), admin: SigningKey::random() }
    }

    /// The key's record, for slots, key files and the kernel's keyring.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // One allocation (the header's `encode` reserves 256 bytes), so that growth leaves no secrets behind.
        Zeroizing::new(Self::HEADER.encode(&Record {
            repo: self.repo,
            id_key: &self.id_key.0,
            seal: &self.seal.seed().0,
            admin: &self.admin.seed().0,
        }))
    }

    /// Reads what [`FullKey::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let what = Self::HEADER.what;
        let record: Record<'_> = Self::HEADER.decode(bytes)?;
        Ok(Self {
            repo: record.repo,
            id_key: secret_of(what, record.id_key)?,
            seal: SealSecret::from_seed(secret_of(what, record.seal)?),
            admin: SigningKey::from_seed(secret_of(what, record.admin)?),
        })
    }

    /// The keys derived from the id key.
    pub fn ids(&self) -> IdKeys {
        IdKeys::new(self.id_key.clone())
    }

    /// Checks that a (verified) configuration is that of this key's repository.
    pub fn check_config(&self, config: &Config) -> Result<()> {
        check_config(config, self.repo, &self.seal.public().to_bytes(), &self.admin.verifying_key())
    }

    /// The repository's configuration, signed.
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

    /// A roster, signed.
    pub fn sign_roster(&self, roster: &Roster) -> Vec<u8> {
        Signed::new(&Roster::HEADER.magic, Roster::HEADER.encode(roster), &self.admin).encode()
    }

    /// Makes a client: its push key, and its entry for the next roster. `trusted` is for clients that hold the full key.
    /// A label over [`super::LABEL_MAX`] bytes is shortened.
    pub fn new_client(&self, label: &str, url: Option<String>, is_trusted: bool, now: Time) -> (PushKey, RosterClient) {
        let push = self.push_key(SigningKey::random(), label, url);
        let entry = RosterClient {
            id: push.client_id(),
            public: push.signing.verifying_key().0.to_vec(),
            since: now,
            until: None,
            is_trusted,
            label: self.seal_label(push.client_id(), label),
        };
        (push, entry)
    }

    /// The push key of a client that signs with `signing`.
    pub fn push_key(&self, signing: SigningKey, label: &str, url: Option<String>) -> PushKey {
        PushKey {
            repo: self.repo,
            id_key: self.id_key.clone(),
            seal_public: self.seal.public().to_bytes(),
            admin_public: self.admin.verifying_key(),
            signing,
            label: bounded_label(label).to_owned(),
            url,
        }
    }

    /// Seals a client's label for the roster. Its length is hidden up to the next multiple of 32 bytes.
    pub fn seal_label(&self, client: ClientId, label: &str) -> Vec<u8> {
        let label = bounded_label(label);
        let mut plain = codec::encode(&label);
        plain.resize(plain.len().next_multiple_of(32), 0);
        self.label_key().seal(&plain, &self.label_aad(client))
    }

    /// Opens a client's label.
    pub fn open_label(&self, client: &RosterClient) -> Result<String> {
        let damaged = |reason: &str| Error::damaged(format!("the label of client {}", client.id), reason);
        let plain = self
            .label_key()
            .open(&client.label, &self.label_aad(client.id))
            .ok_or_else(|| damaged("it does not open with this repository's key"))?;
        let mut decoder = minicbor::Decoder::new(&plain);
        let label = decoder.str().map_err(|_| damaged("it is no text"))?;
        match plain[decoder.position()..].iter().all(|b| *b == 0) {
            true => Ok(label.to_owned()),
            false => Err(damaged("bytes follow its end")),
        }
    }

    fn label_key(&self) -> AeadKey {
        AeadKey::new(&self.seal.seed().derive("bkfs v1 client label"))
    }

    fn label_aad(&self, client: ClientId) -> Vec<u8> {
        [&b"bkfslabl"[..], &self.repo.0, &client.0].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_has_room_in_one_allocation() {
        let bytes = FullKey::random(RepoId([1; 16])).encode();
        assert!(bytes.len() <= 256 && bytes.capacity() == 256);
    }

    #[test]
    fn labels_open_for_their_client_only() {
        let full = FullKey::random(RepoId([1; 16]));
        for label in ["", "alpha", &"ü".repeat(127), &"x".repeat(255)] {
            let (push, mut entry) = full.new_client(label, None, false, Time::default());
            assert_eq!(push.label, label);
            assert_eq!(full.open_label(&entry).unwrap(), label);
            assert!(FullKey::random(full.repo).open_label(&entry).is_err());
            entry.id = ClientId([9; 16]);
            assert!(full.open_label(&entry).is_err());
        }
        let (long, entry) = full.new_client(&"ü".repeat(200), None, false, Time::default());
        assert_eq!(long.label, "ü".repeat(127));
        assert_eq!(full.open_label(&entry).unwrap(), long.label);
    }

    #[test]
    fn a_replaced_configuration_is_noticed() {
        let full = FullKey::random(RepoId([1; 16]));
        let (push, _) = full.new_client("alpha", None, false, Time::default());
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
