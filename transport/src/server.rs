//! The server: many accounts' repositories in one folder, offered over QUIC.
//!
//! ```text
//! identity, identity.2           the server's certificate and key (mode 0600), kept twice
//! log, log.2                     what happened: accounts, invitations, clients; hash-chained, fsynced, kept twice
//! accounts/<account>/<name>/     one repository each, with its index in `index/`
//! ```
//!
//! The log is the truth. It is small, and what follows from it is held in memory. `invite` appends to the log whether
//! or not a server runs: a running server reads what was added before it turns a client away.
//!
//! This module starts and stops a server. `operator` is what can be done to the folder without one; `connection` and
//! `dispatch` answer clients; `registry` keeps the log; `background` is what a server does by itself.

mod accounts;
mod authorization;
mod background;
mod connection;
mod dispatch;
mod event;
mod identity_files;
mod layout;
mod operator;
mod options;
mod registry;
mod scrub;
mod state;
mod tidy;
mod uploads;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bkfs_store::{Error, Result};
use quinn::Endpoint;
use tokio::runtime::Runtime;

use self::{background::BackgroundWork, registry::Registry, state::ServerState};
pub use self::{
    layout::{folder, repositories},
    operator::{init, invite, repository, verify},
    options::{Options, ScrubSchedule},
};
use crate::{quic, tls};

/// The most handshakes at the same time. Above that, a client must first prove its address with a retry; if it has done
/// that already, it is refused.
const HANDSHAKES_MAX: usize = 64;
/// How long running requests may take to end when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A running server. It stops when this is dropped.
pub struct RunningServer {
    runtime: Option<Runtime>,
    endpoint: Endpoint,
    address: SocketAddr,
    background: Option<BackgroundWork>,
}

/// Starts a server. Returns when it listens.
pub fn start(data: &Path, listen: SocketAddr, options: Options) -> Result<RunningServer> {
    let identity = identity_files::read(data)?;
    if let Err(error) = identity_files::repair(data, &identity) {
        tracing::warn!(%error, "cannot rewrite a damaged copy of the server's identity");
    }
    let registry = Registry::new(data);
    registry.settle()?;
    registry.refresh()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).max(2))
        .max_blocking_threads(64)
        .thread_name("bkfs-server")
        .enable_all()
        .build()
        .map_err(|e| Error::Unreachable(format!("cannot start the server's threads: {e}")))?;
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls::server_config(&identity)?)
        .map_err(|e| Error::Unreachable(format!("cannot set up TLS: {e}")))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(quic::transport(false));
    let endpoint = {
        let _entered = runtime.enter();
        let socket = quic::socket(listen)?;
        Endpoint::new(quic::endpoint(identity.secret()), Some(config), socket, Arc::new(quinn::TokioRuntime))
            .map_err(|e| Error::Unreachable(format!("cannot listen on {listen}: {e}")))?
    };
    let address = endpoint.local_addr().map_err(|e| Error::Unreachable(format!("cannot listen on {listen}: {e}")))?;
    let state = Arc::new(ServerState::new(data, registry, options));
    let background = BackgroundWork::start(&state)
        .map_err(|e| Error::Unreachable(format!("cannot start the server's threads: {e}")))?;
    runtime.spawn(accept(endpoint.clone(), state));
    Ok(RunningServer { runtime: Some(runtime), endpoint, address, background: Some(background) })
}

impl RunningServer {
    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server. It accepts no new connections, and gives running requests a moment to end. What was
    /// acknowledged is durable in any case.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        self.background = None;
        self.endpoint.set_server_config(None);
        self.endpoint.close(0u32.into(), b"the server stops");
        runtime.block_on(async {
            let _ = tokio::time::timeout(STOP_TIMEOUT, self.endpoint.wait_idle()).await;
        });
        runtime.shutdown_timeout(STOP_TIMEOUT);
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl std::fmt::Debug for RunningServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunningServer({})", self.address)
    }
}

async fn accept(endpoint: Endpoint, state: Arc<ServerState>) {
    let handshakes = Arc::new(tokio::sync::Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            if incoming.may_retry() {
                drop(incoming.retry())
            } else {
                incoming.refuse()
            }
            continue;
        };
        let state = state.clone();
        tokio::spawn(async move {
            let connected = match incoming.accept() {
                Ok(connecting) => connecting.await,
                Err(error) => Err(error),
            };
            drop(permit);
            match connected {
                Ok(connection) => connection::serve(connection, state).await,
                Err(error) => tracing::debug!(%error, "a handshake failed"),
            }
        });
    }
}
