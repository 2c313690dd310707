//! Keys and what they open: wrong passphrases, foreign keys, tampering, and decoders that survive arbitrary bytes.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use bkfs_store::{
    Error,
    base::{id::*, time::Time},
    format::{
        config::verify_config,
        keys::{
            FullKey, KeyFile, Slot,
            slot::{self, SlotParams},
        },
        roster::{RosterView, verify_roster},
    },
    owner::keyring::KeyRing,
};
use proptest::prelude::*;
use support::*;

#[test]
fn any_slot_opens_and_a_damaged_one_does_not_hide_the_others() {
    let full = full_key();
    let one = slot::seal_slot(&full, b"one", SlotParams::LEAST, &Default::default()).unwrap();
    let two = slot::seal_slot(&full, b"two", SlotParams::LEAST, &Default::default()).unwrap();
    let broken = Slot { id: SlotId([1; 16]), bytes: b"rubbish".to_vec() };
    let slots = [broken.clone(), one, two];
    for passphrase in [b"one", b"two"] {
        assert_eq!(slot::open_any(&slots, passphrase, &seal_keys()).unwrap().1.encode(), full.encode());
    }
    assert!(matches!(
        slot::open_any(&slots, b"three", &seal_keys()),
        Err(Error::WrongPassphrase { slots: 2, untried: 1 })
    ));
    assert!(matches!(slot::open_any(&[broken], b"one", &seal_keys()), Err(Error::Damaged { .. })));
    assert!(matches!(slot::open_any(&[], b"one", &seal_keys()), Err(Error::WrongPassphrase { slots: 0, untried: 0 })));
}

/// A store may add slots. Each costs as much as one may.
#[test]
fn the_cheapest_slots_are_tried_first_and_all_within_a_bound() {
    let full = full_key();
    let costly = SlotParams { memory_kib: 8 * 1024, passes: 256, lanes: 1 };
    let costly = slot::seal_slot(&full, b"another", costly, &Default::default()).unwrap();
    let own = slot::seal_slot(&full, b"own", SlotParams::LEAST, &Default::default()).unwrap();
    let mut slots = vec![costly; 63];
    slots.push(own.clone());
    assert_eq!(slot::open_any(&slots, b"own", &seal_keys()).unwrap().0, own.id);
    // Three of the costly ones fit beside it.
    assert!(matches!(
        slot::open_any(&slots, b"wrong", &seal_keys()),
        Err(Error::WrongPassphrase { slots: 4, untried: 60 })
    ));
    let error = slot::open_any(&slots, b"wrong", &seal_keys()).unwrap_err().to_string();
    assert!(error.contains("4 tried, 60 refused"), "{error}");
}

#[test]
fn two_slots_for_one_passphrase_share_nothing() {
    let full = full_key();
    let one = slot::seal_slot(&full, b"same", SlotParams::LEAST, &Default::default()).unwrap();
    let two = slot::seal_slot(&full, b"same", SlotParams::LEAST, &Default::default()).unwrap();
    assert_ne!(one.id, two.id);
    assert_ne!(one.bytes, two.bytes);
}

#[test]
fn slot_parameters_are_bounded_both_ways() {
    let SlotParams { memory_kib, passes, lanes } = SlotParams::LEAST;
    SlotParams::default().check().unwrap();
    for bad in [
        SlotParams { memory_kib: memory_kib - 1, passes, lanes },
        SlotParams { memory_kib: u32::MAX, passes, lanes },
        SlotParams { memory_kib: 1024 * 1024, passes: 3, lanes },
        SlotParams { memory_kib, passes: 0, lanes },
        SlotParams { memory_kib, passes: u32::MAX, lanes },
        SlotParams { memory_kib, passes, lanes: 0 },
        SlotParams { memory_kib, passes, lanes: 65 },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
        assert!(slot::seal_slot(&full_key(), b"x", bad, &Default::default()).is_err());
    }
    // A slot from outside with parameters out of bounds is refused before any work is done.
    let slot = slot::seal_slot(&full_key(), b"x", SlotParams::LEAST, &Default::default()).unwrap();
    // CBOR of memory 8192, passes 1, lanes 1.
    let good = [0, 0x19, 0x20, 0, 1, 1, 2, 1];
    let at = slot.bytes.windows(good.len()).position(|w| w == good).unwrap();
    for bad in [[0, 0x19, 0x1f, 0xff, 1, 1, 2, 1], [0, 0x19, 0x20, 0, 1, 0, 2, 1], [0, 0x19, 0x20, 0, 1, 1, 2, 0]] {
        let mut slot = slot.clone();
        slot.bytes[at..at + good.len()].copy_from_slice(&bad);
        assert!(matches!(slot::open_slot(&slot, b"x"), Err(Error::Damaged { .. })));
    }
}

#[test]
fn newer_formats_are_reported_as_such() {
    let mut slot = slot::seal_slot(&full_key(), b"x", SlotParams::LEAST, &Default::default()).unwrap();
    slot.bytes[8] = 2;
    assert!(matches!(slot::open_slot(&slot, b"x"), Err(Error::NewerVersion { found: 2, known: 1, .. })));
    let mut full = full_key().encode();
    full[8] = 9;
    assert!(matches!(FullKey::decode(&full), Err(Error::NewerVersion { found: 9, .. })));
}

#[test]
fn key_files_keep_their_contents() {
    let (push, _) = full_key().new_client("läptop\n# evil", None, DomainId::OWNER, time(5));
    let text = KeyFile::Push(push.clone()).encode();
    let read = KeyFile::decode(&text).unwrap();
    assert_eq!(read.push().label, "läptop\n# evil");
    assert_eq!(read.push().seal_public, push.seal_public);
    assert!(read.full().is_none());
    // As an editor on Windows leaves it.
    let windows = String::from_utf8(text.to_vec()).unwrap().replace('\n', "\r\n  ");
    assert_eq!(KeyFile::decode(windows.as_bytes()).unwrap().encode(), text);
}

#[test]
fn errors_of_damaged_key_files_say_what_is_wrong() {
    let text = String::from_utf8(KeyFile::Push(push_key()).encode().to_vec()).unwrap();
    let says = |text: &str| KeyFile::decode(text.as_bytes()).unwrap_err().to_string();
    assert!(says("").contains("it is empty"));
    assert!(says(&text[..400]).contains("cut off"));
    assert!(says(&text.replace("END BKFS PUSH", "END BKFS FULL")).contains("does not end"));
    assert!(says(&(text.clone() + "more\n")).contains("does not end"));
    assert!(says(&text.replace("PUSH KEY", "FULL KEY")).contains("full key file"));
    let lines: Vec<&str> = text.lines().collect();
    let swapped = text.replace(lines[2], "§").replace(lines[3], lines[2]).replace('§', lines[3]);
    let lines_read = says(&swapped);
    assert!(lines_read.contains("line") && lines_read.contains("missing"), "{lines_read}");
    // Each line has a check: the one that is damaged is named as an editor counts it.
    let damaged = |line: usize, by: &str| {
        let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        match by {
            "change" => {
                let c = if lines[line].starts_with('A') { "B" } else { "A" };
                lines[line].replace_range(0..1, c);
            }
            "cut" => drop(lines[line].remove(7)),
            "remove" => drop(lines.remove(line)),
            "double" => lines.insert(line, lines[line].clone()),
            _ => unreachable!(),
        }
        says(&lines.join("\n"))
    };
    for line in [2, 7, lines.len() - 3] {
        assert!(damaged(line, "change").ends_with(&format!("line {} is damaged", line + 1)), "{line}");
        assert!(damaged(line, "cut").ends_with(&format!("line {} is damaged", line + 1)), "{line}");
        assert!(damaged(line, "double").ends_with(&format!("line {} is there twice", line + 2)), "{line}");
    }
    assert!(damaged(7, "remove").ends_with("before line 8, a line is missing"), "{}", damaged(7, "remove"));
    // Without any of its checks.
    let without_check = |line: &&str| match line.starts_with(['-', '#']) {
        true => format!("{line}\n"),
        false => line.split(' ').next().unwrap().to_owned() + "\n",
    };
    let bare: String = lines.iter().map(without_check).collect();
    assert!(says(&bare).contains("line 3 is damaged; line 4 is damaged; line 5 is damaged; and "), "{}", says(&bare));
    // As a mail quotes it.
    let quoted: String = text.lines().map(|line| format!(">> {line}\r\n")).collect();
    assert_eq!(KeyFile::decode(format!("\u{feff}{quoted}").as_bytes()).unwrap().encode().as_slice(), text.as_bytes());
    assert!(says(&"x".repeat(70_000)).contains("too large"));
}

#[test]
fn a_push_key_holds_no_secret_that_opens_anything() {
    let full = full_key();
    let text = KeyFile::Push(push_key()).encode();
    // Behind the space is the check of the line.
    let digits = |line: &str| line.split(' ').next().unwrap().to_owned();
    let body: String =
        String::from_utf8(text.to_vec()).unwrap().lines().filter(|l| !l.starts_with(['-', '#'])).map(digits).collect();
    let secrets = [full.seal.seed().bytes(), full.admin.seed().bytes()];
    let decoded = decode_base64(&body);
    for secret in secrets {
        assert!(!decoded.windows(32).any(|w| w == secret));
    }
    assert!(decoded.windows(32).any(|w| w == full.id_key.bytes()), "the test can find a key");
}

fn decode_base64(text: &str) -> Vec<u8> {
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = text
        .chars()
        .filter_map(|c| digits.find(c))
        .flat_map(|d| (0..6).rev().map(move |i| (d >> i & 1) as u8))
        .collect();
    bits.chunks_exact(8).map(|c| c.iter().fold(0, |b, bit| b << 1 | bit)).collect()
}

#[test]
fn rosters_are_checked_and_chained() {
    let full = full_key();
    let admin = full.admin.verifying_key();
    let first = roster();
    let mut view = RosterView::new(&full.sign_roster(&first), admin, full.repo).unwrap();

    let (_, beta) = full.new_client("beta", None, DomainId::OWNER, time(6));
    let second = view.with_client(beta.clone());
    view.advance(&full.sign_roster(&second)).unwrap();
    assert_eq!(view.newest().number, 2);

    let mut gap = second.clone();
    gap.number = 4;
    let mut dropped = second.clone();
    dropped.number = 3;
    dropped.clients.remove(0);
    for bad in [&first, &second, &gap, &dropped] {
        assert!(view.advance(&full.sign_roster(bad)).is_err());
    }
    let third = view.without_client(beta.id, time(100)).unwrap();
    view.advance(&full.sign_roster(&third)).unwrap();
    assert!(view.without_client(ClientId([0; 16]), time(1)).is_none());

    // A roster that a store shows may skip numbers, but never goes back.
    let mut shown = RosterView::new(&full.sign_roster(&first), admin, full.repo).unwrap();
    shown.renew(&full.sign_roster(&first)).unwrap();
    shown.renew(&full.sign_roster(&third)).unwrap();
    let mut other_third = third.clone();
    other_third.clients[1].until = None;
    for bad in [&first, &second, &other_third, &dropped] {
        assert!(shown.renew(&full.sign_roster(bad)).is_err());
    }

    let newest = view.newest();
    let what = || "a pack".to_owned();
    assert!(newest.active_client(beta.id, time(99), what).is_ok());
    assert!(matches!(newest.active_client(beta.id, time(100), what), Err(Error::NotOnRoster { .. })));
    assert!(matches!(newest.active_client(ClientId([0; 16]), time(1), what), Err(Error::NotOnRoster { .. })));
}

#[test]
fn false_rosters_are_refused() {
    let full = full_key();
    let admin = full.admin.verifying_key();
    let sign = |change: &dyn Fn(&mut bkfs_store::format::roster::Roster)| {
        let mut roster = roster();
        change(&mut roster);
        verify_roster(&full.sign_roster(&roster), &admin, full.repo)
    };
    sign(&|_| ()).unwrap();
    assert!(sign(&|r| r.repo = RepoId([0; 16])).is_err());
    assert!(sign(&|r| r.number = 0).is_err());
    assert!(sign(&|r| r.clients[0].id = ClientId([0; 16])).is_err());
    assert!(sign(&|r| r.clients.push(r.clients[0].clone())).is_err());
    assert!(sign(&|r| r.clients[0].label = vec![0; 1000]).is_err());
    assert!(sign(&|r| r.clients[0].until = Some(Time { secs: 0, nanos: u32::MAX })).is_err());
    let foreign = FullKey::random(full.repo).sign_roster(&roster());
    assert!(verify_roster(&foreign, &admin, full.repo).is_err());
}

#[test]
fn a_key_ring_opens_each_key_once_and_skips_bad_wraps() {
    let full = full_key();
    let key = data_key();
    let good = full.seal.public().wrap(full.repo, &key);
    let mut bad = good.clone();
    bad.sealed[0] ^= 1;
    let ring = KeyRing::new(full.clone(), Arc::new(Wraps(vec![bad.clone(), good.clone()])));
    let first = ring.data_key(key.id()).unwrap();
    assert!(Arc::ptr_eq(&first, &ring.data_key(key.id()).unwrap()));
    assert!(Arc::ptr_eq(&first, &ring.learn(&bad).unwrap()));
    assert!(matches!(ring.data_key(KeyId([0; 32])), Err(Error::KeyMissing { .. })));

    let only_bad = KeyRing::new(full, Arc::new(Wraps(vec![bad])));
    assert!(matches!(only_bad.data_key(key.id()), Err(Error::Damaged { .. })));
    let foreign = KeyRing::new(FullKey::random(RepoId([0x11; 16])), Arc::new(Wraps(vec![good])));
    assert!(foreign.data_key(key.id()).is_err());
}

/// A valid object of every format that is tested here, by name.
fn valid() -> Vec<(&'static str, Vec<u8>)> {
    let full = full_key();
    vec![
        ("config", config()),
        ("roster", full.sign_roster(&roster())),
        ("full", full.encode().to_vec()),
        ("push file", KeyFile::Push(push_key()).encode().to_vec()),
        ("full file", KeyFile::Full { full, push: push_key() }.encode().to_vec()),
    ]
}

/// Whether the bytes decode as that format.
fn decodes(name: &str, bytes: &[u8]) -> bool {
    match name {
        "config" => verify_config(bytes).is_ok(),
        "roster" => verify_roster(bytes, &full_key().admin.verifying_key(), full_key().repo).is_ok(),
        "full" => FullKey::decode(bytes).is_ok(),
        _ => KeyFile::decode(bytes).is_ok(),
    }
}

proptest! {
    #[test]
    fn decoders_survive_arbitrary_bytes(bytes: Vec<u8>) {
        for (name, _) in valid() {
            decodes(name, &bytes);
        }
        let slot = Slot { id: SlotId([0; 16]), bytes };
        prop_assert!(slot::open_slot(&slot, b"x").is_err());
    }

    #[test]
    fn decoders_survive_arbitrary_records(tail: Vec<u8>) {
        for (name, valid) in valid() {
            let mut bytes = valid[..10].to_vec();
            bytes.extend(&tail);
            decodes(name, &bytes);
        }
    }

    #[test]
    fn changed_bytes_are_detected(at: prop::sample::Index, bit in 0u32..8, cut: bool) {
        for (name, mut bytes) in valid() {
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1u8 << bit;
            }
            // The bare full key has no checksum (it occurs only inside other objects), and the comment line and the
            // white space of a key file may change.
            let decoded = decodes(name, &bytes);
            prop_assert!(!decoded || name == "full" || name.ends_with("file"), "{} at {}", name, at);
        }
    }

    #[test]
    fn changed_key_files_hold_the_same_key_or_none(at: prop::sample::Index, to: u8) {
        let text = KeyFile::Push(push_key()).encode();
        let mut bytes = text.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(read) = KeyFile::decode(&bytes) {
            prop_assert_eq!(read.encode(), text);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn changed_slots_do_not_open(at: prop::sample::Index, bit in 0u32..8) {
        let mut slot = slot::seal_slot(&full_key(), b"x", SlotParams::LEAST, &Default::default()).unwrap();
        let at = at.index(slot.bytes.len());
        slot.bytes[at] ^= 1u8 << bit;
        prop_assert!(!matches!(slot::open_slot(&slot, b"x"), Ok(Some(_))));
    }

    #[test]
    fn only_its_passphrase_opens_a_slot(passphrase: Vec<u8>, other: Vec<u8>) {
        prop_assume!(passphrase != other);
        let slot = slot::seal_slot(&full_key(), &passphrase, SlotParams::LEAST, &Default::default()).unwrap();
        prop_assert!(slot::open_slot(&slot, &passphrase).unwrap().is_some());
        prop_assert!(slot::open_slot(&slot, &other).unwrap().is_none());
    }
}
