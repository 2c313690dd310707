//! Which key opens the repository.

use anyhow::{Context as _, Result};
use bkfs_store::{
    Error,
    base::id::RepoId,
    format::keys::{FullKey, KeyFile, PushKey, slot},
};

use super::Session;
use crate::{
    config::{RepoFolder, read_optional},
    context::Context,
    failure::{Exit, Failure},
    passphrase,
    place::Place,
    unlock,
};

/// What the file holds that `--key-file` or BKFS_KEY_FILE names: a key file, or a recovery sheet typed in.
pub struct NamedKey {
    /// The full key, if the file has it.
    pub full: Option<FullKey>,
    /// The push key, if the file has one (a recovery sheet has not).
    pub push: Option<PushKey>,
}

impl NamedKey {
    /// Loads it, if a file was named.
    pub fn load(context: &Context) -> Result<Option<Self>> {
        let Some(path) = &context.key_file else { return Ok(None) };
        let Some(bytes) = read_optional(path)?.map(zeroize::Zeroizing::new) else {
            let hint = "look at --key-file and BKFS_KEY_FILE";
            let message = format!("the key file {} is not there", path.display());
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

    /// The repository that the key belongs to.
    pub fn repo(&self) -> RepoId {
        match (&self.full, &self.push) {
            (Some(full), _) => full.repo,
            (None, Some(push)) => push.repo,
            (None, None) => RepoId::default(),
        }
    }

    /// Where the repository is, if the file says so.
    pub fn url(&self) -> Option<&str> {
        self.push.as_ref()?.url.as_deref()
    }
}

/// This machine's push key for a repository.
pub(super) fn machine_key(folder: &RepoFolder) -> Result<Option<PushKey>> {
    let Some(bytes) = folder.push_key()?.map(zeroize::Zeroizing::new) else { return Ok(None) };
    let file = KeyFile::decode(&bytes).with_context(|| folder.push_key_path().display().to_string())?;
    Ok(Some(match file {
        KeyFile::Push(push) => push,
        KeyFile::Full { push, .. } => push,
    }))
}

/// The full key: key file, kernel's keyring, passphrase.
pub(super) fn find_full(context: &Context, session: &Session, operation: &'static str) -> Result<FullKey> {
    if let Some(full) = session.named.as_ref().and_then(|n| n.full.as_ref()) {
        return Ok(full.clone());
    }
    let has_push_only = session.named.is_some();
    if let Some(bytes) = unlock::find(session.config.repo)
        && let Ok(full) = FullKey::decode(&bytes)
    {
        return Ok(full);
    }
    let sure = passphrase::is_configured(context);
    if has_push_only && !sure {
        // A push key was named on purpose: asking a person for a passphrase now would be a surprise.
        return Err(Error::PushKeyCannotRead { operation }.into());
    }
    if session.opened.slots.is_empty() {
        return Err(no_slots(&session.place, operation));
    }
    match passphrase::existing(context, &session.place.to_string())? {
        Some(passphrase) => Ok(slot::open_any(&session.opened.slots, passphrase.as_bytes())?),
        None if session.push_key().is_some() => Err(Error::PushKeyCannotRead { operation }.into()),
        None => Err(passphrase::missing(&format!("{operation} needs the passphrase of {}", session.place)).into()),
    }
}

/// The server hands out no slots to those who may not read.
fn no_slots(place: &Place, operation: &str) -> anyhow::Error {
    match place {
        Place::Url(_) => Error::NoPermission { operation: format!("read {place} ({operation})") }.into(),
        Place::Path(_) => Failure::new(
            format!("{place} has no passphrase slots"),
            "name a full key file in BKFS_KEY_FILE; a typed recovery sheet is one too",
        )
        .exit(Exit::WrongKey)
        .into(),
    }
}
