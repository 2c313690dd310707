//! A full key that is split into sheets: Shamir's secret sharing over GF(256), by the crate `blahaj`.
//!
//! A share is a sheet of seven lines (`paper`), 140 bytes: a version (1), how many sheets are needed, the number of
//! this one (from 1), a random name of the set (4), the share of each byte of the six-line sheet (120), and the first
//! 13 bytes of the BLAKE3 of everything before them. Sheets are typed one after the other, and the lines of each in
//! their order.

use std::collections::BTreeMap;

use blahaj::{Share, Sharks};
use zeroize::Zeroizing;

use super::paper::{LINE_BYTES, Paper, TypedLine, WHAT};
use crate::{
    base::error::{Error, Result},
    crypto,
};

const VERSION: u8 = 1;
const LINES: usize = 7;
/// The sheet of a share.
pub(super) const SHEET: Paper = Paper { lines: LINES, context: "bkfs v1 recovery share line" };
/// Bytes that are split: those of a sheet of six lines.
pub(super) const SECRET_BYTES: usize = 6 * LINE_BYTES;
const SET_BYTES: usize = 4;
const HEAD_BYTES: usize = 3 + SET_BYTES;
const SUM_BYTES: usize = LINES * LINE_BYTES - HEAD_BYTES - SECRET_BYTES;
/// The most sheets. A person could not tell more of them apart.
const COUNT_MAX: u8 = 16;

/// Splits a sheet's bytes. Any `needed` of the `count` texts give them back.
pub(super) fn split(secret: &[u8], needed: u8, count: u8) -> Result<Vec<Zeroizing<String>>> {
    if needed < 2 || needed > count || count > COUNT_MAX {
        let text = format!(
            "a key cannot be split into {count} sheets of which {needed} are needed: at least 2 must be needed, and \
             there may be {COUNT_MAX} at most"
        );
        return Err(Error::Invalid(text));
    }
    let set: [u8; SET_BYTES] = crypto::random();
    let text = |share: Share| {
        let share = Zeroizing::new(Vec::from(&share));
        let (number, values) = share.split_at(1);
        let mut bytes = Zeroizing::new(Vec::with_capacity(LINES * LINE_BYTES));
        bytes.extend_from_slice(&[VERSION, needed, number[0]]);
        bytes.extend_from_slice(&set);
        bytes.extend_from_slice(values);
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(&sum.as_bytes()[..SUM_BYTES]);
        SHEET.text(&bytes)
    };
    Ok(Sharks(needed).dealer(secret).take(count.into()).map(text).collect())
}

/// Returns the bytes that the typed sheets give together.
pub(super) fn join(lines: &[TypedLine]) -> Result<Zeroizing<Vec<u8>>> {
    let sheets = sheets(lines)?;
    let mut shares = BTreeMap::new();
    for (at, sheet) in sheets.iter().enumerate() {
        if sheet[..2] != sheets[0][..2] || sheet[3..HEAD_BYTES] != sheets[0][3..HEAD_BYTES] {
            let reason = format!("sheet {} belongs to another set of sheets than the first one", at + 1);
            return Err(Error::damaged(WHAT, reason));
        }
        shares.insert(sheet[2], &sheet[2..HEAD_BYTES + SECRET_BYTES]);
    }
    let needed = usize::from(sheets[0][1]);
    if shares.len() < needed {
        let (given, more) = (shares.len(), needed - shares.len());
        let verb = if given == 1 { "is" } else { "are" };
        let text = format!(
            "{needed} sheets are needed, and {given} {verb} there: type {more} more of the same set below, each in full"
        );
        return Err(Error::Invalid(text));
    }
    let share = |share: &[u8]| {
        // The set's name lies between the number and the values.
        let share = Zeroizing::new([&share[..1], &share[1 + SET_BYTES..]].concat());
        Share::try_from(share.as_slice()).map_err(|reason| Error::damaged(WHAT, reason))
    };
    let shares: Vec<Share> = shares.into_values().take(needed).map(share).collect::<Result<_>>()?;
    let secret = Sharks(needed as u8).recover(&shares).map_err(|reason| Error::damaged(WHAT, reason))?;
    Ok(Zeroizing::new(secret))
}

/// Returns the bytes of each typed sheet.
fn sheets(lines: &[TypedLine]) -> Result<Vec<Zeroizing<Vec<u8>>>> {
    let mut sheets: Vec<Vec<Option<Zeroizing<Vec<u8>>>>> = Vec::new();
    let mut wrong = Vec::new();
    for line in lines {
        let before = sheets.last().map_or(LINES, Vec::len);
        let found = SHEET.read(line, before % LINES);
        let at = match (&found, line.number) {
            (Ok((at, _)), _) => *at,
            (Err(_), Some(number)) if (1..=LINES).contains(&number) => number - 1,
            _ => before % LINES,
        };
        if at < before {
            sheets.push(Vec::with_capacity(LINES));
        }
        let count = sheets.len();
        let Some(sheet) = sheets.last_mut() else { continue };
        if at > sheet.len() {
            let missing: Vec<String> = (sheet.len()..at).map(|at| (at + 1).to_string()).collect();
            wrong.push(format!("sheet {count}: line {} missing", missing.join(", ")));
            sheet.resize_with(at, || None);
        }
        match found {
            Ok((_, bytes)) => sheet.push(Some(bytes)),
            Err(reason) => {
                wrong.push(format!("sheet {count}, {reason}"));
                sheet.push(None);
            }
        }
    }
    for (at, sheet) in sheets.iter().enumerate().filter(|(_, sheet)| sheet.len() < LINES) {
        let missing: Vec<String> = (sheet.len()..LINES).map(|at| (at + 1).to_string()).collect();
        wrong.push(format!("sheet {}: line {} missing", at + 1, missing.join(", ")));
    }
    if !wrong.is_empty() {
        return Err(Error::damaged(WHAT, wrong.join("; ")));
    }
    let sheets: Vec<Zeroizing<Vec<u8>>> = sheets.iter().map(|lines| whole(lines)).collect();
    sheets.iter().enumerate().try_for_each(|(at, sheet)| check(at + 1, sheet))?;
    Ok(sheets)
}

/// Joins the lines of a sheet.
fn whole(lines: &[Option<Zeroizing<Vec<u8>>>]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LINES * LINE_BYTES));
    lines.iter().flatten().for_each(|line| bytes.extend_from_slice(line));
    bytes
}

/// Checks a sheet whose lines are right.
fn check(number: usize, sheet: &[u8]) -> Result<()> {
    let (body, sum) = sheet.split_at(HEAD_BYTES + SECRET_BYTES);
    if body[0] != VERSION {
        return Err(Error::NewerVersion { what: WHAT, found: body[0].into(), known: VERSION.into() });
    }
    let is_possible = (2..=COUNT_MAX).contains(&body[1]) && (1..=COUNT_MAX).contains(&body[2]);
    if blake3::hash(body).as_bytes()[..SUM_BYTES] != *sum || !is_possible {
        let reason = format!("sheet {number}: its lines do not belong together: some are of another sheet");
        return Err(Error::damaged(WHAT, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
