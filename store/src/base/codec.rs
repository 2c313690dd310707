//! The encoding of small records: CBOR with numbered fields, behind a magic and a version.
//!
//! Readers ignore unknown fields, so records can grow. A change that older programs would misread raises the version
//! instead. Decoding allocates at most a small multiple of its input's length and rejects trailing bytes. Large objects
//! (packs, frames, tree pages) have their own layouts.

use minicbor::{Decode, Decoder, Encode, Encoder, data::Type};

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
    let mut decoder = Decoder::new(bytes);
    let value = decoder.decode().map_err(|e| Error::damaged(what, e))?;
    match decoder.position() == bytes.len() {
        true => Ok(value),
        false => Err(Error::damaged(what, "bytes follow its end")),
    }
}

/// Decodes a list of at most `MAX` items, for `decode_with`. A list can take many times the memory of its encoding (an
/// empty item is one byte), so its length is compared before anything is allocated.
pub fn at_most<'b, const MAX: usize, C, T: Decode<'b, C>>(
    decoder: &mut Decoder<'b>,
    context: &mut C,
) -> Result<Vec<T>, minicbor::decode::Error> {
    let too_many = |decoder: &Decoder<'_>| {
        Err(minicbor::decode::Error::message(format!("a list has more than {MAX} items")).at(decoder.position()))
    };
    let len = decoder.array()?;
    if len.is_some_and(|len| len > MAX as u64) {
        return too_many(decoder);
    }
    let left = decoder.input().len() - decoder.position();
    let mut items = Vec::with_capacity(len.map_or(0, |len| left.min(len as usize)));
    loop {
        match len {
            Some(len) if items.len() as u64 == len => return Ok(items),
            None if decoder.datatype()? == Type::Break => {
                decoder.skip()?;
                return Ok(items);
            }
            _ if items.len() == MAX => return too_many(decoder),
            _ => items.push(decoder.decode_with(context)?),
        }
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
        if bytes.is_empty() {
            return Err(Error::damaged(self.what, "it is empty"));
        }
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
