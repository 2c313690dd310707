//! One request and its reply, on a stream of their own.

use quinn::{Connection, RecvStream, SendStream};

use crate::{
    message::{Call, REPLY_MAX, Reply, Request},
    stream::{self, StreamError},
};

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
    stream::send(&mut send, request).await?;
    if !matches!(request.call, Call::PutPack(..)) {
        send.finish()?;
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
