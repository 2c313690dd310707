//! Times of day and days of the week, by the clock on the wall.

use std::{fmt, str::FromStr};

use jiff::{Zoned, civil::Weekday};

/// The names of the days, Monday first, as systemd writes them in lower case.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A time of day, in minutes after midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hour(u16);

impl Hour {
    /// Returns the hour and the minute.
    pub fn parts(self) -> (u16, u16) {
        (self.0 / 60, self.0 % 60)
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute) = self.parts();
        write!(f, "{hour:02}:{minute:02}")
    }
}

impl FromStr for Hour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str, max: u16| -> Option<u16> {
            let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|number| digits && *number <= max)
        };
        let parts = text.split_once(':').filter(|(_, minute)| minute.len() == 2);
        let parts = parts.and_then(|(hour, minute)| Some((number(hour, 23)?, number(minute, 59)?)));
        match parts {
            Some((hour, minute)) => Ok(Self(hour * 60 + minute)),
            None => Err(format!("{text:?} is not a time of day; give one like 03:00")),
        }
    }
}

/// A moment of the week, by the clock on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// 0 is Monday.
    pub day: u8,
    /// The time of day.
    pub hour: Hour,
}

impl Moment {
    /// Returns the present moment.
    pub fn now() -> Self {
        let now = Zoned::now();
        let day = now.weekday().since(Weekday::Monday).unsigned_abs();
        Self { day, hour: Hour(u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs())) }
    }
}

/// Reads the name of a day, whole or its first three letters.
pub fn weekday(text: &str) -> Result<u8, String> {
    const WHOLE: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let found = (0..7).find(|day| DAYS[*day] == text || WHOLE[*day] == text);
    found.map(|day| day as u8).ok_or_else(|| format!("{text:?} is not a day; give mon, tue, wed, thu, fri, sat or sun"))
}

/// Days of the week, like `mon-fri` or `sat,sun`: a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    /// Returns whether a day is among them; 0 is Monday.
    pub fn contains(self, day: u8) -> bool {
        self.0 >> day & 1 == 1
    }
}

impl FromStr for Days {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut days = 0;
        for part in text.split(',').map(|part| part.trim().to_lowercase()) {
            let (from, to) = match part.split_once('-') {
                Some((from, to)) => (weekday(from)?, weekday(to)?),
                None => (weekday(&part)?, weekday(&part)?),
            };
            let len = (to + 7 - from) % 7;
            (0..=len).for_each(|at| days |= 1 << ((from + at) % 7));
        }
        Ok(Self(days))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = (0..7).filter(|day| self.contains(*day)).map(|day| DAYS[usize::from(day)]).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_and_days_are_parsed() {
        assert_eq!("3:05".parse::<Hour>().unwrap().to_string(), "03:05");
        for bad in ["", "3", "24:00", "12:60", "1:5", "+1:00", "003:00", "03:000"] {
            assert!(bad.parse::<Hour>().is_err(), "{bad:?}");
        }
        assert_eq!("mon-fri".parse::<Days>().unwrap().to_string(), "mon,tue,wed,thu,fri");
        assert_eq!("fri-mon,wed".parse::<Days>().unwrap().to_string(), "mon,wed,fri,sat,sun");
        assert!("mon-".parse::<Days>().is_err() && "".parse::<Days>().is_err() && "x".parse::<Days>().is_err());
        assert!(Moment::now().day < 7);
    }
}
