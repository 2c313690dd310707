//! How messages travel on a QUIC stream: one request, one reply, each with bulk bytes behind it if the call has some.
//!
//! ```text
//! message := length u32, little-endian | CBOR
//! stream  := client: head of the request, call, then for a pack its bytes from the offset that the server named
//!            server: reply, then for reads the bytes of the frames or of the pack
//! ```

use bkfs_store::{Result, base::codec};
use bytes::Bytes;
use minicbor::{Decode, Encode};
use quinn::RecvStream;

/// Why a stream or a connection failed. A type of its own tells this apart from an error that the peer sent as a reply.
#[derive(Debug)]
pub struct StreamError(pub String);

impl<E: std::error::Error> From<E> for StreamError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Encodes a message with its length before it.
pub fn encode<T: Encode<()>>(message: &T) -> Bytes {
    let mut bytes = vec![0; 4];
    bytes.extend(codec::encode(message));
    let len = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes.into()
}

/// Receives a message of at most `max` bytes.
pub async fn receive<T: for<'b> Decode<'b, ()>>(stream: &mut RecvStream, max: usize) -> Result<T, StreamError> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let len = u32::from_le_bytes(len) as usize;
    if len > max {
        return Err(StreamError(format!("a message has {len} bytes, but at most {max} are allowed")));
    }
    // The length is only the peer's word: memory grows with the bytes that arrive.
    let mut bytes = Vec::with_capacity(len.min(1024 * 1024));
    while bytes.len() < len {
        match stream.read_chunk(len - bytes.len(), true).await? {
            Some(chunk) => bytes.extend_from_slice(&chunk.bytes),
            None => return Err(StreamError("the stream ended early".into())),
        }
    }
    codec::decode("a message", &bytes).map_err(|e| StreamError(e.to_string()))
}

/// Receives the rest of a stream and appends it to `bytes`, which must then hold exactly `len` bytes. The caller has
/// bounded `len`. After an error, `bytes` holds what arrived before it.
pub async fn receive_rest(stream: &mut RecvStream, bytes: &mut Vec<u8>, len: usize) -> Result<(), StreamError> {
    bytes.reserve_exact(len.saturating_sub(bytes.len()));
    // A packet holds little more than a kilobyte. To take them one at a time would cost as much as to copy them.
    let mut chunks = [const { Bytes::new() }; 64];
    while let Some(count) = stream.read_chunks(&mut chunks).await? {
        for chunk in chunks.iter_mut().take(count).map(std::mem::take) {
            if bytes.len() + chunk.len() > len {
                return Err(StreamError(format!("more than the expected {len} bytes arrived")));
            }
            bytes.extend_from_slice(&chunk);
        }
    }
    match bytes.len() == len {
        true => Ok(()),
        false => Err(StreamError("the stream ended early".into())),
    }
}
