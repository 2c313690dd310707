//! The addresses of a server, in the order in which a client tries them.

use std::{fmt, ops::Deref, str::FromStr};

use bkfs_store::{Error, Result};
use minicbor::{Decode, Encode};

use crate::url;

/// One to [`Addresses::COUNT_MAX`] addresses, each `HOST:PORT` in its canonical form, and each only once. As text, they
/// are joined by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<String>);

impl Addresses {
    /// The most addresses of a server.
    pub const COUNT_MAX: usize = 8;

    /// Puts addresses into their canonical form. Fails if one is not an address, or if there are none or too many.
    pub fn new<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Result<Self> {
        let mut found = Vec::new();
        for address in addresses {
            let address = url::normalize_address(address.as_ref())?;
            if !found.contains(&address) {
                found.push(address);
            }
            if found.len() > Self::COUNT_MAX {
                let text = format!("a server has at most {} addresses", Self::COUNT_MAX);
                return Err(Error::Invalid(text));
            }
        }
        match found.is_empty() {
            true => Err(Error::Invalid("a server has at least one address; write HOST:PORT".into())),
            false => Ok(Self(found)),
        }
    }
}

impl Deref for Addresses {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for Addresses {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text.split(',').map(str::trim))
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl<C> Encode<C> for Addresses {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.0.len() as u64)?;
        self.0.iter().try_for_each(|address| e.str(address).map(drop))
    }
}

impl<'b, C> Decode<'b, C> for Addresses {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bad = || minicbor::decode::Error::message("not the addresses of a server");
        let count = d.array()?.filter(|count| *count <= Self::COUNT_MAX as u64).ok_or_else(bad)?;
        let texts = (0..count).map(|_| d.str()).collect::<Result<Vec<_>, _>>()?;
        Self::new(texts).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bkfs_store::base::codec;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_canonical_unique_and_bounded() {
        let addresses: Addresses = "nas, 10.0.0.2:1,nas:7443,[::1]".parse().unwrap();
        assert_eq!(addresses.to_string(), "nas:7443,10.0.0.2:1,[::1]:7443");
        for bad in ["", ",", "a,,b", "a b", "http://a", "a:99999", "::1"] {
            assert!(bad.parse::<Addresses>().is_err(), "{bad:?}");
        }
        let many = |count: u32| (0..count).map(|i| format!("h{i}")).collect::<Vec<_>>().join(",");
        assert!(many(8).parse::<Addresses>().is_ok());
        assert!(many(9).parse::<Addresses>().unwrap_err().to_string().contains("at most 8"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(hosts in proptest::collection::vec("[a-z0-9.]{1,20}", 1..9), port: u16) {
            let addresses = Addresses::new(hosts.iter().map(|host| format!("{host}:{port}"))).unwrap();
            let bytes = codec::encode(&addresses);
            prop_assert_eq!(codec::decode::<Addresses>("addresses", &bytes).unwrap(), addresses.clone());
            prop_assert_eq!(addresses.to_string().parse::<Addresses>().unwrap(), addresses);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = codec::decode::<Addresses>("addresses", &bytes);
        }
    }
}
