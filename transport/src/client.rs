//! The client: a remote repository behind the same interface as an embedded one.
//!
//! Calls block and may come from many threads, which share one connection. If the connection is lost, the client
//! connects again and repeats the call, for a bounded time. Every call except `init` and joining can be repeated
//! without harm; a pack continues from the byte up to which the server has it. Streams of packs have a lower priority
//! than requests.
//!
//! `link` keeps the connection and retries, `exchange` runs one request on a stream, and each of the other files
//! implements one or two traits of the seam.

mod exchange;
mod link;
mod maintain;
mod manage;
mod push;
mod read;

use std::time::Duration;

use bkfs_store::{Error, Result, base::id::Hash};
use bytes::Bytes;
use tokio::runtime::Runtime;

use self::{
    exchange::{Exchange, exchange, expect_reply},
    link::Link,
};
use crate::{
    identity::Identity,
    message::{Call, Reply, Request},
    stream,
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
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({}/{}/{})", self.link.address(), self.account, self.repository)
    }
}

/// Enrols an identity with a token. Returns the URL of the account.
pub fn join(token: &Token, identity: &Identity) -> Result<RepoUrl> {
    let url = RepoUrl::new(&token.address, token.account.clone())?;
    let remote = Remote::connect(&url, identity, token.fingerprint)?;
    expect_reply!(remote.call_once(Call::Join(token.secret.clone()))?, Reply::Done => url)
}

impl Remote {
    /// Connects to the repository's server, which must show the certificate with this fingerprint.
    pub fn connect(url: &RepoUrl, identity: &Identity, fingerprint: Hash) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("bkfs-net")
            .enable_all()
            .build()
            .map_err(|e| Error::Unreachable(format!("cannot start network threads: {e}")))?;
        let link = {
            let _entered = runtime.enter();
            Link::new(url.server(), identity, fingerprint)?
        };
        runtime.block_on(link.connection())?;
        Ok(Self { runtime, link, account: url.account.clone(), repository: url.repository() })
    }

    /// Sets for how long a call tries to reach a lost server before it fails.
    pub fn set_retry_timeout(&self, timeout: Duration) {
        self.link.set_retry_timeout(timeout);
    }

    fn request(&self, call: Call) -> Request {
        Request { account: self.account.clone(), repository: self.repository.clone(), call }
    }

    /// Makes a call, and repeats it if the connection is lost before the reply arrives.
    fn call(&self, call: Call) -> Result<Reply> {
        let request = self.request(call);
        self.runtime.block_on(self.link.with_retries(async |connection| {
            let exchange = exchange(connection, &request, REQUEST_PRIORITY).await?;
            Ok(Ok(exchange.reply))
        }))
    }

    /// Makes a call that must not be repeated.
    fn call_once(&self, call: Call) -> Result<Reply> {
        let request = self.request(call);
        self.runtime.block_on(async {
            let connection = self.link.connection().await?;
            match exchange(&connection, &request, REQUEST_PRIORITY).await {
                Ok(exchange) => Ok(exchange.reply),
                Err(error) => Err(self.link.connection_lost(&error)),
            }
        })
    }

    /// Makes a call whose reply is followed by bulk bytes, and repeats it as [`Remote::call`] does. `parse` returns
    /// what the reply holds and the number of bytes that follow; it refuses a number that is too large.
    fn call_with_bulk<T>(&self, call: Call, parse: impl Fn(Reply) -> Result<(T, usize)>) -> Result<(T, Bytes)> {
        let request = self.request(call);
        self.runtime.block_on(self.link.with_retries(async |connection| {
            let Exchange { reply, mut receive, .. } = exchange(connection, &request, REQUEST_PRIORITY).await?;
            let (value, len) = match parse(reply) {
                Ok(parsed) => parsed,
                Err(error) => return Ok(Err(error)),
            };
            let mut bytes = Vec::new();
            stream::receive_rest(&mut receive, &mut bytes, len).await?;
            Ok(Ok((value, bytes.into())))
        }))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.link.close();
    }
}
