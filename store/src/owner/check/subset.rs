//! Which packs a check reads.
//!
//! A part `n/m` is the same set of packs each time: a pack's id decides to which part it belongs. The parts `1/m` to
//! `m/m` together cover all packs, even if packs were added in between. A share is a round trip: each check begins
//! after the last pack of the check before. So twenty checks of 5 % read everything. Twenty random samples would miss a
//! third.

use crate::{access::PackInfo, base::id::PackId, owner::packs::bytes};

/// Which packs a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadData {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// One part of several.
    Part {
        /// Which part, counted from 1.
        number: u64,
        /// How many parts there are.
        of: u64,
    },
    /// The packs that follow `after` in the order of ids, and after the last pack the first ones again.
    Next {
        /// The last pack that the previous check read; none to begin with the first pack.
        after: Option<PackId>,
        /// How much to read.
        share: Share,
    },
}

/// A share of the stored data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Millionths of all bytes.
    PerMillion(u32),
    /// A number of bytes.
    Bytes(u64),
}

/// Chooses from all packs, which are in the order of their ids. A share chooses at least one pack, if there is one, and
/// at least the bytes that it asks for.
pub(super) fn choose(mut packs: Vec<PackInfo>, read_data: ReadData) -> Vec<PackInfo> {
    match read_data {
        ReadData::None => Vec::new(),
        ReadData::All => packs,
        ReadData::Part { number, of } => {
            packs.retain(|pack| part_of(pack.id, of) + 1 == number);
            packs
        }
        ReadData::Next { after, share } => {
            let total = bytes(&packs);
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
                sum = u64::saturating_add(sum, pack.len.max(1));
                is_wanted
            });
            let count = count.count();
            packs.truncate(count);
            packs
        }
    }
}

/// Returns the part that a pack belongs to, counted from 0. Ids are hashes, so the `of` parts are about equally large.
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
            .map(|i| PackInfo {
                id: PackId(*blake3::hash(&i.to_le_bytes()).as_bytes()),
                len: 1000,
                is_suspect: false,
                judged: crate::access::Judged::Not,
            })
            .collect();
        packs.sort_by_key(|pack| pack.id);
        packs
    }

    fn ids(packs: &[PackInfo]) -> BTreeSet<PackId> {
        packs.iter().map(|pack| pack.id).collect()
    }

    #[test]
    fn parts_cover_all_packs_once() {
        let all = packs(500);
        let parts: Vec<_> = (1..=7).map(|number| choose(all.clone(), ReadData::Part { number, of: 7 })).collect();
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 500);
        assert_eq!(parts.iter().flat_map(|part| ids(part)).collect::<BTreeSet<_>>().len(), 500);
        assert!(parts.iter().all(|part| (40..110).contains(&part.len())));
        // New packs do not move the others to another part.
        let more = choose(packs(600), ReadData::Part { number: 3, of: 7 });
        assert!(ids(&parts[2]).is_subset(&ids(&more)));
    }

    #[test]
    fn shares_continue_where_the_last_ended() {
        let all = packs(100);
        let (mut after, mut seen) = (Some(all[37].id), BTreeSet::new());
        for _ in 0..20 {
            let some = choose(all.clone(), ReadData::Next { after, share: Share::PerMillion(50_000) });
            assert_eq!(some.len(), 5);
            after = some.last().map(|pack| pack.id);
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
