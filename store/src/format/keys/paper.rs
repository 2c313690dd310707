//! Secrets on paper: lines of base32, each with its own checksum, that a person can type back.
//!
//! ```text
//! 1: XXXX XXXX XXXX XXXX XXXX XXXX XXXX XXXX  CCCC
//! ```
//!
//! A line holds 20 bytes. Its checksum `CCCC` is 20 bits of the BLAKE3 of its number and its bytes: it finds the line
//! with a typing error, and tells which line it is. `suggest` finds what was probably meant.
//!
//! Reading forgives what cannot be mistaken: case, spaces, dashes, line numbers in any form or none, where a long line
//! was broken, and O for 0, and I and L for 1.

use zeroize::Zeroizing;

use super::{
    armour,
    suggest::{self, TYPED_DIGITS},
    typed,
};

/// What errors call the text of a sheet.
pub(super) const WHAT: &str = "the recovery text";
/// Bytes of a line.
pub(super) const LINE_BYTES: usize = 20;
const LINE_DIGITS: usize = TYPED_DIGITS - armour::CHECK_DIGITS;

/// A kind of sheet.
pub(super) struct Paper {
    /// How many lines it has.
    pub lines: usize,
    /// What the checksums of its lines are made for.
    pub context: &'static str,
}

/// A typed line: its number, if it has one, and what follows, in upper case and without spaces.
pub(super) struct TypedLine {
    pub number: Option<usize>,
    pub digits: Zeroizing<Vec<char>>,
}

impl TypedLine {
    /// Whether it could be meant as a line of a sheet.
    pub fn looks_like_paper(&self) -> bool {
        let known = self.digits.iter().filter(|c| armour::is_base32(**c)).count();
        known + 2 >= self.digits.len() && (TYPED_DIGITS - 6..=TYPED_DIGITS + 6).contains(&known)
    }
}

impl Paper {
    /// Returns the lines for bytes that fill them.
    pub fn text(&self, bytes: &[u8]) -> Zeroizing<String> {
        assert_eq!(bytes.len(), self.lines * LINE_BYTES, "the layout fills its lines");
        let mut text = Zeroizing::new(String::with_capacity(self.lines * 64));
        for (at, line) in bytes.chunks(LINE_BYTES).enumerate() {
            text.push_str(&format!("{}:", at + 1));
            let digits = armour::base32(line);
            for group in digits.as_bytes().chunks(4) {
                text.push(' ');
                group.iter().for_each(|c| text.push(char::from(*c)));
            }
            text.push_str("  ");
            text.push_str(&armour::line_check(self.context, &[at as u8], line));
            text.push('\n');
        }
        text
    }

    /// Returns which line of a sheet this is, from 0, and its bytes, if its checksum fits one. It is probably the line
    /// at this place.
    pub fn find(&self, line: &TypedLine, at: usize) -> Option<(usize, Zeroizing<Vec<u8>>)> {
        // The check covers the line's number, so it says which line this is.
        self.order(line, at).find_map(|at| {
            let bytes = self.read_digits(&line.digits, at).or_else(|| {
                // A number without any mark behind it.
                let (first, rest) = line.digits.split_first()?;
                let is_number = line.number.is_none() && first.to_digit(10) == Some(at as u32 + 1);
                is_number.then(|| self.read_digits(rest, at))?
            })?;
            Some((at, bytes))
        })
    }

    /// The same. The error says to a person what is wrong with the line.
    pub fn read(&self, line: &TypedLine, at: usize) -> std::result::Result<(usize, Zeroizing<Vec<u8>>), String> {
        let place = line.number.unwrap_or(at + 1);
        if line.number.is_some_and(|number| !(1..=self.lines).contains(&number)) {
            return Err(format!("a line is numbered {place}, but there are {}", self.lines));
        }
        let is_right = |digits: &[char]| self.order(line, at).take(1).any(|at| self.read_digits(digits, at).is_some());
        self.find(line, at).ok_or_else(|| format!("line {place}: {}", suggest::explain(&line.digits, is_right)))
    }

    /// Which line of a sheet a typed line may be, the most probable first.
    fn order(&self, line: &TypedLine, at: usize) -> impl Iterator<Item = usize> {
        let (place, lines) = (line.number.unwrap_or(at + 1).wrapping_sub(1), self.lines);
        [place].into_iter().chain(0..lines).filter(move |at| *at < lines)
    }

    /// Returns the bytes of a line, if it has the right length, and its check is that of the line with this number.
    fn read_digits(&self, digits: &[char], at: usize) -> Option<Zeroizing<Vec<u8>>> {
        if digits.len() != TYPED_DIGITS || !digits.iter().all(|c| armour::is_base32(*c)) {
            return None;
        }
        let text: Zeroizing<Vec<u8>> = Zeroizing::new(digits.iter().map(|c| armour::digit(*c)).collect());
        let mut bytes = Zeroizing::new(vec![0; LINE_BYTES]);
        armour::from_base32(&text[..LINE_DIGITS], &mut bytes)?;
        (armour::line_check(self.context, &[at as u8], &bytes).as_bytes() == &text[LINE_DIGITS..]).then_some(bytes)
    }
}

/// Returns the typed lines. A line without a number continues the one before, if together they are no longer than one.
pub(super) fn typed_lines(text: &str) -> Vec<TypedLine> {
    // More is no recovery text.
    const TYPED_MAX: usize = 512;
    let mut lines: Vec<TypedLine> = Vec::new();
    for (_, line) in typed::lines(text).take(TYPED_MAX) {
        let (number, rest) = split_number(line);
        let mut digits = Zeroizing::new(Vec::with_capacity(TYPED_DIGITS * 2));
        let is_space =
            |c: char| c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{200b}' | '\u{feff}');
        digits.extend(rest.chars().filter(|c| !is_space(*c)).take(TYPED_DIGITS * 2).map(|c| c.to_ascii_uppercase()));
        match lines.last_mut() {
            Some(last) if number.is_none() && last.digits.len() + digits.len() <= TYPED_DIGITS => {
                last.digits.extend_from_slice(&digits);
            }
            _ => lines.push(TypedLine { number, digits }),
        }
    }
    lines
}

/// Cuts a line's number off, in any of the forms `1:`, `1.`, `1)` and `1 -`.
fn split_number(line: &str) -> (Option<usize>, &str) {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &line[..line.len() - rest.len()];
    let after = rest.trim_start();
    let is_mark = after.starts_with([':', '.', ')', ']']) || digits.len() == 1 && after.starts_with(['-', '\u{2013}']);
    match digits.parse() {
        Ok(number) if is_mark => {
            let mut rest = after.chars();
            rest.next();
            (Some(number), rest.as_str().trim_start())
        }
        _ => (None, line),
    }
}
