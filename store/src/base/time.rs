//! Points in time.

use minicbor::{Decode, Decoder, Encode};

/// A point in time as file systems store it: seconds since 1970 (negative before) and nanoseconds (0..10^9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    #[n(0)]
    pub secs: i64,
    /// Nanoseconds past the second, less than 10^9.
    #[cbor(n(1), decode_with = "decode_nanos")]
    pub nanos: u32,
}

/// Nanoseconds in a second.
const SECOND: u32 = 1_000_000_000;

fn decode_nanos<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<u32, minicbor::decode::Error> {
    let at = decoder.position();
    let nanos = decoder.u32()?;
    match nanos < SECOND {
        true => Ok(nanos),
        false => Err(minicbor::decode::Error::message("a time has too many nanoseconds").at(at)),
    }
}

impl Time {
    /// Returns the point in time `secs` seconds later, or the last that fits.
    pub fn plus_secs(self, secs: u64) -> Self {
        Self { secs: self.secs.saturating_add(i64::try_from(secs).unwrap_or(i64::MAX)), nanos: self.nanos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec;

    #[test]
    fn a_time_has_less_than_a_second_of_nanoseconds() {
        let decode = |nanos| codec::decode::<Time>("a time", &codec::encode(&Time { secs: -1, nanos }));
        assert_eq!(decode(SECOND - 1).unwrap(), Time { secs: -1, nanos: SECOND - 1 });
        assert!(decode(SECOND).is_err() && decode(u32::MAX).is_err());
    }
}
