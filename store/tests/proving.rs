//! Challenges: a store shows what it has, at little cost, mends what it finds damaged, and shows nothing else.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, os::unix::fs::FileExt, path::Path};

use bkfs_store::{
    access::{CHALLENGES_MAX, Challenge, Manage, Proofs, Push},
    base::{codec, id::ChunkId},
    format::{
        erasure::Parity,
        pack::{Pack, Proven},
        roster::Signers,
    },
    repository::Repository,
};
use support::{
    full_key,
    world::{Files, Packed, World},
};

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A repository in a folder with one push of twenty files, of 100 KB each.
fn stored(folder: &Path, parity: Option<Parity>) -> (World, Repository, Packed) {
    let world = World::new();
    let files: Files = (0..20).map(|i| (format!("f{i:02}"), noise(i, 100_000))).collect();
    let packed = world.packs(&files);
    let repo = Repository::local(&folder.join("repo"), &folder.join("index")).unwrap().with_parity(parity);
    repo.init(&world.request).unwrap();
    world.push_packs(&repo, &packed).unwrap();
    repo.wait_for_parity();
    (world, repo, packed)
}

/// All chunks, each with a number that has no pattern.
fn challenges(packed: &Packed, round: u64) -> Vec<Challenge> {
    let ids = packed.uploads.iter().flat_map(|(_, ids)| ids.clone());
    ids.enumerate()
        .map(|(i, id)| Challenge { id, at: (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ round) })
        .collect()
}

/// Which of the challenges a reply proves, by the signature of a client.
fn proven(asked: &[Challenge], proofs: &Proofs) -> Vec<bool> {
    let full = full_key();
    let signers = Signers::of_endorsements(&proofs.endorsements, full.repo, &full.admin.verifying_key()).unwrap();
    let packs: Vec<_> = proofs.packs.iter().map(|pack| pack.open(&signers).unwrap()).collect();
    assert!(packs.iter().all(|pack| pack.is_signed));
    assert_eq!(asked.len(), proofs.places.len());
    let is_proven = |(asked, place): (&Challenge, &Option<bkfs_store::access::ProofPlace>)| {
        place.is_some_and(|place| {
            let proven = Proven { id: asked.id, number: place.number, at: asked.at };
            packs[place.pack as usize].proves(&proven)
        })
    };
    asked.iter().zip(&proofs.places).map(is_proven).collect()
}

#[test]
fn all_that_is_stored_is_proven_with_parity_and_without() {
    for parity in [None, Parity::percent(5)] {
        let folder = tempfile::tempdir().unwrap();
        let (_, repo, packed) = stored(folder.path(), parity);
        for round in 0..5 {
            let asked = challenges(&packed, round);
            let proofs = repo.prove(None, &asked).unwrap();
            assert!(proven(&asked, &proofs).iter().all(|proven| *proven));
            // 21 chunks of 2 MB: about a kilobyte for each, and the table.
            assert!(codec::encode(&proofs).len() < 45_000, "{}", codec::encode(&proofs).len());
        }
        let unknown = [Challenge { id: ChunkId([7; 32]), at: 1 }];
        assert_eq!(repo.prove(None, &unknown).unwrap().places, [None]);
        let many = vec![unknown[0]; CHALLENGES_MAX + 1];
        assert!(repo.prove(None, &many).is_err());
    }
}

#[test]
fn a_challenge_finds_damage_and_what_cannot_be_mended_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (_, repo, packed) = stored(folder.path(), Parity::percent(5));
    let (upload, _) = &packed.uploads[0];
    let path = folder.path().join(format!("repo/packs/{:02x}/{}", upload.id.0[0], upload.id));
    let damage = |from: u64, len: usize| {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&vec![0xee; len], from).unwrap();
    };
    let table = Pack::parse(&upload.bytes).unwrap().table;
    let third = &table.frames[2];
    let asked = [Challenge { id: third.ids[0], at: 50_000 }];
    damage(u64::from(third.offset) + 50_000, 10);
    assert_eq!(proven(&asked, &repo.prove(None, &asked).unwrap()), [true], "parity has mended it");
    assert_eq!(fs::read(&path).unwrap(), upload.bytes);

    // More than parity can mend.
    damage(200_000, 400_000);
    assert_eq!(proven(&asked, &repo.prove(None, &asked).unwrap()), [false]);
    assert_eq!(repo.has(None, &[third.ids[0]]).unwrap(), [false], "it is in quarantine, so the next push sends it");
    let last = table.frames.last().unwrap();
    let asked = [Challenge { id: last.ids[0], at: 3 }];
    assert_eq!(proven(&asked, &repo.prove(None, &asked).unwrap()), [true], "the rest of the pack is still shown");
}
