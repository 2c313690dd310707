//! The connection to one server: made when it is needed, and made again when it is lost.
//!
//! A server that stops says so, and one that was restarted resets the connections that it does not know, when their
//! next packet arrives. While a server is away, QUIC sends packets ever less often. So a call that waits does not rely
//! on them: if the server is silent, it tries a second connection, and goes on with that if only that one is answered.

use std::time::{Duration, Instant};

use bkfs_store::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use quinn::{Connection, ConnectionError};

use super::{dial::Dialer, waiting::Waiting};
use crate::{stream::StreamError, wire_error::one_line};

/// For how long a call tries to reach a lost server before it fails, unless another time is set.
const RETRY_TIMEOUT: Duration = Duration::from_secs(45);
/// The pause before the first retry. Each further pause is twice as long, up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// For how long a server may be silent while a call waits for it. The client sends something at least every two
/// seconds, so a server that is there answers more often.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long it may take to send the packet that ends a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a waiting call looks whether the server is silent.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The connection to one server.
pub(super) struct Link {
    dialer: Dialer,
    connection: tokio::sync::Mutex<Option<Connection>>,
    /// Held by the call that tries a second connection.
    probe: tokio::sync::Mutex<()>,
    retry_timeout: Mutex<Duration>,
}

impl Link {
    /// Prepares to connect to the server.
    pub fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            connection: tokio::sync::Mutex::default(),
            probe: tokio::sync::Mutex::default(),
            retry_timeout: Mutex::new(RETRY_TIMEOUT),
        }
    }

    /// The address of the server that answered last, `HOST:PORT`.
    pub fn address(&self) -> String {
        self.dialer.address()
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
        let connection = self.dialer.connect().await?;
        *current = Some(connection.clone());
        Ok(connection)
    }

    /// Makes a call until it gets a reply. If the connection is lost, connects again and repeats the call. If the
    /// server is too busy, repeats the call. Gives up when the retry timeout has passed since the first failure.
    pub async fn with_retries<T>(
        &self,
        call: impl AsyncFn(&Connection) -> Result<Result<T>, StreamError>,
    ) -> Result<T> {
        let timeout = *self.retry_timeout.lock();
        let mut end = None;
        let mut waiting = None;
        let mut pause = RETRY_PAUSE;
        loop {
            let error = match self.connection().await {
                Ok(connection) => {
                    let ended = tokio::select! {
                        ended = call(&connection) => ended,
                        lost = self.replace_if_silent(&connection) => Err(lost),
                    };
                    match ended {
                        // The server is too busy. The connection is good.
                        Ok(Err(error)) if error.kind() == ErrorKind::Unreachable => error,
                        Ok(result) => return result,
                        Err(error) => {
                            // The stream's error is a consequence. The connection knows the reason.
                            let reason = match connection.close_reason() {
                                None | Some(ConnectionError::LocallyClosed) => error.0,
                                Some(reason) => reason.to_string(),
                            };
                            connection.close(1u32.into(), b"broken");
                            self.connection_lost(&StreamError(reason))
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::Unreachable => error,
                Err(error) => return Err(error),
            };
            waiting.get_or_insert_with(Waiting::begin);
            let end = *end.get_or_insert_with(|| Instant::now() + timeout);
            if Instant::now() + pause >= end {
                return Err(error);
            }
            tracing::debug!(%error, "trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// Waits until the server is silent on a connection and answers on another one, which takes the place of the first.
    /// Returns why the first one counts as lost. As long as the server is not silent, this does not return.
    async fn replace_if_silent(&self, connection: &Connection) -> StreamError {
        let received = || connection.stats().udp_rx.datagrams;
        let (mut last, mut since) = (received(), Instant::now());
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = received();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() < SILENCE_MAX {
                continue;
            }
            let _waiting = Waiting::begin();
            let _one_at_a_time = self.probe.lock().await;
            if let Some(reason) = connection.close_reason() {
                return StreamError(reason.to_string());
            }
            if received() != last {
                continue;
            }
            match self.dialer.connect().await {
                Err(error) => tracing::debug!(%error, "the server is silent, and cannot be reached again"),
                Ok(second) if received() != last => second.close(0u32.into(), b"not needed"),
                Ok(second) => {
                    let mut current = self.connection.lock().await;
                    match current.as_ref().is_none_or(|current| current.stable_id() == connection.stable_id()) {
                        true => *current = Some(second),
                        false => second.close(0u32.into(), b"not needed"),
                    }
                    connection.close(1u32.into(), b"silent");
                    return StreamError("the server was silent, and answers on a new connection".into());
                }
            }
        }
    }

    /// Tells the server that this client is done, without waiting for its answer. Otherwise the server would take the
    /// client for one that has not acknowledged its last reply, and one that stops waits for such clients.
    pub async fn close(&self) {
        self.dialer.close();
        // The connection counts as closed when the packet that says so was handed to the socket.
        if let Some(connection) = self.connection.lock().await.take() {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.closed()).await;
        }
    }

    /// The error of a call whose stream or connection failed.
    pub fn connection_lost(&self, error: &StreamError) -> Error {
        Error::Unreachable(format!(
            "the connection to the server at {} was lost: {}",
            self.address(),
            one_line(&error.0)
        ))
    }
}
