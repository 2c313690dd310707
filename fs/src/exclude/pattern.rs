//! One pattern of `.gitignore`: how a line is read, and what it matches.
//!
//! It follows git to the letter (`dir.c`), because that is what users know and can try: comments, trailing blanks and
//! backslashes, a slash at either end, and the text before the first wildcard, which is compared by itself.

use gix_glob::{wildmatch, wildmatch::Mode};

/// One pattern.
#[derive(Debug)]
pub struct Pattern {
    /// The line, without blanks at its end.
    pub written: Vec<u8>,
    /// Whether it begins with `!`: then what it matches is included.
    pub is_negative: bool,
    /// Whether it ends with `/`: then it matches folders only.
    is_dir_only: bool,
    /// Whether it has no other slash: then it is compared with the last name of a path only.
    is_name: bool,
    /// What is compared.
    text: Vec<u8>,
    /// How many bytes at the beginning of the text stand for themselves.
    literal_len: usize,
}

/// The patterns of a file, or of one argument.
pub fn parse_lines(text: &[u8]) -> impl Iterator<Item = Pattern> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = trim_blanks(line.strip_suffix(b"\r").unwrap_or(line));
        (!line.is_empty() && line[0] != b'#').then(|| Pattern::parse(line))
    })
}

/// The line without the blanks at its end. A blank after a backslash stays.
fn trim_blanks(line: &[u8]) -> &[u8] {
    let (mut end, mut at) = (0, 0);
    while at < line.len() {
        let is_escape = line[at] == b'\\';
        let next = line.len().min(at + if is_escape { 2 } else { 1 });
        if is_escape || line[at] != b' ' {
            end = next;
        }
        at = next;
    }
    &line[..end]
}

impl Pattern {
    fn parse(line: &[u8]) -> Self {
        let (is_negative, text) = match line.strip_prefix(b"!") {
            Some(text) => (true, text),
            None => (false, line),
        };
        let (is_dir_only, text) = match text.strip_suffix(b"/") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let is_name = !text.contains(&b'/');
        let text = text.strip_prefix(b"/").unwrap_or(text);
        let literal_len = text.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(text.len());
        Self { written: line.to_vec(), is_negative, is_dir_only, is_name, text: text.to_vec(), literal_len }
    }

    /// Whether it matches a path (bytes, without a leading slash).
    pub fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        if self.is_dir_only && !is_dir {
            return false;
        }
        let name = || path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let subject = if self.is_name { name() } else { path };
        // As git does, the text before the first wildcard is compared first, and the rest is matched by itself. It
        // shows: two stars right after a text are at the beginning of the rest, and so mean folders.
        let (literal, rest) = self.text.split_at(self.literal_len);
        match subject.strip_prefix(literal) {
            Some(left) if rest.is_empty() => left.is_empty(),
            Some(left) => wildmatch(rest.into(), left.into(), Mode::NO_MATCH_SLASH_LITERAL),
            None => false,
        }
    }
}
