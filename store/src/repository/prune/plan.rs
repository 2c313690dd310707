//! Choosing the packs that are worth dropping or writing again.

use std::collections::{HashMap, HashSet};

use crate::{
    access::{PruneLimits, Unused},
    base::id::ClientId,
    format::{frame::ChunkKind, pack::PACK_TARGET},
};

/// Packs with less than this many live bytes are small.
const SMALL: u64 = PACK_TARGET as u64 / 4;
/// This many small packs of one kind and client are merged. Fewer are left alone: they would be written again each
/// night.
const SMALL_COUNT: usize = 8;

/// How a pack is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackUse {
    /// Its number in the index.
    pub number: u32,
    /// The client that made it.
    pub client: ClientId,
    /// The kind of its chunks.
    pub kind: ChunkKind,
    /// Bytes of its live frames.
    pub live: u64,
    /// Bytes of its dead frames.
    pub dead: u64,
    /// About how many bytes of its live frames are dead, and would go if a key holder wrote these frames again.
    pub mixed: u64,
    /// Bytes of these frames.
    pub reframed: u64,
    /// Whether a key holder has already written frames of it again.
    pub must_rewrite: bool,
}

/// What a prune does with packs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chosen {
    /// Packs in which nothing is live.
    pub drop: Vec<u32>,
    /// Packs whose live frames are written again, in the order in which that is best done.
    pub repack: Vec<u32>,
    /// Dead bytes that stay.
    pub unused_after: u64,
}

impl PackUse {
    /// How many bytes become free if it is written again.
    fn gain(&self) -> u64 {
        self.dead + self.mixed
    }
}

/// Chooses packs. Packs without live frames are dropped. Of the others, those that free most for what they cost are
/// written again, until little enough is unused. Small packs are merged. `reframe` is how many bytes of frames a key
/// holder writes again.
pub fn choose(packs: &[PackUse], limits: &PruneLimits, mut reframe: u64) -> Chosen {
    let mut chosen =
        Chosen { drop: packs.iter().filter(|p| p.live == 0).map(|p| p.number).collect(), ..Chosen::default() };
    let live: u64 = packs.iter().map(|pack| pack.live - pack.mixed).sum();
    let allowed = match limits.unused {
        Unused::PerMille(share) => u64::try_from(u128::from(live) * u128::from(share) / 1000).unwrap_or(u64::MAX),
        Unused::Bytes(bytes) => bytes,
    };
    let mut left = limits.repack_bytes.unwrap_or(u64::MAX);
    let mut mixed: Vec<&PackUse> = packs.iter().filter(|pack| pack.live > 0 && pack.gain() > 0).collect();
    // Compares what a rewritten byte frees, dead / live, without dividing. What a key holder has begun comes first.
    mixed.sort_by(|a, b| {
        let gain = |x: &PackUse, y: &PackUse| u128::from(x.gain()) * u128::from(y.live - y.mixed);
        b.must_rewrite.cmp(&a.must_rewrite).then(gain(b, a).cmp(&gain(a, b))).then(a.number.cmp(&b.number))
    });
    chosen.unused_after = mixed.iter().map(|pack| pack.gain()).sum();
    let mut taken = HashSet::new();
    for pack in mixed {
        if chosen.unused_after <= allowed && !pack.must_rewrite {
            break;
        }
        let copied = pack.live - pack.reframed;
        if pack.must_rewrite || copied <= left && pack.reframed <= reframe {
            left = left.saturating_sub(copied);
            reframe = reframe.saturating_sub(pack.reframed);
            chosen.unused_after -= pack.gain();
            taken.insert(pack.number);
        }
    }
    let mut small: HashMap<_, Vec<&PackUse>> = HashMap::new();
    for pack in packs.iter().filter(|pack| (1..SMALL).contains(&pack.live)) {
        small.entry((pack.client, pack.kind.number())).or_default().push(pack);
    }
    for group in small.into_values().filter(|group| group.len() >= SMALL_COUNT) {
        for pack in group {
            if pack.live <= left && pack.reframed == 0 && taken.insert(pack.number) {
                left -= pack.live;
                chosen.unused_after -= pack.dead;
            }
        }
    }
    // Frames of one client and kind share packs. Within such a group, frames stay in the order in which they were
    // stored.
    let key = |pack: &&PackUse| (pack.client, pack.kind.number(), pack.number);
    let mut repack: Vec<&PackUse> = packs.iter().filter(|pack| taken.contains(&pack.number)).collect();
    repack.sort_by_key(key);
    chosen.repack = repack.into_iter().map(|pack| pack.number).collect();
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(number: u32, live: u64, dead: u64) -> PackUse {
        PackUse {
            number,
            client: ClientId::default(),
            kind: ChunkKind::Data,
            live,
            dead,
            mixed: 0,
            reframed: 0,
            must_rewrite: false,
        }
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn dead_packs_are_dropped_and_nearly_live_ones_stay() {
        let packs = [pack(1, 0, 16 * MIB), pack(2, 16 * MIB, 1000), pack(3, MIB, 15 * MIB), pack(4, 16 * MIB, 0)];
        let chosen = choose(&packs, &PruneLimits::default(), 0);
        assert_eq!(chosen, Chosen { drop: vec![1], repack: vec![3], unused_after: 1000 });
    }

    #[test]
    fn small_packs_are_merged_when_there_are_many() {
        let few: Vec<_> = (0..7).map(|n| pack(n, MIB, 0)).collect();
        assert_eq!(choose(&few, &PruneLimits::default(), 0).repack, Vec::<u32>::new());
        let many: Vec<_> = (0..8).map(|n| pack(n, MIB, 0)).collect();
        assert_eq!(choose(&many, &PruneLimits::default(), 0).repack, [0, 1, 2, 3, 4, 5, 6, 7]);
        let limits = PruneLimits { repack_bytes: Some(3 * MIB), ..PruneLimits::default() };
        assert_eq!(choose(&many, &limits, 0).repack.len(), 3);
    }

    #[test]
    fn frames_are_written_again_within_the_budget() {
        let shared = |number, live, mixed| PackUse { mixed, reframed: live / 2, ..pack(number, live, 0) };
        let packs = [shared(1, 16 * MIB, 6 * MIB), shared(2, 16 * MIB, 7 * MIB), shared(3, 16 * MIB, 1)];
        let chosen = |bytes| choose(&packs, &PruneLimits::default(), bytes);
        assert_eq!((chosen(0).repack, chosen(0).unused_after), (vec![], 13 * MIB + 1));
        assert_eq!((chosen(8 * MIB).repack, chosen(8 * MIB).unused_after), (vec![2], 6 * MIB + 1));
        assert_eq!((chosen(100 * MIB).repack, chosen(100 * MIB).unused_after), (vec![1, 2], 1));
        // What was begun is finished, whatever it costs.
        let begun = [PackUse { must_rewrite: true, ..pack(1, 16 * MIB, 1) }];
        let limits = PruneLimits { unused: Unused::Bytes(u64::MAX), repack_bytes: Some(0) };
        assert_eq!(choose(&begun, &limits, 0).repack, [1]);
    }

    proptest! {
        #[test]
        fn limits_are_kept(
            sizes in proptest::collection::vec((0..40 * MIB, 0..40 * MIB), 0..60),
            unused in 0..300u32,
            budget in 0..400 * MIB,
        ) {
            let numbered = sizes.iter().enumerate();
            let packs: Vec<_> = numbered.map(|(n, (live, dead))| pack(n as u32, *live, *dead)).collect();
            let limits = PruneLimits { unused: Unused::PerMille(unused), repack_bytes: Some(budget) };
            let chosen = choose(&packs, &limits, 0);
            let of = |number: &u32| packs[*number as usize];
            prop_assert!(chosen.repack.iter().map(|n| of(n).live).sum::<u64>() <= budget);
            prop_assert!(chosen.drop.iter().all(|n| of(n).live == 0));
            prop_assert!(chosen.repack.iter().all(|n| of(n).live > 0));
            let kept = packs.iter().filter(|p| p.live > 0 && !chosen.repack.contains(&p.number));
            let left: u64 = kept.map(|p| p.dead).sum();
            prop_assert_eq!(left, chosen.unused_after);
            // Without a budget, little enough stays unused.
            let free = choose(&packs, &PruneLimits { repack_bytes: None, ..limits }, 0);
            let live: u64 = packs.iter().map(|p| p.live).sum();
            prop_assert!(free.unused_after as u128 <= live as u128 * unused as u128 / 1000);
        }
    }
}
