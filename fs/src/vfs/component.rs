//! Path components made from texts and times.

use bkfs_store::base::{id::Hash, time::Time};

/// The longest name that Linux allows.
pub(super) const NAME_MAX: usize = 255;

/// Converts a text to a path component. Different texts give different names: `/`, `%`, bytes that control a terminal,
/// and the first dot of `.` and `..` are written as `%` and two hex digits, and a name that is too long is cut and ends
/// in a hash.
pub(super) fn component(text: &[u8]) -> Vec<u8> {
    let dots = matches!(text, b"." | b"..");
    let mut name = Vec::with_capacity(text.len());
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'/' | b'%' | 0..0x20 | 0x7f => name.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            b'.' if dots && index == 0 => name.extend_from_slice(b"%2E"),
            byte => name.push(*byte),
        }
    }
    if name.is_empty() {
        return b"%".to_vec();
    }
    if name.len() > NAME_MAX {
        let hash = Hash::of(&[text]).to_string();
        name.truncate(NAME_MAX - 2 - hash.len());
        // No escape may be cut in two, or the name could be that of another text. `%~` occurs only in names that are
        // cut.
        while name[name.len() - 2..].contains(&b'%') {
            name.pop();
        }
        name.extend_from_slice(b"%~");
        name.extend_from_slice(hash.as_bytes());
    }
    name
}

/// Formats a time as `2026-11-20T090000Z`: UTC, without colons, which would break rsync and `SNAPSHOT:PATH`.
pub fn time_name(time: Time) -> String {
    let (days, second) = (time.secs.div_euclid(86_400), time.secs.rem_euclid(86_400));
    // Days since 0000-03-01 in the proleptic Gregorian calendar. Years that begin in March end with the leap day, and
    // 400 years have 146,097 days. The type is i128 because a time may be any i64.
    let days = i128::from(days) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, months have 31, 30, 31, 30 and 31 days, repeatedly: 153 days in five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}{minute:02}{second:02}Z")
}
