//! Tests of lists of seal keys.

use super::*;
use crate::{
    base::{id::DomainId, time::Time},
    crypto::{DataKey, Wrap},
    format::config::{ChunkerParams, verify_config},
};

/// A repository's keys after some rotations: what each full key was written as, and the records.
struct Rotations {
    config: Config,
    written: Vec<FullKey>,
    signed: Vec<Vec<u8>>,
    push: PushKey,
}

fn rotations(count: usize) -> Rotations {
    let mut full = FullKey::random(RepoId([1; 16]));
    let config = verify_config(&full.config(Time::default(), ChunkerParams::default())).unwrap();
    let (push, _) = full.new_client("alpha", None, DomainId::OWNER, Time::default());
    let (mut written, mut signed) = (vec![full.clone()], vec![Vec::new()]);
    for _ in 0..count {
        let keys = SealKeys::verify(signed.last().unwrap(), &config).unwrap();
        let rotated = keys.rotate(&full).unwrap();
        full = rotated.full;
        // A slot, a key file and a recovery sheet hold the newest seal key only.
        written.push(FullKey::decode(&full.encode()).unwrap());
        signed.push(rotated.signed);
    }
    Rotations { config, written, signed, push }
}

#[test]
fn each_key_gives_the_older_ones_and_no_newer_one() {
    let Rotations { config, written, signed, push } = rotations(3);
    let keys: Vec<SealKeys> = signed.iter().map(|signed| SealKeys::verify(signed, &config).unwrap()).collect();
    let key = DataKey::random();
    let wraps: Vec<Wrap> = keys
        .iter()
        .map(|keys| {
            let push = keys.renew(&push).unwrap();
            push.seal().unwrap().wrap(push.repo, &key)
        })
        .collect();
    for (at, wrap) in wraps.iter().enumerate() {
        assert_eq!(wrap.seal_key.0 as usize, at + 1);
    }
    let newest = keys.last().unwrap();
    for (at, full) in written.iter().enumerate() {
        let full = newest.complete(full).unwrap();
        assert_eq!((full.seal.number().0 as usize, full.older.len()), (at + 1, at));
        for (which, wrap) in wraps.iter().enumerate() {
            match full.unwrap(wrap) {
                Ok(opened) => assert!(which <= at && opened.id() == key.id()),
                Err(Error::KeyOutdated { have, needed }) => {
                    assert!(which > at && (have, needed) == (at as u32 + 1, which as u32 + 1));
                }
                Err(error) => panic!("{error}"),
            }
            // Neither does the private key itself open what is sealed to another.
            let forced = Wrap { seal_key: full.seal.number(), ..wrap.clone() };
            assert_eq!(full.seal.unwrap(full.repo, &forced).is_ok(), which == at);
        }
        assert_eq!(newest.check_newest(&full).is_ok(), at == 3);
        assert_eq!(newest.rotate(&full).is_ok(), at == 3);
    }
}

#[test]
fn a_list_that_lacks_ones_own_key_is_refused() {
    let Rotations { config, written, signed, push } = rotations(2);
    let [first, second, third] = [0, 1, 2].map(|at| SealKeys::verify(&signed[at], &config).unwrap());
    let renewed = third.renew(&push).unwrap();
    for older in [&first, &second] {
        assert!(matches!(older.renew(&renewed), Err(Error::SealKeyMissing { .. })), "it would seal to an older key");
        assert!(matches!(older.complete(&written[2]), Err(Error::SealKeyMissing { .. })));
    }
    assert_eq!(third.renew(&renewed).unwrap().seal_public, renewed.seal_public);
    assert!(second.follows(&first) && third.follows(&second));
    assert!(!third.follows(&first) && !second.follows(&second) && !first.follows(&second));
    // Two rotations of the same keys do not follow each other.
    let other = SealKeys::verify(&first.rotate(&written[0]).unwrap().signed, &config).unwrap();
    assert!(other.follows(&first) && !third.follows(&other));
    let stranger = FullKey::random(written[0].repo);
    assert!(matches!(third.complete(&stranger), Err(Error::SealKeyMissing { .. })));
}

type Change<'a> = &'a dyn Fn(&mut Record);

#[test]
fn records_are_bounded_and_signed() {
    let Rotations { config, written, signed, .. } = rotations(1);
    let (full, good) = (&written[0], SealKeys::verify(&signed[1], &config).unwrap());
    let sign = |change: Change<'_>| {
        let mut record = Record { repo: good.repo, newest: good.newest.clone(), older: good.older.clone() };
        change(&mut record);
        Signed::new(&SealKeys::HEADER.magic, SealKeys::HEADER.encode(&record), &full.admin).encode()
    };
    assert_eq!(SealKeys::verify(&sign(&|_| {}), &config).unwrap(), good);
    let bad: [(&str, Change<'_>); 8] = [
        ("repository", &|record| record.repo = RepoId([2; 16])),
        ("public key", &|record| record.newest.truncate(1215)),
        ("no older key", &|record| record.older.clear()),
        ("first key", &|record| record.older[0].public = Hash([3; 32])),
        ("short seal", &|record| record.older[0].sealed.truncate(71)),
        ("long seal", &|record| record.older[0].sealed.push(0)),
        ("twice", &|record| record.older.push(record.older[0].clone())),
        ("too many", &|record| {
            let key = |at: u8| OlderKey { public: Hash([at; 32]), sealed: vec![0; SEALED_LEN] };
            record.older.extend((1..=63).map(key));
        }),
    ];
    for (what, change) in bad {
        assert!(SealKeys::verify(&sign(change), &config).is_err(), "{what}");
    }
    let mut changed = signed[1].clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(SealKeys::verify(&changed, &config).is_err(), "a signature");
    assert!(SealKeys::verify(&vec![0; SealKeys::SIZE_MAX + 1], &config).is_err());
    let other = FullKey { admin: FullKey::random(full.repo).admin, ..full.clone() };
    let foreign = SealKeys::verify(&[], &config).unwrap().rotate(&other).unwrap().signed;
    assert!(SealKeys::verify(&foreign, &config).is_err(), "another admin key");
}

#[test]
fn labels_and_domains_outlast_a_rotation() {
    let Rotations { config, written, signed, .. } = rotations(1);
    let (old, new) = (&written[0], SealKeys::verify(&signed[1], &config).unwrap().complete(&written[1]).unwrap());
    let (_, before) = old.new_client("alpha", None, DomainId::OWNER, Time::default());
    let (_, after) = new.new_client("beta", None, DomainId::OWNER, Time::default());
    assert_eq!((&*new.open_label(&before).unwrap(), &*new.open_label(&after).unwrap()), ("alpha", "beta"));
    assert!(old.open_label(&after).is_err());
    assert_eq!(old.domain("web"), new.domain("web"));
}

#[test]
fn there_are_at_most_64() {
    let Rotations { config, written, signed, .. } = rotations(SealKeys::COUNT_MAX as usize - 1);
    let last = signed.last().unwrap();
    assert!(last.len() <= SealKeys::SIZE_MAX);
    let keys = SealKeys::verify(last, &config).unwrap();
    let full = keys.complete(written.last().unwrap()).unwrap();
    assert_eq!((keys.number().0, full.older.len()), (64, 63));
    assert!(matches!(keys.rotate(&full), Err(Error::Invalid(_))));
}
