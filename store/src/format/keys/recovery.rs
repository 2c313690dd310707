//! The full key on paper: one sheet of six lines, or several sheets of which some are enough.
//!
//! The six lines hold 120 bytes: a version (1), the repository's id (16), the id key, the seal key's seed and the admin
//! key's seed (32 each), and the first 7 bytes of the BLAKE3 of everything before them. The order of the lines does not
//! matter. `paper` says how lines are written and read, `shares` how a key is split.

use zeroize::Zeroizing;

use super::{
    fields::read_secret,
    full::FullKey,
    paper::{LINE_BYTES, Paper, TypedLine, WHAT, typed_lines},
    shares,
};
use crate::{
    base::{
        error::{Error, Result},
        id::RepoId,
    },
    crypto::{SealNumber, SealSecret, SigningKey},
};

const VERSION: u8 = 1;
const SUM_BYTES: usize = 7;
const LINES: usize = 6;
const SHEET: Paper = Paper { lines: LINES, context: "bkfs v1 recovery line" };
/// Bytes of a sheet.
const SHEET_BYTES: usize = LINES * LINE_BYTES;
const _: () = assert!(SHEET_BYTES == shares::SECRET_BYTES, "a share holds a sheet");

impl FullKey {
    /// Returns the key as lines for paper. Anyone who reads them has the key.
    pub fn recovery_text(&self) -> Zeroizing<String> {
        SHEET.text(&self.sheet())
    }

    /// Splits the key into `count` sheets. Any `needed` of them restore it, and fewer reveal nothing about it. Fails
    /// with [`Error::Invalid`] unless `2 <= needed <= count <= 16`.
    pub fn recovery_shares(&self, needed: u8, count: u8) -> Result<Vec<Zeroizing<String>>> {
        shares::split(&self.sheet(), needed, count)
    }

    /// Returns whether a text could be meant as one of [`FullKey::recovery_text`] or [`FullKey::recovery_shares`].
    pub fn looks_like_recovery_text(text: &str) -> bool {
        // A key file's own lines.
        let is_key_file = text.contains("-----");
        !is_key_file && typed_lines(text).iter().any(TypedLine::looks_like_paper)
    }

    /// Reads the text of [`FullKey::recovery_text`], or enough sheets of [`FullKey::recovery_shares`] one after the
    /// other, as a person types it. Empty lines and lines that begin with `#` are skipped. The error names each line
    /// that is wrong, and what was probably meant.
    pub fn from_recovery_text(text: &str) -> Result<Self> {
        let lines = typed_lines(text);
        let fitting = |paper: &Paper| lines.iter().filter(|line| paper.find(line, 0).is_some()).count();
        match fitting(&shares::SHEET) > fitting(&SHEET) {
            true => Self::from_sheet(&shares::join(&lines)?),
            false => Self::from_sheet(&one_sheet(&lines)?),
        }
    }

    fn sheet(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SHEET_BYTES));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.repo.0);
        bytes.extend_from_slice(self.id_key.bytes());
        bytes.extend_from_slice(self.seal.seed().bytes());
        bytes.extend_from_slice(self.admin.seed().bytes());
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(&sum.as_bytes()[..SUM_BYTES]);
        bytes
    }

    /// Reads the bytes of a sheet, [`SHEET_BYTES`] of them.
    fn from_sheet(bytes: &[u8]) -> Result<Self> {
        let (body, sum) = bytes.split_at(SHEET_BYTES - SUM_BYTES);
        if body[0] != VERSION {
            return Err(Error::NewerVersion { what: WHAT, found: body[0].into(), known: VERSION.into() });
        }
        if blake3::hash(body).as_bytes()[..SUM_BYTES] != *sum {
            return Err(Error::damaged(WHAT, "its lines do not belong together: some are of another key"));
        }
        let part = |from: usize| read_secret(WHAT, &body[from..from + 32]);
        Ok(Self {
            repo: RepoId::from_slice(&body[1..17]).expect("16 bytes"),
            id_key: part(17)?,
            seal: SealSecret::from_seed(part(49)?, SealNumber::FIRST),
            older: Vec::new(),
            admin: SigningKey::from_seed(part(81)?),
        })
    }
}

/// Returns the bytes of the typed lines, which are all lines of one sheet in any order.
fn one_sheet(lines: &[TypedLine]) -> Result<Zeroizing<Vec<u8>>> {
    let mut found: [Option<Zeroizing<Vec<u8>>>; LINES] = Default::default();
    let mut wrong = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        match SHEET.read(line, at) {
            Ok((at, bytes)) if found[at].is_none() => found[at] = Some(bytes),
            Ok((at, _)) => wrong.push(format!("line {} is there twice", at + 1)),
            Err(reason) => wrong.push(reason),
        }
    }
    let missing: Vec<String> =
        found.iter().enumerate().filter(|(_, bytes)| bytes.is_none()).map(|(at, _)| (at + 1).to_string()).collect();
    if wrong.is_empty() && !missing.is_empty() {
        let lines = if missing.len() == 1 { "line" } else { "lines" };
        wrong.push(format!("{lines} {} of {LINES} missing", missing.join(", ")));
    }
    if !wrong.is_empty() {
        return Err(Error::damaged(WHAT, wrong.join("; ")));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(SHEET_BYTES));
    found.iter().flatten().for_each(|line| bytes.extend_from_slice(line));
    Ok(bytes)
}

#[cfg(test)]
mod tests;
