//! The keys of this machine, and how to find the full key.

use std::path::Path;

use anyhow::Result;
use bkfs_store::{
    Error,
    base::id::{RepoId, SlotId},
    format::{
        config::Config,
        keys::{FullKey, KeyFile, PushKey, SealKeys, Slot, slot},
    },
};
use zeroize::Zeroizing;

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
        let bytes = read_key_file(path)?;
        let key = match KeyFile::decode(&bytes) {
            Ok(KeyFile::Push(push)) => Self { full: None, push: Some(push) },
            Ok(KeyFile::Full { full, push }) => Self { full: Some(full), push: Some(push) },
            Err(error @ Error::NewerVersion { .. }) => return Err(error.into()),
            Err(error) => {
                let text = std::str::from_utf8(&bytes).ok().filter(|text| FullKey::looks_like_recovery_text(text));
                let full = text.map_or(Err(error), FullKey::from_recovery_text);
                Self { full: Some(full.map_err(|error| explain(path, &error))?), push: None }
            }
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

/// Reads a key file that was named. Fails if it does not exist or is empty.
pub fn read_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let fail = |what: &str, hint: &str| {
        Failure::new(format!("the key file {} {what}", path.display()), hint).exit(Exit::WrongKey)
    };
    let found = read_optional(path)?.map(Zeroizing::new);
    let bytes = found.ok_or_else(|| fail("does not exist", "check --key-file, --push-key and BKFS_KEY_FILE"))?;
    if bytes.trim_ascii().is_empty() {
        let hint = "copy it again from where it was written: a key file is what `bkfs key export-...` wrote, or the \
                    numbered lines of a recovery sheet";
        return Err(fail("is empty", hint).into());
    }
    Ok(bytes)
}

/// Says that a key file cannot be used, and what to do.
fn explain(path: &Path, error: &Error) -> Failure {
    Failure::new(
        format!("{}: {error}", path.display()),
        "compare it with the paper, or with the file it was copied from; a key file is what `bkfs key export-...` \
         wrote, or the numbered lines of a recovery sheet",
    )
}

/// Loads this machine's push key for a repository.
pub(super) fn machine_key(folder: &RepoFolder) -> Result<Option<PushKey>> {
    let Some(bytes) = folder.push_key()?.map(Zeroizing::new) else { return Ok(None) };
    let file = KeyFile::decode(&bytes).map_err(|error| {
        let hint = "bring this machine's key back from a copy if there is one. Otherwise remove the file, and get \
                    another key with `bkfs key enrol`";
        Failure::new(format!("{}: {error}", folder.push_key_path().display()), hint)
    })?;
    Ok(Some(match file {
        KeyFile::Push(push) => push,
        KeyFile::Full { push, .. } => push,
    }))
}

/// The full key, and the passphrase slot that it was opened from.
pub struct Unlocked {
    /// The full key.
    pub full: FullKey,
    /// The slot that a passphrase opened. `None` if the key is from a file.
    pub slot: Option<SlotId>,
}

impl Unlocked {
    /// Encodes both for the kernel's keyring. A slot id of zeros stands for none.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let key = self.full.encode();
        let mut bytes = Zeroizing::new(Vec::with_capacity(SlotId::LEN + key.len()));
        bytes.extend_from_slice(&self.slot.unwrap_or_default().0);
        bytes.extend_from_slice(&key);
        bytes
    }

    /// Decodes what [`Unlocked::encode`] returned. Anything else is no key.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (slot, key) = bytes.split_at_checked(SlotId::LEN)?;
        let slot = SlotId::from_slice(slot).filter(|slot| *slot != SlotId::default());
        Some(Self { full: FullKey::decode(key).ok()?, slot })
    }
}

/// What a repository shows of its keys.
pub(super) struct Shown<'a> {
    /// Where it is.
    pub place: &'a Place,
    /// Its id.
    pub repo: RepoId,
    /// Its passphrase slots.
    pub slots: &'a [Slot],
    /// Its seal keys.
    pub seal_keys: &'a SealKeys,
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

    /// Makes the push keys seal to the newest seal key. Fails if the seal key of one is not on the list.
    pub fn renew(&mut self, seal_keys: &SealKeys) -> Result<(), Error> {
        let given = self.given.as_mut().and_then(|n| n.push.as_mut());
        for key in [given, self.machine.as_mut()].into_iter().flatten() {
            *key = seal_keys.renew(key)?;
        }
        Ok(())
    }

    /// Finds the full key of a repository, with all seal keys that it gives: in the given key file, in the
    /// kernel's keyring, or with a passphrase. One that lacks the newest seal key is taken from the keyring only if
    /// there is no passphrase.
    pub fn find_full(&self, context: &Context, shown: &Shown<'_>, operation: &'static str) -> Result<Unlocked> {
        let Shown { place, repo, slots, seal_keys } = *shown;
        if let Some(full) = self.given.as_ref().and_then(|n| n.full.as_ref()) {
            return Ok(Unlocked { full: seal_keys.complete(full)?, slot: None });
        }
        let has_push_only = self.given.is_some();
        let kept = kernel_keyring::find(repo).and_then(|bytes| Unlocked::decode(&bytes));
        let kept = match kept.map(|kept| (seal_keys.complete(&kept.full), kept.slot)) {
            Some((Ok(full), slot)) if seal_keys.check_newest(&full).is_ok() => return Ok(Unlocked { full, slot }),
            Some((full, slot)) => full.ok().map(|full| Unlocked { full, slot }),
            None => None,
        };
        if has_push_only && !passphrase::is_configured(context) {
            // A push key was given on purpose, so a prompt for the passphrase would be a surprise.
            return kept.ok_or_else(|| Error::PushKeyCannotRead { operation }.into());
        }
        if slots.is_empty() && kept.is_none() {
            return Err(no_slots(place, operation));
        }
        let open = |passphrase: &[u8]| slot::open_any(slots, passphrase, seal_keys);
        let opened = match slots.is_empty() {
            true => None,
            false => passphrase::open(context, &place.to_string(), open)?,
        };
        match (opened, kept) {
            (Some((slot, full)), _) => Ok(Unlocked { full, slot: Some(slot) }),
            (None, Some(kept)) => Ok(kept),
            (None, None) if self.push().is_some() => Err(Error::PushKeyCannotRead { operation }.into()),
            (None, None) => Err(passphrase::missing(&format!("{operation} needs the passphrase of {place}")).into()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlocked_key_knows_its_slot() {
        let full = FullKey::random(RepoId([1; 16]));
        for slot in [None, Some(SlotId([7; 16]))] {
            let bytes = Unlocked { full: full.clone(), slot }.encode();
            let again = Unlocked::decode(&bytes).unwrap();
            assert_eq!((again.full.encode(), again.slot), (full.encode(), slot));
        }
        assert!(Unlocked::decode(&full.encode()).is_none());
        assert!(Unlocked::decode(b"short").is_none());
    }
}
