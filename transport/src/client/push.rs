//! Pushing to a remote repository.

use bkfs_store::{
    Result,
    access::{Challenge, Lease, Proofs, Push, Receipt},
    base::id::{ChunkId, ClientId},
    format::pack::PackUpload,
};

use bytes::Bytes;
use quinn::{SendStream, WriteError};

use super::{
    PIECE, Remote,
    exchange::{Exchange, exchange, expect_reply},
};
use crate::{
    message::{self, Call, REPLY_MAX, Reply},
    stream,
};

/// Packs give way to everything else.
const PACK_PRIORITY: i32 = -1;

impl Remote {
    /// Sends bytes, as fast as the bound allows.
    async fn send(&self, send: &mut SendStream, mut bytes: Bytes) -> Result<(), WriteError> {
        if !self.upload.is_set() {
            return send.write_all_chunks(&mut [bytes]).await;
        }
        while !bytes.is_empty() {
            let piece = bytes.split_to(PIECE.min(bytes.len()));
            self.upload.pass(piece.len()).await;
            send.write_chunk(piece).await?;
        }
        Ok(())
    }
}

impl Push for Remote {
    fn has(&self, client: Option<ClientId>, ids: &[ChunkId]) -> Result<Vec<bool>> {
        let bits = expect_reply!(self.call(Call::Has(client, ids.to_vec()))?, Reply::Has(bits) => bits)?;
        message::from_bits(&bits, ids.len()).ok_or_else(message::mismatched_reply)
    }

    fn prove(&self, client: Option<ClientId>, challenges: &[Challenge]) -> Result<Proofs> {
        expect_reply!(self.call(Call::Prove(client, challenges.to_vec()))?, Reply::Proofs(proofs) => proofs)
    }

    fn put_pack(&self, lease: Lease, pack: &PackUpload) -> Result<()> {
        let request = self.request(Call::PutPack(pack.id, pack.bytes.len() as u64, lease));
        self.runtime.block_on(self.link.with_retries(async |connection| {
            let Exchange { reply, mut send, mut receive } = exchange(connection, &request, PACK_PRIORITY).await?;
            match reply {
                Reply::Done => return Ok(Ok(())),
                Reply::SendFrom(offset) if offset <= pack.bytes.len() as u64 => {
                    // A server that refuses the pack midway stops reading, and its reply gives the reason. So an error
                    // here is ignored, and the reply decides.
                    if self.send(&mut send, pack.bytes.slice(offset as usize..)).await.is_ok() {
                        send.finish()?;
                    }
                }
                reply => return Ok(Err(reply.into_error())),
            }
            let reply: Reply = stream::receive(&mut receive, REPLY_MAX).await?;
            Ok(expect_reply!(reply, Reply::Done => ()))
        }))
    }

    fn commit(&self, lease: Lease, snapshot: &[u8]) -> Result<Receipt> {
        expect_reply!(self.call(Call::Commit(lease, snapshot.to_vec()))?, Reply::Committed(receipt) => receipt)
    }
}
