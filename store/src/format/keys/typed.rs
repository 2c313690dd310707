//! Text of keys as it comes back from people: typed from paper, pasted from a mail, saved by an editor.

/// Returns the lines of a text, each with its number from 1. Left out are empty lines and those that begin with `#`,
/// and from each line what is not the writer's: a byte order mark, white space at the ends, the marks of a mail that is
/// quoted, and quotation marks.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    const INVISIBLE: [char; 4] = ['\u{feff}', '\u{200b}', '\u{200e}', '\u{2060}'];
    let is_around =
        |c: char| c.is_whitespace() || INVISIBLE.contains(&c) || matches!(c, '>' | '|' | '"' | '\'' | '“' | '”' | '`');
    text.lines()
        .enumerate()
        .map(move |(at, line)| (at + 1, line.trim_matches(is_around)))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
