//! The server: many accounts' repositories in one folder, offered over QUIC.
//!
//! ```text
//! identity, identity.2           the server's certificate and key (mode 0600), kept twice
//! log, log.2                     what happened: accounts, invitations, clients; hash-chained, fsynced, kept twice
//! running                        locked by the server that runs; says which process that is
//! accounts/<account>/<name>/     one repository each, with its index in `index/`
//! uploads/<account>/             packs that have not arrived completely; may be removed at any time
//! ```
//!
//! The log is the truth. It is small, and what follows from it is held in memory. The operator's commands append to it
//! whether or not a server runs: a running server reads what was added before it answers a request, and a few times a
//! second, so that what a client may not do any more ends at once.
//!
//! This module starts and stops a server. `operator`, `manage` and `backup` are what can be done to the folder without
//! one; `connection` and `dispatch` answer clients, within the `limits` of the server and the `quota` of their account;
//! `registry` keeps the log, and `accounts` is what follows from it; `ledger` keeps accounts within their quotas;
//! `standing` is what a repository's roster says of a client; `background` is what a server does by itself; `record`
//! and what it uses, `metrics` and `audit`, keep what is known of requests, and `monitor` shows it to monitoring;
//! `notices` are what the operator reads of all that.

mod accounts;
mod audit;
mod authorization;
mod background;
mod backup;
mod blocking;
mod connection;
mod connections;
mod dispatch;
mod event;
mod exclusive;
mod group;
mod identity_files;
mod invitation;
mod layout;
mod ledger;
mod limits;
mod listen;
mod manage;
mod metrics;
mod monitor;
mod notices;
mod opened;
mod operator;
mod options;
mod pace;
mod pushes;
mod quota;
mod record;
mod registry;
mod scrub;
mod shares;
mod standing;
mod state;
mod tidy;
mod uploads;
mod waits;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bkfs_store::{Error, Result};
use quinn::Endpoint;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{runtime::Runtime, task::JoinHandle};

use self::{
    background::BackgroundWork, exclusive::Exclusive, group::Group, monitor::Monitor, registry::Registry,
    state::ServerState,
};
pub use self::{
    backup::{BackupReport, backup},
    invitation::Invitation,
    layout::{folder, repositories},
    listen::Listen,
    manage::{
        AccountInfo, ClientInfo, InvitationInfo, account, accounts, invitations, permit, remove_account, rename,
        revoke, set_limits, set_parent, withdraw,
    },
    operator::{init, invite, invite_to, repository, set_addresses, verify},
    options::{AuditOptions, Options, ScrubSchedule},
    quota::{Amount, Limits},
};
use crate::{identity::Identity, quic, tls};

/// How long running requests may take to end when the server stops. What takes longer is cut off; the client repeats it
/// at the next server. A pack of 16 MiB over a slow line is the longest of the usual requests.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long clients may take to answer that they have seen the end of their connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long work on threads may take that was cut off.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take if no request runs. What is left then are waits for the log, which hold nothing.
const STOP_TIMEOUT_IDLE: Duration = Duration::from_millis(200);

/// A running server. It stops when this is dropped.
pub struct RunningServer {
    runtime: Option<Runtime>,
    endpoint: Endpoint,
    address: SocketAddr,
    state: Arc<ServerState>,
    /// Ends when no client is connected any more, after the server was asked to stop.
    accepting: Option<JoinHandle<()>>,
    background: Option<BackgroundWork>,
    /// Released last.
    _exclusive: Exclusive,
}

/// Starts a server. Returns when it listens.
pub fn start(data: &Path, listen: impl Into<Listen>, options: Options) -> Result<RunningServer> {
    let identity = identity_files::read(data)?;
    let exclusive = Exclusive::take(data)?;
    if let Err(error) = identity_files::repair(data, &identity) {
        tracing::warn!(%error, "cannot rewrite a damaged copy of the server's identity");
    }
    raise_descriptor_limit();
    let registry = Registry::new(data);
    registry.settle()?;
    registry.refresh()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).max(2))
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .thread_name("bkfs-server")
        .enable_all()
        .build()
        .map_err(|e| Error::Unreachable(format!("cannot start the server's threads: {e}")))?;
    let config = quic_config(&identity)?;
    let cannot_listen = |e| Error::Unreachable(format!("cannot listen: {e}"));
    let endpoint = {
        let _entered = runtime.enter();
        let socket = listen.into().socket()?;
        let settings = quic::endpoint(identity.secret());
        Endpoint::new(settings, Some(config), socket, Arc::new(quinn::TokioRuntime)).map_err(cannot_listen)?
    };
    let address = endpoint.local_addr().map_err(cannot_listen)?;
    exclusive.announce(address);
    let metrics = options.metrics;
    let state = Arc::new(ServerState::new(data, registry, options)?);
    if let Some(at) = metrics {
        let cannot = |e| Error::Unreachable(format!("cannot offer metrics at {at}: {e}"));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(at)).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        tracing::info!(%address, "metrics are offered");
        runtime.spawn(monitor::http::serve(listener, Arc::new(Monitor::new(state.clone()))));
    }
    let background = BackgroundWork::start(&state)
        .map_err(|e| Error::Unreachable(format!("cannot start the server's threads: {e}")))?;
    let accepting = Some(runtime.spawn(accept(endpoint.clone(), state.clone())));
    tracing::info!(%address, data = %data.display(), version = env!("CARGO_PKG_VERSION"), "the server listens");
    Ok(RunningServer {
        runtime: Some(runtime),
        endpoint,
        address,
        state,
        accepting,
        background: Some(background),
        _exclusive: exclusive,
    })
}

/// The settings of the server's connections.
fn quic_config(identity: &Identity) -> Result<quinn::ServerConfig> {
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls::server_config(identity)?)
        .map_err(|e| Error::Unreachable(format!("cannot set up TLS: {e}")))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(quic::transport(false));
    Ok(config)
}

impl RunningServer {
    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Changes the options while the server runs, reads its certificate again, and opens the audit log again. What has
    /// begun goes on as it was; the address of the metrics stays.
    pub fn reload(&self, options: Options) -> Result<()> {
        let identity = identity_files::read(&self.state.data)?;
        let config = quic_config(&identity)?;
        self.state.registry.refresh()?;
        self.state.audit.reopen(options.audit.as_ref())?;
        self.state.set_options(options);
        self.endpoint.set_server_config(Some(config));
        Ok(())
    }

    /// Stops the server. It accepts no new connections and requests, answers those that it has received, and tells each
    /// client to connect again as soon as nothing of that client is left. This takes a bounded time. What was
    /// acknowledged is durable in any case.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        tracing::info!("the server stops");
        if let Some(background) = &self.background {
            background.ask_to_stop();
        }
        self.endpoint.set_server_config(None);
        self.state.stopping.send_replace(true);
        let is_drained = runtime.block_on(async {
            let drained = match self.accepting.take() {
                Some(mut accepting) => tokio::time::timeout(DRAIN_TIMEOUT, &mut accepting).await.is_ok(),
                None => true,
            };
            self.endpoint.close(connection::STOPPED, connection::STOPPED_TEXT);
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
            drained
        });
        if !is_drained {
            tracing::warn!(seconds = DRAIN_TIMEOUT.as_secs(), "requests that took too long were cut off");
        }
        self.background = None;
        runtime.shutdown_timeout(if is_drained { STOP_TIMEOUT_IDLE } else { STOP_TIMEOUT });
        tracing::info!("the server has stopped");
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

/// Allows as many open files as the system lets this process have: the usual 1,024 are few for many repositories.
fn raise_descriptor_limit() {
    let limits = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Accepts clients until the server is asked to stop. Returns when all that were connected then have ended.
async fn accept(endpoint: Endpoint, state: Arc<ServerState>) {
    let connections = Group::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = state.stopped() => None,
        };
        let Some(incoming) = incoming else { break };
        connection::receive(incoming, &state, connections.enter());
    }
    connections.emptied().await;
}

#[cfg(test)]
mod tests;
