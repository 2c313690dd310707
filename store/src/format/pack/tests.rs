//! Tests of packs: what is written is read back, and nothing else is accepted.

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    layout::{CONTEXT, TABLE_TAIL},
    *,
};
use crate::{
    base::{
        error::Error,
        id::{ChunkId, DomainId, KeyId, RepoId},
        time::Time,
    },
    crypto::{Secret, SigningKey, Wrap},
    format::{
        frame::ChunkKind,
        roster::{Roster, RosterClient, Signers},
    },
};

const REPO: RepoId = RepoId([1; 16]);

fn client() -> SigningKey {
    SigningKey::from_seed(Secret::new([2; 32]))
}

fn wrap() -> Wrap {
    Wrap { key: KeyId([3; 32]), encapsulated: vec![4; 20], sealed: vec![5; 48], seal_key: Default::default() }
}

fn frame(len: usize) -> Vec<u8> {
    let mut frame = vec![3; 32];
    frame.extend((0..len + 40).map(|i| i as u8));
    frame
}

fn sample() -> PackUpload {
    let mut pack = PackWriter::new(ChunkKind::Data, REPO, &client());
    pack.add_wrap(&wrap());
    pack.add_wrap(&wrap());
    pack.add(&frame(10), &[ChunkId([6; 32])]);
    pack.add(&frame(100), &[ChunkId([7; 32]), ChunkId([8; 32])]);
    pack.finish()
}

fn roster(key: &SigningKey) -> Roster {
    let public = key.verifying_key();
    let (since, until) = (Time::default(), None);
    let client = RosterClient {
        id: public.client_id(),
        public: public.0.to_vec(),
        since,
        until,
        domain: DomainId::OWNER,
        label: vec![],
        endorsement: [0; crate::crypto::SIGNATURE_LEN].into(),
    };
    Roster { repo: REPO, number: 1, clients: vec![client] }
}

#[test]
fn a_written_pack_is_read_back() {
    let upload = sample();
    let pack = Pack::parse(&upload.bytes).unwrap();
    assert_eq!(pack.table.id, upload.id);
    assert_eq!((pack.table.kind, pack.table.repo), (ChunkKind::Data, REPO));
    assert_eq!(pack.table.wraps, [wrap()]);
    assert_eq!(pack.table.frames.iter().map(|f| f.ids.len()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(pack.frame(0).unwrap(), frame(10));
    assert_eq!(pack.frame(1).unwrap(), frame(100));
    assert_eq!(pack.frame(2), None);
    pack.table.verify(&roster(&client())).unwrap();
}

#[test]
fn the_table_alone_reads_the_same() {
    let upload = sample();
    let footer = Footer::parse_tail(&upload.bytes[upload.bytes.len() - 100..], upload.bytes.len() as u64).unwrap();
    let table = &upload.bytes[footer.table_offset..][..footer.table_len];
    assert_eq!(footer.table(table).unwrap(), Pack::parse(&upload.bytes).unwrap().table);
}

#[test]
fn strangers_and_other_repositories_are_refused() {
    let table = Pack::parse(&sample().bytes).unwrap().table;
    let stranger = roster(&SigningKey::random());
    assert!(matches!(table.verify(&stranger), Err(Error::NotOnRoster { .. })));
    let mut forged = roster(&SigningKey::random());
    forged.clients[0].id = client().verifying_key().client_id();
    assert!(table.verify(&forged).is_err());
    let mut other = roster(&client());
    other.repo = RepoId([9; 16]);
    assert!(table.verify(&other).is_err());
}

#[test]
fn a_frame_without_its_wrap_is_refused() {
    let mut pack = PackWriter::new(ChunkKind::Tree, REPO, &client());
    pack.add(&frame(1), &[ChunkId([6; 32])]);
    assert!(matches!(Pack::parse(&pack.finish().bytes), Err(Error::PackDamaged { .. })));
}

#[test]
fn newer_versions_are_named() {
    let mut bytes = sample().bytes.to_vec();
    let at = bytes.len() - FOOTER_LEN + 12;
    bytes[at] = 2;
    assert!(matches!(Pack::parse(&bytes.into()), Err(Error::NewerVersion { found: 2, known: 1, .. })));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let upload = sample();
    for at in 0..upload.bytes.len() {
        let mut bytes = upload.bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        assert!(Pack::parse(&bytes.into()).is_err(), "byte {at}");
        assert!(Pack::parse(&upload.bytes.slice(..at)).is_err(), "cut at {at}");
    }
}

/// The sample with one byte of its header replaced, and new hashes and a new signature: a pack that a client on the
/// roster can send.
fn with_header(at: usize, value: u8) -> Bytes {
    let bytes = sample().bytes;
    let footer = Footer::parse(&bytes).unwrap();
    let (front, rest) = bytes.split_at(footer.table_offset);
    let mut pack = front.to_vec();
    pack[at] = value;
    let mut table = rest[..footer.table_len - TABLE_TAIL].to_vec();
    table.extend_from_slice(blake3::hash(&pack).as_bytes());
    let signature = client().sign(CONTEXT, &table);
    pack.extend_from_slice(&table);
    pack.extend_from_slice(&signature);
    let id = blake3::hash(&pack);
    pack.extend_from_slice(&rest[footer.table_len..]);
    let end = pack.len();
    pack[end - 40..end - 8].copy_from_slice(id.as_bytes());
    pack.into()
}

#[test]
fn reserved_bytes_of_the_header_must_be_zero() {
    Pack::parse(&with_header(11, 0)).unwrap().table.verify(&roster(&client())).unwrap();
    for at in 11..HEADER_LEN {
        assert!(matches!(Pack::parse(&with_header(at, 1)), Err(Error::PackDamaged { .. })), "byte {at}");
    }
}

#[test]
fn golden_bytes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/pack-v1.bin");
    if std::env::var_os("BKFS_GOLDEN_WRITE").is_some() {
        std::fs::write(path, sample().bytes).unwrap();
    }
    assert_eq!(sample().bytes, std::fs::read(path).unwrap());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, offset in 0u64..300, len in 0u32..300) {
        let _ = Pack::parse(&Bytes::from(bytes.clone()));
        // With a footer that fits, the table's parser is reached.
        let offset = offset.min(bytes.len() as u64);
        let mut pack = bytes;
        pack.truncate(offset as usize + len as usize);
        let table_len = pack.len() as u64 - offset;
        pack.extend_from_slice(&offset.to_le_bytes());
        pack.extend_from_slice(&(table_len as u32).to_le_bytes());
        pack.extend_from_slice(&[1, 0]);
        pack.extend_from_slice(&[0; 10 + 32]);
        pack.extend_from_slice(b"bkfspend");
        if let Ok(footer) = Footer::parse(&pack) {
            let _ = footer.table(&pack[footer.table_offset..][..footer.table_len]);
        }
        let _ = Pack::parse(&Bytes::from(pack));
    }

    #[test]
    fn a_table_with_flipped_bytes_does_not_panic(at: prop::sample::Index, value: u8) {
        let upload = sample();
        let footer = Footer::parse(&upload.bytes).unwrap();
        let mut table = upload.bytes[footer.table_offset..][..footer.table_len].to_vec();
        let at = at.index(table.len());
        table[at] = value;
        if let Ok(read) = footer.table(&table) {
            prop_assert!(read.frames.iter().all(|f| (f.offset + f.len) as usize <= footer.table_offset));
            let same = table == upload.bytes[footer.table_offset..][..footer.table_len];
            prop_assert_eq!(read.verify(&roster(&client())).is_ok(), same);
        }
    }
}

/// A proof of all chunks of the sample.
fn proof(pack: &Pack, upload: &PackUpload) -> (PackProof, Vec<Proven>) {
    let ids = pack.table.frames.iter().flat_map(|frame| &frame.ids);
    let chunks: Vec<_> =
        ids.enumerate().map(|(number, id)| Proven { id: *id, number: number as u32, at: 1 << 40 | 7 }).collect();
    let end = pack.table.frames.last().map_or(0, |frame| (frame.offset + frame.len) as usize);
    (PackProof::new(&pack.table, &mut &upload.bytes[..end], &chunks).unwrap(), chunks)
}

#[test]
fn a_proof_shows_the_chunks_of_a_signed_pack_and_no_others() {
    let upload = sample();
    let pack = Pack::parse(&upload.bytes).unwrap();
    let (proof, chunks) = proof(&pack, &upload);
    assert!(proof.is_consistent());
    let roster = roster(&client());
    let signers = |roster: &Roster| Signers::of_roster(roster).unwrap();
    let proven = proof.open(&signers(&roster)).unwrap();
    assert!(proven.is_signed && proven.client == roster.clients[0].id);
    assert!(chunks.iter().all(|chunk| proven.proves(chunk)));
    for chunk in chunks {
        assert!(!proven.proves(&Proven { id: ChunkId([99; 32]), ..chunk }));
        assert!(!proven.proves(&Proven { number: (chunk.number + 1) % 3, ..chunk }));
        assert!(!proven.proves(&Proven { number: u32::MAX, ..chunk }));
    }
    let stranger = SigningKey::random();
    let mut forged = self::roster(&stranger);
    assert!(matches!(proof.open(&signers(&forged)), Err(Error::NotOnRoster { .. })));
    forged.clients[0].id = roster.clients[0].id;
    assert!(proof.open(&signers(&forged)).is_err(), "the key is not the client's");
    assert!(proof.open(&signers(&Roster { repo: RepoId([9; 16]), ..roster })).is_err());
}

/// Whoever kept the tables and lost the frames could make a pack of the same table, and an id for it.
#[test]
fn a_genuine_table_proves_no_other_frames() {
    let upload = sample();
    let pack = Pack::parse(&upload.bytes).unwrap();
    let (_, chunks) = proof(&pack, &upload);
    let end = pack.table.frames.last().map_or(0, |frame| (frame.offset + frame.len) as usize);
    let mut rubbish = upload.bytes[..end].to_vec();
    rubbish[end - 1] ^= 1;
    let forged = PackProof::new(&pack.table, &mut &rubbish[..], &chunks).unwrap();
    assert!(!forged.is_consistent());
    assert!(matches!(forged.open(&Signers::of_roster(&roster(&client())).unwrap()), Err(Error::PackDamaged { .. })));
}

proptest! {
    #[test]
    fn a_changed_proof_proves_nothing_else(at: prop::sample::Index, bit in 0u8..8) {
        let upload = sample();
        let pack = Pack::parse(&upload.bytes).unwrap();
        let (proof, chunks) = proof(&pack, &upload);
        let mut encoded = crate::base::codec::encode(&proof);
        let at = at.index(encoded.len());
        encoded[at] ^= 1 << bit;
        if let Ok(changed) = crate::base::codec::decode::<PackProof>("a proof", &encoded)
            && let Ok(proven) = changed.open(&Signers::of_roster(&roster(&client())).unwrap())
        {
            let other = Proven { id: ChunkId([99; 32]), ..chunks[0] };
            // Without a signature, it is a copy that the store says it made, and proves no more than that.
            prop_assert!(!proven.proves(&other));
        }
    }
}
