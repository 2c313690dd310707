//! Limits of bandwidth by the time of day.

use std::{fmt, str::FromStr};

use jiff::{Zoned, civil::Weekday};

use super::{
    calendar::{DAYS, weekday},
    settings::{Limits, TimedLimits},
};

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

/// The limits in bytes a second at some moment: to send, and to receive.
pub type Rates = (Option<u64>, Option<u64>);

impl Limits {
    /// Returns the limits that hold at a moment. Of the times that fit, the first that sets a limit counts; where none
    /// does, the limit without a time.
    pub fn at(&self, now: Moment) -> Rates {
        let times = || self.times.iter().flatten().filter(|times| times.holds(now));
        let upload = times().find_map(|times| times.upload.as_ref()).or(self.upload.as_ref());
        let download = times().find_map(|times| times.download.as_ref()).or(self.download.as_ref());
        (upload.and_then(|rate| rate.get().0), download.and_then(|rate| rate.get().0))
    }
}

impl TimedLimits {
    /// Returns whether a moment is between `from` and `to`. Over midnight, the day is that of `from`.
    fn holds(&self, now: Moment) -> bool {
        let (from, to) = (*self.from.get(), *self.to.get());
        let (is_within, is_next_day) = match from < to {
            true => ((from..to).contains(&now.hour), false),
            false => (now.hour >= from || now.hour < to, now.hour < to),
        };
        let day = if is_next_day { (now.day + 6) % 7 } else { now.day };
        is_within && self.days.as_ref().is_none_or(|days| days.get().contains(day))
    }
}

/// Days of the week, like `mon-fri` or `sat,sun`: a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    fn contains(self, day: u8) -> bool {
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

    fn at(day: u8, hour: &str) -> Moment {
        Moment { day, hour: hour.parse().unwrap() }
    }

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

    #[test]
    fn the_limit_of_the_hour_counts() {
        let limits: Limits = toml::from_str(
            "upload = '4M'\n\
             [[times]]\nfrom = '08:00'\nto = '18:00'\ndays = 'mon-fri'\nupload = '500K'\n\
             [[times]]\nfrom = '22:00'\nto = '06:00'\ndays = 'sun'\nupload = 'off'\ndownload = '1M'\n",
        )
        .unwrap();
        let (k, m) = (1 << 10, 1 << 20);
        for (moment, rates) in [
            (at(0, "08:00"), (Some(500 * k), None)),
            (at(0, "18:00"), (Some(4 * m), None)),
            (at(5, "09:00"), (Some(4 * m), None)),
            (at(6, "21:59"), (Some(4 * m), None)),
            (at(6, "23:00"), (None, Some(m))),
            // The night that began on Sunday.
            (at(0, "05:59"), (None, Some(m))),
            (at(6, "05:59"), (Some(4 * m), None)),
        ] {
            assert_eq!(limits.at(moment), rates, "{moment:?}");
        }
    }
}
