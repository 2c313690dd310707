//! The full key on paper: six lines of base32, each with its own checksum, that a person can type back.
//!
//! ```text
//! 1: XXXX XXXX XXXX XXXX XXXX XXXX XXXX XXXX  CCCC
//! ```
//!
//! The lines hold 120 bytes, 20 each: a version (1), the repository's id (16), the id key, the seal key's seed and the
//! admin key's seed (32 each), and the first 7 bytes of the BLAKE3 of everything before them. A line's checksum `CCCC`
//! is 20 bits of the BLAKE3 of its number and its bytes: it finds the line with a typing error, and lines in the wrong
//! order. Case, spaces and dashes do not matter; O is read as 0, and I and L as 1.

use zeroize::Zeroizing;

use super::{armour, fields::read_secret, full::FullKey};
use crate::{
    base::{
        error::{Error, Result},
        id::RepoId,
    },
    crypto::{SealSecret, SigningKey},
};

const VERSION: u8 = 1;
const LINES: usize = 6;
const LINE_BYTES: usize = 20;
const LINE_DIGITS: usize = 32;
const CHECK_DIGITS: usize = 4;
const CHECK_BYTES: usize = 5;
/// Digits of a line and of its whole check, the part that is not printed included.
const TYPED_LEN: usize = (LINE_BYTES + CHECK_BYTES) / 5 * 8;
const SUM_BYTES: usize = 7;
const WHAT: &str = "the recovery text";

impl FullKey {
    /// Returns the key as lines for paper. Anyone who reads them has the key.
    pub fn recovery_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LINES * LINE_BYTES));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.repo.0);
        bytes.extend_from_slice(&self.id_key.0);
        bytes.extend_from_slice(&self.seal.seed().0);
        bytes.extend_from_slice(&self.admin.seed().0);
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(&sum.as_bytes()[..SUM_BYTES]);
        assert_eq!(bytes.len(), LINES * LINE_BYTES, "the layout fills its lines");

        let mut text = Zeroizing::new(String::with_capacity(LINES * 64));
        for (at, line) in bytes.chunks(LINE_BYTES).enumerate() {
            text.push_str(&format!("{}:", at + 1));
            let digits = armour::base32(line);
            for group in digits.as_bytes().chunks(4) {
                text.push(' ');
                group.iter().for_each(|c| text.push(char::from(*c)));
            }
            let check = armour::base32(&line_check(at, line));
            text.push_str("  ");
            text.push_str(&check[..CHECK_DIGITS]);
            text.push('\n');
        }
        text
    }

    /// Reads the text of [`FullKey::recovery_text`] as a person types it: with or without line numbers, with spaces and
    /// dashes anywhere, in upper or lower case. Empty lines and lines that begin with `#` are skipped.
    pub fn from_recovery_text(text: &str) -> Result<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LINES * LINE_BYTES));
        let mut lines = 0;
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if lines == LINES {
                return Err(Error::damaged(WHAT, format!("it has more than {LINES} lines")));
            }
            bytes.extend_from_slice(&read_line(lines, line)?);
            lines += 1;
        }
        if lines < LINES {
            return Err(Error::damaged(WHAT, format!("it has only {lines} of {LINES} lines")));
        }
        let (body, sum) = bytes.split_at(bytes.len() - SUM_BYTES);
        if body[0] != VERSION {
            return Err(Error::NewerVersion { what: WHAT, found: body[0].into(), known: VERSION.into() });
        }
        if blake3::hash(body).as_bytes()[..SUM_BYTES] != *sum {
            return Err(Error::damaged(WHAT, "its checksum does not match"));
        }
        let part = |from: usize| read_secret(WHAT, &body[from..from + 32]);
        Ok(Self {
            repo: RepoId::from_slice(&body[1..17]).expect("16 bytes"),
            id_key: part(17)?,
            seal: SealSecret::from_seed(part(49)?),
            admin: SigningKey::from_seed(part(81)?),
        })
    }
}

fn read_line(at: usize, line: &str) -> Result<Zeroizing<Vec<u8>>> {
    let bad = |reason: String| Error::damaged(format!("{WHAT}, line {}", at + 1), reason);
    let line = match line.split_once(':') {
        Some((number, rest)) => match number.trim().parse::<usize>() {
            Ok(number) if at + 1 == number => rest,
            _ => return Err(bad(format!("it is numbered {}", number.trim()))),
        },
        None => line,
    };
    let mut text = Zeroizing::new(Vec::with_capacity(TYPED_LEN));
    for c in line.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        let digit = u8::try_from(c).ok().filter(|_| armour::is_base32(c));
        let digit = digit.ok_or_else(|| bad(format!("it contains {c:?}, which is never used")))?;
        if text.len() == LINE_DIGITS + CHECK_DIGITS {
            return Err(bad("it is too long".into()));
        }
        text.push(digit);
    }
    if text.len() < LINE_DIGITS + CHECK_DIGITS {
        return Err(bad("it is too short".into()));
    }
    // The part of the check that is not printed.
    text.resize(TYPED_LEN, b'0');
    let mut bytes = Zeroizing::new(vec![0; LINE_BYTES + CHECK_BYTES]);
    armour::from_base32(&text, &mut bytes).expect("40 digits are 25 bytes");
    let is_right = line_check(at, &bytes[..LINE_BYTES]) == bytes[LINE_BYTES..];
    bytes.truncate(LINE_BYTES);
    if is_right { Ok(bytes) } else { Err(bad("a character is wrong".into())) }
}

/// Returns the check of a line: 20 bits that are printed, then 20 zero bits that are not.
fn line_check(at: usize, line: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key("bkfs v1 recovery line");
    hasher.update(&[at as u8]);
    hasher.update(line);
    let hash = hasher.finalize();
    [hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2] & 0xf0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> FullKey {
        FullKey::random(RepoId([0x42; 16]))
    }

    #[test]
    fn typed_text_is_read_back() {
        let key = key();
        let text = key.recovery_text();
        assert_eq!(text.lines().count(), LINES);
        assert_eq!(FullKey::from_recovery_text(&text).unwrap().encode(), key.encode());
        // Typed in a hurry: lower case, no line numbers, dashes, letters in place of digits, a note.
        let sloppy: String = text
            .lines()
            .map(|l| {
                format!("\n  {}\n", l.split_once(':').unwrap().1.to_lowercase().replace(' ', "-").replace('0', "o"))
            })
            .collect();
        let sloppy = format!("# from the safe\n{sloppy}").replace('1', "l");
        assert_eq!(FullKey::from_recovery_text(&sloppy).unwrap().encode(), key.encode());
    }

    #[test]
    fn errors_name_the_line() {
        let text = key().recovery_text();
        let mut lines: Vec<String> = text.lines().map(|l| l.split_once(':').unwrap().1.to_owned()).collect();
        let says = |lines: &[String]| FullKey::from_recovery_text(&lines.join("\n")).unwrap_err().to_string();
        lines.swap(2, 3);
        assert!(says(&lines).contains("line 3: ") || says(&lines).contains("line 3 is"), "{}", says(&lines));
        lines.swap(2, 3);
        let good = lines[4].clone();
        let wrong = if good.as_bytes()[1] == b'7' { "8" } else { "7" };
        lines[4].replace_range(1..2, wrong);
        assert!(says(&lines).contains("line 5"));
        lines[4] = good[..good.len() - 1].to_owned();
        assert!(says(&lines).contains("too short"));
        lines[4] = good + "0";
        assert!(says(&lines).contains("too long"));
        lines[4] = "U".into();
        assert!(says(&lines).contains("never used"));
        lines.pop();
        lines.pop();
        assert!(says(&lines).contains("4 of 6"));
    }

    proptest! {
        #[test]
        fn random_text_is_rejected(text: String) {
            prop_assert!(FullKey::from_recovery_text(&text).is_err());
        }

        #[test]
        fn one_wrong_character_is_found(at: prop::sample::Index, to in 0usize..32) {
            let key = key();
            let text = key.recovery_text();
            let characters = text.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric());
            let places: Vec<usize> = characters.map(|(at, _)| at).collect();
            let at = places[at.index(places.len())];
            let to = &"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[to..=to];
            prop_assume!(&text[at..=at] != to);
            let mut typed = text.to_string();
            typed.replace_range(at..=at, to);
            prop_assert!(FullKey::from_recovery_text(&typed).is_err());
        }
    }
}
