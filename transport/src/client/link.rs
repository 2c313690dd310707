//! The connection to one server: made when it is needed, and made again when it is lost.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::{Error, ErrorKind, Result, base::id::Hash};
use parking_lot::Mutex;
use quinn::{Connection, Endpoint};

use crate::{
    identity::{self, Identity},
    quic,
    stream::StreamError,
    tls,
};

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
/// For how long a call tries to reach a lost server before it fails, unless another time is set.
const RETRY_TIMEOUT: Duration = Duration::from_secs(45);
/// The pause before the first retry. Each further pause is twice as long, up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(3);

/// The connection to one server.
pub(super) struct Link {
    endpoint: Endpoint,
    address: String,
    fingerprint: Hash,
    config: quinn::ClientConfig,
    rejected: tls::RejectedCertificate,
    connection: tokio::sync::Mutex<Option<Connection>>,
    retry_timeout: Mutex<Duration>,
}

impl Link {
    /// Prepares to connect to the server at `address`. The caller has entered a tokio runtime.
    pub fn new(address: String, identity: &Identity, fingerprint: Hash) -> Result<Self> {
        let (tls, rejected) = tls::client_config(identity, fingerprint)?;
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
            .map_err(|e| Error::Unreachable(format!("cannot set up TLS: {e}")))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(quic::transport(true));
        let target = resolve(&address)?;
        let local: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = quic::socket(local)?;
        let endpoint = Endpoint::new(Default::default(), None, socket, Arc::new(quinn::TokioRuntime))
            .map_err(|e| Error::Unreachable(format!("cannot use the network: {e}")))?;
        Ok(Self {
            endpoint,
            address,
            fingerprint,
            config,
            rejected,
            connection: tokio::sync::Mutex::new(None),
            retry_timeout: Mutex::new(RETRY_TIMEOUT),
        })
    }

    /// The server's address, `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sets for how long [`Link::with_retries`] tries to reach a lost server.
    pub fn set_retry_timeout(&self, timeout: Duration) {
        *self.retry_timeout.lock() = timeout;
    }

    /// Returns the connection. Connects first if there is none, or if it was lost.
    pub async fn connection(&self) -> Result<Connection> {
        let mut current = self.connection.lock().await;
        if let Some(connection) = current.as_ref().filter(|c| c.close_reason().is_none()) {
            return Ok(connection.clone());
        }
        let target = resolve(&self.address)?;
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), target, identity::SERVER_NAME)
            .map_err(|e| Error::Unreachable(format!("cannot connect to {}: {e}", self.address)))?;
        let connection = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(self.connect_failed(&error)),
            Err(_) => {
                let address = &self.address;
                let text = format!("the server at {address} does not answer: is it running, and does UDP reach it?");
                return Err(Error::Unreachable(text));
            }
        };
        *current = Some(connection.clone());
        Ok(connection)
    }

    /// Makes a call until it gets a reply. If the connection is lost, connects again and repeats the call, until the
    /// retry timeout has passed since the first failure.
    pub async fn with_retries<T>(
        &self,
        call: impl AsyncFn(&Connection) -> Result<Result<T>, StreamError>,
    ) -> Result<T> {
        let timeout = *self.retry_timeout.lock();
        let mut end = None;
        let mut pause = RETRY_PAUSE;
        loop {
            let error = match self.connection().await {
                Ok(connection) => match call(&connection).await {
                    Ok(result) => return result,
                    Err(error) => {
                        // The stream's error is a consequence. The connection knows the reason.
                        let reason = connection.close_reason().map_or(error.0, |reason| reason.to_string());
                        connection.close(1u32.into(), b"broken");
                        self.connection_lost(&StreamError(reason))
                    }
                },
                Err(error) if error.kind() == ErrorKind::Unreachable => error,
                Err(error) => return Err(error),
            };
            let end = *end.get_or_insert_with(|| Instant::now() + timeout);
            if Instant::now() + pause >= end {
                return Err(error);
            }
            tracing::debug!(%error, "trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// Tells the server that this client is done, without waiting for its answer.
    pub fn close(&self) {
        self.endpoint.close(0u32.into(), b"done");
    }

    fn connect_failed(&self, error: &quinn::ConnectionError) -> Error {
        let address = &self.address;
        let Some(found) = *self.rejected.lock() else {
            return Error::Unreachable(format!("cannot connect to the server at {address}: {error}"));
        };
        Error::Invalid(format!(
            "the server at {address} is not the one that this machine joined: the fingerprint of its certificate is \
             {found}, not {}. Either another machine answers in its place, or the server was set up again; if so, join \
             it again",
            self.fingerprint
        ))
    }

    /// The error of a call whose stream or connection failed.
    pub fn connection_lost(&self, error: &StreamError) -> Error {
        Error::Unreachable(format!("the connection to the server at {} was lost: {}", self.address, error.0))
    }
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let mut found = address.to_socket_addrs().map_err(|e| Error::Unreachable(format!("cannot find {address}: {e}")))?;
    found.next().ok_or_else(|| Error::Unreachable(format!("cannot find {address}: no such host")))
}
