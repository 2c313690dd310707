//! The keys of this machine, and how to find the full key.

use anyhow::{Context as _, Result};
use bkfs_store::{
    Error,
    base::id::RepoId,
    format::{
        config::Config,
        keys::{FullKey, KeyFile, PushKey, Slot, slot},
    },
};

use crate::{
    config::{RepoFolder, read_optional},
    context::Context,
    failure::{Exit, Failure},
    kernel_keyring, passphrase,
    place::Place,
};

/// The key in the file that `--key-file` or BKFS_KEY_FILE names. The file is a key file, or a recovery sheet that was
/// typed in.
pub struct GivenKey {
    /// The full key, if the file has it.
    pub full: Option<FullKey>,
    /// The push key, if the file has one. A recovery sheet has none.
    pub push: Option<PushKey>,
}

impl GivenKey {
    /// Loads the key, if a file was given.
    pub fn load(context: &Context) -> Result<Option<Self>> {
        let Some(path) = &context.key_file else { return Ok(None) };
        let Some(bytes) = read_optional(path)?.map(zeroize::Zeroizing::new) else {
            let hint = "check --key-file and BKFS_KEY_FILE";
            let message = format!("the key file {} does not exist", path.display());
            return Err(Failure::new(message, hint).exit(Exit::WrongKey).into());
        };
        let key = match KeyFile::decode(&bytes) {
            Ok(KeyFile::Push(push)) => Self { full: None, push: Some(push) },
            Ok(KeyFile::Full { full, push }) => Self { full: Some(full), push: Some(push) },
            Err(error @ Error::NewerVersion { .. }) => return Err(error.into()),
            Err(error) => match std::str::from_utf8(&bytes).ok().map(FullKey::from_recovery_text) {
                Some(Ok(full)) => Self { full: Some(full), push: None },
                _ => return Err(error).with_context(|| path.display().to_string()),
            },
        };
        Ok(Some(key))
    }

    /// Returns the repository that the key belongs to.
    pub fn repo(&self) -> RepoId {
        match (&self.full, &self.push) {
            (Some(full), _) => full.repo,
            (None, Some(push)) => push.repo,
            (None, None) => RepoId::default(),
        }
    }

    /// Returns where the repository is, if the file says that.
    pub fn url(&self) -> Option<&str> {
        self.push.as_ref()?.url.as_deref()
    }
}

/// Loads this machine's push key for a repository.
pub(super) fn machine_key(folder: &RepoFolder) -> Result<Option<PushKey>> {
    let Some(bytes) = folder.push_key()?.map(zeroize::Zeroizing::new) else { return Ok(None) };
    let file = KeyFile::decode(&bytes).with_context(|| folder.push_key_path().display().to_string())?;
    Ok(Some(match file {
        KeyFile::Push(push) => push,
        KeyFile::Full { push, .. } => push,
    }))
}

/// The keys that are available without a passphrase.
pub(super) struct LocalKeys {
    /// The key file that was given.
    pub given: Option<GivenKey>,
    /// The push key in the configuration folder.
    pub machine: Option<PushKey>,
}

impl LocalKeys {
    /// Returns the key to push with, if there is one.
    pub fn push(&self) -> Option<&PushKey> {
        self.given.as_ref().and_then(|n| n.push.as_ref()).or(self.machine.as_ref())
    }

    /// Fails if one of the keys belongs to another repository.
    pub fn check_config(&self, config: &Config) -> Result<()> {
        for key in [self.given.as_ref().and_then(|n| n.push.as_ref()), self.machine.as_ref()].into_iter().flatten() {
            key.check_config(config)?;
        }
        if let Some(full) = self.given.as_ref().and_then(|n| n.full.as_ref()) {
            full.check_config(config)?;
        }
        Ok(())
    }

    /// Finds the full key of the repository at `place`: in the given key file, in the kernel's keyring, or with a
    /// passphrase.
    pub fn find_full(
        &self,
        context: &Context,
        place: &Place,
        repo: RepoId,
        slots: &[Slot],
        operation: &'static str,
    ) -> Result<FullKey> {
        if let Some(full) = self.given.as_ref().and_then(|n| n.full.as_ref()) {
            return Ok(full.clone());
        }
        let has_push_only = self.given.is_some();
        if let Some(bytes) = kernel_keyring::find(repo)
            && let Ok(full) = FullKey::decode(&bytes)
        {
            return Ok(full);
        }
        if has_push_only && !passphrase::is_configured(context) {
            // A push key was given on purpose, so a prompt for the passphrase would be a surprise.
            return Err(Error::PushKeyCannotRead { operation }.into());
        }
        if slots.is_empty() {
            return Err(no_slots(place, operation));
        }
        match passphrase::existing(context, &place.to_string())? {
            Some(passphrase) => Ok(slot::open_any(slots, passphrase.as_bytes())?),
            None if self.push().is_some() => Err(Error::PushKeyCannotRead { operation }.into()),
            None => Err(passphrase::missing(&format!("{operation} needs the passphrase of {place}")).into()),
        }
    }
}

/// Returns the error for a repository without slots. A server gives no slots to clients that may not read.
fn no_slots(place: &Place, operation: &str) -> anyhow::Error {
    match place {
        Place::Url(_) => Error::NoPermission { operation: format!("read {place} ({operation})") }.into(),
        Place::Path(_) => Failure::new(
            format!("{place} has no passphrase slots"),
            "give a full key file in BKFS_KEY_FILE; a recovery sheet that was typed into a file works too",
        )
        .exit(Exit::WrongKey)
        .into(),
    }
}
