//! Where a server listens: at an address, or on a socket that it was given.

use std::net::{SocketAddr, UdpSocket};

use bkfs_store::{Error, Result};

use crate::quic;

/// Where a server listens.
#[derive(Debug)]
pub enum Listen {
    /// At this address and UDP port.
    At(SocketAddr),
    /// On this UDP socket, which is bound. If it stays open in another process, packets wait there while a server is
    /// being restarted.
    On(UdpSocket),
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::At(address)
    }
}

impl From<UdpSocket> for Listen {
    fn from(socket: UdpSocket) -> Self {
        Self::On(socket)
    }
}

impl Listen {
    /// Returns the socket, bound and with large buffers.
    pub(super) fn socket(self) -> Result<UdpSocket> {
        match self {
            Self::At(address) => quic::socket(address),
            Self::On(socket) => {
                let failed = |e| Error::Unreachable(format!("the socket that was passed to the server: {e}"));
                socket.local_addr().map_err(failed)?;
                quic::enlarge_buffers(&socket);
                Ok(socket)
            }
        }
    }
}
