//! Finds a server at one of its addresses.
//!
//! Addresses are tried in their order, with a short head start each: an address that does not answer costs little, and
//! the next one is tried while it may still answer. The first that answers as the right server wins. An answer of
//! another server counts as none. The address that answered is the first one next time.

use std::{
    future::Future,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bkfs_store::{Error, ErrorKind, Result, base::id::Hash};
use parking_lot::Mutex;
use quinn::{Connecting, Connection, ConnectionError, Endpoint};
use tokio::task::JoinSet;

use crate::{
    identity::{self, Identity},
    quic, tls,
};

/// How long an address may give no sign that a server is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(12);
/// How long a server that gave one may take to end the handshake. One that many clients want at once is slow.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// After this time without an answer, an attempt begins again beside the first one. QUIC alone would send its first
/// packet again after one second, and then after two and four more: a server that is being restarted would be found
/// long after it is back.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The most attempts beside one another: a server lets an address have few handshakes at once, and many clients may
/// share one. The first is kept for a server that is slow, the newest two for one that has just come back.
const BESIDE_MAX: usize = 3;
/// The head start of an address before the next one.
const HEAD_START: Duration = Duration::from_secs(1);
/// The head start of an IP address before the next one of the same name.
const IP_HEAD_START: Duration = Duration::from_millis(250);
/// The most IP addresses of a name that are tried.
const IPS_MAX: usize = 8;

/// Connects to one server.
pub(super) struct Dialer {
    targets: Mutex<Vec<Arc<Target>>>,
    sockets: Arc<Sockets>,
}

/// One address of the server.
struct Target {
    address: String,
    config: quinn::ClientConfig,
    expected: Expected,
    rejected: tls::RejectedCertificate,
}

/// Which server is expected.
#[derive(Debug, Clone)]
pub(super) enum Expected {
    /// The one with this fingerprint.
    One(Hash),
    /// Any of those with these fingerprints.
    AnyOf(Vec<Hash>),
}

/// A socket for each version of IP, opened when it is first needed.
#[derive(Default)]
struct Sockets(Mutex<[Option<Endpoint>; 2]>);

/// The settings of connections to any of the servers with these fingerprints.
pub(super) fn config(
    identity: &Identity,
    fingerprints: &[Hash],
) -> Result<(quinn::ClientConfig, tls::RejectedCertificate)> {
    let (tls, rejected) = tls::client_config(identity, fingerprints)?;
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
        .map_err(|e| Error::Unreachable(format!("cannot set up TLS: {e}")))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(quic::transport(true));
    Ok((config, rejected))
}

impl Dialer {
    /// Prepares to connect to a server that is at one of the addresses.
    pub fn new(addresses: &[String], identity: &Identity, expected: &Expected) -> Result<Self> {
        let target = |address: &String| -> Result<Arc<Target>> {
            let (config, rejected) = config(identity, expected.fingerprints())?;
            Ok(Arc::new(Target { address: address.clone(), config, expected: expected.clone(), rejected }))
        };
        let targets = addresses.iter().map(target).collect::<Result<Vec<_>>>()?;
        Ok(Self { targets: Mutex::new(targets), sockets: Arc::default() })
    }

    /// The address that answered last. Until one has, the first.
    pub fn address(&self) -> String {
        self.targets.lock().first().map(|target| target.address.clone()).unwrap_or_default()
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Connection> {
        let targets = self.targets.lock().clone();
        let attempts = targets.iter().map(|target| {
            let (target, sockets) = (target.clone(), self.sockets.clone());
            async move { Ok((target.connect(&sockets).await?, target.address.clone())) }
        });
        let (connection, address) = race(attempts, HEAD_START).await.map_err(one_error)?;
        let mut targets = self.targets.lock();
        if let Some(at) = targets.iter().position(|target| target.address == address) {
            let answered = targets.remove(at);
            targets.insert(0, answered);
        }
        Ok(connection)
    }

    /// Tells the server that this client is done, without waiting for its answer.
    pub fn close(&self) {
        self.sockets.0.lock().iter().flatten().for_each(|endpoint| endpoint.close(0u32.into(), b"done"));
    }
}

impl Expected {
    fn fingerprints(&self) -> &[Hash] {
        match self {
            Self::One(fingerprint) => std::slice::from_ref(fingerprint),
            Self::AnyOf(fingerprints) => fingerprints,
        }
    }
}

impl Target {
    async fn connect(self: &Arc<Self>, sockets: &Arc<Sockets>) -> Result<Connection> {
        let address = &self.address;
        let none = |why: &str| Error::Unreachable(format!("cannot find {address}: {why}"));
        let lookup = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host(address.as_str()));
        let found = lookup.await.map_err(|_| none("its name server does not answer"))?;
        let mut ips: Vec<SocketAddr> = found.map_err(|e| none(&e.to_string()))?.take(IPS_MAX).collect();
        ips.dedup();
        let attempts = ips.into_iter().map(|ip| {
            let (target, sockets) = (self.clone(), sockets.clone());
            async move { target.connect_to(ip, &sockets).await }
        });
        let connected = race(attempts, IP_HEAD_START).await;
        connected.map_err(|errors| if errors.is_empty() { none("no such host") } else { one_error(errors) })
    }

    async fn connect_to(&self, ip: SocketAddr, sockets: &Sockets) -> Result<Connection> {
        let address = &self.address;
        let endpoint = sockets.get(ip)?;
        let begin = || {
            let connecting = endpoint.connect_with(self.config.clone(), ip, identity::SERVER_NAME);
            connecting.map_err(|e| Error::Unreachable(format!("cannot connect to {address}: {e}")))
        };
        // The attempts that are not needed are dropped, which tells the server so.
        let (mut running, mut handles) = (JoinSet::new(), Vec::new());
        let (is_answered, start) = (Arc::new(AtomicBool::new(false)), Instant::now());
        loop {
            let timeout = if is_answered.load(Relaxed) { HANDSHAKE_TIMEOUT } else { CONNECT_TIMEOUT };
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                let text = format!("the server at {address} does not answer: is it running, and does UDP reach it?");
                return Err(Error::Unreachable(text));
            }
            if !is_answered.load(Relaxed) {
                handles.push(running.spawn(attempt(begin()?, is_answered.clone())));
                if handles.len() > BESIDE_MAX {
                    handles.remove(1).abort();
                }
            }
            match tokio::time::timeout(AGAIN_AFTER.min(left), first(&mut running)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => return Err(self.failure(&error)),
                Err(_) => {}
            }
        }
    }

    fn failure(&self, error: &ConnectionError) -> Error {
        let address = &self.address;
        let Some(found) = *self.rejected.lock() else {
            return Error::Unreachable(format!("cannot connect to the server at {address}: {error}"));
        };
        Error::Invalid(match &self.expected {
            Expected::One(expected) => format!(
                "the server at {address} is not the one that this machine joined: the fingerprint of its certificate \
                 is {found}, not {expected}. Either another machine answers in its place, or the server was set up \
                 again; if so, join it again"
            ),
            Expected::AnyOf(_) => {
                format!("the server at {address} is none that this machine has joined: its fingerprint is {found}")
            }
        })
    }
}

/// Connects, and notes when the server has answered.
async fn attempt(mut connecting: Connecting, is_answered: Arc<AtomicBool>) -> Result<Connection, ConnectionError> {
    connecting.handshake_data().await?;
    is_answered.store(true, Relaxed);
    connecting.await
}

/// Waits for the first attempt that ends by itself.
async fn first(running: &mut JoinSet<Result<Connection, ConnectionError>>) -> Result<Connection, ConnectionError> {
    loop {
        match running.join_next().await {
            Some(Ok(ended)) => return ended,
            // It was dropped.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}

impl Sockets {
    /// Returns the socket for the version of an IP address.
    fn get(&self, ip: SocketAddr) -> Result<Endpoint> {
        let mut sockets = self.0.lock();
        let socket = &mut sockets[usize::from(ip.is_ipv6())];
        if let Some(endpoint) = socket {
            return Ok(endpoint.clone());
        }
        let local: SocketAddr = match ip {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let udp = quic::socket(local)?;
        let endpoint = Endpoint::new(Default::default(), None, udp, Arc::new(quinn::TokioRuntime))
            .map_err(|e| Error::Unreachable(format!("cannot use the network: {e}")))?;
        *socket = Some(endpoint.clone());
        Ok(endpoint)
    }
}

/// Runs attempts until one succeeds. The next one begins after the head start, or when all that run have failed.
async fn race<T, F>(attempts: impl Iterator<Item = F>, head_start: Duration) -> Result<T, Vec<Error>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let (mut waiting, mut running, mut errors) = (attempts.fuse(), JoinSet::new(), Vec::new());
    loop {
        let is_last = match waiting.next() {
            Some(attempt) => {
                running.spawn(attempt);
                false
            }
            None => true,
        };
        let next = tokio::time::sleep(head_start);
        tokio::pin!(next);
        loop {
            tokio::select! {
                ended = running.join_next() => match ended {
                    None if is_last => return Err(errors),
                    None => break,
                    Some(Ok(Ok(value))) => return Ok(value),
                    Some(Ok(Err(error))) => errors.push(error),
                    Some(Err(error)) => errors.push(Error::Unreachable(format!("cannot connect: {error}"))),
                },
                () = &mut next, if !is_last => break,
            }
        }
    }
}

/// Returns one error for those of all addresses. That another server answers says more than that none does.
fn one_error(mut errors: Vec<Error>) -> Error {
    if let Some(at) = errors.iter().position(|error| error.kind() != ErrorKind::Unreachable) {
        return errors.swap_remove(at);
    }
    let mut texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.dedup();
    Error::Unreachable(texts.join("; "))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    /// An attempt that ends after a time.
    async fn attempt(ms: u64, result: Result<u32>) -> Result<u32> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        result
    }

    fn unreachable(text: &str) -> Error {
        Error::Unreachable(text.into())
    }

    #[test]
    fn the_first_address_that_answers_wins() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = |begun: &Arc<AtomicUsize>, inner| {
            let begun = begun.clone();
            async move {
                begun.fetch_add(1, Ordering::Relaxed);
                inner
            }
        };
        let all = [counted(&begun, Ok(1)), counted(&begun, Ok(2))];
        let hour = Duration::from_secs(3600);
        assert_eq!(runtime().block_on(race(all.into_iter(), hour)).unwrap(), 1);
        assert_eq!(begun.load(Ordering::Relaxed), 1, "the second one is not needed");
        // A failure does not wait for the head start to end.
        let all = [counted(&begun, Err(unreachable("a"))), counted(&begun, Ok(2))];
        assert_eq!(runtime().block_on(race(all.into_iter(), hour)).unwrap(), 2);
        // An address that is silent for an hour does not hold up the next one.
        let all = [attempt(3_600_000, Ok(1)), attempt(0, Ok(2))];
        assert_eq!(runtime().block_on(race(all.into_iter(), Duration::from_millis(1))).unwrap(), 2);
    }

    #[test]
    fn all_errors_are_told_unless_another_server_answers() {
        let failed = |second| {
            let all = [attempt(0, Err(unreachable("a"))), attempt(0, Err(second))];
            one_error(runtime().block_on(race(all.into_iter(), HEAD_START)).unwrap_err()).to_string()
        };
        let both = failed(unreachable("b"));
        assert!(both.contains("a; ") && both.ends_with('b'), "{both}");
        assert_eq!(failed(Error::Invalid("another server".into())), "another server");
        assert!(runtime().block_on(race(std::iter::empty::<std::future::Ready<Result<()>>>(), HEAD_START)).is_err());
    }
}
