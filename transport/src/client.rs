//! The client: a remote repository behind the same interface as an embedded one.
//!
//! Calls block and may come from many threads, which share one connection. If the connection is lost, the client
//! connects again and repeats the call, for a bounded time. Every call except `init` and joining can be repeated
//! without harm; a pack continues from the byte up to which the server has it. Streams of packs have a lower priority
//! than requests.
//!
//! `dial` finds the server at its addresses, `link` keeps the connection and retries, `exchange` runs one request on a
//! stream, and each of the other files implements one or two traits of the seam.

mod dial;
mod exchange;
mod link;
mod maintain;
mod manage;
mod push;
mod read;
mod throttle;
mod waiting;

pub use waiting::is_waiting;

use std::time::Duration;

use bkfs_store::{
    Error, Result,
    base::id::{ClientId, Hash},
    format::keys::PushKey,
};
use bytes::Bytes;
use parking_lot::Mutex;
use quinn::RecvStream;
use tokio::runtime::Runtime;

use self::{
    dial::{Dialer, Expected},
    exchange::{Exchange, Request, exchange, expect_reply},
    link::Link,
    throttle::{PIECE, Throttle},
};
use crate::{
    identity::{self, Identity},
    key_proof::KeyProof,
    message::{Call, Reply},
    permission::Permissions,
    stream::{self, StreamError},
    token::Token,
    url::{Name, RepoUrl},
};

/// The priority of streams, except those of packs.
const REQUEST_PRIORITY: i32 = 0;

/// A repository on a server.
pub struct Remote {
    runtime: Runtime,
    link: Link,
    account: Name,
    repository: Name,
    /// The fingerprint of the client's own certificate.
    identity: Hash,
    /// What is shown with each opening.
    proof: Mutex<Option<KeyProof>>,
    upload: Throttle,
    download: Throttle,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({}/{}/{})", self.link.address(), self.account, self.repository)
    }
}

/// What an identity has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The URL of the account, with the address that answered.
    pub url: RepoUrl,
    /// All that the identity may do in the account.
    pub can: Permissions,
}

/// Enrols an identity with a token.
pub fn join(token: &Token, identity: &Identity) -> Result<Joined> {
    let first = token.addresses.first().map(String::as_str).unwrap_or_default();
    let url = RepoUrl::new(first, token.account.clone())?;
    let remote = Remote::connect_via(&url, &token.addresses, identity, token.fingerprint)?;
    let url = RepoUrl::new(&remote.link.address(), token.account.clone())?;
    expect_reply!(remote.call_once(Call::Join(token.secret.clone()))?, Reply::Joined(can) => Joined { url, can })
}

/// Finds out which of several servers is at an address. Returns its fingerprint, or fails if it is none of them.
pub fn recognise(address: &str, identity: &Identity, fingerprints: &[Hash]) -> Result<Hash> {
    let expected = Expected::AnyOf(fingerprints.to_vec());
    let (runtime, dialer) = (runtime()?, Dialer::new(&[address.to_owned()], identity, &expected)?);
    let connection = runtime.block_on(dialer.connect())?;
    dialer.close();
    let found = identity::peer_fingerprint(&connection);
    found.ok_or_else(|| Error::Unreachable(format!("the server at {address} showed no certificate")))
}

/// The settings of QUIC connections to the server with a fingerprint, for those who speak the protocol themselves, with
/// [`crate::message`] and [`crate::stream`].
pub fn quic_config(identity: &Identity, fingerprint: Hash) -> Result<quinn::ClientConfig> {
    dial::config(identity, &[fingerprint]).map(|(config, _)| config)
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("bkfs-net")
        .enable_all()
        .build()
        .map_err(|e| Error::Unreachable(format!("cannot start network threads: {e}")))
}

impl Remote {
    /// Connects to the repository's server, which must show the certificate with this fingerprint.
    pub fn connect(url: &RepoUrl, identity: &Identity, fingerprint: Hash) -> Result<Self> {
        Self::connect_via(url, &[url.server()], identity, fingerprint)
    }

    /// Connects to the repository's server at the first of these addresses that answers, instead of the one in the URL.
    pub fn connect_via(url: &RepoUrl, addresses: &[String], identity: &Identity, fingerprint: Hash) -> Result<Self> {
        let (runtime, dialer) = (runtime()?, Dialer::new(addresses, identity, &Expected::One(fingerprint))?);
        let link = Link::new(dialer);
        runtime.block_on(link.connection())?;
        let (account, repository) = (url.account.clone(), url.repository());
        Ok(Self {
            runtime,
            link,
            account,
            repository,
            identity: identity.fingerprint(),
            proof: Mutex::default(),
            upload: Throttle::default(),
            download: Throttle::default(),
        })
    }

    /// From now on, sends and receives at most so many bytes of packs and frames in a second; none for no bound.
    pub fn limit(&self, upload: Option<u64>, download: Option<u64>) {
        self.upload.set(upload);
        self.download.set(download);
    }

    /// From now on, shows the server with each opening that this identity holds a key of the repository. A client that
    /// may not read needs that to learn about its own snapshots, and it lets an admin end the identity with the key.
    pub fn show(&self, key: &PushKey) {
        *self.proof.lock() = Some(KeyProof::new(key, self.identity));
    }

    /// Ends the permissions of all identities that hold the key of a client. The roster must have ended the client
    /// before. Returns their fingerprints. Needs the permission admin.
    pub fn revoke_holders(&self, client: ClientId) -> Result<Vec<Hash>> {
        expect_reply!(self.call(Call::RevokeHolders(client))?, Reply::Revoked(holders) => holders)
    }

    /// Sets for how long a call tries to reach a lost server before it fails.
    pub fn set_retry_timeout(&self, timeout: Duration) {
        self.link.set_retry_timeout(timeout);
    }

    fn request(&self, call: Call) -> Request {
        Request::new(&self.account, &self.repository, &call)
    }

    /// Makes a call, and repeats it if the connection is lost before the reply arrives.
    fn call(&self, call: Call) -> Result<Reply> {
        let request = self.request(call);
        self.runtime.block_on(self.link.with_retries(async |connection| {
            let exchange = exchange(connection, &request, REQUEST_PRIORITY).await?;
            Ok(exchange.reply.unless_busy())
        }))
    }

    /// Makes a call that must not be repeated.
    fn call_once(&self, call: Call) -> Result<Reply> {
        let request = self.request(call);
        self.runtime.block_on(async {
            let connection = self.link.connection().await?;
            match exchange(&connection, &request, REQUEST_PRIORITY).await {
                Ok(exchange) => Ok(exchange.reply),
                Err(error) => {
                    let reason = connection.close_reason().map_or(error.0, |reason| reason.to_string());
                    Err(self.link.connection_lost(&StreamError(reason)))
                }
            }
        })
    }

    /// Makes a call whose reply is followed by bulk bytes, and repeats it as [`Remote::call`] does. `parse` returns
    /// what the reply holds and the number of bytes that follow; it refuses a number that is too large.
    fn call_with_bulk<T>(&self, call: Call, parse: impl Fn(Reply) -> Result<(T, usize)>) -> Result<(T, Bytes)> {
        let request = self.request(call);
        self.runtime.block_on(self.link.with_retries(async |connection| {
            let Exchange { reply, mut receive, .. } = exchange(connection, &request, REQUEST_PRIORITY).await?;
            let (value, len) = match reply.unless_busy().and_then(&parse) {
                Ok(parsed) => parsed,
                Err(error) => return Ok(Err(error)),
            };
            let mut bytes = Vec::new();
            match self.download.is_set() {
                true => receive_slowly(&mut receive, &mut bytes, len, &self.download).await?,
                false => stream::receive_rest(&mut receive, &mut bytes, len).await?,
            }
            Ok(Ok((value, bytes.into())))
        }))
    }
}

/// Receives the rest of a stream as [`stream::receive_rest`] does, as fast as the bound allows.
async fn receive_slowly(
    receive: &mut RecvStream,
    bytes: &mut Vec<u8>,
    len: usize,
    throttle: &Throttle,
) -> Result<(), StreamError> {
    // What is not read here, the server must not send: QUIC's flow control sees to that.
    while bytes.len() < len {
        throttle.pass(PIECE.min(len - bytes.len())).await;
        let until = (bytes.len() + PIECE).min(len);
        while bytes.len() < until {
            match receive.read_chunk(until - bytes.len(), true).await? {
                Some(chunk) => bytes.extend_from_slice(&chunk.bytes),
                None => return Err(StreamError("the stream ended early".into())),
            }
        }
    }
    stream::receive_rest(receive, bytes, len).await
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.runtime.block_on(self.link.close());
    }
}
