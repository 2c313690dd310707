//! `--max-unused`: how much of what a prune keeps may be unused.

use std::str::FromStr;

use bkfs_store::access::Unused;

use super::size::parse_size;

/// The value of `--max-unused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxUnused(pub Unused);

impl FromStr for MaxUnused {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unlimited" {
            return Ok(Self(Unused::Bytes(u64::MAX)));
        }
        let Some(share) = text.strip_suffix('%') else {
            return Ok(Self(Unused::Bytes(parse_size(text)?)));
        };
        let wrong = || format!("{text:?} is not a percentage; give one like 5% or 0.5%");
        let share: f64 = share.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=1e6).contains(&share) {
            return Err(wrong());
        }
        Ok(Self(Unused::PerMille((share * 10.0).round() as u32)))
    }
}
