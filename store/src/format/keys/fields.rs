//! What the records of both credentials have in common: secrets and labels.

use crate::{
    base::error::{Error, Result},
    crypto::Secret,
};

/// Longest label of a client, in bytes.
pub const LABEL_MAX: usize = 255;
/// Longest address in a key file, in bytes.
pub const URL_MAX: usize = 2048;

/// Takes 32 secret bytes out of a decoded record.
pub(super) fn secret_of(what: &str, bytes: &[u8]) -> Result<Secret> {
    let bytes = bytes.try_into().map_err(|_| Error::damaged(what, "a key has a wrong length"))?;
    Ok(Secret(bytes))
}

/// Shortens a label to [`LABEL_MAX`] bytes at a character's boundary.
pub(super) fn bounded_label(label: &str) -> &str {
    let end = (0..=label.len().min(LABEL_MAX)).rev().find(|at| label.is_char_boundary(*at));
    &label[..end.unwrap_or(0)]
}
