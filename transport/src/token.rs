//! The single-use invitation: one word that carries all that a new client needs to find and trust a server.
//!
//! `bkfs1` and the base32 of a CBOR record followed by the first four bytes of its BLAKE3, which catches a token that was
//! cut or mistyped. The server keeps only a hash of the secret.

use bkfs_store::{Error, Result, base::id::Hash};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{base32, url::Name};

const PREFIX: &str = "bkfs1";
const CHECK_LEN: usize = 4;
const TEXT_MAX: usize = 1024;

/// An invitation, as its text carries it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Token {
    /// Where the server is, `HOST:PORT`.
    #[n(0)]
    pub address: String,
    /// Fingerprint of the server's certificate.
    #[n(1)]
    pub pin: Hash,
    /// The account that it opens.
    #[n(2)]
    pub account: Name,
    /// Proves the invitation.
    #[n(3)]
    pub secret: TokenSecret,
}

/// The secret of an invitation.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Encode, Decode)]
#[cbor(transparent)]
pub struct TokenSecret(#[cbor(n(0), with = "minicbor::bytes")] pub(crate) [u8; 16]);

impl std::fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

impl TokenSecret {
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| Error::Invalid(format!("the system gives no random bytes: {e}")))?;
        Ok(Self(bytes))
    }

    /// What the server keeps of it.
    pub(crate) fn hash(&self) -> Hash {
        Hash(blake3::derive_key("bkfs v1 invitation secret", &self.0))
    }
}

impl Token {
    /// Reads a token's text; white space around it is ignored.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::Invalid(format!("this is no valid invitation token: {why}"));
        let text = text.trim();
        if text.len() > TEXT_MAX {
            return Err(bad("it is too long"));
        }
        let words = text.strip_prefix(PREFIX).ok_or_else(|| bad("it does not begin with bkfs1"))?;
        let bytes = base32::decode(words).ok_or_else(|| bad("it was cut or mistyped"))?;
        let (record, check) =
            bytes.len().checked_sub(CHECK_LEN).map(|at| bytes.split_at(at)).ok_or_else(|| bad("it was cut"))?;
        if Hash::of(&[record]).0[..CHECK_LEN] != *check {
            return Err(bad("it was cut or mistyped"));
        }
        let mut token: Self = bkfs_store::base::codec::decode("the token", record).map_err(|e| bad(&e.to_string()))?;
        token.address = crate::url::normal_address(&token.address)?;
        Ok(token)
    }

    /// The token's text: one word.
    pub fn text(&self) -> String {
        let mut bytes = bkfs_store::base::codec::encode(self);
        let check = Hash::of(&[&bytes]);
        bytes.extend_from_slice(&check.0[..CHECK_LEN]);
        let text = format!("{PREFIX}{}", base32::encode(&bytes));
        bytes.zeroize();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            address: "nas.example:7443".into(),
            pin: Hash([7; 32]),
            account: "alice".parse().unwrap(),
            secret: TokenSecret([9; 16]),
        }
    }

    #[test]
    fn round_trips_in_one_word() {
        let text = token().text();
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        assert_eq!(Token::parse(&format!(" {text}\n")).unwrap(), token());
    }

    #[test]
    fn a_changed_token_is_refused() {
        let text = token().text();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            assert!(Token::parse(&String::from_utf8(bytes).unwrap()).is_err(), "at {at}");
        }
        assert!(Token::parse(&text[..text.len() - 1]).is_err());
        assert!(Token::parse("").is_err());
    }
}
