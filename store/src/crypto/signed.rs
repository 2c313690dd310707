//! The envelope of signed records: the payload's exact bytes and an Ed25519 signature over them.
//!
//! The signature covers a context string and the payload. A signature for one kind of record is never valid for
//! another.

use minicbor::{Decode, Encode};

use super::sign::{SigningKey, VerifyingKey};
use crate::base::{
    codec,
    error::{Error, Result},
};

/// A payload and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Signed {
    /// The record's bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
    /// Ed25519 over context and payload, 64 bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub signature: Vec<u8>,
}

impl Signed {
    /// Signs a payload. `context` is the record's magic.
    pub fn new(context: &[u8; 8], payload: Vec<u8>, key: &SigningKey) -> Self {
        let signature = key.sign(context, &payload).to_vec();
        Self { payload, signature }
    }

    /// Encodes the envelope.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes an envelope. The signature is not checked.
    pub fn decode(what: &str, bytes: &[u8]) -> Result<Self> {
        codec::decode(what, bytes)
    }

    /// Verifies the signature and returns the payload.
    pub fn verify(&self, what: &str, context: &[u8; 8], key: &VerifyingKey) -> Result<&[u8]> {
        match key.verify(context, &self.payload, &self.signature) {
            true => Ok(&self.payload),
            false => Err(Error::damaged(what, "its signature is not valid")),
        }
    }
}
