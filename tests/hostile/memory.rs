//! Clients that make a server keep bytes: its memory has bounds that hold for all of them together.

use std::time::Duration;

use bkfs_store::{
    access::{Lease, Push},
    crypto::DataKey,
    format::{
        frame::{ChunkKind, FrameBuilder},
        pack::PackWriter,
    },
};
use bkfs_transport::{
    Identity,
    message::{CALL_MAX, Call, number},
};
use quinn::Connection;

use crate::wire::{Attacker, Honest, resident, server, until};

const MIB: u64 = 1 << 20;

/// Opens as many streams as the server allows, and sends `bytes` on each.
async fn send_on_all(connection: &Connection, bytes: &[u8]) -> Vec<quinn::SendStream> {
    let mut streams = Vec::new();
    while let Ok(Ok((mut send, _))) = tokio::time::timeout(Duration::from_millis(100), connection.open_bi()).await {
        // The server grants only so many bytes.
        let _ = tokio::time::timeout(Duration::from_millis(200), send.write_all(bytes)).await;
        streams.push(send);
    }
    streams
}

#[test]
fn strangers_take_little_memory() {
    let (_operator, server) = server(&[]);
    let (honest, attacker) = (Honest::new(&server), Attacker::stranger(&server, "honest"));
    let before = resident(&server);
    // Half of a request to join, as long as the server accepts it.
    let mut half = attacker.head("honest", number::JOIN);
    half.extend(1024u32.to_le_bytes());
    half.extend([0; 1000]);
    let (mut connections, mut most) = (Vec::new(), 0);
    for _ in 0..500 {
        let identity = Identity::generate().unwrap();
        attacker.runtime.block_on(async {
            let Ok(connection) = attacker.connect_as(&identity).await else { return };
            if let Ok(Ok((mut send, _))) = tokio::time::timeout(Duration::from_millis(50), connection.open_bi()).await {
                let _ = tokio::time::timeout(Duration::from_millis(50), send.write_all(&half)).await;
                std::mem::forget(send);
            }
            connections.push(connection);
        });
        most = most.max(resident(&server));
    }
    assert!(most.saturating_sub(before) < 64 * MIB, "{before} bytes became {most}");
    let open = || connections.iter().filter(|connection| connection.close_reason().is_none()).count();
    until("few connections of strangers from one address are open", || open() <= 16);
    honest.pushes();
}

#[test]
fn half_requests_of_a_client_take_bounded_memory() {
    let (_operator, server) = server(&[]);
    let (honest, attacker) = (Honest::new(&server), Attacker::join(&server, "mallory"));
    let before = resident(&server);
    let mut half = attacker.head("mallory", number::PUT_ROSTER);
    half.extend((CALL_MAX as u32).to_le_bytes());
    half.extend(vec![0; CALL_MAX - 1000]);
    let mut held = Vec::new();
    attacker.runtime.block_on(async {
        for _ in 0..2 {
            let connection = attacker.connect().await.unwrap();
            held.push((send_on_all(&connection, &half).await, connection));
        }
    });
    assert!(held.iter().all(|(streams, _)| streams.len() > 200), "the server takes the beginnings of all");
    let after = resident(&server);
    // A client's share of memory, and what QUIC holds for its connections.
    assert!(after.saturating_sub(before) < 160 * MIB, "{before} bytes became {after}");
    honest.pushes();
}

#[test]
fn replies_that_nobody_reads_take_bounded_memory() {
    let (_operator, server) = server(&[]);
    let (honest, attacker) = (Honest::new(&server), Attacker::join(&server, "mallory"));
    let key = attacker.make_repository("own").unwrap();
    let data_key = DataKey::random();
    let mut pack = PackWriter::new(ChunkKind::Data, key.repo, &key.signing);
    pack.add_wrap(&key.seal().unwrap().wrap(key.repo, &data_key));
    let mut chunk = vec![0; 7 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut chunk);
    let mut frame = FrameBuilder::new();
    frame.push(&chunk);
    pack.add(&frame.seal(key.repo, ChunkKind::Data, &data_key, 1), &[key.ids().data_id(&chunk)]);
    let pack = pack.finish();
    attacker.remote("own").put_pack(Lease::default(), &pack).unwrap();
    let before = resident(&server);
    attacker.runtime.block_on(async {
        let connection = attacker.connect().await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..60 {
            streams.push(attacker.send(&connection, "own", &Call::ReadPack(pack.id)).await);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = resident(&server);
        assert!(after.saturating_sub(before) < 160 * MIB, "{before} bytes became {after}");
        honest.pushes();
        drop(streams);
    });
}
