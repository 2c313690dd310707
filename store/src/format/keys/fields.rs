//! Fields that the records of both credentials have: secrets, labels and addresses.

use crate::{
    base::{
        error::{Error, Result},
        label::Label,
    },
    crypto::Secret,
};

/// The longest label of a client, in bytes.
pub const LABEL_MAX: usize = Label::Client.len_max();
/// The longest address in a key file, in bytes.
pub const URL_MAX: usize = 2048;

/// Copies a 32-byte secret out of a decoded record. Errors call the record `what`.
pub(super) fn read_secret(what: &str, bytes: &[u8]) -> Result<Secret> {
    let bytes = bytes.try_into().map_err(|_| Error::damaged(what, "one of its keys has the wrong length"))?;
    Ok(Secret::new(bytes))
}

/// Shortens a label to at most [`LABEL_MAX`] bytes, at a character boundary.
pub(super) fn bounded_label(label: &str) -> &str {
    let end = (0..=label.len().min(LABEL_MAX)).rev().find(|at| label.is_char_boundary(*at));
    &label[..end.unwrap_or(0)]
}
