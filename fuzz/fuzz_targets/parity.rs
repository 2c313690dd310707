//! Parity files: any bytes as the parity of a pack; and a pack and its parity file with the damage that the input
//! describes, also behind the head's own checksum. A pack that is reported as mended or whole is the original.

#![no_main]

use std::sync::LazyLock;

use bkfs_fuzz::{Input, keys};
use bkfs_store::{
    base::id::{ChunkId, PackId},
    format::{
        erasure::{MendOutcome, Parity, encode, mend, verify},
        frame::ChunkKind,
        pack::PackWriter,
    },
};

const HASH: usize = 32;

struct Sample {
    id: PackId,
    pack: Vec<u8>,
    parity: Vec<u8>,
}

/// Packs of one shard, of many shards, and with a short last shard.
static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let sample = |(frames, len, percent): (u8, usize, u8)| {
        let keys = keys();
        let mut writer = PackWriter::new(ChunkKind::Data, keys.full.repo, &keys.push.signing);
        writer.add_wrap(&keys.wrap);
        for frame in 0..frames {
            let mut bytes = keys.data.id().0.to_vec();
            bytes.resize(len, frame);
            writer.add(&bytes, &[ChunkId([frame; 32])]);
        }
        let upload = writer.finish();
        let parity = encode(&upload.bytes, Parity::percent(percent).expect("a percentage")).expect("a whole pack");
        Sample { id: upload.id, pack: upload.bytes.to_vec(), parity }
    };
    [(1, 100, 5), (3, 5000, 50), (40, 2000, 10)].map(sample).into()
});

fn damage(input: &mut Input<'_>, file: &mut Vec<u8>) {
    for _ in 0..input.u8() % 6 {
        let at = input.u32() as usize % (file.len() + 1);
        match input.u8() % 5 {
            0 => file.truncate(at),
            1 if at < file.len() => file[at] ^= input.u8(),
            2 => {
                let end = file.len().min(at + usize::from(input.u16()));
                file[at..end].fill(input.u8());
            }
            3 => file.extend_from_slice(input.bytes(at % 64)),
            4 => drop(file.splice(at..file.len().min(at + 4), input.array::<4>())),
            _ => {}
        }
    }
}

/// Changes a number in both heads, and makes their checksums match.
fn forge(input: &mut Input<'_>, parity: &mut [u8]) {
    let end = parity.len();
    let len = u32::from_le_bytes(std::array::from_fn(|i| parity[end - 16 + i])) as usize;
    let (at, value) = (usize::from(input.u16()) % (len - HASH), input.u8());
    for start in [0, end - 16 - len] {
        let head = &mut parity[start..start + len];
        head[at] = value;
        let sum = blake3::hash(&head[..len - HASH]);
        head[len - HASH..].copy_from_slice(sum.as_bytes());
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let kind = input.u8();
    let sample = &SAMPLES[usize::from(kind) % SAMPLES.len()];
    let (mut pack, mut parity) = (sample.pack.clone(), sample.parity.clone());
    let is_forged = kind >= 128;
    if kind == 255 {
        parity = input.0.to_vec();
    } else {
        if is_forged {
            forge(&mut input, &mut parity);
        }
        damage(&mut input, &mut pack);
        damage(&mut input, &mut parity);
    }
    let Ok(damage) = verify(&pack, &parity, sample.id) else {
        assert!(mend(&pack, &parity, sample.id).is_err());
        return;
    };
    assert!(!damage.is_pack_whole() || pack == sample.pack);
    assert!(is_forged || damage.is_pack_whole() == (pack == sample.pack));
    assert!(is_forged || damage.is_parity_whole() == (parity == sample.parity));
    match mend(&pack, &parity, sample.id) {
        Ok(MendOutcome::Whole) => assert!(pack == sample.pack),
        Ok(MendOutcome::Mended { bytes, .. }) => assert!(bytes == sample.pack),
        // A forged head can name another length. But it vouches for no other bytes than those of the pack.
        Ok(MendOutcome::Lost { .. }) if is_forged => {}
        Ok(MendOutcome::Lost { bytes, ranges }) => {
            assert_eq!(bytes.len(), sample.pack.len());
            assert!(
                damage.data_shards.len() + damage.parity_shards.len() > damage.parity_total,
                "this damage can be mended"
            );
            let mut at = 0;
            for range in ranges {
                assert!(
                    at <= range.start
                        && range.start < range.end
                        && bytes[at..range.start] == sample.pack[at..range.start]
                );
                at = range.end;
            }
            assert!(bytes[at..] == sample.pack[at..]);
        }
        Err(error) => assert!(is_forged, "{error}"),
    }
});
