//! Output for people and scripts: sizes, times, tables, JSON, and names that are safe to print on a terminal.

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
    io::{IsTerminal, Write},
};

use anyhow::Result;
use bkfs_store::base::{label::is_visible, time::Time};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

/// Writes a line to standard output. A closed pipe becomes an error that ends the program without a message.
pub fn line(text: impl AsRef<str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(printable(text.as_ref()).as_bytes())?;
    out.write_all(b"\n")?;
    Ok(())
}

/// Writes a line to standard error, with the program's name.
pub fn note(text: impl Display) {
    eprintln!("bkfs: {}", printable(&text.to_string()));
}

/// The version of what `--json` prints. It grows when a field is renamed, removed or means something else; a new field
/// alone does not change it.
const JSON_VERSION: u32 = 1;

/// An object with its version.
#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    value: &'a T,
}

/// Returns an object with its version, as one line of JSON. The value must be a struct or a map.
pub fn json_text(value: &impl Serialize) -> Result<String> {
    Ok(printable_json(serde_json::to_string(&Versioned { version: JSON_VERSION, value })?))
}

/// Writes an object with its version as one line of JSON. The value must be a struct or a map.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(json_text(value)?)
}

/// Writes an object with its version as indented JSON. The value must be a struct or a map.
pub fn json_pretty(value: &impl Serialize) -> Result<()> {
    line(printable_json(serde_json::to_string_pretty(&Versioned { version: JSON_VERSION, value })?))
}

/// Writes a list as indented JSON.
pub fn json_list(rows: &[impl Serialize]) -> Result<()> {
    line(printable_json(serde_json::to_string_pretty(rows)?))
}

/// Escapes what could control a terminal. JSON itself asks that only of the first 32 characters; a terminal also obeys
/// others, and JSON is printed on terminals. Characters that are not visible only occur in strings.
pub fn printable_json(text: String) -> String {
    let is_unsafe = |c: char| c != '\n' && !is_visible(c);
    if !text.contains(is_unsafe) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        match is_unsafe(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}"))),
            false => safe.push(c),
        }
    }
    safe
}

/// Formats a number of bytes for people: `999 B`, `1.50 KiB`, `20.0 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Formats a number with its noun: `1 file`, `2 files`.
pub fn count(n: u64, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        _ => format!("{n} {noun}s"),
    }
}

/// Formats a duration for people: `850 ms`, `12.3 s`, `4m05s`, `2h03m`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Formats a time as RFC 3339, for JSON.
pub fn time_json(time: Time) -> String {
    timestamp(time).map_or_else(|| format!("@{}", time.secs), |t| t.to_string())
}

/// Formats a time for people: in the local time zone, to the second. In the hour that a clock shows twice, the offset
/// from UTC follows. Every time that this prints can be typed back as the name of a snapshot.
pub fn time_local(time: Time) -> String {
    time_local_in(time, &TimeZone::system())
}

/// Does the same for a given time zone.
pub fn time_local_in(time: Time, zone: &TimeZone) -> String {
    let Some(moment) = timestamp(time) else { return format!("@{}", time.secs) };
    let local = zone.to_datetime(moment);
    let offset = if zone.to_ambiguous_timestamp(local).is_ambiguous() { "%:z" } else { "" };
    moment.to_zoned(zone.clone()).strftime(&format!("%Y-%m-%d %H:%M:%S{offset}")).to_string()
}

/// Returns the current time by the system's clock.
pub fn now() -> Time {
    let now = Timestamp::now();
    let nanos = now.as_nanosecond();
    Time {
        secs: i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
        nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}

/// Returns the calendar time, or `None` if the calendar has no such year: the time of a snapshot can be any number.
pub fn timestamp(time: Time) -> Option<Timestamp> {
    let whole = Timestamp::from_second(time.secs).ok()?;
    whole.checked_add(jiff::SignedDuration::from_nanos(time.nanos.into())).ok()
}

/// Returns a name as text that is safe to print anywhere. Bytes that are not UTF-8 and characters that control a
/// terminal are escaped.
pub fn name(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if !is_visible(c) => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Returns text without anything that controls a terminal. Lines stay lines.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| c != '\n' && !is_visible(c);
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_unsafe(c) {
            true => safe.extend(c.escape_default()),
            false => safe.push(c),
        }
    }
    safe.into()
}

/// Returns a name as bytes for standard output: escaped on a terminal, and unchanged for a program that reads them.
pub fn name_for_stdout(bytes: &[u8]) -> Vec<u8> {
    match std::io::stdout().is_terminal() {
        true => name(bytes).into_bytes(),
        false => bytes.to_vec(),
    }
}

/// A table. Columns are left-aligned unless they are listed as right-aligned.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// Returns a table with these headings. `right` lists the numbers of the right-aligned columns.
    pub fn new(head: &[&str], right: &[usize]) -> Self {
        Self { rows: vec![head.iter().map(|s| (*s).to_owned()).collect()], right: right.to_vec() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Writes the table to standard output.
    pub fn print(&self) -> Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |i: usize| self.rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut rendered = String::new();
            for (i, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[i] - cell.chars().count());
                let gap = if i == 0 { "" } else { "  " };
                match self.right.contains(&i) {
                    true => rendered.extend([gap, &pad, cell]),
                    false => rendered.extend([gap, cell, &pad]),
                }
            }
            text.push_str(rendered.trim_end());
            text.push('\n');
        }
        std::io::stdout().lock().write_all(printable(&text).as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_formatted_for_people() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.50 KiB");
        assert_eq!(size(1024 * 1024 - 1), "1.00 MiB");
        assert_eq!(size(20 << 30), "20.0 GiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
        assert_eq!(duration(850), "850 ms");
        assert_eq!(duration(12_300), "12.3 s");
        assert_eq!(duration(245_000), "4m05s");
        assert_eq!(duration(7_380_000), "2h03m");
    }

    #[test]
    fn every_time_has_a_name() {
        assert_eq!(time_json(Time { secs: 0, nanos: 500_000_000 }), "1970-01-01T00:00:00.5Z");
        assert_eq!(time_local(Time { secs: i64::MAX, nanos: 0 }), format!("@{}", i64::MAX));
        assert_eq!(time_json(Time { secs: -1, nanos: 999_999_999 }), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn names_cannot_control_a_terminal() {
        assert_eq!(name("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
        assert_eq!(name(b"a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(name(b"\xff\\"), "\\xff\\\\");
        assert_eq!(name("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(printable("cannot open a\x1b]0;x\x07\\b:\nno"), "cannot open a\\u{1b}]0;x\\u{7}\\b:\nno");
        assert_eq!(printable("gr\u{fc}n\r"), "gr\u{fc}n\\r");
        let json = printable_json(serde_json::to_string("gr\u{fc}n \u{9b}31m \u{202e}").unwrap());
        assert_eq!(json, r#""grün \u009b31m \u202e""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), "gr\u{fc}n \u{9b}31m \u{202e}");
    }
}
