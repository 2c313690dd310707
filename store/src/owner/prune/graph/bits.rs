//! A bit for each number from 0. Bits after the last one that was set take no memory.

/// The bits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bits(Vec<u64>);

/// How many bits are set before each word. Makes [`Bits::rank`] fast.
pub(super) struct Ranks(Vec<u64>);

impl Bits {
    /// Returns bits with the first `count` set.
    pub fn first(count: u64) -> Self {
        let mut bits = Self(vec![u64::MAX; (count / 64) as usize]);
        (count / 64 * 64..count).for_each(|number| bits.set(number));
        bits
    }

    /// Sets a bit.
    pub fn set(&mut self, number: u64) {
        let word = (number / 64) as usize;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    /// Whether a bit is set.
    pub fn has(&self, number: u64) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Returns how many bits are set.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Returns what [`Bits::rank`] needs.
    pub fn ranks(&self) -> Ranks {
        let mut before = 0;
        let rank = |word: &u64| {
            let rank = before;
            before += u64::from(word.count_ones());
            rank
        };
        Ranks(self.0.iter().map(rank).collect())
    }

    /// Returns how many bits are set before a bit. `ranks` must be of these bits as they are now.
    pub fn rank(&self, ranks: &Ranks, number: u64) -> u64 {
        let (word, bit) = ((number / 64) as usize, number % 64);
        match (ranks.0.get(word), self.0.get(word)) {
            (Some(before), Some(word)) => before + u64::from((word & ((1 << bit) - 1)).count_ones()),
            _ => self.count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_the_bits_before() {
        let mut bits = Bits::default();
        let set = [0, 3, 63, 64, 65, 200, 1000];
        set.iter().for_each(|number| bits.set(*number));
        let ranks = bits.ranks();
        for number in 0..1100 {
            assert_eq!(bits.has(number), set.contains(&number));
            assert_eq!(bits.rank(&ranks, number), set.iter().filter(|n| **n < number).count() as u64, "{number}");
        }
        assert_eq!(bits.count(), 7);
        for count in [0, 1, 64, 65, 130] {
            let first = Bits::first(count);
            assert!(first.count() == count && !first.has(count));
        }
    }
}
