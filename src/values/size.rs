//! Sizes, and rates, which are sizes in a second.

/// The lowest limit of bandwidth, in bytes a second.
const RATE_MIN: u64 = 1024;

/// Parses a size in bytes: `500`, `500K`, `2GiB`. Units are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(format!("{text:?} is not a size; give one like 500M"));
    }
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("unknown unit {unit:?}: use K, M, G or T")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a size; give one like 500M"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is too large"))
}

/// Parses a rate in bytes a second, which must let something get done.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let rate = parse_size(text)?;
    match rate >= RATE_MIN {
        true => Ok(rate),
        false => Err("give at least 1K; without the option there is no limit".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("500M"), Ok(500 << 20));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert!(parse_size("x").unwrap_err().contains("is not a size"));
        assert_eq!(parse_rate("500K"), Ok(500 << 10));
        assert!(parse_rate("0").is_err() && parse_rate("1023").is_err() && parse_rate("").is_err());
        assert!(parse_size("5X").is_err());
        assert!(parse_size("99999999999T").is_err());
    }
}
