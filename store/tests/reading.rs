//! How a reader fetches chunks: nothing twice, and nothing dropped before it is used.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use bkfs_store::{
    Error, Result,
    access::{Mending, Open, OpenRequest, Opened, Read, ReadReply, ReadRequest, SealedFrame},
    base::{
        id::{ChunkId, DomainId, KeyId, PackId, RepoId},
        time::Time,
    },
    crypto::{DataKey, Wrap, random},
    format::{
        config::{ChunkerParams, verify_config},
        frame::{ChunkKind, FrameBuilder},
        keys::FullKey,
        snapshot::SnapshotObject,
    },
    owner::reader::Reader,
};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

/// A store of frames with one chunk each. It records what is read, and can make readers wait.
struct Frames {
    frames: Vec<(ChunkId, SealedFrame)>,
    wrap: Wrap,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reads: Vec<Vec<ChunkId>>,
    held: bool,
}

impl Frames {
    fn hold(&self, held: bool) {
        self.state.lock().held = held;
        self.changed.notify_all();
    }

    fn wait_for_reads(&self, count: usize) {
        let mut state = self.state.lock();
        while state.reads.len() < count {
            let waited = self.changed.wait_for(&mut state, Duration::from_secs(60));
            assert!(!waited.timed_out(), "timed out waiting for reads");
        }
    }

    fn read_ids(&self) -> Vec<ChunkId> {
        self.state.lock().reads.concat()
    }
}

fn none<T>() -> Result<T> {
    Err(Error::Invalid("this store only reads".into()))
}

impl Open for Frames {
    fn open(&self, _: &OpenRequest) -> Result<Opened> {
        none()
    }

    fn wait_log(&self, _: u64, _: Duration) -> Result<u64> {
        none()
    }
}

impl Read for Frames {
    fn read(&self, request: &ReadRequest) -> Result<ReadReply> {
        let mut state = self.state.lock();
        state.reads.push(request.ids.clone());
        self.changed.notify_all();
        while state.held {
            self.changed.wait(&mut state);
        }
        let frame = |id: &ChunkId| self.frames.iter().find(|(other, _)| other == id).map(|(_, frame)| frame.clone());
        let frames = request.ids.iter().map(|id| frame(id).unwrap()).collect();
        Ok(ReadReply { frames, done: request.ids.len(), missing: vec![] })
    }

    fn wraps(&self, _: &[KeyId]) -> Result<Vec<Wrap>> {
        Ok(vec![self.wrap.clone()])
    }

    fn places(&self, _: &[ChunkId]) -> Result<Vec<u64>> {
        none()
    }

    fn snapshots(&self, _: u64, _: u32) -> Result<Vec<SnapshotObject>> {
        none()
    }

    fn log(&self, _: u64, _: u32) -> Result<Vec<Vec<u8>>> {
        none()
    }

    fn mend(&self, _: PackId) -> Result<Mending> {
        none()
    }

    fn read_pack(&self, _: PackId) -> Result<Bytes> {
        none()
    }

    fn judge(&self, _: &[u8]) -> Result<()> {
        none()
    }
}

/// A store and a reader of `count` chunks of about 64 KiB.
fn reader(count: usize, cache_bytes: usize) -> (Arc<Frames>, Arc<Reader>, Vec<ChunkId>) {
    let full = FullKey::random(RepoId(random()));
    let now = Time { secs: 1_000_000_000, nanos: 0 };
    let (push, _) = full.new_client("host", None, DomainId::OWNER, now);
    let key = DataKey::random();
    let frame = |n: usize| {
        let chunk = vec![n as u8; 65_000 + n];
        let mut frame = FrameBuilder::new();
        frame.push(&chunk);
        let bytes = frame.seal(full.repo, ChunkKind::Data, &key, 1).into();
        (push.ids().data_id(&chunk), SealedFrame { pack: PackId::default(), frame: n as u32, bytes })
    };
    let frames: Vec<_> = (0..count).map(frame).collect();
    let ids = frames.iter().map(|(id, _)| *id).collect();
    let wrap = push.seal().unwrap().wrap(full.repo, &key);
    let frames = Arc::new(Frames { frames, wrap, state: Mutex::default(), changed: Condvar::new() });
    let config = verify_config(&full.config(now, ChunkerParams::default())).unwrap();
    let reader = Reader::new(frames.clone(), full, &config, cache_bytes);
    (frames, reader, ids)
}

#[test]
fn a_chunk_on_its_way_is_not_fetched_again() {
    let (frames, reader, ids) = reader(40, 64 << 20);
    frames.hold(true);
    std::thread::scope(|scope| {
        let ahead = scope.spawn(|| reader.prefetch(&ids[..30]).unwrap());
        frames.wait_for_reads(1);
        // These overlap with the prefetch, and with each other.
        let many = scope.spawn(|| reader.data_many(&ids[20..40]).unwrap());
        frames.wait_for_reads(2);
        let one = scope.spawn(|| reader.data(ids[35]).unwrap());
        let none = scope.spawn(|| reader.prefetch(&ids).unwrap());
        none.join().unwrap();
        frames.hold(false);
        ahead.join().unwrap();
        let lens: Vec<_> = many.join().unwrap().iter().map(bytes::Bytes::len).collect();
        assert_eq!(lens, (65_020..65_040).collect::<Vec<_>>());
        assert_eq!(one.join().unwrap().len(), 65_035);
    });
    let mut read = frames.read_ids();
    read.sort_unstable();
    let mut all = ids.clone();
    all.sort_unstable();
    assert_eq!(read, all, "each chunk is fetched once");
}

#[test]
fn an_id_may_be_requested_twice() {
    let (frames, reader, ids) = reader(2, 1 << 20);
    let chunks = reader.data_many(&[ids[0], ids[1], ids[0]]).unwrap();
    assert_eq!(chunks.iter().map(bytes::Bytes::len).collect::<Vec<_>>(), [65_000, 65_001, 65_000]);
    assert_eq!(frames.read_ids(), ids);
}

#[test]
fn prefetched_chunks_are_there_when_they_are_read() {
    // 200 chunks of 64 KiB pass through a cache that holds about 48 of them, up to 16 ahead of the reader.
    let (frames, reader, ids) = reader(200, 4 << 20);
    for (n, id) in ids.iter().enumerate() {
        if n % 8 == 0 {
            reader.prefetch(&ids[n.min(192)..(n + 16).min(200)]).unwrap();
        }
        reader.data(*id).unwrap();
    }
    assert_eq!(frames.read_ids().len(), 200, "nothing was dropped before it was read");
}
