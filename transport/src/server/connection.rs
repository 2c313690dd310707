//! One client's connection: requests come on streams of their own and are answered there, each after a look at what
//! the client may do.
//!
//! A client that never joined an account may only join; whatever else it asks gets the same answer, whether the account
//! exists or not. Calls of the store block, so they run on threads for that.

use std::sync::Arc;

use bkfs_store::{
    Error, Result,
    access::{Lease, Maintain, Manage, Open, Push, Read, RepairRequest},
    base::id::{Hash, PackId},
    format::pack::{PACK_MAX, PackUpload},
};
use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};

use super::{Host, Hosted, peer};
use crate::{
    Permissions,
    message::{self, Call, FrameHead, LogBytes, REQUEST_MAX, Reply, Request, STRANGER_REQUEST_MAX},
    stream::{self, StreamError},
    url::Name,
    wire_error::WireError,
};

/// A wait for the log ends after so long, and the client asks anew.
const WAIT_MS_MAX: u32 = 10_000;
/// Small reads go first, bulk after them.
const BULK_PRIORITY: i32 = -1;
const BULK_BYTES: usize = 1024 * 1024;

/// Answers a client until it goes.
pub async fn serve(connection: Connection, host: Arc<Host>) {
    let Some(client) = peer(&connection) else {
        return connection.close(2u32.into(), b"no certificate");
    };
    tracing::debug!(%client, address = %connection.remote_address(), "connected");
    while let Ok((send, receive)) = connection.accept_bi().await {
        let (host, session) = (host.clone(), Session { client });
        tokio::spawn(async move {
            if let Err(StreamError(error)) = session.answer(&host, send, receive).await {
                tracing::debug!(%client, error, "a request broke off");
            }
        });
    }
    tracing::debug!(%client, "gone");
}

#[derive(Clone, Copy)]
struct Session {
    client: Hash,
}

/// What goes back.
enum Answer {
    Message(Reply),
    Bulk(Reply, Vec<Bytes>),
}

impl Session {
    async fn answer(self, host: &Arc<Host>, mut send: SendStream, mut receive: RecvStream) -> Result<(), StreamError> {
        let known = host.registry.is_known(self.client);
        let max = if known { REQUEST_MAX } else { STRANGER_REQUEST_MAX };
        let Request { account, repository, call } = stream::receive(&mut receive, max).await?;
        let place = format!("account {account}, repository {repository}");
        let answered = match call {
            Call::Join(secret) => {
                let (host, client) = (host.clone(), self.client);
                blocking(move || host.registry.join(&secret, client).map(|()| Answer::Message(Reply::Done))).await
            }
            Call::PutPack(pack, len, lease) => {
                match self.put_pack(host, &account, &repository, lease, pack, len, &mut send, &mut receive).await? {
                    Ok(()) => Ok(Answer::Message(Reply::Done)),
                    Err(error) => Err(error),
                }
            }
            call => {
                let host = host.clone();
                blocking(move || self.call(&host, &account, &repository, call)).await
            }
        };
        match answered {
            Ok(Answer::Message(reply)) => stream::send(&mut send, &reply).await?,
            Ok(Answer::Bulk(reply, mut chunks)) => {
                stream::send(&mut send, &reply).await?;
                if chunks.iter().map(Bytes::len).sum::<usize>() > BULK_BYTES {
                    send.set_priority(BULK_PRIORITY)?;
                }
                send.write_all_chunks(&mut chunks).await?;
            }
            Err(error) => {
                tracing::info!(client = %self.client, place, %error, "a request failed");
                stream::send(&mut send, &Reply::Failed(WireError::new(&error, &place))).await?;
            }
        }
        Ok(send.finish()?)
    }

    /// Checks that the client may do this, and finds the repository.
    fn admit(self, host: &Host, account: &Name, name: &Name, call: &Call) -> Result<Arc<Hosted>> {
        let needs = needs(call);
        let may = host.registry.permissions(self.client, account).or_else(|| {
            // It may have joined through another process's word.
            host.registry.refresh().ok()?;
            host.registry.permissions(self.client, account)
        });
        match may {
            None => return Err(Error::NoPermission { operation: format!("use account {account}") }),
            Some(may) => {
                if let Some((_, operation)) = needs.iter().find(|(any, _)| !may.intersects(*any)) {
                    return Err(Error::NoPermission { operation: format!("{operation} in account {account}") });
                }
            }
        }
        if !matches!(call, Call::Init(_)) && !host.exists(account, name)? {
            return Err(Error::NoRepository { place: String::new() });
        }
        host.repository(account, name)
    }

    fn call(self, host: &Host, account: &Name, name: &Name, call: Call) -> Result<Answer> {
        let hosted = self.admit(host, account, name, &call)?;
        let repository = &hosted.repository;
        Ok(Answer::Message(match call {
            Call::Init(request) => repository.init(&request).map(|()| Reply::Done)?,
            Call::Open(request) => {
                let mut opened = repository.open(&request)?;
                let may = host.registry.permissions(self.client, account).unwrap_or_default();
                if !may.intersects(Permissions::READ) {
                    // Who may not read gets no slots to guess at, and no snapshots.
                    opened.slots.clear();
                    opened.snapshots.clear();
                }
                Reply::Opened(Box::new(opened))
            }
            Call::Has(ids) => Reply::Has(message::to_bits(&repository.has(&ids)?)),
            Call::Places(ids) => Reply::Places(repository.places(&ids)?),
            Call::Read(request) => {
                let reply = repository.read(&request)?;
                let head = |f: &bkfs_store::access::SealedFrame| FrameHead {
                    pack: f.pack,
                    frame: f.frame,
                    len: f.bytes.len() as u32,
                };
                let heads = reply.frames.iter().map(head).collect();
                let frames = reply.frames.into_iter().map(|frame| frame.bytes).collect();
                return Ok(Answer::Bulk(Reply::Frames(heads, reply.done as u32, reply.missing), frames));
            }
            Call::ReadPack(id) => {
                let bytes = repository.read_pack(id)?;
                return Ok(Answer::Bulk(Reply::Pack(bytes.len() as u64), vec![bytes]));
            }
            Call::Wraps(keys) => Reply::Wraps(repository.wraps(&keys)?),
            Call::Commit(lease, snapshot) => {
                Reply::Committed(repository.commit_as(lease, &snapshot, Some(self.client))?)
            }
            Call::Prune(request) => Reply::Pruned(repository.prune(&request)?),
            Call::Snapshots(from, limit) => Reply::Snapshots(repository.snapshots(from, limit)?),
            Call::Forget(request) => Reply::Forgotten(repository.forget(&request)?),
            Call::Unforget(snapshots) => repository.unforget(&snapshots).map(|()| Reply::Done)?,
            Call::Log(from, limit) => Reply::Log(repository.log(from, limit)?.into_iter().map(LogBytes).collect()),
            Call::WaitLog(len, ms) => {
                let timeout = std::time::Duration::from_millis(ms.min(WAIT_MS_MAX).into());
                Reply::LogLen(repository.wait_log(len, timeout)?)
            }
            Call::PutRoster(signed) => repository.put_roster(&signed).map(|()| Reply::Done)?,
            Call::PutSlot(slot) => repository.put_slot(&slot).map(|()| Reply::Done)?,
            Call::RemoveSlot(id) => repository.remove_slot(id).map(|()| Reply::Done)?,
            Call::Mend(id) => Reply::Mended(repository.mend(id)?),
            Call::Repair(request) => Reply::Repaired(repository.repair(&request)?),
            Call::Packs(after, limit) => Reply::Packs(repository.packs(after, limit)?),
            Call::Join(_) | Call::PutPack(..) => return Err(Error::Invalid("this is answered elsewhere".into())),
        }))
    }

    /// Takes a pack in: says how much of it is there, receives the rest, and acknowledges what is durable. A pack that is
    /// there whole is acknowledged at once, and counts once for the quota.
    #[allow(clippy::too_many_arguments, reason = "a stream has two ends, a pack a name and a length")]
    async fn put_pack(
        self,
        host: &Arc<Host>,
        account: &Name,
        name: &Name,
        lease: Lease,
        pack: PackId,
        len: u64,
        send: &mut SendStream,
        receive: &mut RecvStream,
    ) -> Result<Result<()>, StreamError> {
        if len > PACK_MAX as u64 {
            return Ok(Err(Error::TooLarge { what: "a pack", size: len, limit: PACK_MAX as u64 }));
        }
        let admitted = {
            let (host, account, name) = (host.clone(), account.clone(), name.clone());
            blocking(move || {
                let hosted = self.admit(&host, &account, &name, &Call::PutPack(pack, len, lease))?;
                if hosted.repository.keep_pack(lease, pack, len)? {
                    return Ok(None);
                }
                if let Some(quota) = host.registry.quota(&account)
                    && host.account_bytes(&account)? + len > quota
                {
                    let text = format!("account {account}: its quota of {quota} bytes is used up");
                    return Err(Error::Invalid(text));
                }
                Ok(Some(hosted))
            })
            .await
        };
        let hosted = match admitted {
            Ok(Some(hosted)) => hosted,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let _room = host.uploads.room(len as usize).await;
        let mut bytes = host.uploads.take(self.client, pack);
        bytes.truncate(len as usize);
        stream::send(send, &Reply::SendFrom(bytes.len() as u64)).await?;
        if let Err(broken) = stream::receive_rest(receive, &mut bytes, len as usize).await {
            host.uploads.keep(self.client, pack, bytes);
            return Err(broken);
        }
        let stored = blocking(move || hosted.repository.put_pack(lease, &PackUpload { id: pack, bytes: bytes.into() }));
        Ok(stored.await)
    }
}

/// What a call needs: of each of these sets any permission. Beside each what it allows, for people.
fn needs(call: &Call) -> Vec<(Permissions, &'static str)> {
    let either = Permissions::PUSH.union(Permissions::READ);
    vec![match call {
        Call::Join(_) => (Permissions::NONE, "join"),
        Call::Init(_) => (Permissions::ADMIN, "make a repository"),
        Call::Open(_) | Call::WaitLog(..) => (Permissions::ALL, "open a repository"),
        Call::Has(_) | Call::PutPack(..) | Call::Commit(..) => (Permissions::PUSH, "push"),
        // The admin key's signature is the authority; the permission only keeps strangers away.
        Call::PutRoster(_) => (either.union(Permissions::ADMIN), "change the roster"),
        Call::Places(_) | Call::Read(_) | Call::Wraps(_) | Call::Snapshots(..) | Call::Log(..) => {
            (Permissions::READ, "read")
        }
        Call::Packs(..) | Call::ReadPack(_) | Call::Mend(_) => (Permissions::READ, "read"),
        Call::Repair(RepairRequest::Drop { .. }) => {
            (Permissions::PRUNE, "drop damaged packs (that is the permission prune)")
        }
        Call::Repair(_) => (Permissions::READ, "read"),
        Call::Prune(_) => (Permissions::PRUNE, "prune"),
        Call::PutSlot(_) | Call::RemoveSlot(_) => (Permissions::ADMIN, "change key slots"),
        Call::Unforget(_) => (Permissions::FORGET, "bring snapshots back from the trash"),
        Call::Forget(request) => {
            let mut needs = Vec::new();
            if !request.tombstones.is_empty() {
                needs.push((Permissions::FORGET, "forget snapshots"));
            }
            if request.now || request.empty_trash {
                needs.push((Permissions::PRUNE, "make snapshots unrecoverable (that is the permission prune)"));
            }
            return needs;
        }
    }]
}

async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => Err(Error::Invalid(format!("the server failed: {error}"))),
    }
}
