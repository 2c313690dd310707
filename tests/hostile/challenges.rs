//! A server that says it has what it does not have.

use std::{fs, path::Path, process::Output};

use bkfs_store::{
    access::{Challenge, Open, ProofPlace, Proofs, Push},
    base::{codec, id::DomainId, time::Time},
    crypto::DataKey,
    format::{
        frame::{ChunkKind, FrameBuilder},
        keys::FullKey,
        pack::{Pack, PackProof, PackWriter, Proven},
        roster::Endorsement,
    },
};
use bkfs_transport::message::{Call, Reply, to_bits};

use super::liar::{Liar, LyingServer};
use crate::common::program::Person;

/// Writes files of bytes that do not repeat.
pub fn make_source(folder: &Path, files: std::ops::Range<u64>) {
    fs::create_dir_all(folder).unwrap();
    for number in files {
        let mut bytes = vec![0; 20_000];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
        fs::write(folder.join(format!("f{number}")), bytes).unwrap();
    }
}

/// Pushes the person's source.
pub fn push(person: &Person) -> Output {
    let source = person.path("src");
    person.output(["push", "-C", source.to_str().unwrap(), "."])
}

/// Pushes the laptop's source. There is no passphrase on a laptop that may only push.
fn push_only(laptop: &Person) -> Output {
    let source = laptop.path("src");
    laptop.command().env_remove("BKFS_PASSWORD").args(["push", "-C", source.to_str().unwrap(), "."]).output().unwrap()
}

/// The push has failed, says why and what to do, and has made no snapshot.
fn expect_caught(person: &Person, server: &LyingServer, output: &Output, snapshots: usize) {
    expect_refused(server, output, snapshots);
    assert!(!person.run(["snapshots", "--json"]).contains("\"host\"") || snapshots > 0);
}

fn expect_refused(server: &LyingServer, output: &Output, snapshots: usize) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in ["says that it has chunk", "does not show it", "no snapshot was made", "bkfs check --read-data"] {
        assert!(text.contains(part), "{part:?} is missing from: {text}");
    }
    assert_eq!(server.liar.store.operator().commits().unwrap().len(), snapshots);
}

#[test]
fn a_server_that_says_yes_to_everything_is_caught_before_the_commit() {
    let server = LyingServer::start();
    let person = server.person();
    make_source(&person.path("src"), 0..5);
    let first = push(&person);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    make_source(&person.path("src"), 5..60);
    server.liar.tell(|_, call| match call {
        Call::Has(_, ids) => Some(Reply::Has(to_bits(&vec![true; ids.len()])).into()),
        _ => None,
    });
    let output = push(&person);
    expect_caught(&person, &server, &output, 1);
    // What it said is forgotten, so an honest server gets everything, and the push is whole.
    server.liar.tell(|_, _| None);
    let output = push(&person);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    person.run(["check", "--read-data"]);
}

#[test]
fn a_server_that_throws_packs_away_is_caught_before_the_commit() {
    let server = LyingServer::start();
    let person = server.person();
    make_source(&person.path("src"), 0..5);
    *server.liar.swallows_packs.lock().unwrap() = true;
    server.liar.tell(|_, call| match call {
        Call::Has(_, ids) => Some(Reply::Has(to_bits(&vec![true; ids.len()])).into()),
        _ => None,
    });
    expect_caught(&person, &server, &push(&person), 0);
    *server.liar.swallows_packs.lock().unwrap() = false;
    server.liar.tell(|_, _| None);
    assert!(push(&person).status.success());
    person.run(["check", "--read-data"]);
}

/// A proof that was right once shows other bytes than those that are asked for now.
#[test]
fn proofs_cannot_be_kept_for_later() {
    let server = LyingServer::start();
    let person = server.person();
    make_source(&person.path("src"), 0..80);
    assert!(push(&person).status.success());
    server.liar.tell(|liar: &Liar, call| match call {
        // As if the server had kept one kilobyte of each frame, the first.
        Call::Prove(_, challenges) => {
            let first: Vec<_> = challenges.iter().map(|c| Challenge { id: c.id, at: 0 }).collect();
            Some(Reply::Proofs(liar.store.prove(None, &first).unwrap()).into())
        }
        _ => None,
    });
    // Nothing has changed, and still the push asks.
    expect_caught(&person, &server, &push(&person), 1);
}

/// A pack that no client has signed proves nothing while no prune can have made one.
#[test]
fn changed_proofs_are_refused() {
    let server = LyingServer::start();
    let person = server.person();
    make_source(&person.path("src"), 0..20);
    assert!(push(&person).status.success());
    for at in [3, 40, 200, 500, 900, 1300, 1700] {
        server.liar.tell(move |liar: &Liar, call| match call {
            Call::Prove(_, challenges) => {
                let mut bytes = codec::encode(&liar.store.prove(None, challenges).unwrap());
                let place = bytes.len() * at / 2000;
                bytes[place] ^= 4;
                let changed = codec::decode::<Proofs>("proofs", &bytes);
                changed.ok().map(|proofs| Reply::Proofs(proofs).into())
            }
            _ => None,
        });
        let output = push(&person);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || text.contains("does not show it"), "{at}: {text}");
    }
}

#[test]
fn each_push_challenges_in_two_requests_at_most() {
    let server = LyingServer::start();
    let person = server.person();
    make_source(&person.path("src"), 0..200);
    let pushes = |expected| {
        server.liar.count("");
        assert!(push(&person).status.success());
        assert_eq!(server.liar.count("Prove"), expected);
    };
    // The first push relies on nothing, and challenges what it has sent. The second has sent nothing.
    pushes(1);
    pushes(1);
    make_source(&person.path("src"), 200..210);
    pushes(2);
}

/// Packs of a client that the server has made up: each lists the chunks that are asked for, with rubbish for contents.
/// All hashes and signatures fit. Only the admin's endorsement of the client is missing, or another admin's.
fn made_up(liar: &Liar, challenges: &[Challenge], is_endorsed: bool) -> Proofs {
    let full = FullKey::random(liar.store.roster().unwrap().repo);
    let (push, client) = full.new_client("nobody", None, DomainId::OWNER, Time::default());
    let key = DataKey::random();
    let mut writer = PackWriter::new(ChunkKind::Data, push.repo, &push.signing);
    writer.add_wrap(&push.seal().unwrap().wrap(push.repo, &key));
    for challenge in challenges {
        let mut frame = FrameBuilder::new();
        frame.push(&[7; 1000]);
        writer.add(&frame.seal(push.repo, ChunkKind::Data, &key, 1), &[challenge.id]);
    }
    let upload = writer.finish();
    let pack = Pack::parse(&upload.bytes).unwrap();
    let end = pack.table.frames.last().map(|frame| (frame.offset + frame.len) as usize).unwrap();
    let chunks = challenges.iter().enumerate();
    let chunks: Vec<Proven> = chunks.map(|(i, c)| Proven { id: c.id, number: i as u32, at: c.at }).collect();
    let proof = PackProof::new(&pack.table, &mut &upload.bytes[..end], &chunks).unwrap();
    let places = (0..challenges.len() as u32).map(|number| Some(ProofPlace { pack: 0, number })).collect();
    let endorsements: Vec<Endorsement> = is_endorsed.then(|| client.endorsement().unwrap()).into_iter().collect();
    Proofs { packs: vec![proof], places, endorsements }
}

/// A client that may only push gets no roster. Its push key, with the admin's public key, is all that it verifies with.
#[test]
fn a_client_that_was_made_up_does_not_convince_one_that_may_only_push() {
    let server = LyingServer::start();
    let person = server.person();
    let laptop = server.laptop_of(&person);
    make_source(&laptop.path("src"), 0..5);
    // What an honest server shows to those who may only push.
    let open = |liar: &Liar, call: &Call| match call {
        Call::Open(request, _) => {
            let mut opened = liar.store.open(request).unwrap();
            opened.roster.clear();
            opened.slots.clear();
            opened.snapshots.clear();
            opened.chunks = opened.chunks.min(1);
            Some(Reply::Opened(Box::new(opened)).into())
        }
        _ => None,
    };
    server.liar.tell(open);
    let output = push_only(&laptop);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    make_source(&laptop.path("src"), 5..20);
    for is_endorsed in [false, true] {
        server.liar.tell(move |liar, call| match call {
            Call::Has(_, ids) => Some(Reply::Has(to_bits(&vec![true; ids.len()])).into()),
            Call::Prove(_, challenges) => Some(Reply::Proofs(made_up(liar, challenges, is_endorsed)).into()),
            call => open(liar, call),
        });
        expect_refused(&server, &push_only(&laptop), 1);
    }
    server.liar.tell(open);
    assert!(push_only(&laptop).status.success());
    server.liar.tell(|_, _| None);
    person.run(["check", "--read-data"]);
}
