//! Limits of bandwidth by the time of day.

use super::{
    hours::Moment,
    settings::{Limits, TimedLimits},
};

/// The limits in bytes a second at some moment: to send, and to receive.
pub type Rates = (Option<u64>, Option<u64>);

impl Limits {
    /// Returns whether a limit to send, and one to receive, is set at any time. One that is never set is not the
    /// profile's to say.
    pub fn sets(&self) -> (bool, bool) {
        let times = || self.times.iter().flatten();
        let upload = self.upload.is_some() || times().any(|times| times.upload.is_some());
        (upload, self.download.is_some() || times().any(|times| times.download.is_some()))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u8, hour: &str) -> Moment {
        Moment { day, hour: hour.parse().unwrap() }
    }

    #[test]
    fn the_limit_of_the_hour_counts() {
        let limits: Limits = toml::from_str(
            "upload = '4M'\n\
             [[times]]\nfrom = '08:00'\nto = '18:00'\ndays = 'mon-fri'\nupload = '500K'\n\
             [[times]]\nfrom = '22:00'\nto = '06:00'\ndays = 'sun'\nupload = 'off'\ndownload = '1M'\n",
        )
        .unwrap();
        assert_eq!(limits.sets(), (true, true));
        assert_eq!(toml::from_str::<Limits>("upload = 'off'").unwrap().sets(), (true, false));
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
