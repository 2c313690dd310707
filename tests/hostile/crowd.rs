//! Clients that choose ids so that they are hard to tell apart: look-ups stay fast, and work ends with its client.

use bkfs_store::{
    access::{Lease, Push},
    base::id::ChunkId,
    crypto::DataKey,
    format::{
        frame::{ChunkKind, FrameBuilder},
        pack::PackWriter,
    },
};
use bkfs_transport::message::Call;

use crate::wire::{Attacker, Honest, server, until, worked};

/// An id with three chosen bytes at its beginning.
fn crowded(number: u32) -> ChunkId {
    let mut id = ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes());
    id.0[..3].copy_from_slice(b"abc");
    id
}

#[test]
fn ids_that_begin_alike_keep_no_server_busy() {
    let (_operator, server) = server(&[]);
    let (honest, attacker) = (Honest::new(&server), Attacker::join(&server, "mallory"));
    let key = attacker.make_repository("own").unwrap();
    let data_key = DataKey::random();
    let mut pack = PackWriter::new(ChunkKind::Data, key.repo, &key.signing);
    pack.add_wrap(&key.seal().unwrap().wrap(key.repo, &data_key));
    let mut frame = FrameBuilder::new();
    frame.push(b"x");
    let sealed = frame.seal(key.repo, ChunkKind::Data, &data_key, 1);
    let ids: Vec<ChunkId> = (0..262_144).map(crowded).collect();
    ids.chunks(8).for_each(|ids| pack.add(&sealed, ids));
    attacker.remote("own").put_pack(Lease::default(), &pack.finish()).unwrap();
    attacker.runtime.block_on(async {
        let connection = attacker.connect().await.unwrap();
        let mut streams = Vec::new();
        for part in 0..16 {
            let ids = (0..60_000).map(|n| crowded(200_000 + part + n * 7)).collect();
            streams.push(attacker.send(&connection, "own", &Call::Has(None, ids)).await);
        }
        honest.pushes();
        connection.close(0u32.into(), b"gone");
    });
    // The client is gone, and so is its work.
    until("the server has nothing to do", || {
        let before = worked(&server);
        std::thread::sleep(std::time::Duration::from_secs(1));
        worked(&server) - before < 20
    });
}
