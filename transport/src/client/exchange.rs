//! One request and its reply, on a stream of their own.

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, WriteError};

use crate::{
    message::{Call, REPLY_MAX, Reply, RequestHead},
    stream::{self, StreamError},
    url::Name,
};

/// A call of a repository, encoded.
pub(super) struct Request {
    bytes: [Bytes; 2],
    has_bulk: bool,
}

impl Request {
    pub fn new(account: &Name, repository: &Name, call: &Call) -> Self {
        let head = RequestHead { account: account.clone(), repository: repository.clone(), call: call.number() };
        Self { bytes: [stream::encode(&head), stream::encode(call)], has_bulk: matches!(call, Call::PutPack(..)) }
    }
}

/// A request that was sent, the reply to it, and the stream for the bulk bytes that follow either.
pub(super) struct Exchange {
    pub reply: Reply,
    pub send: SendStream,
    pub receive: RecvStream,
}

/// Opens a stream, sends the request and receives the reply.
pub(super) async fn exchange(
    connection: &Connection,
    request: &Request,
    priority: i32,
) -> Result<Exchange, StreamError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.set_priority(priority)?;
    match send.write_all_chunks(&mut request.bytes.clone()).await {
        Ok(()) if !request.has_bulk => send.finish()?,
        // A server that refuses a request stops reading it, and its reply gives the reason.
        Ok(()) | Err(WriteError::Stopped(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let reply = stream::receive(&mut receive, REPLY_MAX).await?;
    Ok(Exchange { reply, send, receive })
}

/// Returns what the expected reply to a call holds. Any other reply becomes an error: see
/// [`Reply::into_error`](crate::message::Reply::into_error).
macro_rules! expect_reply {
    ($reply:expr, $expected:pat $(if $guard:expr)? => $value:expr) => {
        match $reply {
            $expected $(if $guard)? => Ok($value),
            reply => Err(reply.into_error()),
        }
    };
}
pub(super) use expect_reply;
