//! Where log lines go: standard error, one line for each event, without anything that a terminal or a reader of logs
//! could be misled by.
//!
//! Texts of servers and clients are in these lines. tracing-subscriber escapes what begins a control sequence. It lets
//! line ends through, with which a text could add a line that looks like another event, and characters that hide or
//! reorder others.

use std::io::{self, IsTerminal, Write};

use bkfs_store::base::label::is_visible;

/// Writes the line of one event.
pub struct LogWriter;

impl Write for LogWriter {
    /// The subscriber hands over a whole event at a time.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        stderr.write_all(escaped(&String::from_utf8_lossy(event), stderr.is_terminal()).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Escapes a line, except its end; and, if the subscriber has coloured it, except the sequences for that.
fn escaped(event: &str, is_coloured: bool) -> String {
    let (line, end) = event.strip_suffix('\n').map_or((event, ""), |line| (line, "\n"));
    let mut safe = String::with_capacity(event.len());
    for c in line.chars() {
        match is_visible(c) || (is_coloured && c == '\u{1b}') {
            true => safe.push(c),
            false => safe.extend(c.escape_default()),
        }
    }
    safe + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_one_line() {
        assert_eq!(escaped("a\r\nb\u{202e}\u{9b}c\td\n", false), "a\\r\\nb\\u{202e}\\u{9b}c\\td\n");
        assert_eq!(escaped("\u{1b}[33mWARN\u{1b}[0m gr\u{fc}n\n", true), "\u{1b}[33mWARN\u{1b}[0m gr\u{fc}n\n");
        assert_eq!(escaped("\u{1b}[33m", false), "\\u{1b}[33m");
    }
}
