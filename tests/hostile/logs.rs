//! A server that shows its clients different logs, or one without an end.

use std::process::Output;

use bkfs_store::{
    access::{Open, Read},
    base::codec,
    format::log::{Event, LogRecord},
};
use bkfs_transport::message::{Call, LogBytes, Reply};

use super::{
    challenges::{make_source, push},
    liar::{Answer, Liar, LyingServer},
};
use crate::common::program::Person;

fn expect(output: &Output, code: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing from: {text}");
    }
}

fn pushed() -> (LyingServer, Person) {
    let server = LyingServer::start();
    let person = server.person();
    make_source(&person.path("src"), 0..3);
    expect(&push(&person), 0, &[]);
    (server, person)
}

/// Opens honestly, and changes what is said of the log.
fn opened(liar: &Liar, call: &Call, change: impl Fn(&mut bkfs_store::access::Opened)) -> Option<Answer> {
    let Call::Open(request, _) = call else { return None };
    let mut opened = liar.store.open(request).unwrap();
    change(&mut opened);
    Some(Reply::Opened(Box::new(opened)).into())
}

#[test]
fn a_fork_is_reported_with_the_client_that_saw_the_other_log() {
    let (server, person) = pushed();
    // This push is shown another log of the same length.
    server.liar.tell(|liar, call| opened(liar, call, |opened| opened.now.log_head.0[0] ^= 1));
    make_source(&person.path("src"), 3..6);
    push(&person);
    server.liar.tell(|_, _| None);
    assert_eq!(server.liar.store.operator().commits().unwrap().len(), 2);
    for args in [&["snapshots"][..], &["cat", "latest:f1"], &["ls", "latest"], &["check"]] {
        expect(&person.output(args), 13, &["fork: client", &person.host(), "different histories"]);
    }
    // What the snapshots hold is whole, and is read.
    assert_eq!(person.output(["cat", "latest:f4"]).stdout, std::fs::read(person.path("src/f4")).unwrap());
    let list = person.output(["snapshots", "--json"]).stdout;
    assert_eq!(String::from_utf8_lossy(&list).matches("\"host\"").count(), 2);
}

#[test]
fn honest_logs_are_no_forks() {
    let (_server, person) = pushed();
    for number in 3..8 {
        make_source(&person.path("src"), number..number + 1);
        expect(&push(&person), 0, &[]);
    }
    expect(&person.output(["check", "--read-data"]), 0, &[]);
    let output = person.output(["snapshots"]);
    expect(&output, 0, &[]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_log_that_is_too_long_is_refused_at_once() {
    let (server, person) = pushed();
    server.liar.tell(|liar, call| opened(liar, call, |opened| opened.now.log_len = 1 << 40));
    server.liar.count("");
    for args in [&["snapshots"][..], &["check"]] {
        expect(&person.output(args), 1, &["entries of the repository's log is too large"]);
    }
    assert_eq!(server.liar.count("Log"), 0, "nothing of it was asked for");
}

/// A record that means nothing, at any place.
fn gap(seq: u64) -> LogBytes {
    LogBytes(codec::encode(&LogRecord { seq, time: Default::default(), event: Event::Gap }))
}

#[test]
fn a_log_without_an_end_is_read_as_far_as_was_announced() {
    let (server, person) = pushed();
    server.liar.tell(|liar, call| {
        let Call::Log(from, limit) = call else { return None };
        let mut records: Vec<_> = liar.store.log(*from, *limit).unwrap().into_iter().map(LogBytes).collect();
        let next = from + records.len() as u64;
        records.extend((next..from + u64::from(*limit)).map(gap));
        Some(Reply::Log(records).into())
    });
    server.liar.count("");
    expect(&person.output(["snapshots"]), 0, &[]);
    assert_eq!(server.liar.count("Log"), 1);
    // More than was asked for.
    server.liar.tell(|_, call| match call {
        Call::Log(from, _) => Some(Reply::Log((*from..from + 5000).map(gap).collect()).into()),
        _ => None,
    });
    expect(&person.output(["snapshots"]), 1, &["entries of its log and returned 5000"]);
}

#[test]
fn a_log_that_does_not_end_as_announced_is_reported() {
    let (server, person) = pushed();
    server.liar.tell(|liar, call| opened(liar, call, |opened| opened.now.log_len += 7));
    expect(&person.output(["cat", "latest:f1"]), 13, &["but the store announced"]);
    server.liar.tell(|liar, call| opened(liar, call, |opened| opened.now.log_head.0[9] ^= 1));
    expect(&person.output(["snapshots"]), 13, &["are not those that the store announced"]);
    expect(&person.output(["check"]), 13, &["does not lead to the log's head"]);
}

#[test]
fn entries_that_make_no_sense_are_not_collected_without_end() {
    let (server, person) = pushed();
    server.liar.tell(|liar, call| match call {
        Call::Log(from, limit) => {
            Some(Reply::Log((0..*limit).map(|_| LogBytes(from.to_le_bytes().to_vec())).collect()).into())
        }
        call => opened(liar, call, |opened| opened.now.log_len = 1_000_000),
    });
    server.liar.count("");
    expect(&person.output(["snapshots"]), 1, &["make no sense", "too large"]);
    assert!(server.liar.count("Log") <= 17);
}
