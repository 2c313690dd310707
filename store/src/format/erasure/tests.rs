//! Tests of parity: promised damage is mended, greater damage is reported exactly, and nothing makes it worse.

use std::{collections::BTreeSet, fmt, sync::LazyLock};

use bytes::Bytes;
use proptest::{prelude::*, sample::Index};

use super::{
    layout::{MAGIC, TRAILER_LEN, shard_len},
    *,
};
use crate::{
    base::id::{ChunkId, KeyId, PackId, RepoId},
    crypto::{Secret, SigningKey, Wrap},
    format::{
        frame::ChunkKind,
        pack::{FOOTER_LEN, Footer, PackWriter},
    },
};

struct Sample {
    id: PackId,
    pack: Bytes,
    parity: Vec<u8>,
    shard_len: usize,
    shards: usize,
    table: usize,
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (content, of) = (self.content(), self.shard_len);
        write!(f, "Sample({content} bytes in shards of {of}, parity {}, table at {})", self.shards, self.table)
    }
}

/// Returns a pack with about `len` bytes of frames. It is the same every time.
fn sample(len: usize, percent: u8) -> Sample {
    let mut pack = PackWriter::new(ChunkKind::Data, RepoId([1; 16]), &SigningKey::from_seed(Secret::new([2; 32])));
    pack.add_wrap(&Wrap {
        key: KeyId([3; 32]),
        encapsulated: vec![4; 1120],
        sealed: vec![5; 48],
        seal_key: Default::default(),
    });
    let mut noise = blake3::Hasher::new().update(&len.to_le_bytes()).finalize_xof();
    for (number, at) in (0..len).step_by(50_000).enumerate() {
        let mut frame = vec![3; 72 + (len - at).min(50_000)];
        noise.fill(&mut frame[32..]);
        pack.add(&frame, &[ChunkId([number as u8; 32])]);
    }
    let upload = pack.finish();
    let (id, pack) = (upload.id, upload.bytes);
    let parity = encode(&pack, Parity::percent(percent).unwrap()).unwrap();
    let damage = verify(&pack, &parity, id).unwrap();
    let footer = Footer::parse(&pack).unwrap();
    assert!(damage.is_pack_whole() && damage.is_parity_whole(), "{damage:?}");
    let (shards, shard_len) = (damage.parity_total, damage.shard_len);
    Sample { id, pack, parity, shard_len, shards, table: footer.table_offset }
}

/// Packs of all forms: one shard, short shards, full shards; one parity shard, two and more.
static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let forms = [(1, 5), (1000, 100), (3000, 5), (40_000, 5), (300_000, 20), (1_300_000, 5), (1_500_000, 30)];
    forms.map(|(len, percent)| sample(len, percent)).into()
});

fn any_sample() -> impl Strategy<Value = &'static Sample> {
    (0..SAMPLES.len()).prop_map(|i| &SAMPLES[i])
}

impl Sample {
    fn content(&self) -> usize {
        self.pack.len() - FOOTER_LEN
    }

    fn data_shards(&self) -> usize {
        self.content().div_ceil(self.shard_len)
    }

    /// Where the parity shards begin in the parity file.
    fn parity_at(&self) -> usize {
        16 + FOOTER_LEN + 32 * (2 + self.data_shards() + self.shards)
    }

    fn assert_mended(&self, pack: &[u8], parity: &[u8]) {
        match mend(pack, parity, self.id).unwrap() {
            MendOutcome::Mended { bytes, .. } => assert!(bytes == self.pack, "mended to other bytes"),
            MendOutcome::Whole => assert!(pack == self.pack, "called whole"),
            MendOutcome::Lost { ranges, .. } => panic!("lost {ranges:?}"),
        }
    }
}

#[test]
fn shards_are_as_long_as_promised() {
    assert_eq!([1, 4095, 4096, 12_287].map(shard_len), [2, 4096, 4096, 12_288]);
    assert_eq!([12_289, 100_000, 1 << 20, 16 << 20].map(shard_len), [4096, 4096, SHARD_LEN, SHARD_LEN]);
    let (five, data) = (Parity::default(), (16 << 20) / SHARD_LEN);
    assert_eq!([1, 2, 20, data].map(|data| five.shards(data)), [1, 2, 2, 13]);
    assert!(Parity::percent(0).is_none() && Parity::percent(101).is_none());
}

#[test]
fn the_size_is_as_promised() {
    let (small, large) = (sample(100_000, 5), sample(16_000_000, 5));
    let share = |s: &Sample| s.parity.len() as f64 / s.pack.len() as f64;
    assert!(share(&small) < 0.15, "{}", share(&small));
    assert!(share(&large) < 0.056, "{}", share(&large));
}

#[test]
fn the_parity_of_a_small_pack_is_hardly_longer_than_a_copy() {
    for len in [1, 1000, 3000, 6000, 10_000, 10_800, 11_500, 20_000] {
        let Sample { pack, parity, .. } = sample(len, 5);
        assert!(parity.len() < pack.len() + 450, "{} bytes for a pack of {}", parity.len(), pack.len());
    }
}

#[test]
fn the_size_is_known_before_the_parity_is_made() {
    for (len, percent) in [
        (1, 5),
        (4096, 5),
        (5000, 5),
        (10_000, 5),
        (10_000, 100),
        (100_000, 5),
        (1 << 20, 1),
        (3_000_000, 5),
        (500_000, 100),
    ] {
        let sample = sample(len, percent);
        let table_len = Footer::parse(&sample.pack).unwrap().table_len;
        let parity = Parity::percent(percent).unwrap();
        assert_eq!(parity.file_len(sample.pack.len() as u64, table_len as u64), sample.parity.len() as u64, "{len}");
    }
}

#[test]
fn damaged_packs_get_no_parity() {
    let sample = &SAMPLES[3];
    let mut bytes = sample.pack.to_vec();
    bytes[5000] ^= 1;
    assert!(encode(&bytes, Parity::default()).is_err());
    assert!(encode(&bytes[..100], Parity::default()).is_err());
    assert!(encode(&[], Parity::default()).is_err());
}

#[test]
fn the_parity_of_another_pack_is_refused() {
    let (one, other) = (&SAMPLES[3], &SAMPLES[4]);
    assert!(mend(&one.pack, &other.parity, one.id).is_err());
    assert!(mend(&one.pack, &one.parity, other.id).is_err());
}

#[test]
fn every_flipped_bit_of_a_parity_file_is_noticed() {
    let sample = &SAMPLES[0];
    for at in 0..sample.parity.len() {
        let mut parity = sample.parity.clone();
        parity[at] ^= 1 << (at % 8);
        let damage = verify(&sample.pack, &parity, sample.id).unwrap();
        assert!(damage.is_pack_whole() && !damage.is_parity_whole(), "byte {at} of {}", parity.len());
    }
}

/// The golden files are never edited.
#[test]
fn golden_bytes() {
    let pack = include_bytes!("../../../tests/golden/pack-v1.bin");
    let golden = include_bytes!("../../../tests/golden/parity-v1.bin");
    assert_eq!(encode(pack, Parity::default()).unwrap(), golden);
    // Shards of full length, and many of them.
    let hash = blake3::hash(&SAMPLES[6].parity);
    assert_eq!(hash.to_hex().as_str(), "0702d2423ecad8cc1eef2b3d062b6091240ac8e8f9a6027dd3b569fc6f4d9dde");
}

#[test]
fn a_reused_encoder_makes_the_same_parity() {
    let mut encoder = Encoder::default();
    assert!(encoder.encode(&SAMPLES[3].pack[1..], Parity::default()).is_err());
    for sample in SAMPLES.iter().rev().chain(SAMPLES.iter()) {
        for percent in [5, 60] {
            let parity = Parity::percent(percent).unwrap();
            let kept = encoder.encode(&sample.pack, parity).unwrap();
            assert!(kept == encode(&sample.pack, parity).unwrap(), "{sample:?} at {percent} %");
        }
    }
}

#[test]
fn a_lost_pack_of_one_shard_is_restored() {
    SAMPLES[0].assert_mended(b"", &SAMPLES[0].parity);
}

#[test]
fn a_forged_head_is_refused() {
    let sample = &SAMPLES[5];
    let end = sample.parity_at() - 32;
    // One value of the head is changed, and the checksum is made to match.
    for at in [9, 10, 11, 12, 13, 14, 16, 24, 30, 45, 112, end - 32 * sample.shards - 1] {
        let mut head = sample.parity[..end].to_vec();
        head[at] ^= 2;
        let mut file = head.clone();
        file.extend_from_slice(blake3::hash(&head).as_bytes());
        file.extend_from_slice(&sample.parity[sample.parity_at()..]);
        let first_only = &file[..file.len() - TRAILER_LEN];
        match mend(&sample.pack[..1000], first_only, sample.id) {
            // Some values, as the hash of the table's copy, are not covered by the pack's id.
            Ok(MendOutcome::Mended { bytes, .. }) => assert!(bytes == sample.pack),
            Ok(MendOutcome::Lost { .. }) | Err(_) => {}
            Ok(MendOutcome::Whole) => panic!("called whole"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_burst_of_the_promised_length_is_mended(sample in any_sample(), at: Index, len: Index, zero: bool) {
        let longest = (sample.shards - 1) * sample.shard_len + 1;
        let (at, len) = (at.index(sample.pack.len()), longest - len.index(longest.min(3)));
        let mut pack = sample.pack.to_vec();
        let end = (at + len).min(pack.len());
        pack[at..end].iter_mut().for_each(|b| *b = if zero { 0 } else { !*b });
        sample.assert_mended(&pack, &sample.parity);
        // A disk may lose the whole end.
        if pack.len() - at <= longest {
            sample.assert_mended(&sample.pack[..at], &sample.parity);
        }
    }

    #[test]
    fn any_scatter_of_the_promised_count_is_mended(sample in any_sample(), places: [Index; 12], bit in 0u8..8) {
        let data = sample.data_shards();
        let all = data + sample.shards;
        let mut bad = BTreeSet::new();
        for place in places {
            if bad.len() < sample.shards {
                bad.insert(place.index(all));
            }
        }
        let (mut pack, mut parity) = (sample.pack.to_vec(), sample.parity.clone());
        for &shard in &bad {
            match shard.checked_sub(data) {
                None => pack[shard * sample.shard_len] ^= 1 << bit,
                Some(shard) => parity[sample.parity_at() + shard * sample.shard_len + 7] ^= 1 << bit,
            }
        }
        let damage = verify(&pack, &parity, sample.id).unwrap();
        let in_parity = damage.parity_shards.iter().map(|p| p + data);
        let found: BTreeSet<usize> = damage.data_shards.iter().copied().chain(in_parity).collect();
        prop_assert_eq!(found, bad);
        sample.assert_mended(&pack, &parity);
    }

    #[test]
    fn one_more_damaged_shard_is_reported_exactly(which in 3usize..7, first: Index) {
        let sample = &SAMPLES[which];
        // Shards that do not overlap the table, which has a copy.
        let shards = sample.table / sample.shard_len;
        prop_assume!(shards > sample.shards);
        let first = first.index(shards - sample.shards);
        let mut pack = sample.pack.to_vec();
        let bad: Vec<usize> = (first..=first + sample.shards).collect();
        bad.iter().for_each(|i| pack[i * sample.shard_len + 9] ^= 4);
        let damaged_end = pack.len() - 10;
        pack[damaged_end..].fill(0);
        match mend(&pack, &sample.parity, sample.id).unwrap() {
            MendOutcome::Lost { bytes, ranges } => {
                let whole = first * sample.shard_len..(first + sample.shards + 1) * sample.shard_len;
                prop_assert_eq!(&ranges, std::slice::from_ref(&whole));
                prop_assert!(bytes[..whole.start] == sample.pack[..whole.start]);
                prop_assert!(bytes[whole.end..] == sample.pack[whole.end..], "the footer was not mended");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_damaged_table_needs_no_shard(sample in any_sample()) {
        // The parity of an only shard has no other copy of the table.
        prop_assume!(sample.data_shards() > 1);
        let mut pack = sample.pack.to_vec();
        pack[sample.table..].fill(0);
        let end = sample.parity.len() - sample.parity_at() - TRAILER_LEN;
        let mut parity = sample.parity.clone();
        // All parity shards are lost as well, and with them one of the heads.
        parity[..end - (sample.content() - sample.table)].fill(0);
        sample.assert_mended(&pack, &parity);
    }

    /// With any damage to the parity file, a whole pack stays whole, and a pack that is reported as mended is the
    /// original.
    #[test]
    fn damage_to_the_parity_file_makes_nothing_worse(
        sample in any_sample(), cut: Index, at: Index, len in 1usize..200_000, kind in 0u8..4, pack_at: Option<Index>,
    ) {
        let mut parity = sample.parity.clone();
        let at = at.index(parity.len());
        let end = (at + len).min(parity.len());
        match kind {
            0 => parity[at] ^= 64,
            1 => parity[at..end].fill(0),
            2 => parity.truncate(cut.index(sample.parity.len())),
            _ => drop(parity.drain(at..end)),
        }
        let mut pack = sample.pack.to_vec();
        if let Some(pack_at) = pack_at {
            let pack_at = pack_at.index(pack.len());
            pack[pack_at] ^= 16;
        }
        let damage = verify(&pack, &parity, sample.id);
        if parity != sample.parity {
            prop_assert!(damage.as_ref().map_or(true, |damage| !damage.is_parity_whole()), "not noticed: {:?}", damage);
        }
        match mend(&pack, &parity, sample.id) {
            Ok(MendOutcome::Whole) => prop_assert!(pack == sample.pack),
            Ok(MendOutcome::Mended { bytes, .. }) => prop_assert!(pack_at.is_some() && bytes == sample.pack),
            Ok(MendOutcome::Lost { bytes, ranges }) => {
                prop_assert!(pack_at.is_some() && bytes.len() == sample.pack.len());
                let is_lost = |at: usize| ranges.iter().any(|range| range.contains(&at));
                prop_assert!((0..bytes.len()).all(|at| bytes[at] == sample.pack[at] || is_lost(at)));
            }
            Err(_) => {}
        }
        // A flipped bit leaves one of the heads, and so all but one of the shards.
        if kind == 0 && pack_at.is_some() && sample.shards > 1 {
            sample.assert_mended(&pack, &parity);
        }
    }

    #[test]
    fn no_bytes_panic(pack: Vec<u8>, parity: Vec<u8>, id: [u8; 32]) {
        let _ = mend(&pack, &parity, PackId(id));
        let _ = mend(&pack, &[&MAGIC[..], &parity].concat(), PackId(id));
        let _ = encode(&pack, Parity::default());
    }
}
