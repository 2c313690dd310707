//! Times on the command line: everything that the program prints as a time can be typed back.
//!
//! ```text
//! 2026-11-20                      a day, a month (2026-11), an hour (2026-11-20T09) or a minute, in local time
//! 2026-11-20 09:00:00             as `bkfs snapshots` prints it, in the local time zone; also with T
//! 2026-11-20T09:00:00+01:00       with an offset from UTC, or Z for UTC; also with a fraction of a second (--json)
//! 2026-11-20T090000Z-2            the name of a folder in a mount
//! @1795165200                     seconds since 1970: the form of times that no calendar has
//! ```
//!
//! A time names the moments that begin like it, to the precision that is given. The fields are compared, and the text
//! is not converted to a moment: so an hour that a clock shows twice names both, and one that it skips names none.

use std::str::FromStr;

use bkfs_fs::vfs::component::time_name;
use bkfs_store::base::time::Time;
use jiff::{
    civil::DateTime,
    tz::{Offset, TimeZone},
};

use crate::output::timestamp;

/// A time as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimePattern {
    text: String,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// Year, month, day, hour, minute and second, as far as they were given; digits of the fraction; the time zone.
    Calendar { fields: Vec<i64>, fraction: String, zone: Zone },
    /// The name of a folder in a mount, without the number that follows it, and that number.
    Folder { name: String, nth: usize },
    /// Seconds since 1970.
    Seconds(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zone {
    Local,
    East(i32),
}

impl TimePattern {
    /// Whether a text is meant as a time, valid or not.
    pub fn is_meant(text: &[u8]) -> bool {
        let year = text.strip_prefix(b"-").unwrap_or(text);
        let digits = year.iter().take_while(|b| b.is_ascii_digit()).count();
        (digits >= 4 && year.get(digits) == Some(&b'-')) || text.first() == Some(&b'@')
    }

    /// Parses the time at the beginning of a text, as far as it goes. Returns it with the rest of the text.
    pub fn parse_prefix(text: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = Cursor(text);
        let form = rest.seconds().or_else(|| rest.calendar())?;
        let text = std::str::from_utf8(&text[..text.len() - rest.0.len()]).ok()?.to_owned();
        Some((Self { text, form }, rest.0))
    }

    /// The time as it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a `:` and digits after it look like a part of this time.
    pub fn could_continue(&self) -> bool {
        match &self.form {
            Form::Calendar { fields, fraction, zone } => {
                (4..=6).contains(&fields.len()) && fraction.is_empty() && *zone == Zone::Local
            }
            Form::Folder { .. } | Form::Seconds(_) => false,
        }
    }

    /// Returns the indexes of the times that this one names. `all` are those of all snapshots, in the order of their
    /// commits; `local` is the local time zone.
    pub fn find(&self, all: &[Time], local: &TimeZone) -> Vec<usize> {
        let indexes = |fits: &dyn Fn(Time) -> bool| -> Vec<usize> {
            all.iter().enumerate().filter(|(_, time)| fits(**time)).map(|(index, _)| index).collect()
        };
        match &self.form {
            // The number counts the snapshots of one second.
            Form::Folder { name, nth } => {
                indexes(&|time| time_name(time) == *name).into_iter().skip(nth.saturating_sub(1)).take(1).collect()
            }
            Form::Seconds(secs) => indexes(&|time| time.secs == *secs),
            Form::Calendar { fields, fraction, zone } => {
                let zone = match zone {
                    Zone::Local => local.clone(),
                    Zone::East(secs) => TimeZone::fixed(Offset::from_seconds(*secs).unwrap_or(Offset::UTC)),
                };
                let nanos = |time: Time| format!("{:09}", time.nanos);
                let begins = |time: Time| {
                    let Some(moment) = timestamp(time) else { return false };
                    fields_of(zone.to_datetime(moment)).starts_with(fields) && nanos(time).starts_with(fraction)
                };
                let found = indexes(&begins);
                // `--json` leaves out zeros at the end of a fraction, so the time that it printed comes first.
                let exact: Vec<usize> = (found.iter().copied())
                    .filter(|index| {
                        fields.len() == 6 && nanos(all[*index]).trim_end_matches('0') == fraction.trim_end_matches('0')
                    })
                    .collect();
                if fraction.is_empty() || exact.is_empty() { found } else { exact }
            }
        }
    }
}

impl FromStr for TimePattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match Self::parse_prefix(text.as_bytes()) {
            Some((pattern, b"")) => Ok(pattern),
            _ => Err(()),
        }
    }
}

fn fields_of(t: DateTime) -> [i64; 6] {
    [t.year().into(), t.month().into(), t.day().into(), t.hour().into(), t.minute().into(), t.second().into()]
}

/// What is left to parse.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn seconds(&mut self) -> Option<Form> {
        let text = self.0.strip_prefix(b"@")?;
        let sign = usize::from(text.first() == Some(&b'-'));
        let len = sign + text[sign..].iter().take_while(|b| b.is_ascii_digit()).count();
        let secs = std::str::from_utf8(&text[..len]).ok()?.parse().ok()?;
        self.0 = &text[len..];
        Some(Form::Seconds(secs))
    }

    fn calendar(&mut self) -> Option<Form> {
        let whole = self.0;
        let mut fields = vec![self.year()?];
        fields.push(self.after(b"-", 1..=12)?);
        fields.extend(self.after(b"-", 1..=31));
        let mut is_compact = false;
        if let (3, Some(hour)) = (fields.len(), self.after(b"Tt ", 0..=23)) {
            fields.push(hour);
            is_compact = self.0.first().is_some_and(u8::is_ascii_digit);
            for _ in 0..2 {
                let next = if is_compact { self.two_digits(0..=59) } else { self.after_colon() };
                let Some(field) = next else { break };
                fields.push(field);
            }
        }
        let mut fraction = String::new();
        if let (6, Some(digits)) = (fields.len(), self.0.strip_prefix(b".")) {
            let len = digits.iter().take_while(|b| b.is_ascii_digit()).count();
            if (1..=9).contains(&len) {
                fraction = std::str::from_utf8(&digits[..len]).ok()?.to_owned();
                self.0 = &digits[len..];
            }
        }
        let len = whole.len() - self.0.len();
        let zone = self.zone(fields.len() >= 4);
        if is_compact && fields.len() == 6 && fraction.is_empty() && zone == Zone::East(0) && self.is_after(b'Z', whole)
        {
            let name = format!("{}Z", std::str::from_utf8(&whole[..len]).ok()?.replace(['t', ' '], "T"));
            return Some(Form::Folder { name, nth: self.number() });
        }
        Some(Form::Calendar { fields, fraction, zone })
    }

    /// Whether the last byte that was parsed is this one.
    fn is_after(&self, byte: u8, whole: &[u8]) -> bool {
        whole[..whole.len() - self.0.len()].last().is_some_and(|last| last.to_ascii_uppercase() == byte)
    }

    fn year(&mut self) -> Option<i64> {
        let sign = usize::from(self.0.first() == Some(&b'-'));
        let len = self.0[sign..].iter().take_while(|b| b.is_ascii_digit()).count();
        // No year of any time has more digits.
        let year = (4..=13).contains(&len).then(|| std::str::from_utf8(&self.0[..sign + len]).ok()?.parse().ok())?;
        self.0 = &self.0[sign + len..];
        year
    }

    fn two_digits(&mut self, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let [tens, ones, rest @ ..] = self.0 else { return None };
        let is_number = tens.is_ascii_digit() && ones.is_ascii_digit();
        let number = i64::from(tens.wrapping_sub(b'0')) * 10 + i64::from(ones.wrapping_sub(b'0'));
        let is_whole = is_number && range.contains(&number);
        is_whole.then(|| {
            self.0 = rest;
            number
        })
    }

    fn after(&mut self, separators: &[u8], range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let (first, rest) = self.0.split_first()?;
        let mut cursor = Cursor(rest);
        let number = separators.contains(first).then(|| cursor.two_digits(range))??;
        self.0 = cursor.0;
        Some(number)
    }

    /// Parses minutes or seconds. What follows them must not be the rest of a file's name.
    fn after_colon(&mut self) -> Option<i64> {
        let mut cursor = Cursor(self.0);
        let number = cursor.after(b":", 0..=59)?;
        let ends = cursor.0.first().is_none_or(|next| matches!(next, b':' | b'.' | b'Z' | b'z' | b'+' | b'-'));
        ends.then(|| {
            self.0 = cursor.0;
            number
        })
    }

    fn zone(&mut self, has_hours: bool) -> Zone {
        let Some((first, rest)) = self.0.split_first() else { return Zone::Local };
        let sign = match first {
            b'Z' | b'z' => {
                self.0 = rest;
                return Zone::East(0);
            }
            b'+' if has_hours => 1,
            b'-' if has_hours => -1,
            _ => return Zone::Local,
        };
        let mut cursor = Cursor(rest);
        let Some(hours) = cursor.two_digits(0..=25) else { return Zone::Local };
        let minutes = cursor.after_colon().or_else(|| cursor.two_digits(0..=59)).unwrap_or(0);
        self.0 = cursor.0;
        Zone::East(sign * i32::try_from(hours * 3600 + minutes * 60).unwrap_or(0))
    }

    /// Parses the number after a folder's name: `-2`, or 1 if there is none.
    fn number(&mut self) -> usize {
        let Some(digits) = self.0.strip_prefix(b"-") else { return 1 };
        let len = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        match std::str::from_utf8(&digits[..len]).ok().and_then(|text| text.parse().ok()) {
            Some(nth) if nth > 1 => {
                self.0 = &digits[len..];
                nth
            }
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests;
