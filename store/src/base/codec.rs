//! The encoding of small records: CBOR with numbered fields, behind a magic and a version.
//!
//! Readers ignore unknown fields, so records can grow. A change that older programs would misread raises the version
//! instead. Decoding allocates at most a small multiple of its input's length and rejects trailing bytes. Large objects
//! (packs, frames, tree pages) have their own layouts.

use minicbor::{Decode, Encode, Encoder};

use crate::base::error::{Error, Result};

/// Encodes a value that is part of a larger object.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    // Writing to a vector cannot fail, and none of our `Encode` implementations returns an error.
    Encoder::new(&mut bytes).encode(value).expect("encoding into memory");
    bytes
}

/// Decodes a value that must fill all of `bytes`. Errors call it `what`.
pub fn decode<'b, T: Decode<'b, ()>>(what: &str, bytes: &'b [u8]) -> Result<T> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|e| Error::damaged(what, e))?;
    match decoder.position() == bytes.len() {
        true => Ok(value),
        false => Err(Error::damaged(what, "bytes follow its end")),
    }
}

/// The header of a stand-alone record: eight bytes of magic, then the version as a little-endian u16.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// The name of the record in errors.
    pub what: &'static str,
    /// The first eight bytes.
    pub magic: [u8; 8],
    /// The version that this program writes, and the newest that it reads.
    pub version: u16,
}

impl Header {
    /// Length of magic and version in bytes.
    pub const LEN: usize = 10;

    /// Encodes a record with magic and version.
    pub fn encode<T: Encode<()>>(&self, value: &T) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        Encoder::new(&mut bytes).encode(value).expect("encoding into memory");
        bytes
    }

    /// Checks magic and version and decodes the record.
    pub fn decode<'b, T: Decode<'b, ()>>(&self, bytes: &'b [u8]) -> Result<T> {
        decode(self.what, self.strip(bytes)?)
    }

    /// Checks magic and version and returns the bytes after them.
    pub fn strip<'b>(&self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let (head, rest) = bytes
            .split_at_checked(Self::LEN)
            .ok_or_else(|| Error::damaged(self.what, "it is shorter than its header"))?;
        if head[..8] != self.magic {
            return Err(Error::damaged(self.what, "it does not begin with its magic"));
        }
        match u16::from_le_bytes([head[8], head[9]]) {
            0 => Err(Error::damaged(self.what, "its version is 0")),
            v if v > self.version => {
                Err(Error::NewerVersion { what: self.what, found: v.into(), known: self.version.into() })
            }
            _ => Ok(rest),
        }
    }
}
