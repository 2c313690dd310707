//! The push key: what a client needs to write, and nothing with which to read.

use std::fmt;

use super::ids::IdKeys;
use crate::{
    base::{
        error::{Error, Result},
        id::{ClientId, RepoId},
    },
    crypto::{SealPublic, Secret, SigningKey, VerifyingKey},
    format::config::Config,
};

/// One client's credential. Whoever steals it can push in that client's name and learn which contents the repository
/// holds by guessing them; it opens nothing.
#[derive(Clone)]
pub struct PushKey {
    /// The repository.
    pub repo: RepoId,
    /// The id key.
    pub id_key: Secret,
    /// Public seal key, as it must stand in the configuration.
    pub seal_public: Vec<u8>,
    /// The admin's public key, as it must stand in the configuration.
    pub admin_public: VerifyingKey,
    /// The client's own signing key.
    pub signing: SigningKey,
    /// The client's label (host name).
    pub label: String,
    /// Where the repository is, for commands that are not told.
    pub url: Option<String>,
}

impl fmt::Debug for PushKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PushKey(repository {}, client {})", self.repo, self.client_id())
    }
}

impl PushKey {
    /// The client that this key is.
    pub fn client_id(&self) -> ClientId {
        self.signing.verifying_key().client_id()
    }

    /// The keys derived from the id key.
    pub fn ids(&self) -> IdKeys {
        IdKeys::new(self.id_key.clone())
    }

    /// The public seal key, ready for use.
    pub fn seal(&self) -> Result<SealPublic> {
        SealPublic::from_bytes(&self.seal_public)
    }

    /// Checks that a (verified) configuration shows this repository and these keys: whoever keeps the store could
    /// otherwise show a seal key of their own, and read all that is pushed from then on.
    pub fn check_config(&self, config: &Config) -> Result<()> {
        check_config(config, self.repo, &self.seal_public, &self.admin_public)
    }
}

pub(super) fn check_config(config: &Config, repo: RepoId, seal_public: &[u8], admin: &VerifyingKey) -> Result<()> {
    if config.repo != repo {
        return Err(Error::WrongKey { key: repo.to_string(), found: config.repo.to_string() });
    }
    if config.seal_public != seal_public || config.admin_public != admin.0 {
        return Err(Error::damaged(
            Config::HEADER.what,
            "it shows other public keys than this machine's key knows: it was replaced",
        ));
    }
    Ok(())
}
