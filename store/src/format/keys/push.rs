//! The push key: what a client needs to write, and nothing that reads.

use std::fmt;

use super::ids::IdKeys;
use crate::{
    base::{
        error::{Error, Result},
        id::{ClientId, RepoId},
    },
    crypto::{SealNumber, SealPublic, Secret, SigningKey, VerifyingKey},
    format::config::Config,
};

/// A client's credential. A thief can push in the client's name, and can test whether the repository holds contents
/// that the thief guesses. The key opens nothing.
#[derive(Clone)]
pub struct PushKey {
    /// The repository.
    pub repo: RepoId,
    /// The id key.
    pub id_key: Secret,
    /// The public seal key: the newest that was known when the key was written. Use
    /// [`SealKeys::renew`](super::SealKeys::renew) before sealing.
    pub seal_public: Vec<u8>,
    /// Its number. A key file does not have it.
    pub seal_number: SealNumber,
    /// The admin's public key. The configuration must contain the same one.
    pub admin_public: VerifyingKey,
    /// The client's own signing key.
    pub signing: SigningKey,
    /// The client's label (host name).
    pub label: String,
    /// The repository's address, for commands that are run without one.
    pub url: Option<String>,
}

impl fmt::Debug for PushKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PushKey(repository {}, client {})", self.repo, self.client_id())
    }
}

impl PushKey {
    /// Returns the id of the client that has this key.
    pub fn client_id(&self) -> ClientId {
        self.signing.verifying_key().client_id()
    }

    /// Returns the keys derived from the id key.
    pub fn ids(&self) -> IdKeys {
        IdKeys::new(self.id_key.clone())
    }

    /// Returns the public seal key, ready for use.
    pub fn seal(&self) -> Result<SealPublic> {
        SealPublic::from_bytes(&self.seal_public, self.seal_number)
    }

    /// Checks that a verified configuration names this repository and this admin key. Without this check, the operator
    /// of the store could replace the seal key with their own, and read everything that is pushed from then on.
    pub fn check_config(&self, config: &Config) -> Result<()> {
        check_config(config, self.repo, &self.admin_public)
    }
}

pub(super) fn check_config(config: &Config, repo: RepoId, admin: &VerifyingKey) -> Result<()> {
    if config.repo != repo {
        return Err(Error::WrongKey { key: repo.to_string(), found: config.repo.to_string() });
    }
    if config.admin_public != admin.0 {
        return Err(Error::damaged(
            Config::HEADER.what,
            "its admin key is not the one in this machine's key: it was replaced",
        ));
    }
    Ok(())
}
