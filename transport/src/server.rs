//! The server: many accounts' repositories in one folder, offered over QUIC.
//!
//! ```text
//! identity, identity.2           the server's certificate and key (mode 0600), the same twice
//! log, log.2                     what happened: accounts, invitations, clients; hash-chained, fsynced, the same twice
//! accounts/<account>/<name>/     a repository each, its index in `index/` below
//! ```
//!
//! The log is truth and small; what it says is held in memory. `invite` appends to it whether a server runs or not: a
//! running one reads what was added before it turns anybody away. This module opens and closes; [`session`] speaks.

mod background;
mod registry;
mod scrub;
mod session;
mod uploads;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bkfs_store::{
    Error, ErrorKind, Result,
    base::id::Hash,
    format::erasure::Parity,
    repository::{
        Repository,
        backend::{Backend, LocalBackend},
    },
};
use parking_lot::Mutex;
use quinn::Endpoint;
use tokio::runtime::Runtime;

use self::registry::Registry;
pub use self::scrub::Schedule;
use crate::{
    Permissions, Token, quic,
    tls::{self, Identity},
    token::TokenSecret,
    url::{self, Name},
};

const IDENTITY: &str = "identity";
const IDENTITY_2: &str = "identity.2";
/// Connections that may be shaking hands at once; more are asked to prove their address first, then refused.
const HANDSHAKES_MAX: usize = 64;
/// How long requests under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// Makes a server's folder. `address` is what invitations will carry; `protect_secs` the age below which no network
/// credential can make a snapshot unrecoverable.
pub fn init(data: &Path, address: &str, protect_secs: u64) -> Result<()> {
    let address = url::normal_address(address)?;
    let (backend, registry) = (LocalBackend::new(data), Registry::new(data));
    if registry.exists()? {
        return Err(Error::Invalid(format!("there is already a server in {}", data.display())));
    }
    let accounts = data.join("accounts");
    if accounts.exists() {
        let reason = format!("the log is gone, but {} is there: put the log back from a copy", accounts.display());
        return Err(Error::damaged(format!("the server in {}", data.display()), reason));
    }
    // The log's first record is what makes it a server: an `init` that was cut short before can be run again.
    let identity = Identity::generate()?.encode();
    backend.put(IDENTITY, &identity)?;
    backend.put(IDENTITY_2, &identity)?;
    registry.create(&address, protect_secs)
}

/// Makes an invitation to an account, which comes into being with its first one. It can be used as long as it is `valid`,
/// by this machine's clock, in whole seconds.
pub fn invite(
    data: &Path,
    account: &Name,
    can: Permissions,
    quota_bytes: Option<u64>,
    valid: Duration,
) -> Result<Token> {
    let valid_secs = i64::try_from(valid.as_secs()).unwrap_or(i64::MAX);
    if valid_secs == 0 {
        return Err(Error::Invalid("an invitation must be valid for a second at least".into()));
    }
    let identity = identity(data)?;
    let registry = Registry::new(data);
    registry.refresh()?;
    let address = registry.address()?;
    let secret = TokenSecret::random()?;
    registry.invite(&secret, account, can, quota_bytes, valid_secs)?;
    Ok(Token { address, pin: identity.fingerprint(), account: account.clone(), secret })
}

/// A repository of a server, for its operator: whether a server runs on the folder or not. What is done with it a running server
/// takes in by itself.
pub fn repository(data: &Path, account: &Name, name: &Name) -> Result<Repository> {
    identity(data)?;
    let registry = Registry::new(data);
    registry.refresh()?;
    let host = Host::new(data, registry, Options::default());
    if !host.exists(account, name)? {
        return Err(Error::NoRepository { place: format!("account {account}, repository {name}") });
    }
    host.open(account, name)
}

/// The server's identity, from whichever copy is whole.
fn identity(data: &Path) -> Result<Identity> {
    let backend = LocalBackend::new(data);
    let mut failed = None;
    for name in [IDENTITY, IDENTITY_2] {
        match backend.get(name).and_then(|bytes| bytes.map(|bytes| Identity::decode(&bytes)).transpose()) {
            Ok(Some(identity)) => {
                if let Some(error) = failed {
                    tracing::warn!(%error, "the first copy of the server's identity is damaged; the second one serves");
                }
                return Ok(identity);
            }
            Ok(None) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| {
        Error::Invalid(format!("there is no server in {}: `bkfs server init --data` makes one", data.display()))
    }))
}

/// Makes both copies of the identity whole.
fn keep_twice(data: &Path, identity: &Identity) -> Result<()> {
    let (backend, bytes) = (LocalBackend::new(data), identity.encode());
    for name in [IDENTITY, IDENTITY_2] {
        if backend.get(name).ok().flatten().as_deref() != Some(&bytes[..]) {
            backend.put(name, &bytes)?;
        }
    }
    Ok(())
}

/// A server that runs.
pub struct Running {
    runtime: Option<Runtime>,
    endpoint: Endpoint,
    address: SocketAddr,
    background: Option<background::Background>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({})", self.address)
    }
}

/// What a server does, as far as it can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What repositories get that are made from now on.
    pub parity: Option<Parity>,
    /// Scrubbing in the background, if it does that.
    pub scrub: Option<Schedule>,
    /// How often what is due is let go from trashes and graves.
    pub tidy_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let scrub = Some(Schedule::default());
        Self { parity: Some(Parity::default()), scrub, tidy_every: Duration::from_secs(86_400) }
    }
}

/// Starts a server. Returns once it listens.
pub fn start(data: &Path, listen: SocketAddr, options: Options) -> Result<Running> {
    let identity = identity(data)?;
    if let Err(error) = keep_twice(data, &identity) {
        tracing::warn!(%error, "the server's identity cannot be kept twice");
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
    let host = Arc::new(Host::new(data, registry, options));
    let background = background::Background::start(host.clone())
        .map_err(|e| Error::Unreachable(format!("cannot start the server's threads: {e}")))?;
    runtime.spawn(accept(endpoint.clone(), host));
    Ok(Running { runtime: Some(runtime), endpoint, address, background: Some(background) })
}

impl Running {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops it: no new connections, requests under way get a moment to end. What was acknowledged is durable anyway.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        self.background = None;
        self.endpoint.set_server_config(None);
        self.endpoint.close(0u32.into(), b"the server stops");
        runtime.block_on(async {
            let _ = tokio::time::timeout(GRACE, self.endpoint.wait_idle()).await;
        });
        runtime.shutdown_timeout(GRACE);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shut_down();
    }
}

async fn accept(endpoint: Endpoint, host: Arc<Host>) {
    let handshakes = Arc::new(tokio::sync::Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            // Too many at once: whoever cannot show that the address is theirs waits outside.
            if incoming.may_retry() {
                drop(incoming.retry())
            } else {
                incoming.refuse()
            }
            continue;
        };
        let host = host.clone();
        tokio::spawn(async move {
            let connected = match incoming.accept() {
                Ok(connecting) => connecting.await,
                Err(error) => Err(error),
            };
            drop(permit);
            match connected {
                Ok(connection) => session::serve(connection, host).await,
                Err(error) => tracing::debug!(%error, "a handshake failed"),
            }
        });
    }
}

/// All repositories in a server's folder, in the order of their names.
pub fn repositories(data: &Path) -> Result<Vec<(Name, Name)>> {
    let names = |folder: &Path| -> Result<Vec<Name>> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| Error::io(folder, e))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(folder, e))?;
            names.extend(entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok()));
        }
        names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        Ok(names)
    };
    let accounts = data.join("accounts");
    let mut found = Vec::new();
    for account in names(&accounts)? {
        for name in names(&accounts.join(account.as_str()))? {
            if bkfs_store::repository::exists(&folder(data, &account, &name))? {
                found.push((account.clone(), name));
            }
        }
    }
    Ok(found)
}

/// The folder of one of them.
pub fn folder(data: &Path, account: &Name, name: &Name) -> PathBuf {
    data.join("accounts").join(account.as_str()).join(name.as_str())
}

/// Verifies what a server keeps of itself, its log and its identity, and mends either from its second copy. Returns
/// whether something had to be mended.
pub fn verify(data: &Path) -> Result<bool> {
    let (identity, backend) = (identity(data)?, LocalBackend::new(data));
    let bytes = identity.encode();
    let is_whole = |name: &&str| matches!(backend.get(name), Ok(Some(copy)) if copy[..] == bytes[..]);
    let is_twice = [IDENTITY, IDENTITY_2].iter().all(is_whole);
    keep_twice(data, &identity)?;
    Ok(Registry::new(data).verify()? || !is_twice)
}

/// What sessions share.
struct Host {
    data: PathBuf,
    registry: Registry,
    options: Options,
    repositories: Mutex<HashMap<(Name, Name), Arc<Hosted>>>,
    uploads: uploads::Uploads,
}

/// A repository that is open.
struct Hosted {
    repository: Repository,
}

impl Host {
    fn new(data: &Path, registry: Registry, options: Options) -> Self {
        let (repositories, uploads) = (Mutex::default(), uploads::Uploads::default());
        Self { data: data.to_owned(), registry, options, repositories, uploads }
    }

    /// The repository of that name, opened once. Names were checked when they were parsed.
    fn repository(&self, account: &Name, name: &Name) -> Result<Arc<Hosted>> {
        let mut open = self.repositories.lock();
        let key = (account.clone(), name.clone());
        if let Some(hosted) = open.get(&key) {
            return Ok(hosted.clone());
        }
        let repository = self.open(account, name)?;
        match repository.resume_parity() {
            Err(error) if error.kind() != ErrorKind::NoRepository => return Err(error),
            _ => {}
        }
        let hosted = Arc::new(Hosted { repository });
        open.insert(key, hosted.clone());
        Ok(hosted)
    }

    fn open(&self, account: &Name, name: &Name) -> Result<Repository> {
        let folder = folder(&self.data, account, name);
        let repository = Repository::local(&folder, &folder.join("index"))?;
        Ok(repository.with_floor(self.registry.protect_secs()).with_parity(self.options.parity))
    }

    /// A repository that is open already.
    fn opened(&self, account: &Name, name: &Name) -> Option<Arc<Hosted>> {
        self.repositories.lock().get(&(account.clone(), name.clone())).cloned()
    }

    /// Whether there is such a repository: asking for one must not make a folder.
    fn exists(&self, account: &Name, name: &Name) -> Result<bool> {
        bkfs_store::repository::exists(&folder(&self.data, account, name))
    }

    /// Bytes of packs in all of an account's repositories.
    fn account_bytes(&self, account: &Name) -> Result<u64> {
        let folder = self.data.join("accounts").join(account.as_str());
        let entries = std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))?;
        let mut sum = 0;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            if let Some(name) = entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok()) {
                sum += self.repository(account, &name)?.repository.bytes_stored()?;
            }
        }
        Ok(sum)
    }
}

/// The fingerprint of the client at the other end.
fn peer(connection: &quinn::Connection) -> Option<Hash> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast_ref::<Vec<rustls::pki_types::CertificateDer<'static>>>()?;
    chain.first().map(tls::fingerprint)
}
