//! The token: a single-use invitation, in one word that carries all that a new client needs to find and trust a server.
//!
//! The word is `bkfs1` and the base32 form of a CBOR record, followed by the first four bytes of the record's BLAKE3
//! hash. The hash shows that a token was cut or mistyped. The server keeps only a hash of the secret.

use bkfs_store::{
    Error, Result,
    base::{codec, id::Hash},
};
use data_encoding::{BASE32_NOPAD_NOCASE, Encoding};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{addresses::Addresses, url::Name};

/// RFC 4648 base32 without padding, written in lower case: one word to a double click, safe in shells, mail and URLs.
/// Left-over bits must be zero.
const BASE32: Encoding = BASE32_NOPAD_NOCASE;

const PREFIX: &str = "bkfs1";
const CHECK_LEN: usize = 4;
/// The longest token: eight addresses with names of 253 characters.
const TEXT_MAX: usize = 4096;

/// An invitation to a server.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Token {
    /// The server's addresses.
    #[n(0)]
    pub addresses: Addresses,
    /// The fingerprint of the server's certificate.
    #[n(1)]
    pub fingerprint: Hash,
    /// The account that the client will join.
    #[n(2)]
    pub account: Name,
    /// Proves to the server that the client was invited.
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
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::Invalid(format!("the operating system returned no random bytes: {e}")))?;
        Ok(Self(bytes))
    }

    /// The hash that the server keeps of it.
    pub fn hash(&self) -> Hash {
        Hash(blake3::derive_key("bkfs v1 invitation secret", &self.0))
    }
}

impl Token {
    /// Reads a token's text. White space around it is ignored, and after the prefix upper case is the same as lower
    /// case.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::Invalid(format!("this is not a valid invitation token: {why}"));
        let text = text.trim();
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if text.len() > TEXT_MAX {
            return Err(bad("it is too long"));
        }
        let encoded = text.strip_prefix(PREFIX).ok_or_else(|| bad("it does not begin with bkfs1"))?;
        let bytes = decode_base32(encoded).ok_or_else(|| bad("it was cut or mistyped"))?;
        let (record, check) =
            bytes.len().checked_sub(CHECK_LEN).map(|at| bytes.split_at(at)).ok_or_else(|| bad("it was cut"))?;
        if Hash::of(&[record]).0[..CHECK_LEN] != *check {
            return Err(bad("it was cut or mistyped"));
        }
        codec::decode("the token", record).map_err(|e| bad(&e.to_string()))
    }

    /// The token's text: one word.
    pub fn text(&self) -> Zeroizing<String> {
        let record = Zeroizing::new(codec::encode(self));
        let check = Hash::of(&[&record]);
        let bytes = Zeroizing::new([&record[..], &check.0[..CHECK_LEN]].concat());
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + BASE32.encode_len(bytes.len())));
        text.push_str(PREFIX);
        BASE32.encode_append(&bytes, &mut text);
        text.make_ascii_lowercase();
        text
    }
}

fn decode_base32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; BASE32.decode_len(text.len()).ok()?]);
    let len = BASE32.decode_mut(text.as_bytes(), &mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            addresses: "nas.example:7443,10.0.0.2:7443".parse().unwrap(),
            fingerprint: Hash([7; 32]),
            account: "alice".parse().unwrap(),
            secret: TokenSecret([9; 16]),
        }
    }

    const TEXT: &str = "bkfs1uqaie4domfzs4zlymfwxa3dfhi3tinbtnuytalrqfyyc4mr2g42dimyblaqaobyha4dqobyha4dqobyha4dqo\
        byha4dqobyha4dqobyha4dqobycmvqwy2ldmubvacijbeeqscijbeeqscijbeeqscmyg7ixc";

    #[test]
    fn the_text_does_not_change() {
        assert_eq!(*token().text(), TEXT);
        assert_eq!(Token::parse(TEXT).unwrap(), token());
        let upper = format!("{PREFIX}{}", TEXT[PREFIX.len()..].to_ascii_uppercase());
        assert_eq!(Token::parse(&upper).unwrap(), token());
    }

    #[test]
    fn the_longest_token_is_read_back() {
        let hosts = (0..8).map(|i| format!("{i}{}", "x".repeat(252)));
        let token =
            Token { addresses: Addresses::new(hosts).unwrap(), account: "a".repeat(64).parse().unwrap(), ..token() };
        assert_eq!(Token::parse(&token.text()).unwrap(), token);
    }

    #[test]
    fn base32_is_strict() {
        for (plain, text) in [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foobar", "mzxw6ytboi")] {
            assert_eq!(decode_base32(text).unwrap().as_slice(), plain.as_bytes());
            assert_eq!(decode_base32(&text.to_ascii_uppercase()).unwrap().as_slice(), plain.as_bytes());
        }
        for text in ["m1", "m", "my======", "my\n", " my", "m\u{e4}"] {
            assert_eq!(decode_base32(text), None, "{text:?}");
        }
        assert_eq!(decode_base32("mz"), None, "left-over bits that are not zero");
    }

    #[test]
    fn round_trips_in_one_word() {
        let text = token().text();
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        assert_eq!(Token::parse(&format!(" {}\n", *text)).unwrap(), token());
    }

    #[test]
    fn a_changed_token_is_refused() {
        let text = token().text();
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            assert!(Token::parse(&String::from_utf8(bytes).unwrap()).is_err(), "at {at}");
        }
        assert!(Token::parse(&text[..text.len() - 1]).is_err());
        assert!(Token::parse("").is_err());
    }
}
