//! Opening and reading a remote repository.

use std::time::Duration;

use bkfs_store::{
    Result,
    access::{Mending, Open, OpenRequest, Opened, READ_BYTES_MAX, Read, ReadReply, ReadRequest, SealedFrame},
    base::id::{ChunkId, KeyId, PackId},
    crypto::Wrap,
    format::{frame::FRAME_MAX, pack::PACK_MAX, snapshot::SnapshotObject},
};
use bytes::Bytes;

use super::{Remote, exchange::expect_reply};
use crate::message::{Call, FrameHead, Reply};

/// Most bytes of frames in one reply: the first frame is sent whatever its size.
const FRAMES_BYTES_MAX: u64 = (READ_BYTES_MAX + FRAME_MAX) as u64;

impl Open for Remote {
    fn open(&self, request: &OpenRequest) -> Result<Opened> {
        let proof = self.proof.lock().clone();
        expect_reply!(self.call(Call::Open(request.clone(), proof))?, Reply::Opened(opened) => *opened)
    }

    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64> {
        let timeout_ms = timeout.as_millis().min(u128::from(u32::MAX)) as u32;
        expect_reply!(self.call(Call::WaitLog(len, timeout_ms))?, Reply::LogLen(len) => len)
    }
}

impl Read for Remote {
    fn read(&self, request: &ReadRequest) -> Result<ReadReply> {
        let parse = |reply| {
            expect_reply!(
                reply,
                Reply::Frames(heads, done, missing) if total_len(&heads) <= FRAMES_BYTES_MAX => {
                    let len = total_len(&heads) as usize;
                    ((heads, done as usize, missing), len)
                }
            )
        };
        let ((heads, done, missing), bytes) = self.call_with_bulk(Call::Read(request.clone()), parse)?;
        // All frames arrive in one buffer; each is a slice of it.
        let mut at = 0;
        let frames = heads.iter().map(|head| {
            let start = at;
            at += head.len as usize;
            SealedFrame { pack: head.pack, frame: head.frame, bytes: bytes.slice(start..at) }
        });
        Ok(ReadReply { frames: frames.collect(), done, missing })
    }

    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        expect_reply!(self.call(Call::Wraps(keys.to_vec()))?, Reply::Wraps(wraps) => wraps)
    }

    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        let reply = self.call(Call::Places(ids.to_vec()))?;
        expect_reply!(reply, Reply::Places(places) if places.len() == ids.len() => places)
    }

    fn snapshots(&self, from: u64, limit: u32) -> Result<Vec<SnapshotObject>> {
        expect_reply!(self.call(Call::Snapshots(from, limit))?, Reply::Snapshots(objects) => objects)
    }

    fn log(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>> {
        let records = expect_reply!(self.call(Call::Log(from, limit))?, Reply::Log(records) => records)?;
        Ok(records.into_iter().map(|record| record.0).collect())
    }

    fn mend(&self, id: PackId) -> Result<Mending> {
        expect_reply!(self.call(Call::Mend(id))?, Reply::Mended(mending) => mending)
    }

    fn read_pack(&self, id: PackId) -> Result<Bytes> {
        let parse = |reply| expect_reply!(reply, Reply::Pack(len) if len <= PACK_MAX as u64 => ((), len as usize));
        self.call_with_bulk(Call::ReadPack(id), parse).map(|((), bytes)| bytes)
    }

    fn judge(&self, verdict: &[u8]) -> Result<()> {
        expect_reply!(self.call(Call::Judge(verdict.to_vec()))?, Reply::Done => ())
    }
}

fn total_len(heads: &[FrameHead]) -> u64 {
    heads.iter().map(|head| u64::from(head.len)).sum()
}
