//! A peer's connection: each request comes on a stream of its own and is answered there.
//!
//! What a request takes (memory, a thread, a place among the uploads) it takes after its right was checked, out of the
//! shares of its client and its account. `dispatch` finds the reply. Calls into the store block, so they run on threads
//! for blocking work. When the client is gone, the request is dropped, and a call that runs ends at its next look.
//!
//! When the server stops, requests that were received are answered first, except waits for the log.

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bkfs_store::{
    Error, Result,
    access::{Lease, Open, PruneReply, PruneRequest},
    base::{
        codec,
        id::{Hash, PackId, SnapshotId},
    },
    format::pack::{PACK_MAX, PackUpload},
};
use bytes::Bytes;
use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};

use super::{
    blocking::blocking,
    connections::{Counted, Kind, place},
    dispatch::{Caller, FullReply},
    group::{Group, Member},
    limits::{
        CONNECTIONS_PER_CLIENT, FURTHER_WINDOW, HANDSHAKE_TIME, HANDSHAKES_PER_ADDRESS, HANDSHAKES_PROVED,
        HANDSHAKES_UNPROVED, STRANGER_GRACE, STRANGER_TIME, STRANGERS_MAX, STRANGERS_PER_ADDRESS, WINDOW,
    },
    pace::{Halt, Pace},
    record::{Ended, Pending, Traffic},
    shares::Share,
    state::ServerState,
    waits,
};
use crate::{
    identity,
    message::{self, Call, HEAD_MAX, Reply, RequestHead, number},
    quic,
    stream::{self, StreamError},
    wire_error::WireError,
};

/// Replies with more bulk bytes than [`BULK_BYTES`] give way to small ones.
const BULK_PRIORITY: i32 = -1;
const BULK_BYTES: usize = 1024 * 1024;
/// A wait for the log ends after this time, and the client asks again.
const WAIT_MS_MAX: u32 = 10_000;

/// Why a server ends a connection when it stops. The client connects again and repeats what was not answered.
pub(super) const STOPPED: VarInt = VarInt::from_u32(3);
pub(super) const STOPPED_TEXT: &[u8] = b"the server stops or restarts";

/// Decides about a peer that wants to connect, and answers it until it disconnects, or until the server stops. A server
/// that stops waits for the member.
pub(super) fn receive(incoming: Incoming, state: &Arc<ServerState>, member: Member) {
    let (address, is_proved) = (incoming.remote_address(), incoming.remote_address_validated());
    let (kind, max) = match is_proved {
        true => (Kind::Proved, HANDSHAKES_PROVED),
        false => (Kind::Unproved, HANDSHAKES_UNPROVED),
    };
    let of_place = state.connections.count(Kind::Handshake(place(address.ip())), HANDSHAKES_PER_ADDRESS);
    let Some(counted) = of_place.and_then(|of_place| Some((of_place, state.connections.count(kind, max)?))) else {
        // A client that has not proved its address must do so, so that those who lie about theirs hinder only one
        // another. Any other is not answered, and tries again by itself.
        match incoming.may_retry() {
            true => drop(incoming.retry()),
            false => {
                state.metrics.handshakes_failed.fetch_add(1, Relaxed);
                state.notices.stranger(address, "a connection was not answered", &"too many handshakes are running");
                incoming.ignore();
            }
        }
        return;
    };
    let state = state.clone();
    tokio::spawn(async move {
        let _member = member;
        let connecting = async {
            match incoming.accept() {
                Ok(connecting) => tokio::time::timeout(HANDSHAKE_TIME, connecting).await,
                Err(error) => Ok(Err(error)),
            }
        };
        let connected = tokio::select! {
            connected = connecting => connected,
            () = state.stopped() => return,
        };
        drop(counted);
        let failed = |why: &dyn Display| {
            state.metrics.handshakes_failed.fetch_add(1, Relaxed);
            state.notices.stranger(address, "a handshake failed", why);
        };
        match connected {
            Ok(Ok(connection)) => serve(connection, state).await,
            Ok(Err(error)) => failed(&error),
            Err(_) => failed(&"it took too long"),
        }
    });
}

/// One end of a connection.
#[derive(Clone)]
struct Peer {
    state: Arc<ServerState>,
    connection: Connection,
    /// The fingerprint of its certificate.
    client: Hash,
    address: SocketAddr,
    traffic: Arc<Traffic>,
}

/// Answers a peer until it disconnects, or until the server stops.
async fn serve(connection: Connection, state: Arc<ServerState>) {
    let address = connection.remote_address();
    let Some(client) = identity::peer_fingerprint(&connection) else {
        state.notices.stranger(address, "a connection was refused", &"it showed no certificate");
        return connection.close(2u32.into(), b"no certificate");
    };
    let traffic = Arc::new(Traffic::new());
    let peer = Peer { state, connection, client, address, traffic };
    let _counted = peer.state.metrics.connections.enter();
    if peer.is_known() || peer.serve_stranger().await {
        peer.serve_client().await;
    }
    peer.traffic.end(&peer.state, client, address);
}

impl Peer {
    fn is_known(&self) -> bool {
        self.state.registry.is_known(self.client)
    }

    /// Answers one request of a stranger. Returns whether it has joined.
    async fn serve_stranger(&self) -> bool {
        let Some([of_place, _of_all]) = self.count_stranger() else {
            self.state.notices.stranger(self.address, "a connection was refused", &"too many strangers are connected");
            self.connection.close(3u32.into(), b"the server is busy: too many clients that it does not know");
            return false;
        };
        let answer = async move {
            let accepted = tokio::select! {
                accepted = self.connection.accept_bi() => accepted,
                () = self.state.stopped() => return false,
            };
            let Ok((send, receive)) = accepted else { return false };
            let acknowledged = send.stopped();
            self.answer(send, receive, None).await;
            if !self.is_known() {
                // It has its reply, or soon will have. Others from its address may come.
                drop(of_place);
                let closed = async {
                    let _ = acknowledged.await;
                    self.connection.closed().await
                };
                let _ = tokio::time::timeout(STRANGER_GRACE, closed).await;
            }
            self.is_known()
        };
        let has_joined = tokio::time::timeout(STRANGER_TIME, answer).await.unwrap_or(false);
        if !has_joined {
            self.connection.close(3u32.into(), b"this server does not know this client");
        }
        has_joined
    }

    fn count_stranger(&self) -> Option<[Counted; 2]> {
        let connections = &self.state.connections;
        let of_place = Kind::Stranger(place(self.address.ip()));
        Some([connections.count(of_place, STRANGERS_PER_ADDRESS)?, connections.count(Kind::Strangers, STRANGERS_MAX)?])
    }

    /// Answers a client: many requests at a time.
    async fn serve_client(&self) {
        let Self { state, connection, client, address, .. } = self;
        let losses = || state.registry.ask(|accounts| accounts.losses());
        let Some(registered) = state.connections.register(*client, connection, CONNECTIONS_PER_CLIENT, losses) else {
            let why = format!("this client has {CONNECTIONS_PER_CLIENT} connections already, and uses all of them");
            tracing::warn!(client = client.short(), %address, "a connection was refused: {why}");
            return connection.close(3u32.into(), why.as_bytes());
        };
        let window = if registered.is_first { WINDOW } else { FURTHER_WINDOW };
        connection.set_receive_window(VarInt::from_u32(window));
        connection.set_send_window(window.into());
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(quic::STREAMS_MAX));
        tracing::debug!(%client, %address, "connected");
        let requests = Group::new();
        loop {
            let accepted = tokio::select! {
                accepted = connection.accept_bi() => accepted,
                () = state.stopped() => {
                    requests.emptied().await;
                    connection.close(STOPPED, STOPPED_TEXT);
                    break;
                }
            };
            let Ok((send, receive)) = accepted else { break };
            let (peer, in_use, member) = (self.clone(), registered.in_use.clone(), requests.enter());
            tokio::spawn(async move {
                let acknowledged = send.stopped();
                let member = peer.answer(send, receive, Some(member)).await;
                drop(in_use);
                if member.is_none() {
                    return;
                }
                // The end of a connection throws away what the client has not acknowledged. So for a server that stops,
                // the request has ended only then.
                tokio::select! {
                    _ = acknowledged => {}
                    _ = peer.connection.closed() => {}
                }
            });
        }
        tracing::debug!(%client, "disconnected");
    }

    /// Answers a request. If the client is gone, what runs for it ends. A server that stops waits for the member, which
    /// is returned if it still has to: not for a request that waits for the log.
    async fn answer(&self, send: SendStream, receive: RecvStream, mut member: Option<Member>) -> Option<Member> {
        let is_gone = SetOnDrop::default();
        let stopped = send.stopped();
        let result = tokio::select! {
            result = answer(self, send, receive, &is_gone.0, &mut member) => result,
            _ = self.connection.closed() => return None,
            _ = stopped => return None,
        };
        match result {
            Ok(()) => {}
            Err(Halt::Stalled) => {
                tracing::debug!(client = %self.client, "a request was given up: it did not get on");
            }
            // The connection of a client may break at any time.
            Err(Halt::Stream(StreamError(error))) if self.is_known() => {
                tracing::debug!(client = %self.client, error, "the stream of a request failed");
            }
            Err(Halt::Stream(StreamError(error))) => {
                self.state.notices.stranger(self.address, "a stranger's request could not be read", &error);
            }
        }
        member
    }
}

/// Tells a call that its client is gone.
#[derive(Default)]
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A reply, encoded, and the memory that it takes.
struct Answer {
    reply: Bytes,
    bulk: Vec<Bytes>,
    /// The snapshot that was committed.
    snapshot: Option<SnapshotId>,
    /// Whether something was changed, as far as the reply tells.
    is_change: bool,
    _share: Option<Share>,
}

impl Answer {
    /// An answer that takes a share, which is as large as any answer to the call.
    fn new(FullReply { reply, bulk }: FullReply, mut share: Share) -> Self {
        let snapshot = match &reply {
            Reply::Committed(receipt) => Some(receipt.snapshot),
            _ => None,
        };
        let is_change = is_change(&reply);
        let reply = stream::encode(&reply);
        share.shrink(kib(reply.len() + bulk.iter().map(Bytes::len).sum::<usize>()));
        Self { reply, bulk, snapshot, is_change, _share: Some(share) }
    }
}

/// Whether the call with this reply may have changed something.
fn is_change(reply: &Reply) -> bool {
    match reply {
        Reply::Forgotten(reply) => reply.forgotten > 0 || !reply.expired.is_empty(),
        Reply::Pruned(PruneReply::Condemned(_)) => true,
        Reply::Pruned(PruneReply::Swept(swept)) => swept.packs > 0,
        Reply::Pruned(_) => false,
        Reply::Revoked(revoked) => !revoked.is_empty(),
        _ => true,
    }
}

impl Answer {
    /// What is recorded of it.
    fn ended(&self) -> Ended {
        let sent_bytes = self.bulk.iter().map(Bytes::len).sum::<usize>() as u64;
        Ended { snapshot: self.snapshot, sent_bytes, is_change: self.is_change }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let is_change = is_change(&reply);
        Self { reply: stream::encode(&reply), bulk: Vec::new(), snapshot: None, is_change, _share: None }
    }
}

/// Receives a request, and sends the reply to it.
async fn answer(
    peer: &Peer,
    mut send: SendStream,
    mut receive: RecvStream,
    is_gone: &Arc<AtomicBool>,
    member: &mut Option<Member>,
) -> Result<(), Halt> {
    let mut pace = Pace::new(&peer.state.memory);
    let head = unless_stopped(&peer.state, receive_message(&mut pace, &mut receive, HEAD_MAX)).await?;
    let RequestHead { account, repository, call } = decode(&head)?;
    if call == number::WAIT_LOG {
        *member = None;
    }
    let is_client = peer.is_known();
    let Peer { state, client, address, .. } = peer.clone();
    let caller = Caller { state, client, address, account, repository, is_gone: is_gone.clone() };
    let mut pending = Some(Pending::begin(call, is_client, peer.traffic.clone()));
    let result = match prepare(&caller, call, &mut pending, &mut pace, &mut send, &mut receive).await {
        Ok(result) => result,
        Err(Halt::Stalled) => Err(Error::Unreachable(
            "the server gave up a request that came too slowly: it has other work, or the connection is very slow"
                .into(),
        )),
        Err(halt) => return Err(halt),
    };
    // Whatever was not read is not wanted any more.
    let _ = receive.stop(0u32.into());
    if let Some(pending) = pending {
        pending.end(&caller, result.as_ref().map(Answer::ended));
    }
    let Answer { reply, bulk, _share, .. } = result.unwrap_or_else(|error| {
        caller.state.notices.failed(caller.origin(), peer.is_known(), &error);
        Reply::Failed(WireError::new(&error, &caller.to_string())).into()
    });
    pace.holds(&caller.account, reply.len() + bulk.iter().map(Bytes::len).sum::<usize>());
    pace.restart();
    let sent = send_reply(&mut pace, &mut send, reply, bulk).await;
    if sent.is_err() {
        // A stream that is only dropped would end as if it were complete.
        let _ = send.reset(1u32.into());
    }
    sent
}

async fn send_reply(pace: &mut Pace<'_>, send: &mut SendStream, reply: Bytes, bulk: Vec<Bytes>) -> Result<(), Halt> {
    pace.send(send, reply).await?;
    if bulk.iter().map(Bytes::len).sum::<usize>() > BULK_BYTES {
        send.set_priority(BULK_PRIORITY)?;
    }
    for bytes in bulk {
        pace.send(send, bytes).await?;
    }
    Ok(send.finish()?)
}

/// Checks the right to a call, receives the call and finds the answer.
async fn prepare(
    caller: &Caller,
    call: u8,
    pending: &mut Option<Pending>,
    pace: &mut Pace<'_>,
    send: &mut SendStream,
    receive: &mut RecvStream,
) -> Result<Result<Answer>, Halt> {
    let Some(sizes) = message::sizes(call) else {
        return Ok(Err(Error::Invalid(format!("this server knows no call {call}: a newer client may have made it"))));
    };
    let (state, account, client) = (&caller.state, &caller.account, caller.client);
    if call != number::JOIN {
        // What was recorded since may have taken the right away: the server looks again when it has the call.
        let allowed = match caller.permits(call) {
            Ok(()) => Ok(()),
            // This reads the server's log.
            Err(_) => {
                let caller = caller.clone();
                blocking(move || caller.expect_right(call)).await
            }
        };
        if let Err(error) = allowed {
            return Ok(Err(error));
        }
    }
    let len = unless_stopped(state, receive_len(pace, receive, sizes.call)).await?;
    if matches!(call, number::JOIN | number::PUT_PACK | number::WAIT_LOG) {
        let call = decode_call(call, &unless_stopped(state, pace.receive(receive, len)).await?)?;
        return Ok(match call {
            Call::PutPack(pack, len, lease) => {
                pending.iter_mut().for_each(|pending| pending.pack(len));
                let stored = receive_pack(caller, lease, pack, len, send, receive).await?;
                stored.map(|()| Reply::Done.into())
            }
            Call::WaitLog(len, ms) => wait_log(caller, len, ms).await,
            call => {
                let _share = state.joins.acquire(account, client, 1).await;
                let (caller, pending) = (caller.clone(), pending.take());
                blocking(move || {
                    let joined = caller.join(call).map(Answer::from);
                    end(pending, &caller, &joined);
                    joined
                })
                .await
            }
        });
    }
    let share = state.memory.acquire(account, client, kib(len + sizes.reply)).await;
    pace.holds(account, len + sizes.reply);
    pace.restart();
    let bytes = unless_stopped(state, pace.receive(receive, len)).await?;
    let permit = state.calls.acquire(account, client, 1).await;
    // A call that has begun is recorded when it ends, whether or not its client still waits for the answer.
    let (caller, mut pending) = (caller.clone(), pending.take());
    let answered = blocking(move || {
        let _permit = permit;
        let decoded = decode_call(call, &bytes).map_err(|StreamError(error)| Error::Invalid(error));
        drop(bytes);
        if let (Ok(Call::Commit(lease, _)), Some(pending)) = (&decoded, &mut pending) {
            // All packs of a push come before its commit.
            pending.push(caller.state.pushes.bytes(caller.client, *lease));
        }
        let is_look = matches!(&decoded, Ok(Call::Prune(PruneRequest::Condemn { dry_run: true, .. })));
        let mut answer = decoded.and_then(|call| caller.answer(call)).map(|reply| Answer::new(reply, share));
        answer.iter_mut().for_each(|answer| answer.is_change &= !is_look);
        end(pending, &caller, &answer);
        answer
    });
    Ok(answered.await)
}

/// Records how a request has ended.
fn end(pending: Option<Pending>, caller: &Caller, answer: &Result<Answer>) {
    if let Some(pending) = pending {
        pending.end(caller, answer.as_ref().map(Answer::ended));
    }
}

/// Receives something of a request. A server that stops does not wait for the rest of a request.
async fn unless_stopped<T>(state: &ServerState, receive: impl Future<Output = Result<T, Halt>>) -> Result<T, Halt> {
    tokio::select! {
        received = receive => received,
        () = state.stopped() => Err(StreamError("the server stops".into()).into()),
    }
}

/// Waits for the log of a repository to grow.
async fn wait_log(caller: &Caller, len: u64, ms: u32) -> Result<Answer> {
    let (state, account, repository) = (&caller.state, &caller.account, &caller.repository);
    let Some(_share) = state.waiting.try_acquire(account, caller.client, 1) else {
        return Err(Error::Unreachable("this client waits for the server's log too many times at once".into()));
    };
    let timeout = Duration::from_millis(ms.min(WAIT_MS_MAX).into());
    let len_of: waits::LenOf = {
        let caller = caller.clone();
        Arc::new(move || caller.admit(number::WAIT_LOG)?.wait_log(u64::MAX, Duration::ZERO))
    };
    let now = {
        let (len_of, permit) = (len_of.clone(), state.calls.acquire(account, caller.client, 1).await);
        blocking(move || {
            let _permit = permit;
            len_of()
        })
        .await?
    };
    let key = (account.clone(), repository.clone());
    let len = waits::wait(&state.waits, key, len_of, now, len, timeout).await?;
    Ok(Reply::LogLen(len).into())
}

/// Receives a pack and stores it: tells the client how much of the pack the server has, receives the rest, and returns
/// when the pack is durable. Returns before that if the repository has the whole pack already.
async fn receive_pack(
    caller: &Caller,
    lease: Lease,
    pack: PackId,
    len: u64,
    send: &mut SendStream,
    receive: &mut RecvStream,
) -> Result<Result<()>, Halt> {
    if len > PACK_MAX as u64 {
        return Ok(Err(Error::TooLarge { what: "a pack", size: len, limit: PACK_MAX as u64 }));
    }
    let (state, account, client, len) = (&caller.state, &caller.account, caller.client, len as usize);
    let _counted = state.metrics.uploads.enter();
    let _place = state.uploads.shares.acquire(account, client, 1).await;
    let admitted = {
        let (caller, permit) = (caller.clone(), state.calls.acquire(account, client, 1).await);
        blocking(move || {
            let _permit = permit;
            caller.admit_pack(pack, len as u64, lease)
        })
        .await
    };
    let reservation = match admitted {
        Ok(Some(reservation)) => reservation,
        Ok(None) => return Ok(Ok(())),
        Err(error) => return Ok(Err(error)),
    };
    let mut upload = match state.uploads.begin(account, client, pack, len).await {
        Ok(upload) => upload,
        Err(error) => return Ok(Err(error)),
    };
    let continues = upload.len > 0;
    let mut pace = Pace::new(&state.uploads.shares);
    pace.holds(account, 0);
    pace.send(send, stream::encode(&Reply::SendFrom(upload.len as u64))).await?;
    if let Err(error) = upload.receive(receive, len, &mut pace).await? {
        return Ok(Err(error));
    }
    let share = state.memory.acquire(account, client, kib(len)).await;
    let permit = state.calls.acquire(account, client, 1).await;
    let stored = {
        let caller = caller.clone();
        blocking(move || {
            let _held = (share, permit);
            let bytes = upload.read()?;
            // Before the pack is stored: a disk that is almost full need not have room for both.
            upload.remove()?;
            caller.put_pack(lease, &PackUpload { id: pack, bytes }, reservation)
        })
        .await
    };
    if continues && matches!(&stored, Err(error) if error.kind() == bkfs_store::ErrorKind::Damaged) {
        // What was received before may have been damaged since. The client sends all of the pack again.
        let why = "the server must have all of the pack again: what it had of it may be damaged";
        return Ok(Err(Error::Unreachable(why.into())));
    }
    if stored.is_ok() {
        state.pushes.stored(client, lease, len as u64);
    }
    Ok(stored)
}

/// Receives the length of a message.
async fn receive_len(pace: &mut Pace<'_>, stream: &mut RecvStream, max: usize) -> Result<usize, Halt> {
    let len = pace.receive(stream, 4).await?;
    let len = u32::from_le_bytes(len.try_into().expect("four bytes")) as usize;
    match len <= max {
        true => Ok(len),
        false => Err(too_long(len, max)),
    }
}

/// Receives a message.
async fn receive_message(pace: &mut Pace<'_>, stream: &mut RecvStream, max: usize) -> Result<Vec<u8>, Halt> {
    let len = receive_len(pace, stream, max).await?;
    pace.receive(stream, len).await
}

fn too_long(len: usize, max: usize) -> Halt {
    Halt::Stream(StreamError(format!("a message has {len} bytes, but at most {max} are allowed")))
}

fn decode<T: for<'b> minicbor::Decode<'b, ()>>(bytes: &[u8]) -> Result<T, StreamError> {
    codec::decode("a message", bytes).map_err(|e| StreamError(e.to_string()))
}

/// Decodes a call, which must be the one that the head has named: the right to that one was checked.
fn decode_call(number: u8, bytes: &[u8]) -> Result<Call, StreamError> {
    let call: Call = decode(bytes)?;
    match call.number() == number {
        true => Ok(call),
        false => Err(StreamError("a request's call is not the one that its head names".into())),
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}
