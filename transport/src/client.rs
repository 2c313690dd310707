//! The client: a remote repository behind the same interface as an embedded one.
//!
//! Calls block, and may come from many threads; they share one connection. A lost connection is made again and the call
//! repeated, for a bounded time: all calls but `init` and joining may be repeated without harm, and a pack goes on from
//! the byte that the server has. Streams of packs have a lower priority than requests.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::{
    Error, Result,
    access::{
        ForgetReply, ForgetRequest, InitRequest, Lease, Maintain, Manage, Mending, Open, OpenRequest, Opened, PackInfo,
        PruneReply, PruneRequest, Push, READ_BYTES_MAX, Read, ReadReply, ReadRequest, Receipt, RepairReply,
        RepairRequest, SealedFrame,
    },
    base::id::{ChunkId, Hash, KeyId, PackId, SlotId, SnapshotId},
    crypto::Wrap,
    format::{
        frame::FRAME_MAX,
        keys::Slot,
        pack::{PACK_MAX, PackUpload},
        snapshot::SnapshotObject,
    },
};
use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::runtime::Runtime;

use crate::{
    Token,
    identity::{self, Identity},
    message::{self, Ask, Broken, REPLY_MAX, Reply, Request},
    quic, tls,
    url::{Name, RepoUrl},
};

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(6);
/// How long a lost connection is tried again before the call fails.
const PATIENCE: Duration = Duration::from_secs(45);
/// Packs give way to everything else.
const PACK_PRIORITY: i32 = -1;

/// A repository on a server.
pub struct Remote {
    runtime: Arc<Runtime>,
    link: Link,
    account: Name,
    repository: Name,
}

/// The way to one server.
struct Link {
    endpoint: Endpoint,
    address: String,
    fingerprint: Hash,
    config: quinn::ClientConfig,
    rejected: tls::RejectedCertificate,
    connection: tokio::sync::Mutex<Option<Connection>>,
    patience: Mutex<Duration>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({}/{}/{})", self.link.address, self.account, self.repository)
    }
}

/// Enrols an identity with a token; returns the URL of the account.
pub fn join(token: &Token, identity: &Identity) -> Result<RepoUrl> {
    let url = RepoUrl::of(&token.address, token.account.clone())?;
    let remote = Remote::connect(&url, identity, token.fingerprint)?;
    match remote.once(Ask::Join(token.secret.clone()))? {
        Reply::Done => Ok(url),
        _ => Err(confused()),
    }
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
        let (tls, rejected) = tls::client_config(identity, fingerprint)?;
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
            .map_err(|e| Error::Unreachable(format!("cannot set up TLS: {e}")))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(quic::transport(true));
        let address = url.server();
        let target = resolve(&address)?;
        let local: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let endpoint = {
            let _entered = runtime.enter();
            let socket = quic::socket(local)?;
            Endpoint::new(Default::default(), None, socket, Arc::new(quinn::TokioRuntime))
                .map_err(|e| Error::Unreachable(format!("cannot use the network: {e}")))?
        };
        let link = Link {
            endpoint,
            address,
            fingerprint,
            config,
            rejected,
            connection: tokio::sync::Mutex::new(None),
            patience: Mutex::new(PATIENCE),
        };
        let (account, repository) = (url.account.clone(), url.repository());
        let remote = Self { runtime: Arc::new(runtime), link, account, repository };
        remote.runtime.block_on(remote.link.connection())?;
        Ok(remote)
    }

    /// How long calls go on trying after the server was lost.
    pub fn set_patience(&self, patience: Duration) {
        *self.link.patience.lock() = patience;
    }

    fn request(&self, ask: Ask) -> Request {
        Request { account: self.account.clone(), repository: self.repository.clone(), ask }
    }

    /// Asks, and asks again if the connection is lost meanwhile.
    fn ask(&self, ask: Ask) -> Result<Reply> {
        let request = self.request(ask);
        self.runtime.block_on(self.link.persist(async |connection| {
            let (_send, _receive, reply) = exchange(connection, &request, 0).await?;
            Ok(failed(reply))
        }))
    }

    /// Asks what must not be asked twice.
    fn once(&self, ask: Ask) -> Result<Reply> {
        let request = self.request(ask);
        self.runtime.block_on(async {
            let connection = self.link.connection().await?;
            let answered = exchange(&connection, &request, 0).await;
            let (_, _, reply) = answered.map_err(|e| self.link.lost(&e))?;
            failed(reply)
        })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Says goodbye without waiting for the answer.
        self.link.endpoint.close(0u32.into(), b"done");
    }
}

impl Link {
    async fn connection(&self) -> Result<Connection> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|c| c.close_reason().is_none()) {
            return Ok(connection.clone());
        }
        let target = resolve(&self.address)?;
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), target, identity::SERVER_NAME)
            .map_err(|e| Error::Unreachable(format!("cannot connect to {}: {e}", self.address)))?;
        let connection = match tokio::time::timeout(CONNECT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(self.refused(&error)),
            Err(_) => {
                let text =
                    format!("the server at {} does not answer: is it running, and is UDP let through?", self.address);
                return Err(Error::Unreachable(text));
            }
        };
        *slot = Some(connection.clone());
        Ok(connection)
    }

    fn refused(&self, error: &quinn::ConnectionError) -> Error {
        if let Some(found) = *self.rejected.lock() {
            let (address, expected) = (&self.address, self.fingerprint);
            return Error::Invalid(format!(
                "the server at {address} is not the one that this machine joined: the fingerprint of its certificate is \
                 {found}, not {expected}. Either another machine answers in its place, or the server was set up again; \
                 if so, join it again"
            ));
        }
        Error::Unreachable(format!("cannot connect to the server at {}: {error}", self.address))
    }

    fn lost(&self, broken: &Broken) -> Error {
        Error::Unreachable(format!("the connection to the server at {} was lost: {}", self.address, broken.0))
    }

    /// Runs a call until it is answered, connecting anew while patience lasts.
    async fn persist<T>(&self, call: impl AsyncFn(&Connection) -> Result<Result<T>, Broken>) -> Result<T> {
        let patience = *self.patience.lock();
        let mut end = None;
        let mut pause = Duration::from_millis(100);
        loop {
            let error = match self.connection().await {
                Ok(connection) => match call(&connection).await {
                    Ok(answer) => return answer,
                    Err(broken) => {
                        // What the streams say is a consequence; the connection knows the reason.
                        let reason = connection.close_reason().map_or(broken.0, |reason| reason.to_string());
                        connection.close(1u32.into(), b"broken");
                        self.lost(&Broken(reason))
                    }
                },
                Err(error) if message::is_passing(&error) => error,
                Err(error) => return Err(error),
            };
            let end = *end.get_or_insert_with(|| Instant::now() + patience);
            if Instant::now() + pause >= end {
                return Err(error);
            }
            tracing::debug!(%error, "trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(3));
        }
    }
}

/// Opens a stream, sends the request and takes the reply's message.
async fn exchange(
    connection: &Connection,
    request: &Request,
    priority: i32,
) -> Result<(SendStream, RecvStream, Reply), Broken> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.set_priority(priority)?;
    message::send(&mut send, request).await?;
    if !matches!(request.ask, Ask::PutPack(..)) {
        send.finish()?;
    }
    let reply = message::receive(&mut receive, REPLY_MAX).await?;
    Ok((send, receive, reply))
}

/// The error that a reply carries, if it does.
fn failed(reply: Reply) -> Result<Reply> {
    match reply {
        Reply::Failed(error) => Err(error.into_error()),
        reply => Ok(reply),
    }
}

fn confused() -> Error {
    Error::Invalid("the server's answer does not fit the question".into())
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let mut found = address.to_socket_addrs().map_err(|e| Error::Unreachable(format!("cannot find {address}: {e}")))?;
    found.next().ok_or_else(|| Error::Unreachable(format!("cannot find {address}: no such host")))
}

impl Open for Remote {
    fn open(&self, request: &OpenRequest) -> Result<Opened> {
        match self.ask(Ask::Open(request.clone()))? {
            Reply::Opened(opened) => Ok(*opened),
            _ => Err(confused()),
        }
    }

    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64> {
        let ms = timeout.as_millis().min(u128::from(u32::MAX)) as u32;
        match self.ask(Ask::WaitLog(len, ms))? {
            Reply::LogLen(len) => Ok(len),
            _ => Err(confused()),
        }
    }
}

impl Read for Remote {
    fn read(&self, request: &ReadRequest) -> Result<ReadReply> {
        let ask = self.request(Ask::Read(request.clone()));
        self.runtime.block_on(self.link.persist(async |connection| {
            let (_send, mut receive, reply) = exchange(connection, &ask, 0).await?;
            let (heads, done, missing) = match failed(reply) {
                Ok(Reply::Frames(heads, done, missing)) => (heads, done as usize, missing),
                Ok(_) => return Ok(Err(confused())),
                Err(error) => return Ok(Err(error)),
            };
            let total: u64 = heads.iter().map(|head| u64::from(head.len)).sum();
            if total > (READ_BYTES_MAX + FRAME_MAX) as u64 {
                return Ok(Err(confused()));
            }
            // One buffer for all frames; each is a slice of it.
            let mut bytes = Vec::new();
            message::receive_rest(&mut receive, &mut bytes, total as usize).await?;
            let bytes = Bytes::from(bytes);
            let mut at = 0;
            let frames = heads.iter().map(|head| {
                let start = at;
                at += head.len as usize;
                SealedFrame { pack: head.pack, frame: head.frame, bytes: bytes.slice(start..at) }
            });
            Ok(Ok(ReadReply { frames: frames.collect(), done, missing }))
        }))
    }

    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        match self.ask(Ask::Wraps(keys.to_vec()))? {
            Reply::Wraps(wraps) => Ok(wraps),
            _ => Err(confused()),
        }
    }

    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        match self.ask(Ask::Places(ids.to_vec()))? {
            Reply::Places(places) if places.len() == ids.len() => Ok(places),
            _ => Err(confused()),
        }
    }

    fn snapshots(&self, from: u64, limit: u32) -> Result<Vec<SnapshotObject>> {
        match self.ask(Ask::Snapshots(from, limit))? {
            Reply::Snapshots(objects) => Ok(objects),
            _ => Err(confused()),
        }
    }

    fn log(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>> {
        match self.ask(Ask::Log(from, limit))? {
            Reply::Log(records) => Ok(records.into_iter().map(|record| record.0).collect()),
            _ => Err(confused()),
        }
    }

    fn mend(&self, id: PackId) -> Result<Mending> {
        match self.ask(Ask::Mend(id))? {
            Reply::Mended(mending) => Ok(mending),
            _ => Err(confused()),
        }
    }
}

impl Push for Remote {
    fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        match self.ask(Ask::Has(ids.to_vec()))? {
            Reply::Has(bits) => message::from_bits(&bits, ids.len()).ok_or_else(confused),
            _ => Err(confused()),
        }
    }

    fn put_pack(&self, lease: Lease, pack: &PackUpload) -> Result<()> {
        let request = self.request(Ask::PutPack(pack.id, pack.bytes.len() as u64, lease));
        self.runtime.block_on(self.link.persist(async |connection| {
            let (mut send, mut receive, reply) = exchange(connection, &request, PACK_PRIORITY).await?;
            match reply {
                Reply::Done => return Ok(Ok(())),
                Reply::SendFrom(offset) if offset <= pack.bytes.len() as u64 => {
                    let mut rest = [pack.bytes.slice(offset as usize..)];
                    // A server that refuses midway stops reading and says why: the reply is what counts then.
                    let sent = send.write_all_chunks(&mut rest).await;
                    if sent.is_ok() {
                        send.finish()?;
                    }
                }
                reply => return Ok(failed(reply).and(Err(confused()))),
            }
            Ok(match failed(message::receive(&mut receive, REPLY_MAX).await?) {
                Ok(Reply::Done) => Ok(()),
                Ok(_) => Err(confused()),
                Err(error) => Err(error),
            })
        }))
    }

    fn commit(&self, lease: Lease, snapshot: &[u8]) -> Result<Receipt> {
        match self.ask(Ask::Commit(lease, snapshot.to_vec()))? {
            Reply::Committed(receipt) => Ok(receipt),
            _ => Err(confused()),
        }
    }
}

impl Manage for Remote {
    fn init(&self, request: &InitRequest) -> Result<()> {
        match self.once(Ask::Init(request.clone()))? {
            Reply::Done => Ok(()),
            _ => Err(confused()),
        }
    }

    fn put_roster(&self, signed: &[u8]) -> Result<()> {
        match self.ask(Ask::PutRoster(signed.to_vec()))? {
            Reply::Done => Ok(()),
            _ => Err(confused()),
        }
    }

    fn put_slot(&self, slot: &Slot) -> Result<()> {
        match self.ask(Ask::PutSlot(slot.clone()))? {
            Reply::Done => Ok(()),
            _ => Err(confused()),
        }
    }

    fn remove_slot(&self, id: SlotId) -> Result<()> {
        match self.ask(Ask::RemoveSlot(id))? {
            Reply::Done => Ok(()),
            _ => Err(confused()),
        }
    }

    fn forget(&self, request: &ForgetRequest) -> Result<ForgetReply> {
        match self.ask(Ask::Forget(request.clone()))? {
            Reply::Forgotten(reply) => Ok(reply),
            _ => Err(confused()),
        }
    }

    fn unforget(&self, snapshots: &[SnapshotId]) -> Result<()> {
        match self.ask(Ask::Unforget(snapshots.to_vec()))? {
            Reply::Done => Ok(()),
            _ => Err(confused()),
        }
    }
}

impl Maintain for Remote {
    fn packs(&self, after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>> {
        match self.ask(Ask::Packs(after, limit))? {
            Reply::Packs(packs) => Ok(packs),
            _ => Err(confused()),
        }
    }

    fn read_pack(&self, id: PackId) -> Result<Bytes> {
        let ask = self.request(Ask::ReadPack(id));
        self.runtime.block_on(self.link.persist(async |connection| {
            let (_send, mut receive, reply) = exchange(connection, &ask, 0).await?;
            match failed(reply) {
                Ok(Reply::Pack(len)) if len <= PACK_MAX as u64 => {
                    let mut bytes = Vec::new();
                    message::receive_rest(&mut receive, &mut bytes, len as usize).await?;
                    Ok(Ok(bytes.into()))
                }
                Ok(_) => Ok(Err(confused())),
                Err(error) => Ok(Err(error)),
            }
        }))
    }

    fn prune(&self, request: &PruneRequest) -> Result<PruneReply> {
        match self.ask(Ask::Prune(request.clone()))? {
            Reply::Pruned(reply) => Ok(reply),
            _ => Err(confused()),
        }
    }

    fn repair(&self, request: &RepairRequest) -> Result<RepairReply> {
        match self.ask(Ask::Repair(request.clone()))? {
            Reply::Repaired(reply) => Ok(reply),
            _ => Err(confused()),
        }
    }
}
