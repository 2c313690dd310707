//! The seal keys of a repository: the newest public one, and the way from each private one to those before it.
//!
//! A repository begins with the seal key in its configuration. A rotation makes a new key pair. The record says which
//! public key is the newest: clients seal to it, and need nothing else of the record. For each older key it holds the
//! hash of the public part, and the private part, sealed under a key that the next private key gives. So whoever has
//! one private key has all older ones, and none of the newer ones. That is why a full key holds only one.
//!
//! The admin key signs the record. It verifies without the roster, so that clients that see no roster can verify it.
//! Clients remember the newest that they have seen: a store that shows an older one is found out.

use minicbor::{Decode, Encode};

use super::{full::FullKey, push::PushKey};
use crate::{
    base::{
        codec::{self, Header},
        error::{Error, Result},
        id::{Hash, RepoId},
    },
    crypto::{AeadKey, NONCE_LEN, SealNumber, SealPublic, SealSecret, Secret, TAG_LEN, VerifyingKey, signed::Signed},
    format::config::Config,
};

/// How many seal keys there are before the newest, at most.
const OLDER_MAX: usize = SealKeys::COUNT_MAX as usize - 1;
/// Bytes of a sealed private key.
const SEALED_LEN: usize = NONCE_LEN + 32 + TAG_LEN;

/// Stored as a [`Signed`] whose payload is this record behind [`SealKeys::HEADER`].
#[derive(Encode, Decode)]
#[cbor(map)]
struct Record {
    #[n(0)]
    repo: RepoId,
    /// The newest public key.
    #[cbor(n(1), with = "minicbor::bytes")]
    newest: Vec<u8>,
    /// The keys before it, from the first.
    #[cbor(n(2), decode_with = "codec::at_most::<OLDER_MAX, _, _>")]
    older: Vec<OlderKey>,
}

/// A seal key that is not the newest.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct OlderKey {
    /// Hash of its public part.
    #[n(0)]
    public: Hash,
    /// Its private part, sealed under the next private key.
    #[cbor(n(1), with = "minicbor::bytes")]
    sealed: Vec<u8>,
}

/// The seal keys of a repository, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealKeys {
    repo: RepoId,
    newest: Vec<u8>,
    older: Vec<OlderKey>,
}

/// What a rotation makes.
pub struct Rotated {
    /// The owner's key with the new seal key and all older ones.
    pub full: FullKey,
    /// The signed record that names the new seal key.
    pub signed: Vec<u8>,
}

impl SealKeys {
    /// Magic and version.
    pub const HEADER: Header = Header { what: "the list of seal keys", magic: *b"bkfsseal", version: 1 };
    /// How many seal keys a repository can have had, the newest included.
    pub const COUNT_MAX: u32 = 64;
    /// The largest signed record in bytes.
    pub const SIZE_MAX: usize = 16 * 1024;

    /// Verifies what a store shows: a signed record, or nothing if the seal key was never rotated. Only a key holder
    /// can tell whether the configuration is the right one.
    pub fn verify(signed: &[u8], config: &Config) -> Result<Self> {
        let what = Self::HEADER.what;
        if signed.is_empty() {
            return Ok(Self { repo: config.repo, newest: config.seal_public.clone(), older: Vec::new() });
        }
        if signed.len() > Self::SIZE_MAX {
            return Err(Error::TooLarge { what, size: signed.len() as u64, limit: Self::SIZE_MAX as u64 });
        }
        let damaged = |reason: &str| Error::damaged(what, reason);
        let admin = VerifyingKey::from_slice(&config.admin_public)
            .ok_or_else(|| damaged("the admin's public key has the wrong length"))?;
        let signed = Signed::decode(what, signed)?;
        let record: Record = Self::HEADER.decode(signed.verify(what, &Self::HEADER.magic, &admin)?)?;
        let Record { repo, newest, older } = record;
        if repo != config.repo {
            return Err(damaged("it belongs to another repository"));
        }
        SealPublic::from_bytes(&newest, SealNumber::FIRST)?;
        if older.first().is_none_or(|first| first.public != Hash::of(&[&config.seal_public])) {
            return Err(damaged("it does not begin with the seal key of the configuration"));
        }
        if older.iter().any(|key| key.sealed.len() != SEALED_LEN) {
            return Err(damaged("a sealed key has the wrong length"));
        }
        let mut hashes: Vec<Hash> = older.iter().map(|key| key.public).chain([Hash::of(&[&newest])]).collect();
        hashes.sort_unstable();
        if hashes.windows(2).any(|two| two[0] == two[1]) {
            return Err(damaged("a key is in it twice"));
        }
        Ok(Self { repo, newest, older })
    }

    /// The number of the newest key.
    pub fn number(&self) -> SealNumber {
        SealNumber(self.older.len() as u32 + 1)
    }

    /// The hash of the public key with a number.
    pub fn hash(&self, number: SealNumber) -> Option<Hash> {
        let at = (number.0 as usize).checked_sub(1)?;
        match self.older.get(at) {
            Some(key) => Some(key.public),
            None => (number == self.number()).then(|| Hash::of(&[&self.newest])),
        }
    }

    /// The number of a public key, if it is one of them.
    pub fn number_of(&self, public: &[u8]) -> Option<SealNumber> {
        let hash = Hash::of(&[public]);
        (1..=self.number().0).map(SealNumber).find(|number| self.hash(*number) == Some(hash))
    }

    /// Whether these are the keys after one rotation of `before`.
    pub fn follows(&self, before: &Self) -> bool {
        self.repo == before.repo
            && self.number().0 == before.number().0 + 1
            && self.older.starts_with(&before.older)
            && self.hash(before.number()) == before.hash(before.number())
    }

    /// Returns a client's key that seals to the newest of these. Fails with [`Error::SealKeyMissing`] if the one that
    /// it has is not among them: then these are not all.
    pub fn renew(&self, push: &PushKey) -> Result<PushKey> {
        self.number_of(&push.seal_public).ok_or_else(|| self.missing())?;
        Ok(PushKey { seal_public: self.newest.clone(), seal_number: self.number(), ..push.clone() })
    }

    /// Returns an owner's key with the number of its seal key, and all older ones. Fails with
    /// [`Error::SealKeyMissing`] if its seal key is not among these.
    pub fn complete(&self, full: &FullKey) -> Result<FullKey> {
        let number = self.number_of(&full.seal.public().to_bytes()).ok_or_else(|| self.missing())?;
        let mut newer = SealSecret::from_seed(full.seal.seed().clone(), number);
        let mut full = FullKey { seal: newer.clone(), older: Vec::new(), ..full.clone() };
        for (at, key) in self.older.iter().enumerate().take(number.0 as usize - 1).rev() {
            let number = SealNumber(at as u32 + 1);
            let damaged = |reason: &str| Error::damaged(format!("seal key {number} in the list of seal keys"), reason);
            let seed = link(&newer).open(&key.sealed, &aad(self.repo, number));
            let seed = seed.and_then(|seed| seed.try_into().ok()).map(Secret::new);
            newer = SealSecret::from_seed(seed.ok_or_else(|| damaged("the next seal key does not open it"))?, number);
            if Hash::of(&[&newer.public().to_bytes()]) != key.public {
                return Err(damaged("it is another key"));
            }
            full.older.push(newer.clone());
        }
        full.older.reverse();
        Ok(full)
    }

    /// Makes a new seal key. `full` is an owner's key that [`SealKeys::complete`] returned. Fails with
    /// [`Error::KeyOutdated`] if it does not have the newest seal key.
    pub fn rotate(&self, full: &FullKey) -> Result<Rotated> {
        self.check_newest(full)?;
        if self.number().0 == Self::COUNT_MAX {
            let count = Self::COUNT_MAX;
            return Err(Error::Invalid(format!("this repository has had {count} seal keys, and that is the limit")));
        }
        let seal = SealSecret::random(SealNumber(self.number().0 + 1));
        let sealed = link(&seal).seal(full.seal.seed().bytes(), &aad(self.repo, self.number()));
        let mut record = Record { repo: self.repo, newest: seal.public().to_bytes(), older: self.older.clone() };
        record.older.push(OlderKey { public: Hash::of(&[&self.newest]), sealed });
        let signed = Signed::new(&Self::HEADER.magic, Self::HEADER.encode(&record), &full.admin).encode();
        let mut full = FullKey { older: full.older.clone(), ..full.clone() };
        full.older.push(std::mem::replace(&mut full.seal, seal));
        Ok(Rotated { full, signed })
    }

    /// Fails with [`Error::KeyOutdated`] if there is a newer seal key than those of a completed full key.
    pub fn check_newest(&self, full: &FullKey) -> Result<()> {
        match (full.seal.number().0, self.number().0) {
            (have, needed) if have < needed => Err(Error::KeyOutdated { have, needed }),
            _ => Ok(()),
        }
    }

    fn missing(&self) -> Error {
        Error::SealKeyMissing { shown: self.number().0 }
    }
}

/// The key under which the private key before `newer` is sealed.
fn link(newer: &SealSecret) -> AeadKey {
    AeadKey::new(&newer.seed().derive("bkfs v1 older seal key"))
}

/// What a sealed private key is bound to: the repository and its own number.
fn aad(repo: RepoId, number: SealNumber) -> Vec<u8> {
    [&SealKeys::HEADER.magic[..], &repo.0, &number.0.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests;
