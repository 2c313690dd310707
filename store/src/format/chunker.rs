//! The chunker: cuts files by their content, in two steps.
//!
//! FastCDC (2020, normalised), with a gear table derived from the repository's secret, finds candidates. A keyed BLAKE3
//! of the 64 bytes before a candidate then accepts one in `accept` of them. A secret gear table alone does not hide the
//! cuts (eprint 2025/532 and 2025/558 recover the table from observed lengths). The keyed second step does, and it runs
//! only at candidates. The chunker knows no files: the caller reads, and skips holes.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};

use crate::{
    base::error::{Error, Result},
    crypto::Secret,
    format::config::ChunkerParams,
};

/// The number of bytes before a candidate that the second step hashes.
const WINDOW: usize = 64;

/// Cuts with the parameters and the secret of one repository.
pub struct Chunker {
    params: ChunkerParams,
    gear: Box<[u64; 256]>,
    gear_ls: Box<[u64; 256]>,
    masks: [u64; 4],
    accept_key: [u8; 32],
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunker({:?})", self.params)
    }
}

impl Chunker {
    /// Returns a chunker, or an error if the algorithm cannot work with the parameters.
    pub fn new(params: &ChunkerParams, secret: &Secret) -> Result<Self> {
        let ChunkerParams { min, candidates, accept, max } = *params;
        let sane = candidates.is_power_of_two()
            && (1 << 9..=1 << 20).contains(&candidates)
            && (1..=1 << 16).contains(&accept)
            && (512..=1 << 20).contains(&min)
            && min < max
            && max <= ChunkerParams::MAX_MAX
            && max % 2 == 0;
        if !sane {
            return Err(Error::damaged("the chunker's parameters", format!("{params:?} is out of bounds")));
        }
        let mut gear = Box::new([0u64; 256]);
        let mut bytes = [0u8; 256 * 8];
        let mut hasher = blake3::Hasher::new_derive_key("bkfs v1 chunker gear table");
        hasher.update(secret.bytes()).finalize_xof().fill(&mut bytes);
        for (value, eight) in gear.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *value = u64::from_le_bytes(*eight);
        }
        let gear_ls = Box::new(gear.map(|g| g << 1));
        let (strict, loose) = select_masks(candidates as usize, Normalization::Level1);
        let accept_key = *secret.derive("bkfs v1 chunker acceptance").bytes();
        Ok(Self { params: *params, gear, gear_ls, masks: [strict, loose, strict << 1, loose << 1], accept_key })
    }

    /// Returns the parameters.
    pub fn params(&self) -> &ChunkerParams {
        &self.params
    }

    /// Returns the length of the first chunk of `source`, which must begin at the start of a chunk. If `is_last`, the
    /// file ends with `source`. Otherwise `source` needs at least `max` bytes; with fewer, returns `None`, and the
    /// caller reads more.
    pub fn cut(&self, source: &[u8], is_last: bool) -> Option<usize> {
        let (min, max) = (self.params.min as usize, self.params.max as usize);
        if source.len() < max && !is_last {
            return None;
        }
        let source = &source[..source.len().min(max)];
        if source.len() <= min {
            return Some(source.len());
        }
        let average = self.params.candidates as usize;
        let [strict, loose, strict_ls, loose_ls] = self.masks;
        // The search starts one window before the shortest length, so that the first candidate already has a full
        // window.
        let mut at = min - WINDOW;
        loop {
            let rest = &source[at..];
            let (_, cut) = cut_gear(
                rest,
                WINDOW,
                average,
                max,
                strict,
                loose,
                strict_ls,
                loose_ls,
                &self.gear[..],
                &self.gear_ls[..],
            );
            at += cut;
            if at >= source.len() {
                return Some(source.len());
            }
            if at >= min && self.accepts(&source[at - WINDOW..at]) {
                return Some(at);
            }
        }
    }

    fn accepts(&self, window: &[u8]) -> bool {
        let hash = blake3::keyed_hash(&self.accept_key, window);
        let number = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 of 32 bytes"));
        number.is_multiple_of(u64::from(self.params.accept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunker(seed: u8) -> Chunker {
        Chunker::new(&ChunkerParams::default(), &Secret::new([seed; 32])).unwrap()
    }

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cuts(chunker: &Chunker, mut source: &[u8]) -> Vec<usize> {
        let mut lens = Vec::new();
        while !source.is_empty() {
            let len = chunker.cut(source, true).unwrap();
            lens.push(len);
            source = &source[len..];
        }
        lens
    }

    #[test]
    fn lengths_are_within_bounds_and_near_the_mean() {
        let lens = cuts(&chunker(1), &noise(16 << 20, 1));
        let params = ChunkerParams::default();
        let (_, inner) = lens.split_last().unwrap();
        assert!(inner.iter().all(|&l| (params.min as usize..=params.max as usize).contains(&l)));
        let mean = (16 << 20) / lens.len();
        assert!((50_000..130_000).contains(&mean), "mean {mean}");
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let before = noise(8 << 20, 2);
        let mut after = before.clone();
        after.splice(3_000_000..3_000_000, *b"seventeen bytes!!");
        let chunker = chunker(1);
        let ids = |data: &[u8]| {
            let mut at = 0;
            cuts(&chunker, data)
                .into_iter()
                .map(|len| {
                    at += len;
                    blake3::hash(&data[at - len..at])
                })
                .collect::<std::collections::HashSet<_>>()
        };
        assert!(ids(&after).difference(&ids(&before)).count() <= 4);
    }

    #[test]
    fn another_secret_cuts_at_other_places() {
        let data = noise(4 << 20, 3);
        assert_ne!(cuts(&chunker(1), &data), cuts(&chunker(2), &data));
    }

    #[test]
    fn cuts_never_change() {
        // Golden: a change here ends deduplication with every existing repository.
        assert_eq!(cuts(&chunker(7), &noise(600_000, 4)), GOLDEN);
    }
    const GOLDEN: &[usize] = &[65897, 37327, 27957, 136294, 24420, 34982, 56773, 50965, 89138, 30168, 28768, 17311];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn reading_in_pieces_cuts_the_same(len in 0usize..2_000_000, seed: u64, piece in 1usize..700_000) {
            let (chunker, data) = (chunker(1), noise(len, seed));
            let whole = cuts(&chunker, &data);
            let (mut pieces, mut start, mut end) = (Vec::new(), 0, 0);
            while start < data.len() {
                match chunker.cut(&data[start..end], end == data.len()) {
                    Some(len) => { pieces.push(len); start += len; }
                    None => end = (end + piece).min(data.len()),
                }
            }
            prop_assert_eq!(whole, pieces);
        }
    }
}
