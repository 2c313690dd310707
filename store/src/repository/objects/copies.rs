//! Restoring a damaged copy of an object from the other copy, as scrubbing does it.

use bytes::Bytes;

use super::Objects;
use crate::{
    base::error::{Error, Result},
    repository::layout,
};

/// Whether these are the bytes of an object.
pub type Check<'a> = &'a dyn Fn(&[u8]) -> Result<()>;

/// What both copies of an object are.
enum CopyState {
    /// Both are whole, and the same.
    Alike,
    /// Both are whole, and not the same.
    Differ,
    /// Only this one is whole.
    One { name: String, bytes: Bytes },
    /// None is whole. The reason, unless both are missing.
    None(Option<Error>),
}

impl Objects {
    /// Verifies both copies of an object, and restores one from the other if needed. Returns whether it did. Fails if
    /// neither copy is whole, or both are and they differ. An object that is not needed may be missing.
    pub fn repair(&self, name: &str, is_needed: bool, check: Check<'_>) -> Result<bool> {
        if let CopyState::Alike = self.compare(name, check)? {
            return Ok(false);
        }
        // A copy may just have been written or removed, which is done under the lock.
        let _lock = self.backend.lock()?;
        match self.compare(name, check)? {
            CopyState::Alike => Ok(false),
            CopyState::One { name: whole, bytes } => {
                let damaged = if whole == name { layout::second_copy(name) } else { name.to_owned() };
                self.backend.put(&damaged, &bytes)?;
                tracing::warn!(object = damaged, "a damaged copy was restored");
                Ok(true)
            }
            CopyState::Differ => Err(Error::damaged(name, "its two copies differ, and nothing tells which is right")),
            CopyState::None(None) if is_needed => Err(Error::damaged(name, "both its copies are missing")),
            CopyState::None(None) => Ok(false),
            CopyState::None(Some(error)) => Err(Error::damaged(name, format!("both its copies are damaged ({error})"))),
        }
    }

    fn compare(&self, name: &str, check: Check<'_>) -> Result<CopyState> {
        let mut reason = None;
        let mut whole = Vec::with_capacity(2);
        for name in layout::copies(name) {
            match self.backend.get(&name) {
                Ok(Some(bytes)) => match check(&bytes) {
                    Ok(()) => whole.push((name, bytes)),
                    Err(error) => reason = Some(error),
                },
                Ok(None) => {}
                Err(error) if error.is_unreadable() => reason = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok(match (whole.pop(), whole.pop()) {
            (Some((_, one)), Some((_, other))) if one == other => CopyState::Alike,
            (Some(_), Some(_)) => CopyState::Differ,
            (Some((name, bytes)), None) => CopyState::One { name, bytes },
            _ => CopyState::None(reason),
        })
    }
}
