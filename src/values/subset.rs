//! `--read-data-subset`: which part of the data a check reads.

use std::str::FromStr;

use bkfs_store::{
    base::id::PackId,
    owner::check::{ReadData, Share},
};

use super::size::parse_size;

/// The value of `--read-data-subset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subset {
    /// Part n of m. The ids of the packs decide which part they are in.
    Part { number: u64, of: u64 },
    /// A share of the data, starting where the last check ended.
    Share(Share),
}

impl Subset {
    /// Returns what to read, if the last check ended at the pack `reached`.
    pub fn read_data(self, reached: Option<PackId>) -> ReadData {
        match self {
            Subset::Part { number, of } => ReadData::Part { number, of },
            Subset::Share(share) => ReadData::Next { after: reached, share },
        }
    }
}

impl FromStr for Subset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a part of the data: give 5%, 2G, or 3/7 (the third of seven parts)");
        if let Some((number, of)) = text.split_once('/') {
            let (number, of) = (number.trim().parse().map_err(|_| bad())?, of.trim().parse().map_err(|_| bad())?);
            return match (1..=of).contains(&number) {
                true => Ok(Subset::Part { number, of }),
                false => Err(bad()),
            };
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
            let share = (percent * 10_000.0).round();
            return match share.is_finite() && (1.0..=1_000_000.0).contains(&share) {
                true => Ok(Subset::Share(Share::PerMillion(share as u32))),
                false => Err(bad()),
            };
        }
        match parse_size(text) {
            Ok(bytes) if bytes > 0 => Ok(Subset::Share(Share::Bytes(bytes))),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_shares_are_parsed() {
        let share = |n| Ok(Subset::Share(Share::PerMillion(n)));
        assert_eq!("5%".parse(), share(50_000));
        assert_eq!("0.5%".parse(), share(5_000));
        assert_eq!("100%".parse(), share(1_000_000));
        assert_eq!("2G".parse(), Ok(Subset::Share(Share::Bytes(2 << 30))));
        assert_eq!("3/7".parse(), Ok(Subset::Part { number: 3, of: 7 }));
        for bad in ["", "0", "0%", "101%", "-1%", "nan%", "inf%", "0/7", "8/7", "1/0", "1/", "x", "5 apples", "1/2/3"] {
            let error = bad.parse::<Subset>().unwrap_err();
            assert!(error.contains("5%, 2G, or 3/7"), "{bad}: {error}");
        }
    }
}
