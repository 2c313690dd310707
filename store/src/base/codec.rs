//! How small records become bytes and back: CBOR with numbered fields, behind a magic and a version.
//!
//! Unknown fields are ignored when reading, so records can grow; what would be misread by older programs raises the
//! version instead. Decoding allocates no more than a small multiple of its input's length and accepts no trailing
//! bytes. Large things (packs, frames, tree pages) have layouts of their own.

use minicbor::{Decode, Encode, Encoder};

use crate::base::error::{Error, Result};

/// Encodes a value that is part of something larger.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    // Writing to a vector cannot fail, and no `Encode` of ours makes errors.
    Encoder::new(&mut bytes).encode(value).expect("encoding into memory");
    bytes
}

/// Decodes a value that must fill all of `bytes`; `what` names it in errors.
pub fn decode<'b, T: Decode<'b, ()>>(what: &str, bytes: &'b [u8]) -> Result<T> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|e| Error::damaged(what, e))?;
    match decoder.position() == bytes.len() {
        true => Ok(value),
        false => Err(Error::damaged(what, "bytes follow its end")),
    }
}

/// What stands before a record of its own: eight bytes of magic, then the version as u16, little-endian.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// The record's name in errors.
    pub what: &'static str,
    /// Eight bytes that open it.
    pub magic: [u8; 8],
    /// The newest version that this program reads and the one that it writes.
    pub version: u16,
}

impl Header {
    /// Length of magic and version.
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

    /// Checks magic and version; returns what follows.
    pub fn strip<'b>(&self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let (head, rest) =
            bytes.split_at_checked(Self::LEN).ok_or_else(|| Error::damaged(self.what, "shorter than its header"))?;
        if head[..8] != self.magic {
            return Err(Error::damaged(self.what, "it does not begin with its magic"));
        }
        match u16::from_le_bytes([head[8], head[9]]) {
            0 => Err(Error::damaged(self.what, "version 0")),
            v if v > self.version => {
                Err(Error::NewerVersion { what: self.what, found: v.into(), known: self.version.into() })
            }
            _ => Ok(rest),
        }
    }
}
