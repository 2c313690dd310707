//! The settings of QUIC and its sockets, for client and server.

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

/// The most bytes in flight on one stream. The default of 1.25 MB is far too little for a fast or long link.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024;
/// The most bytes in flight on one connection, in each direction, as a client grants them.
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
/// The most requests that one client may have running on a connection.
pub const STREAMS_MAX: u32 = 256;
/// What a server grants to a peer before it knows that it is a client: one request, and this many bytes.
const STRANGER_WINDOW: u32 = 16 * 1024;
/// A peer that has been silent for this long is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often an idle client shows that it is still there. The server's answer shows the client the same, so a call that
/// waits for its reply notices within this time that the server was restarted.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// The shortest time between two stateless resets. After a restart each client needs one, so quinn's 20 ms would make
/// hundreds of clients wait for their next probe, which comes later each time. A reset is smaller than the packet that
/// it answers, so it amplifies nothing.
const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// The buffer size that sockets request from the kernel. It may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The settings of a connection, at the client or at the server. A server grants its clients more once it knows them.
pub fn transport(is_client: bool) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let (window, streams) = if is_client { (CONNECTION_WINDOW, 0) } else { (STRANGER_WINDOW, 1) };
    config
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(window))
        .send_window(u64::from(window))
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(ByDistanceConfig::default()))
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("twenty seconds")))
        .keep_alive_interval(is_client.then_some(KEEP_ALIVE_INTERVAL));
    Arc::new(config)
}

/// The settings of a server's endpoint. Connection ids, and the tokens that prove a stateless reset, are derived from a
/// secret that outlives the process. So after a restart the server can reset a connection that it does not know, at its
/// first packet, and the client does not have to wait for the idle timeout.
pub fn endpoint(secret: &[u8]) -> EndpointConfig {
    let derive = |what| Zeroizing::new(blake3::derive_key(what, secret));
    let ids = derive("bkfs 2026-11-21 QUIC connection ids");
    let ids = u64::from_le_bytes(*ids.first_chunk().expect("32 bytes"));
    let mut config = EndpointConfig::new(Arc::new(ResetKey(derive("bkfs 2026-11-21 QUIC stateless resets"))));
    config.min_reset_interval(RESET_INTERVAL);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

/// Makes and verifies the tokens of stateless resets.
struct ResetKey(Zeroizing<[u8; 32]>);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        signature.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // BLAKE3 compares hashes in constant time.
        let is_ours = signature.try_into().is_ok_and(|bytes: [u8; 32]| blake3::keyed_hash(&self.0, data) == bytes);
        is_ours.then_some(()).ok_or(CryptoError)
    }
}

/// Binds a UDP socket with large buffers.
pub fn socket(address: SocketAddr) -> Result<UdpSocket> {
    let socket =
        UdpSocket::bind(address).map_err(|e| Error::Unreachable(format!("cannot listen on {address}: {e}")))?;
    enlarge_buffers(&socket);
    Ok(socket)
}

/// Requests large buffers for a socket.
pub fn enlarge_buffers(socket: &UdpSocket) {
    // The kernel caps these. Smaller buffers are slower, but not wrong.
    let _ = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES);
    let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES);
}
