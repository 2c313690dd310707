//! What was probably meant by a line of the recovery text that is not right.
//!
//! The check of a line has 20 bits. So one can try everything that a single slip of a person would make of the line,
//! some thousand lines, and at most a few of them fit by chance: what fits is almost certainly what is on the paper.
//! It is suggested, and not used: the person has the paper.

use zeroize::Zeroizing;

use super::armour;

/// Characters of a line: 20 bytes, and the check.
pub(super) const TYPED_DIGITS: usize = 32 + armour::CHECK_DIGITS;

/// Characters of the paper's alphabet.
const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Pairs that are taken for each other on paper. O and 0, and I, L and 1, need no entry: they are read alike.
const ALIKE: [(char, char); 22] = [
    ('8', 'B'),
    ('5', 'S'),
    ('2', 'Z'),
    ('6', 'G'),
    ('0', 'D'),
    ('0', 'Q'),
    ('1', '7'),
    ('1', 'T'),
    ('4', 'A'),
    ('9', 'G'),
    ('3', '8'),
    ('5', '6'),
    ('6', '8'),
    ('C', 'G'),
    ('D', 'Q'),
    ('E', 'F'),
    ('K', 'X'),
    ('M', 'N'),
    ('P', 'R'),
    ('V', 'W'),
    ('V', 'Y'),
    ('P', 'F'),
];
/// Characters of a group, as they are printed.
const GROUP: usize = 4;

/// Says what is wrong with a line, and what was probably meant. `is_right` returns whether a line fits its check.
pub(super) fn explain(digits: &[char], is_right: impl Fn(&[char]) -> bool) -> String {
    let unknown: Vec<usize> = (0..digits.len()).filter(|at| !armour::is_base32(digits[*at])).collect();
    let what = match (unknown.as_slice(), digits.len()) {
        ([at, ..], _) => format!("it contains {:?} in group {}, which is never used", digits[*at], at / GROUP + 1),
        (_, len) if len < TYPED_DIGITS => format!("it is too short, {len} of {TYPED_DIGITS} characters"),
        (_, len) if len > TYPED_DIGITS => format!("it is too long, {len} of {TYPED_DIGITS} characters"),
        _ => "a character is wrong".into(),
    };
    match suggest(digits, &unknown, is_right) {
        Some(meant) => format!("{what}; {}", difference(digits, &meant)),
        None => what,
    }
}

/// Returns the line that was probably meant.
fn suggest(digits: &[char], unknown: &[usize], is_right: impl Fn(&[char]) -> bool) -> Option<Zeroizing<Vec<char>>> {
    let mut line = Zeroizing::new(digits.to_vec());
    line.reserve(1);
    match (unknown, digits.len()) {
        ([at], TYPED_DIGITS) => try_characters(&mut line, *at, &is_right).then_some(line),
        ([], TYPED_DIGITS) => {
            let is_found = try_alike(&mut line, &is_right)
                || (0..TYPED_DIGITS).any(|at| try_characters(&mut line, at, &is_right))
                || (1..TYPED_DIGITS).any(|at| {
                    line.swap(at - 1, at);
                    is_right(&line) || {
                        line.swap(at - 1, at);
                        false
                    }
                })
                || try_alike_twice(&mut line, &is_right);
            is_found.then_some(line)
        }
        ([], len) if len + 1 == TYPED_DIGITS => (0..=len).find_map(|at| {
            line.insert(at, '0');
            let is_found = try_characters(&mut line, at, &is_right);
            if !is_found {
                line.remove(at);
            }
            is_found.then(|| line.clone())
        }),
        (_, len) if len == TYPED_DIGITS + 1 => (0..len).find_map(|at| {
            let removed = line.remove(at);
            let is_found = is_right(&line);
            let found = is_found.then(|| line.clone());
            line.insert(at, removed);
            found
        }),
        _ => None,
    }
}

/// Tries every character at one place.
fn try_characters(line: &mut [char], at: usize, is_right: impl Fn(&[char]) -> bool) -> bool {
    try_at(line, at, ALPHABET.chars(), |line| is_right(line))
}

/// Tries what looks alike, at one place.
fn try_alike(line: &mut [char], is_right: impl Fn(&[char]) -> bool) -> bool {
    (0..line.len()).any(|at| try_at(line, at, alike(line[at]), |line| is_right(line)))
}

/// Tries what looks alike, at two places.
fn try_alike_twice(line: &mut [char], is_right: impl Fn(&[char]) -> bool) -> bool {
    (0..line.len()).any(|at| {
        try_at(line, at, alike(line[at]), |line| {
            (at + 1..line.len()).any(|next| try_at(line, next, alike(line[next]), |line| is_right(line)))
        })
    })
}

fn alike(c: char) -> impl Iterator<Item = char> {
    let c = char::from(armour::digit(c));
    ALIKE.into_iter().filter_map(move |(a, b)| if a == c { Some(b) } else { (b == c).then_some(a) })
}

/// Tries characters at one place. Leaves the one that fits there, or what was there.
fn try_at(
    line: &mut [char],
    at: usize,
    characters: impl IntoIterator<Item = char>,
    fits: impl Fn(&mut [char]) -> bool,
) -> bool {
    let typed = line[at];
    for c in characters {
        line[at] = c;
        if fits(line) {
            return true;
        }
    }
    line[at] = typed;
    false
}

/// Says where two lines differ first, in groups as they are printed.
fn difference(typed: &[char], meant: &[char]) -> String {
    let same = |(a, b): (&char, &char)| armour::is_base32(*a) && armour::digit(*a) == armour::digit(*b);
    let groups: Vec<String> = (0..meant.len().div_ceil(GROUP))
        .filter(|group| {
            let span = |line: &[char]| line.iter().skip(group * GROUP).take(GROUP).copied().collect::<Vec<_>>();
            let (typed, meant) = (span(typed), span(meant));
            typed.len() != meant.len() || !typed.iter().zip(&meant).all(same)
        })
        // After a missing or added character, everything differs.
        .take(if typed.len() == meant.len() { usize::MAX } else { 1 })
        .map(|group| {
            let text: String = meant.iter().skip(group * GROUP).take(GROUP).collect();
            format!("group {} is probably {text}", group + 1)
        })
        .collect();
    groups.join(", and ")
}
