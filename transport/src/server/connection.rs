//! A client's connection: each request comes on a stream of its own and is answered there.
//!
//! `dispatch` finds the reply. Calls into the store block, so they run on tokio's threads for blocking work.

use std::sync::Arc;

use bkfs_store::{
    Error, Result,
    access::{Lease, Push},
    base::id::{Hash, PackId},
    format::pack::{PACK_MAX, PackUpload},
};
use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;

use super::{
    dispatch::{Caller, FullReply},
    state::ServerState,
};
use crate::{
    identity,
    message::{Call, REQUEST_MAX, Reply, Request, STRANGER_REQUEST_MAX},
    stream::{self, StreamError},
    wire_error::WireError,
};

/// Replies with more bulk bytes than [`BULK_BYTES`] give way to small ones.
const BULK_PRIORITY: i32 = -1;
const BULK_BYTES: usize = 1024 * 1024;

/// Answers a client until it disconnects.
pub(super) async fn serve(connection: Connection, state: Arc<ServerState>) {
    let Some(client) = peer_fingerprint(&connection) else {
        return connection.close(2u32.into(), b"no certificate");
    };
    tracing::debug!(%client, address = %connection.remote_address(), "connected");
    while let Ok((send, receive)) = connection.accept_bi().await {
        let state = state.clone();
        tokio::spawn(async move {
            if let Err(StreamError(error)) = answer(state, client, send, receive).await {
                tracing::debug!(%client, error, "the stream of a request failed");
            }
        });
    }
    tracing::debug!(%client, "disconnected");
}

/// The fingerprint of the client's certificate.
fn peer_fingerprint(connection: &Connection) -> Option<Hash> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast_ref::<Vec<CertificateDer<'static>>>()?;
    chain.first().map(identity::fingerprint)
}

/// Receives a request, and sends the reply to it.
async fn answer(
    state: Arc<ServerState>,
    client: Hash,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), StreamError> {
    let max = if state.registry.is_known(client) { REQUEST_MAX } else { STRANGER_REQUEST_MAX };
    let Request { account, repository, call } = stream::receive(&mut receive, max).await?;
    let caller = Caller { state, client, account, repository };
    let result = match call {
        Call::PutPack(pack, len, lease) => {
            receive_pack(&caller, lease, pack, len, &mut send, &mut receive).await?.map(|()| Reply::Done.into())
        }
        call => {
            let caller = caller.clone();
            blocking(move || caller.answer(call)).await
        }
    };
    let FullReply { reply, mut bulk } = result.unwrap_or_else(|error| {
        let place = caller.to_string();
        tracing::info!(%client, place, %error, "a request failed");
        Reply::Failed(WireError::new(&error, &place)).into()
    });
    stream::send(&mut send, &reply).await?;
    if bulk.iter().map(Bytes::len).sum::<usize>() > BULK_BYTES {
        send.set_priority(BULK_PRIORITY)?;
    }
    send.write_all_chunks(&mut bulk).await?;
    Ok(send.finish()?)
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
) -> Result<Result<()>, StreamError> {
    if len > PACK_MAX as u64 {
        return Ok(Err(Error::TooLarge { what: "a pack", size: len, limit: PACK_MAX as u64 }));
    }
    let admitted = {
        let caller = caller.clone();
        blocking(move || caller.admit_pack(pack, len, lease)).await
    };
    let repository = match admitted {
        Ok(Some(repository)) => repository,
        Ok(None) => return Ok(Ok(())),
        Err(error) => return Ok(Err(error)),
    };
    let (uploads, client) = (&caller.state.uploads, caller.client);
    let _permit = uploads.reserve(len as usize).await;
    let mut bytes = uploads.take_partial(client, pack);
    bytes.truncate(len as usize);
    stream::send(send, &Reply::SendFrom(bytes.len() as u64)).await?;
    if let Err(error) = stream::receive_rest(receive, &mut bytes, len as usize).await {
        uploads.keep_partial(client, pack, bytes);
        return Err(error);
    }
    Ok(blocking(move || repository.put_pack(lease, &PackUpload { id: pack, bytes: bytes.into() })).await)
}

/// Runs a call into the store on a thread for blocking work.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => Err(Error::Invalid(format!("the server failed: {error}"))),
    }
}
