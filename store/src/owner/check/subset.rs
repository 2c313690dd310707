//! Which packs a check reads.
//!
//! A part `n/m` is the same packs each time, as far as they are still there: a pack belongs to the part that its id says, so that `1/m` to `m/m`
//! are all packs, whatever came in between. A share goes round: each check begins behind the pack where the one before ended, so that checks
//! of 5 % read everything in twenty runs, where twenty random samples would leave out a third.

use std::collections::VecDeque;

use crate::{access::PackInfo, base::id::PackId};

/// What of the stored data to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadData {
    /// Nothing.
    #[default]
    None,
    /// Everything.
    All,
    /// One part of several, counted from 1.
    Part {
        /// Which.
        number: u64,
        /// Of how many.
        of: u64,
    },
    /// Some packs, those that follow one in the order of ids, and after the last the first again.
    Next {
        /// The pack where the last check ended; none: begin with the first.
        after: Option<PackId>,
        /// How much.
        share: Share,
    },
}

/// How much of the stored data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many millionths of all bytes.
    PerMillion(u32),
    /// So many bytes.
    Bytes(u64),
}

/// Chooses among all packs, which are in the order of their ids. At least one is chosen, if there is one, and by a share no fewer bytes
/// than it asks for.
pub(super) fn choose(mut packs: Vec<PackInfo>, what: ReadData) -> VecDeque<PackInfo> {
    match what {
        ReadData::None => VecDeque::new(),
        ReadData::All => packs.into(),
        ReadData::Part { number, of } => {
            packs.retain(|pack| part_of(pack.id, of) + 1 == number);
            packs.into()
        }
        ReadData::Next { after, share } => {
            let total: u64 = packs.iter().map(|pack| pack.len).sum();
            let wanted = match share {
                Share::PerMillion(share) => (u128::from(total) * u128::from(share)).div_ceil(1_000_000) as u64,
                Share::Bytes(bytes) => bytes,
            };
            let begin = after.map_or(0, |after| packs.partition_point(|pack| pack.id <= after));
            let begin = begin % packs.len().max(1);
            packs.rotate_left(begin);
            let mut sum = 0;
            let count = packs.iter().take_while(|pack| {
                let is_wanted = sum == 0 || sum < wanted;
                sum += pack.len.max(1);
                is_wanted
            });
            let count = count.count();
            packs.truncate(count);
            packs.into()
        }
    }
}

/// Which of so many parts a pack belongs to, counted from 0. Ids are hashes, so the parts are about equal.
fn part_of(pack: PackId, of: u64) -> u64 {
    let (first, _) = pack.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*first) % of.max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn packs(count: u64) -> Vec<PackInfo> {
        let mut packs: Vec<_> = (0..count)
            .map(|i| PackInfo { id: PackId(*blake3::hash(&i.to_le_bytes()).as_bytes()), len: 1000 })
            .collect();
        packs.sort_by_key(|pack| pack.id);
        packs
    }

    fn ids(packs: &VecDeque<PackInfo>) -> BTreeSet<PackId> {
        packs.iter().map(|pack| pack.id).collect()
    }

    #[test]
    fn parts_are_all_packs_and_each_pack_once() {
        let all = packs(500);
        let parts: Vec<_> = (1..=7).map(|number| choose(all.clone(), ReadData::Part { number, of: 7 })).collect();
        assert_eq!(parts.iter().map(VecDeque::len).sum::<usize>(), 500);
        assert_eq!(parts.iter().flat_map(ids).collect::<BTreeSet<_>>().len(), 500);
        assert!(parts.iter().all(|part| (40..110).contains(&part.len())));
        // What comes in between moves none from part to part.
        let more = choose(packs(600), ReadData::Part { number: 3, of: 7 });
        assert!(ids(&parts[2]).is_subset(&ids(&more)));
    }

    #[test]
    fn shares_go_round() {
        let all = packs(100);
        let (mut after, mut seen) = (Some(all[37].id), BTreeSet::new());
        for _ in 0..20 {
            let some = choose(all.clone(), ReadData::Next { after, share: Share::PerMillion(50_000) });
            assert_eq!(some.len(), 5);
            after = some.back().map(|pack| pack.id);
            seen.extend(ids(&some));
        }
        assert_eq!((seen.len(), after), (100, Some(all[37].id)));
        let next = |after, share| choose(all.clone(), ReadData::Next { after, share });
        assert_eq!(next(Some(all[99].id), Share::Bytes(2500)).len(), 3);
        assert_eq!(next(Some(all[99].id), Share::Bytes(2500))[0], all[0]);
        assert_eq!(next(None, Share::Bytes(0)).len(), 1);
        assert_eq!(next(None, Share::Bytes(u64::MAX)).len(), 100);
        assert_eq!(next(None, Share::PerMillion(1_000_000)).len(), 100);
        assert!(choose(vec![], ReadData::Next { after: None, share: Share::Bytes(5) }).is_empty());
    }
}
