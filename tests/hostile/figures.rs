//! A measurement, not a test: how long honest pushes take while a stranger floods the server, a client freezes and
//! another one breaks its quota.
//!
//! ```text
//! cargo test --test hostile -- --ignored --nocapture honest_pushes_beside_attackers
//! ```

use std::{
    collections::VecDeque,
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use bkfs_store::{access::Lease, base::id::PackId, crypto::random, format::pack::PACK_MAX};
use bkfs_transport::{
    Identity,
    message::{Call, number},
};

use crate::{
    common::program::{Person, Server},
    wire::{Attacker, Honest, resident, server},
};

/// How many pushes are measured each time.
const PUSHES: usize = 10;

/// Pushes ten times, and returns the median time.
fn median(honest: &Honest) -> Duration {
    let push = || {
        let begin = Instant::now();
        honest.pushes();
        begin.elapsed()
    };
    let mut times: Vec<Duration> = (0..PUSHES).map(|_| push()).collect();
    times.sort();
    times[PUSHES / 2]
}

/// Connects again and again, and sends half of a request each time.
fn flood(stranger: &Attacker, over: &AtomicBool) -> usize {
    let mut half = stranger.head("honest", number::JOIN);
    half.extend(1024u32.to_le_bytes());
    half.extend([0; 1000]);
    let identities: Vec<Identity> = (0..50).map(|_| Identity::generate().unwrap()).collect();
    let (mut held, mut count) = (VecDeque::new(), 0);
    while !over.load(Relaxed) {
        stranger.runtime.block_on(async {
            let attempt = stranger.connect_as(&identities[count % identities.len()]);
            let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_millis(200), attempt).await else { return };
            if let Ok(Ok((mut send, _))) = tokio::time::timeout(Duration::from_millis(20), connection.open_bi()).await {
                let _ = tokio::time::timeout(Duration::from_millis(20), send.write_all(&half)).await;
                held.push_back((connection, send));
            }
        });
        held.drain(..held.len().saturating_sub(500));
        count += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    count
}

/// Begins uploads and waits, and goes on with none of them.
fn freeze(attacker: &Attacker, over: &AtomicBool) {
    while !over.load(Relaxed) {
        let held = attacker.runtime.block_on(async {
            let Ok(connection) = attacker.connect().await else { return None };
            let mut streams = Vec::new();
            for _ in 0..16 {
                let call = Call::PutPack(PackId(random()), PACK_MAX as u64, Lease::default());
                streams.push(attacker.send(&connection, "mallory", &call).await);
            }
            for _ in 0..64 {
                streams.push(attacker.send(&connection, "mallory", &Call::WaitLog(1 << 40, 10_000)).await);
            }
            Some((connection, streams))
        });
        let begin = Instant::now();
        while !over.load(Relaxed) && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(held);
    }
}

/// Pushes more than its account may store, again and again. Returns how often that was refused.
fn overfill(person: &Person, over: &AtomicBool) -> usize {
    let files = person.path("files");
    fs::create_dir(&files).unwrap();
    let mut refused = 0;
    while !over.load(Relaxed) {
        let bytes: Vec<u8> = (0..(40 << 20) / 32).flat_map(|_| random::<32>()).collect();
        fs::write(files.join("noise"), bytes).unwrap();
        refused += usize::from(!person.command().arg("push").arg(&files).output().unwrap().status.success());
    }
    refused
}

#[test]
#[ignore = "a measurement of some minutes"]
fn honest_pushes_beside_attackers() {
    let (operator, server): (Person, Server) = server(&[]);
    let honest = Honest::new(&server);
    let (stranger, frozen) = (Attacker::stranger(&server, "honest"), Attacker::join(&server, "mallory"));
    let breaker = server.person("breaker");
    let data = operator.path("data");
    operator.run(["server", "account", "quota", "--data", data.to_str().unwrap(), "breaker", "30M"]);
    honest.pushes();
    let alone = median(&honest);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&stranger, &over));
        scope.spawn(|| freeze(&frozen, &over));
        let overfilling = scope.spawn(|| overfill(&breaker, &over));
        std::thread::sleep(Duration::from_secs(3));
        let beside = median(&honest);
        let memory = resident(&server);
        over.store(true, Relaxed);
        let (connections, refused) = (flooding.join().unwrap(), overfilling.join().unwrap());
        println!("alone {alone:.2?}, beside attackers {beside:.2?}: {:.2}", beside.as_secs_f64() / alone.as_secs_f64());
        println!(
            "{connections} connections of a stranger, {refused} pushes over the quota, server {} MiB",
            memory >> 20
        );
        assert!(refused > 0, "the quota holds");
    });
    println!("alone again {:.2?}", median(&honest));
}
