//! Clients that begin and do not go on: nobody else waits for them.

use std::time::Duration;

use bkfs_store::{
    access::Lease,
    base::id::PackId,
    crypto::random,
    format::pack::{PACK_MAX, PACK_TARGET},
};
use bkfs_transport::{
    message::{CALL_MAX, Call, Reply, number},
    wire_error::WireError,
};

use crate::{
    common::program::Server,
    wire::{Attacker, Honest, reply, server, threads, until},
};

fn put_pack(len: usize) -> Call {
    Call::PutPack(PackId(random()), len as u64, Lease::default())
}

#[test]
fn uploads_that_send_nothing_hold_up_nobody() {
    let (_operator, server) = server(&[]);
    let (honest, attacker) = (Honest::new(&server), Attacker::join(&server, "mallory"));
    let mut streams = Vec::new();
    attacker.runtime.block_on(async {
        let connection = attacker.connect().await.unwrap();
        for _ in 0..16 {
            streams.push(attacker.send(&connection, "mallory", &put_pack(PACK_MAX)).await);
        }
        let first = reply(&mut streams[0].1).await.unwrap();
        assert_eq!(first, Reply::SendFrom(0));
    });
    honest.pushes();
    // The attacker is told, in a way that an honest client with a bad connection can use.
    let last = attacker.runtime.block_on(reply(&mut streams[0].1)).unwrap();
    assert!(matches!(last, Reply::Failed(WireError::Busy(_))), "{last:?}");
}

#[test]
fn uploads_that_crawl_hold_up_no_other_client_of_the_account() {
    let (operator, server) = server(&[]);
    let attacker = Attacker::join(&server, "shared");
    let honest = Attacker::stranger(&server, "shared");
    let token = bkfs_transport::Token::parse(&server.invite(&operator, "shared", "all")).unwrap();
    bkfs_transport::client::join(&token, &honest.identity).unwrap();
    let mut streams = Vec::new();
    attacker.runtime.block_on(async {
        let connection = attacker.connect().await.unwrap();
        for _ in 0..64 {
            streams.push(attacker.send(&connection, "shared", &put_pack(PACK_MAX)).await);
        }
    });
    honest.runtime.block_on(async {
        let connection = honest.connect().await.unwrap();
        let (_send, mut receive) = honest.send(&connection, "shared", &put_pack(PACK_TARGET)).await;
        assert_eq!(reply(&mut receive).await.unwrap(), Reply::SendFrom(0));
    });
    drop(streams);
}

#[test]
fn two_accounts_that_hold_all_the_memory_by_a_trickle_hold_up_no_third() {
    let (operator, server) = server(&[]);
    let honest = Honest::new(&server);
    let mut held = Vec::new();
    for account in ["one", "two"] {
        let first = Attacker::join(&server, account);
        let second = Attacker::stranger(&server, account);
        let token = bkfs_transport::Token::parse(&server.invite(&operator, account, "all")).unwrap();
        bkfs_transport::client::join(&token, &second.identity).unwrap();
        // Each of these takes 16 MiB: 8 for the call, and 8 for its reply.
        let mut begun = first.head(account, number::PRUNE);
        begun.extend((CALL_MAX as u32).to_le_bytes());
        for (attacker, count) in [(first, 4), (second, 2)] {
            let connection = attacker.runtime.block_on(attacker.connect()).unwrap();
            for _ in 0..count {
                let (mut send, _receive) = attacker.runtime.block_on(connection.open_bi()).unwrap();
                attacker.runtime.block_on(send.write_all(&begun)).unwrap();
                attacker.runtime.spawn(async move {
                    // More than what is slow.
                    while send.write_all(&[0; 16 << 10]).await.is_ok() {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                });
            }
            held.push((attacker, connection));
        }
    }
    honest.pushes();
}

#[test]
fn waits_hold_no_threads() {
    let (_operator, server) = server(&[]);
    let (honest, attacker) = (Honest::new(&server), Attacker::join(&server, "mallory"));
    let mut streams = Vec::new();
    let (mut waiting, mut refused) = (0, 0);
    attacker.runtime.block_on(async {
        for _ in 0..2 {
            let connection = attacker.connect().await.unwrap();
            for _ in 0..200 {
                streams.push(attacker.send(&connection, "mallory", &Call::WaitLog(1 << 40, 10_000)).await);
            }
        }
    });
    assert!(threads(&server) < 48, "{} threads", threads(&server));
    honest.pushes();
    for (_, receive) in &mut streams {
        match attacker.runtime.block_on(reply(receive)).unwrap() {
            Reply::LogLen(_) => waiting += 1,
            Reply::Failed(WireError::Busy(_)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    // A client has 64 waits at a time; the first may have ended before the last begins.
    assert!(waiting >= 64 && refused > 0, "{waiting} waited, {refused} were refused");
}

#[test]
fn a_wait_ends_when_the_log_grows() {
    let (_operator, server) = server(&[]);
    let attacker = Attacker::join(&server, "mallory");
    attacker.runtime.block_on(async {
        let connection = attacker.connect().await.unwrap();
        let (_send, mut receive) = attacker.send(&connection, "mallory", &Call::WaitLog(0, 0)).await;
        let Reply::LogLen(len) = reply(&mut receive).await.unwrap() else { panic!("another reply") };
        let (_send, mut receive) = attacker.send(&connection, "mallory", &Call::WaitLog(len, 10_000)).await;
        // Emptying the trash appends nothing, but a wait for less than there is ends at once.
        let (_send, mut at_once) = attacker.send(&connection, "mallory", &Call::WaitLog(len - 1, 10_000)).await;
        assert_eq!(reply(&mut at_once).await.unwrap(), Reply::LogLen(len));
        assert_eq!(reply(&mut receive).await.unwrap(), Reply::LogLen(len));
    });
}

#[test]
fn an_upload_goes_on_after_the_server_was_killed() {
    let (operator, server) = server(&[]);
    let attacker = Attacker::join(&server, "mallory");
    let (call, bytes) = (put_pack(PACK_TARGET), vec![7; 5 << 20]);
    let held = attacker.runtime.block_on(async {
        let connection = attacker.connect().await.unwrap();
        let (mut send, mut receive) = attacker.send(&connection, "mallory", &call).await;
        assert_eq!(reply(&mut receive).await.unwrap(), Reply::SendFrom(0));
        send.write_all(&bytes).await.unwrap();
        (connection, send, receive)
    });
    let (data, address) = (operator.path("data"), server.address.clone());
    let arrived = || {
        let files = std::fs::read_dir(data.join("uploads/mallory")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    until("most of it is in a file", || arrived() >= 4 << 20);
    let pid = rustix::process::Pid::from_raw(server.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drop(server);
    let kept = arrived();
    drop(held);
    let _server = Server::run(&operator, &data, &address);
    attacker.runtime.block_on(async {
        let connection = attacker.connect().await.unwrap();
        let (mut send, mut receive) = attacker.send(&connection, "mallory", &call).await;
        assert_eq!(reply(&mut receive).await.unwrap(), Reply::SendFrom(kept));
        // What is not the pack that was promised does not stay.
        send.write_all(&vec![7; PACK_TARGET - kept as usize]).await.unwrap();
        send.finish().unwrap();
        let last = reply(&mut receive).await.unwrap();
        assert!(matches!(last, Reply::Failed(WireError::Busy(_))), "{last:?}");
    });
    assert_eq!(arrived(), 0);
}
