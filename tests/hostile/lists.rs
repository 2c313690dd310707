//! A server whose lists hold more than was asked for, or have no end.

use bkfs_store::{
    access::{CONTESTED_MAX, Judged, PackInfo, QUARANTINE_MAX, RepairReply, RepairRequest},
    base::{
        codec,
        id::{Hash, PackId},
    },
    format::{
        log::{Event, LogRecord},
        loss::{DamagedFrames, FrameBits, Quarantined},
    },
};
use bkfs_transport::message::{Call, LogBytes, Reply};

use super::{
    challenges::{make_source, push},
    liar::LyingServer,
};
use crate::common::program::Person;

fn pushed() -> (LyingServer, Person) {
    let server = LyingServer::start();
    let person = server.person();
    make_source(&person.path("src"), 0..3);
    assert!(push(&person).status.success());
    (server, person)
}

/// Ids in ascending order.
fn ids(count: usize) -> impl Iterator<Item = PackId> {
    (0..count as u64).map(|number| {
        let mut id = PackId(Hash::of(&[&number.to_le_bytes()]).0);
        id.0[..8].copy_from_slice(&number.to_be_bytes());
        id
    })
}

/// What the program prints when it fails.
#[track_caller]
fn failure(person: &Person, args: &[&str]) -> String {
    let output = person.output(args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_list_of_more_packs_than_were_asked_for_is_refused() {
    let (server, person) = pushed();
    server.liar.tell(|_, call| {
        let Call::Packs(..) = call else { return None };
        let info = |id| PackInfo { id, len: u64::MAX, is_suspect: false, judged: Judged::Not };
        Some(Reply::Packs(ids(2000).map(info).collect()).into())
    });
    for args in [&["check"][..], &["repair", "packs"]] {
        let text = failure(&person, args);
        assert!(text.contains("asked for 1024 packs and returned 2000"), "{text}");
    }
}

#[test]
fn a_list_of_more_contested_packs_than_were_asked_for_is_refused() {
    let (server, person) = pushed();
    server.liar.tell(|_, call| match call {
        Call::Repair(RepairRequest::Contested { .. }) => {
            Some(Reply::Repaired(RepairReply::Contested(ids(CONTESTED_MAX + 9).collect())).into())
        }
        _ => None,
    });
    let text = failure(&person, &["check"]);
    assert!(text.contains("asked for 65536 packs and returned 65545"), "{text}");
}

#[test]
fn a_list_of_quarantined_frames_without_an_end_is_refused() {
    let (server, person) = pushed();
    let quarantine = |count: usize, bytes: usize| {
        move |_: &_, call: &_| {
            let Call::Repair(RepairRequest::Quarantine { after }) = call else { return None };
            let frames = || DamagedFrames::Frames(FrameBits::from_bytes(&vec![1; bytes]));
            let begin = after.map_or(0, |after| u64::from_be_bytes(*after.0.first_chunk().unwrap()) + 1);
            let packs = ids(begin as usize + count).skip(begin as usize);
            let packs = packs.map(|pack| Quarantined { pack, frames: frames() }).collect();
            Some(Reply::Repaired(RepairReply::Quarantine(packs)).into())
        }
    };
    server.liar.tell(quarantine(QUARANTINE_MAX + 1, 1));
    let text = failure(&person, &["repair", "packs"]);
    assert!(text.contains("asked for 1024 packs and returned 1025"), "{text}");
    server.liar.count("");
    server.liar.tell(quarantine(QUARANTINE_MAX, 20_000));
    let text = failure(&person, &["repair", "packs"]);
    assert!(text.contains("the list of frames that the store has in quarantine is too large"), "{text}");
    // The list was given up after 64 MiB of frames.
    assert!(server.liar.count("Repair") < 10);
}

#[test]
fn a_prune_that_looks_for_losses_reads_the_log_as_far_as_it_was_announced() {
    let (server, person) = pushed();
    server.liar.tell(|liar, call| match call {
        // No page can be read.
        Call::Read(request) => Some(Reply::Frames(vec![], request.ids.len() as u32, request.ids.clone()).into()),
        // The log goes on for ever.
        Call::Log(from, limit) => {
            use bkfs_store::access::Read;
            let mut records: Vec<_> = liar.store.log(*from, *limit).unwrap().into_iter().map(LogBytes).collect();
            let gap = |seq| codec::encode(&LogRecord { seq, time: Default::default(), event: Event::Gap });
            records.extend((from + records.len() as u64..from + u64::from(*limit)).map(gap).map(LogBytes));
            Some(Reply::Log(records).into())
        }
        _ => None,
    });
    server.liar.count("");
    let output = person.output(["prune"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("cannot be read"), "{text}");
    let logs = server.liar.count("Log");
    assert!((1..10).contains(&logs), "{logs}");
}
