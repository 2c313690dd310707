//! `--alarm`: the share of all files that is an alarm if they become unreadable.

use std::str::FromStr;

use bkfs_fs::push::AlarmLimits;

/// A share in percent, or none for no alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlarmShare(Option<u32>);

impl AlarmShare {
    /// Returns the limits of a push.
    pub fn limits(self) -> Option<AlarmLimits> {
        self.0.map(|percent| AlarmLimits { percent, ..AlarmLimits::default() })
    }
}

impl FromStr for AlarmShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let percent = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| (1..=100).contains(percent));
        percent.map(|percent| Self(Some(percent))).ok_or_else(|| "give a percentage from 1% to 100%, or off".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_or_off() {
        let limits = |text: &str| text.parse().map(AlarmShare::limits);
        assert_eq!(limits("off"), Ok(None));
        assert_eq!(limits("7%").unwrap().unwrap().percent, 7);
        assert_eq!(limits("100").unwrap().unwrap().percent, 100);
        for bad in ["", "%", "0%", "101%", "-1", "on", "5.5%"] {
            assert!(limits(bad).is_err(), "{bad:?}");
        }
    }
}
