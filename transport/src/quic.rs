//! The settings of QUIC and its sockets, for both sides.

use std::{net::SocketAddr, net::UdpSocket, sync::Arc, time::Duration};

use bkfs_store::{Error, Result};
use quinn::{EndpointConfig, TransportConfig, VarInt};
use quinn_proto::{
    HashedConnectionIdGenerator,
    crypto::{CryptoError, HmacKey},
};
use rustix::net::sockopt;
use zeroize::Zeroizing;

use crate::congestion::ByDistanceConfig;

/// Bytes that may be under way on one stream: the default of 1.25 MB is far too little for a fast or long link.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024;
/// Bytes that may be under way on one connection, each way.
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
/// Requests that a client may have under way.
const STREAMS_MAX: u32 = 256;
/// A peer that is silent for so long is gone.
const IDLE: Duration = Duration::from_secs(20);
/// How often a client says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// What the sockets ask of the kernel; it may give less.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// The settings of a connection.
pub fn transport(client: bool) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(if client { 0 } else { STREAMS_MAX }))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(ByDistanceConfig::default()))
        .max_idle_timeout(Some(IDLE.try_into().expect("twenty seconds")))
        .keep_alive_interval(client.then_some(KEEP_ALIVE));
    Arc::new(config)
}

/// The settings of a server's endpoint. What connections are told apart by, and what proves that one is no more, comes of a secret
/// that outlives the process: so a server that was started again can say at once that it knows nothing of a connection, and its
/// client need not wait until it has been silent for long.
pub fn endpoint(secret: &[u8]) -> EndpointConfig {
    let derive = |what| Zeroizing::new(blake3::derive_key(what, secret));
    let ids = derive("bkfs 2026-11-21 QUIC connection ids");
    let ids = u64::from_le_bytes(*ids.first_chunk().expect("32 bytes"));
    let mut config = EndpointConfig::new(Arc::new(ResetKey(derive("bkfs 2026-11-21 QUIC stateless resets"))));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

/// Makes the tokens of stateless resets.
struct ResetKey(Zeroizing<[u8; 32]>);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        signature.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // Compared in constant time.
        let is_ours = signature.try_into().is_ok_and(|bytes: [u8; 32]| blake3::keyed_hash(&self.0, data) == bytes);
        is_ours.then_some(()).ok_or(CryptoError)
    }
}

/// A bound UDP socket with large buffers.
pub fn socket(address: SocketAddr) -> Result<UdpSocket> {
    let socket =
        UdpSocket::bind(address).map_err(|e| Error::Unreachable(format!("cannot listen on {address}: {e}")))?;
    // The kernel caps these; less is slower, not wrong.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER);
    let _ = sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER);
    Ok(socket)
}
